// SPDX-License-Identifier: Apache-2.0
// A Loop on virtual time that is turned by hand: run_until() takes tasks and then the next timer.
// single-thread.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <utility>

#include "common/env/loop.h"

namespace lumeofs::client_test {

class FakeLoop final : public Loop {
public:
    Nanos now() const override { return now_; }
    Nanos wall_now() const override { return now_ + 1'700'000'000 * kSecond; }
    void post(Task task) override { tasks_.push_back(std::move(task)); }
    TimerId after(Nanos delay, Task task) override {
        const TimerId id = ++last_timer_;
        const auto key = std::make_pair(now_ + std::max<Nanos>(delay, 0), id);
        timers_[key] = std::move(task);
        when_[id] = key.first;
        return id;
    }
    void cancel(TimerId timer) override {
        auto it = when_.find(timer);
        if (it == when_.end()) return;
        timers_.erase({it->second, timer});
        when_.erase(it);
    }
    void at_end_of_batch(Task idle) override { post(std::move(idle)); }

    bool step() {
        if (!tasks_.empty()) {
            Task task = std::move(tasks_.front());
            tasks_.pop_front();
            task();
            return true;
        }
        if (timers_.empty()) return false;
        auto it = timers_.begin();
        now_ = std::max(now_, it->first.first);
        Task task = std::move(it->second);
        when_.erase(it->first.second);
        timers_.erase(it);
        task();
        return true;
    }
    // Turns until `done` or the virtual time is over; true if `done`.
    bool run_until(const std::function<bool()>& done, Nanos limit = 600 * kSecond) {
        const Nanos end = now_ + limit;
        while (!done()) {
            if (now_ > end || !step()) return done();
        }
        return true;
    }
    void run_for(Nanos time) {
        const Nanos end = now_ + time;
        bool over = false;
        after(time, [&over] { over = true; });
        while (!over && now_ <= end) step();
    }

private:
    Nanos now_ = 1000 * kSecond;
    TimerId last_timer_ = 0;
    std::deque<Task> tasks_;
    std::map<std::pair<Nanos, TimerId>, Task> timers_;
    std::map<TimerId, Nanos> when_;
};

}  // namespace lumeofs::client_test
