// SPDX-License-Identifier: Apache-2.0
#include "common/env/real_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "common/base/assert.h"

namespace lumeofs {
namespace {

thread_local const char t_here = 0;  // its address names the thread

Nanos clock_nanos(clockid_t clock) {
    timespec ts{};
    clock_gettime(clock, &ts);
    return Nanos{ts.tv_sec} * kSecond + ts.tv_nsec;
}

// How many tasks the loop's own thread runs between two looks at the timers.
constexpr int kTasksPerTimerCheck = 32;

}  // namespace

RealLoop::RealLoop(const Options& options) : options_(options) {
    timer_fd_ = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    LFS_ASSERT(timer_fd_ >= 0 && wake_fd_ >= 0);
    thread_ = std::thread([this] { own_thread(); });
}

RealLoop::~RealLoop() {
    LFS_ASSERT(!in_loop());
    stop();
    {
        std::unique_lock lock(mutex_);
        idle_or_stopped_.wait(lock, [this] { return !running_; });
        quit_ = true;
    }
    wake_own_thread();
    thread_.join();
    // What a task holds may post or set timers once more while it is destroyed: go on until nothing
    // is left.
    for (;;) {
        std::deque<Task> tasks = std::move(batch_);
        std::deque<Idle> idle = std::move(idle_);
        std::map<TimerKey, Task> timers;
        batch_.clear();
        idle_.clear();
        {
            std::lock_guard lock(mutex_);
            for (Task& task : queue_) tasks.push_back(std::move(task));
            queue_.clear();
        }
        {
            std::lock_guard lock(timer_mutex_);
            timers.swap(timers_);
            timer_times_.clear();
        }
        if (tasks.empty() && idle.empty() && timers.empty()) break;
    }
    close(timer_fd_);
    close(wake_fd_);
}

Nanos RealLoop::now() const { return clock_nanos(CLOCK_BOOTTIME); }
Nanos RealLoop::wall_now() const { return clock_nanos(CLOCK_REALTIME); }

bool RealLoop::in_loop() const { return runner_.load(std::memory_order_relaxed) == &t_here; }

void RealLoop::post(Task task) {
    {
        std::lock_guard lock(mutex_);
        queue_.push_back(std::move(task));
        ++posted_;
        if (running_ || stopped_.load(std::memory_order_relaxed)) return;
        running_ = true;
    }
    drain(/*visitor=*/true);
}

void RealLoop::run_here(Task task) {
    if (in_loop()) {
        task();
    } else {
        post(std::move(task));  // a free loop has an empty queue, so this one runs first
    }
}

bool RealLoop::run_and_wait(Task task) {
    if (in_loop()) {
        task();
        return true;
    }
    struct Wait {
        Task task;
        bool done = false;
    };
    auto wait = std::make_shared<Wait>();
    wait->task = std::move(task);
    post([this, wait] {
        wait->task();
        wait->task = nullptr;
        std::lock_guard lock(mutex_);
        wait->done = true;
        idle_or_stopped_.notify_all();
    });
    std::unique_lock lock(mutex_);
    idle_or_stopped_.wait(lock, [&] {
        return wait->done || (stopped_.load(std::memory_order_relaxed) && !running_);
    });
    return wait->done;
}

void RealLoop::run_until_stopped() {
    LFS_ASSERT(!in_loop());
    std::unique_lock lock(mutex_);
    idle_or_stopped_.wait(
        lock, [this] { return stopped_.load(std::memory_order_relaxed) && !running_; });
}

void RealLoop::stop() {
    std::lock_guard lock(mutex_);
    stopped_.store(true, std::memory_order_relaxed);
    idle_or_stopped_.notify_all();  // with a runner, its last step notifies again
}

void RealLoop::at_end_of_batch(Task idle) {
    LFS_ASSERT(in_loop());
    uint64_t due = 0;
    {
        std::lock_guard lock(mutex_);
        due = posted_;
    }
    idle_.push_back({due, std::move(idle)});
}

// --- running --------------------------------------------------------------------------------------

// Requires: this thread has just taken the role of runner (running_ was set for it).
void RealLoop::drain(bool visitor) {
    runner_.store(&t_here, std::memory_order_relaxed);
    const Nanos until = visitor ? now() + options_.visit_limit : 0;
    int tasks = 0;
    while (next_batch()) {
        if (!batch_.empty()) {
            Task task = std::move(batch_.front());
            batch_.pop_front();
            task();
            task = nullptr;
            ++executed_;
        }
        run_due_idle();
        ++tasks;
        if (!visitor) {
            if (tasks % kTasksPerTimerCheck == 0) run_timers_if_due();
        } else if (tasks >= options_.tasks_per_visit || now() >= until) {
            if (hand_over()) return;
        }
    }
}

// Makes sure that there is something to do; else gives up the role and returns false.
bool RealLoop::next_batch() {
    if (!stopped_.load(std::memory_order_relaxed) && !batch_.empty()) return true;
    std::lock_guard lock(mutex_);
    if (!stopped_.load(std::memory_order_relaxed)) {
        batch_.swap(queue_);
        if (!batch_.empty() || !idle_.empty()) return true;
    }
    // From here on, under the lock, the next post() finds a free loop: no wake-up is lost.
    runner_.store(nullptr, std::memory_order_relaxed);
    running_ = false;
    if (stopped_.load(std::memory_order_relaxed)) idle_or_stopped_.notify_all();
    return false;
}

// Runs what at_end_of_batch() was given, once the tasks that waited at that time have run. Bounded by
// count, not by an empty queue: under steady load the queue is never empty.
void RealLoop::run_due_idle() {
    const size_t count = idle_.size();  // those added meanwhile wait for the next round
    for (size_t i = 0; i < count; ++i) {
        if (stopped_.load(std::memory_order_relaxed)) return;
        if (idle_.front().due > executed_) return;
        Task task = std::move(idle_.front().task);
        idle_.pop_front();
        task();
    }
}

bool RealLoop::hand_over() {
    {
        std::lock_guard lock(mutex_);
        if (batch_.empty() && queue_.empty() && idle_.empty()) return false;  // done anyway
        runner_.store(nullptr, std::memory_order_relaxed);
        handed_over_ = true;
    }
    wake_own_thread();
    return true;
}

void RealLoop::wake_own_thread() {
    const uint64_t one = 1;
    ssize_t written = write(wake_fd_, &one, sizeof one);
    LFS_ASSERT(written == sizeof one);
}

void RealLoop::own_thread() {
    for (;;) {
        pollfd fds[2] = {{timer_fd_, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0) continue;  // a signal
        uint64_t ignored = 0;
        if (fds[1].revents != 0 && read(wake_fd_, &ignored, sizeof ignored) < 0) continue;
        bool take_over = false;
        {
            std::lock_guard lock(mutex_);
            if (quit_) return;
            take_over = std::exchange(handed_over_, false);
        }
        if (take_over) drain(/*visitor=*/false);
        if (fds[0].revents != 0 && read(timer_fd_, &ignored, sizeof ignored) > 0) timer_rang();
    }
}

// --- timers ---------------------------------------------------------------------------------------

TimerId RealLoop::after(Nanos delay, Task task) {
    const Nanos when = now() + (delay > 0 ? delay : 0);
    std::lock_guard lock(timer_mutex_);
    const TimerId id = ++last_timer_;
    timers_.emplace(TimerKey{when, id}, std::move(task));
    timer_times_.emplace(id, when);
    const Nanos armed = armed_for_.load(std::memory_order_relaxed);
    if (!firing_ && (armed == 0 || when < armed)) arm(when);
    return id;
}

void RealLoop::cancel(TimerId timer) {
    Task dropped;  // destroyed after the lock: what it holds may come back to us
    std::lock_guard lock(timer_mutex_);
    auto found = timer_times_.find(timer);
    if (found == timer_times_.end()) return;
    auto entry = timers_.find(TimerKey{found->second, timer});
    dropped = std::move(entry->second);
    timers_.erase(entry);
    timer_times_.erase(found);
    // The timerfd stays as it is: a ring too many is cheaper than a system call per cancel.
}

// Requires: timer_mutex_.
void RealLoop::arm(Nanos when) {
    armed_for_.store(when, std::memory_order_relaxed);
    itimerspec spec{};
    spec.it_value.tv_sec = when / kSecond;
    spec.it_value.tv_nsec = when % kSecond;
    LFS_ASSERT(timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
}

void RealLoop::timer_rang() {
    {
        std::lock_guard lock(timer_mutex_);
        if (firing_) return;
        armed_for_.store(0, std::memory_order_relaxed);
        if (timers_.empty()) return;
        if (timers_.begin()->first.when > now()) {
            arm(timers_.begin()->first.when);
            return;
        }
        firing_ = true;
    }
    {
        std::lock_guard lock(mutex_);
        queue_.push_back([this] { run_due_timers(); });
        ++posted_;
        if (running_ || stopped_.load(std::memory_order_relaxed)) return;
        running_ = true;
    }
    drain(/*visitor=*/false);
}

// While the loop's own thread runs tasks nobody waits for the timerfd, so it looks for itself.
void RealLoop::run_timers_if_due() {
    const Nanos armed = armed_for_.load(std::memory_order_relaxed);
    if (armed == 0 || armed > now()) return;
    {
        std::lock_guard lock(timer_mutex_);
        if (firing_) return;
        firing_ = true;
    }
    run_due_timers();
}

// A timer leaves the table only when its turn has come, so that an earlier task can still cancel it.
void RealLoop::run_due_timers() {
    const Nanos limit = now();
    for (;;) {
        Task task;
        {
            std::lock_guard lock(timer_mutex_);
            auto first = timers_.begin();
            if (first == timers_.end() || first->first.when > limit ||
                stopped_.load(std::memory_order_relaxed)) {
                firing_ = false;
                armed_for_.store(0, std::memory_order_relaxed);
                if (first != timers_.end()) arm(first->first.when);
                return;
            }
            timer_times_.erase(first->first.id);
            task = std::move(first->second);
            timers_.erase(first);
        }
        task();
    }
}

}  // namespace lumeofs
