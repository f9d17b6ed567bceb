// SPDX-License-Identifier: Apache-2.0
// Loop: the one seam for time and for running things later.
//
// Every daemon and every client is a set of objects on ONE loop: all their code runs there, one task
// at a time, so that they need no locks. A task that was posted runs soon, in the order of posting;
// a timer runs not before its time. Both kinds of time come from here: now() is CLOCK_BOOTTIME in
// nanoseconds (leases, deadlines), wall_now() is the wall clock in nanoseconds since 1970 (only to
// stamp what people see). The simulator has its own Loop on virtual time.
//
// post() and in_loop() are thread-safe; all else is for code that runs on the loop.
// A task must not block except in FileSystem calls.
#pragma once

#include <cstdint>
#include <functional>

#include "common/base/limits.h"

namespace lumeofs {

using Task = std::function<void()>;
using TimerId = uint64_t;  // 0 = none

class Loop {
public:
    virtual ~Loop() = default;

    virtual Nanos now() const = 0;
    virtual Nanos wall_now() const = 0;
    virtual void post(Task task) = 0;
    // Runs `task` once, `delay` from now at the earliest. Never returns 0.
    virtual TimerId after(Nanos delay, Task task) = 0;
    // Forgets a timer; harmless if it has run or is 0. After it returns the task does not start.
    virtual void cancel(TimerId timer) = 0;
    // Runs `idle` once when the tasks that are waiting now have run: this is where a batch that was
    // gathered from several of them is closed (one write, one sync, one message for all).
    virtual void at_end_of_batch(Task idle) = 0;
    // Runs `ready` whenever the descriptor has become readable, or its other side has closed it, since
    // the last time: it then reads until nothing is left. May still run once after unwatch(). False: this
    // loop cannot wait for descriptors.
    virtual bool watch(int /*fd*/, Task /*ready*/) { return false; }
    virtual void unwatch(int /*fd*/) {}
};

// A timer that is forgotten with its owner, and that restarts itself if asked to.
class Timer {
public:
    explicit Timer(Loop& loop) : loop_(loop) {}
    ~Timer() { stop(); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    void start(Nanos delay, Task task) {
        stop();
        id_ = loop_.after(delay, [this, task = std::move(task)] {
            id_ = 0;
            task();
        });
    }
    // Runs `task` every `period` until stop(); a late one is not made up for.
    void repeat(Nanos period, Task task) {
        start(period, [this, period, task = std::move(task)] {
            repeat(period, task);
            task();
        });
    }
    void stop() {
        if (id_ != 0) loop_.cancel(id_);
        id_ = 0;
    }
    bool running() const { return id_ != 0; }

private:
    Loop& loop_;
    TimerId id_ = 0;
};

}  // namespace lumeofs
