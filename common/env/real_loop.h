// SPDX-License-Identifier: Apache-2.0
// RealLoop: the Loop of real programs. It is a strand, not a thread: who posts to a free loop runs
// it. An NNG callback thread therefore runs the handlers itself, and a request costs no hand-off
// between threads (26 us each where this was measured, more than most handlers).
//
//   post()      free loop: the caller becomes the *runner* and works until nothing waits;
//               busy loop: only queues, the runner will come to it. Also from inside a task.
//
// A visiting runner is let go after Options::tasks_per_visit tasks or Options::visit_limit: what is
// left goes to the loop's own thread, so that an NNG thread is never captured for long. The
// same thread waits for timers (a CLOCK_BOOTTIME timerfd: time asleep counts) and for the descriptors
// that are watched, and runs what is due.
//
// Consequences for callers: post() may run other people's tasks before it returns, so never call it
// with a lock held that a task could want. Tasks of one loop never run at the same time, and each
// sees what the earlier ones wrote.
// Thread-safe: post, run_and_wait, in_loop, stop, now, wall_now, and (beyond what Loop
// promises) after and cancel; at_end_of_batch only from inside a task.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/env/loop.h"

namespace lumeofs {

class RealLoop final : public Loop {
public:
    struct Options {
        int tasks_per_visit = 128;
        Nanos visit_limit = 2 * kMillisecond;
    };

    RealLoop() : RealLoop(Options{}) {}
    explicit RealLoop(const Options& options);
    // Stops, waits for the running task, and destroys (without running them) the tasks that are left.
    // Requires: not called from a task; nobody posts any more (NNG links closed and gone).
    ~RealLoop() override;
    RealLoop(const RealLoop&) = delete;
    RealLoop& operator=(const RealLoop&) = delete;

    Nanos now() const override;
    Nanos wall_now() const override;
    void post(Task task) override;
    TimerId after(Nanos delay, Task task) override;
    void cancel(TimerId timer) override;
    void at_end_of_batch(Task idle) override;
    bool watch(int fd, Task ready) override;
    void unwatch(int fd) override;

    // Posts and blocks until `task` has run; inline from inside a task. For main(), tests and other
    // threads that need an answer at once. Returns false if the loop was stopped before it ran.
    bool run_and_wait(Task task);
    // True on the thread that is running this loop's tasks now.
    bool in_loop() const;

    // Something is expected at once: the loop's own thread looks `times` for it (each about 0.5 us) before
    // it sleeps, because to be woken costs more. It takes a processor meanwhile. From a task.
    void expect(int times);

    // Daemons: main() builds its objects with run_and_wait(), then waits here. Returns after stop()
    // when no task is running; none will start again, so main() may take its objects apart.
    void run_until_stopped();
    // Ends the loop after the task that is running. Also from inside a task. Not for a signal handler
    // (use a signalfd or a sigwait thread).
    void stop();

private:
    struct Idle {
        uint64_t due;  // runs when so many tasks have been executed
        Task task;
    };
    struct TimerKey {
        Nanos when;
        TimerId id;
        auto operator<=>(const TimerKey&) const = default;
    };

    void drain(bool visitor);
    bool next_batch();
    void run_due_idle();
    bool hand_over();
    void wake_own_thread();
    void own_thread();
    bool look(int timeout, bool* rang);
    void wait(bool* rang);
    void arm(Nanos when);
    void timer_rang();
    void run_timers_if_due();
    void run_due_timers();

    const Options options_;

    std::mutex mutex_;  // guards down to the blank line
    std::condition_variable idle_or_stopped_;
    std::deque<Task> queue_;
    uint64_t posted_ = 0;        // tasks ever queued
    bool running_ = false;       // some thread is the runner, or the role waits for own_thread()
    bool handed_over_ = false;   // the role waits for own_thread()
    bool quit_ = false;

    std::atomic<int> looks_{0};  // before sleeping

    std::atomic<bool> stopped_{false};  // set under mutex_
    std::atomic<const void*> runner_{nullptr};  // address of a thread-local of the runner
    std::deque<Task> batch_;     // the runner's: taken from queue_, not yet run
    uint64_t executed_ = 0;      // the runner's: tasks run so far
    std::deque<Idle> idle_;      // the runner's

    std::mutex timer_mutex_;  // guards down to the end; never held while a task runs
    std::map<TimerKey, Task> timers_;
    std::unordered_map<TimerId, Nanos> timer_times_;
    TimerId last_timer_ = 0;
    std::atomic<Nanos> armed_for_{0};  // written under timer_mutex_; 0 = the timerfd is off
    bool firing_ = false;              // run_due_timers() is queued or runs

    std::mutex watch_mutex_;  // guards watched_; never held while a task runs
    std::unordered_map<int, std::shared_ptr<Task>> watched_;

    int poll_fd_ = -1;  // epoll: timer_fd_, wake_fd_ and what is watched
    int timer_fd_ = -1;
    int wake_fd_ = -1;
    std::thread thread_;
};

}  // namespace lumeofs
