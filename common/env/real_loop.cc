// SPDX-License-Identifier: Apache-2.0
#include "common/env/real_loop.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <array>
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

void poll_for(int poll_fd, int fd, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    LFS_ASSERT(epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

void empty(int fd) {
    uint64_t ignored = 0;
    while (read(fd, &ignored, sizeof ignored) > 0) {
    }
}

// How many tasks the loop's own thread runs between two looks at descriptors and timers.
constexpr int kTasksPerLook = 32;

}  // namespace

RealLoop::RealLoop(const Options& options) : options_(options) {
    timer_fd_ = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    poll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    LFS_ASSERT(timer_fd_ >= 0 && wake_fd_ >= 0 && poll_fd_ >= 0);
    poll_for(poll_fd_, timer_fd_, EPOLLIN);
    poll_for(poll_fd_, wake_fd_, EPOLLIN);
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
    close(poll_fd_);
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
            if (tasks % kTasksPerLook != 0) continue;
            bool rang = false;  // run_timers_if_due() asks the clock
            look(0, &rang);
            run_timers_if_due();
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

bool RealLoop::watch(int fd, Task ready) {
    {
        std::lock_guard lock(watch_mutex_);
        watched_[fd] = std::make_shared<Task>(std::move(ready));
    }
    poll_for(poll_fd_, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    return true;
}

void RealLoop::unwatch(int fd) {
    LFS_ASSERT(epoll_ctl(poll_fd_, EPOLL_CTL_DEL, fd, nullptr) == 0);
    std::lock_guard lock(watch_mutex_);
    watched_.erase(fd);
}

void RealLoop::own_thread() {
    for (;;) {
        bool rang = false;
        wait(&rang);
        bool take_over = false;
        {
            std::lock_guard lock(mutex_);
            if (quit_) return;
            take_over = std::exchange(handed_over_, false);
            // What look() has queued, and nobody has come for it.
            const bool free = !running_ && !stopped_.load(std::memory_order_relaxed);
            if (!take_over && free && !queue_.empty()) take_over = running_ = true;
        }
        if (take_over) drain(/*visitor=*/false);
        if (rang) timer_rang();
    }
}

void RealLoop::expect(int times) { looks_.store(times, std::memory_order_relaxed); }

// Until there is something to do: wide awake for a moment if that is likely to be enough. Looks are
// counted, not timed, and whoever waits for this processor goes first: it may be the program itself.
void RealLoop::wait(bool* rang) {
    for (int looks = looks_.exchange(0, std::memory_order_relaxed); looks > 0; --looks) {
        if (look(0, rang)) return;
        sched_yield();
    }
    look(-1, rang);
}

// Waits up to `timeout` ms (-1: for ever) and queues the tasks of the descriptors that are ready. False
// if there was nothing; `rang`: the timerfd was among it.
bool RealLoop::look(int timeout, bool* rang) {
    std::array<epoll_event, 64> events;
    const int count = epoll_wait(poll_fd_, events.data(), static_cast<int>(events.size()), timeout);
    if (count <= 0) return false;
    std::vector<std::shared_ptr<Task>> tasks;
    for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        *rang = *rang || fd == timer_fd_;
        if (fd == timer_fd_ || fd == wake_fd_) {
            empty(fd);
            continue;
        }
        std::lock_guard lock(watch_mutex_);
        if (auto found = watched_.find(fd); found != watched_.end()) tasks.push_back(found->second);
    }
    if (tasks.empty()) return true;
    std::lock_guard lock(mutex_);
    for (auto& task : tasks) {
        queue_.push_back([task = std::move(task)] { (*task)(); });
        ++posted_;
    }
    return true;
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

// While the loop's own thread runs tasks nobody waits for the timerfd, so it asks the clock.
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
