// SPDX-License-Identifier: Apache-2.0
// Virtual time. World is the one queue of everything that will happen, in order of (time, number);
// SimLoop is the Loop of one simulated process on it.
//
// A posted task runs a random few microseconds later, together with all that waits then (a batch,
// as on the real loop). Each process has its own clocks: an offset (boot times differ between
// machines) and a drift of at most 1 %. A paused loop runs nothing until it is resumed: a process
// that the kernel stopped. After kill() what was queued is destroyed without having run.
// Everything that runs goes into a hash: equal seeds must give equal hashes.
// single-thread: the simulation.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "common/base/prng.h"
#include "common/env/loop.h"

namespace lumeofs::sim {

class World {
public:
    explicit World(uint64_t seed) : random(Prng(seed).fork("world")) { latest_ = this; }
    ~World() { latest_ = nullptr; }
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    Nanos now() const { return now_; }
    // Runs `task` at `when` (not before now). For the simulation itself and for SimLoop.
    uint64_t at(Nanos when, Task task);
    void forget(uint64_t event);
    // Runs the next event; false if there is none.
    bool step();
    void run_until(Nanos when);
    void note(uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001B3ULL + (hash_ >> 29); }
    uint64_t hash() const { return hash_; }
    uint64_t events() const { return events_; }
    void clear();  // destroys what is still to come, at the end
    // For log lines: when it is and which process runs, in the newest world.
    static std::string stamp();

    Prng random;
    uint64_t running = 0;  // id of the loop whose batch runs; 0: none

private:
    static World* latest_;
    Nanos now_ = 1'000 * kSecond;
    uint64_t last_ = 0;
    uint64_t events_ = 0;
    uint64_t hash_ = 0xCBF29CE484222325ULL;
    std::map<std::pair<Nanos, uint64_t>, Task> queue_;
    std::map<uint64_t, Nanos> times_;
};

struct ClockSkew {
    Nanos boot_offset = 0;
    Nanos wall_offset = 0;
    int drift_permille = 0;  // -10 .. 10
};

class SimLoop final : public Loop {
public:
    SimLoop(World& world, uint64_t id, const ClockSkew& skew);
    ~SimLoop() override { kill(); }
    SimLoop(const SimLoop&) = delete;
    SimLoop& operator=(const SimLoop&) = delete;

    Nanos now() const override;
    Nanos wall_now() const override;
    void post(Task task) override;
    TimerId after(Nanos delay, Task task) override;
    void cancel(TimerId timer) override;
    void at_end_of_batch(Task idle) override;

    void kill();
    bool alive() const { return alive_ != nullptr; }
    void pause() { paused_ = true; }
    void resume();
    bool paused() const { return paused_; }

private:
    struct Idle {
        uint64_t due;
        Task task;
    };
    void schedule();
    void run_batch();
    void run_due_idle();

    World& world_;
    const uint64_t id_;
    const ClockSkew skew_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    bool scheduled_ = false;
    bool paused_ = false;
    std::deque<Task> queue_;
    std::deque<Idle> idle_;
    uint64_t posted_ = 0;
    uint64_t executed_ = 0;
    std::map<TimerId, uint64_t> timers_;  // -> event of the world; 0 = rang, its task is queued
    TimerId last_timer_ = 0;
};

}  // namespace lumeofs::sim
