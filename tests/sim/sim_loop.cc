// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_loop.h"

#include <fmt/format.h>

namespace lumeofs::sim {

namespace {

constexpr Nanos kWallStart = Nanos{1'700'000'000} * kSecond;
constexpr uint64_t kPostDelayMax = 20'000;  // ns

}  // namespace

World* World::latest_ = nullptr;

std::string World::stamp() {
    if (latest_ == nullptr) return {};
    return fmt::format("{:.6f} {:>2} ", static_cast<double>(latest_->now_) / 1e9, latest_->running);
}

uint64_t World::at(Nanos when, Task task) {
    if (when < now_) when = now_;
    const uint64_t id = ++last_;
    queue_.emplace(std::pair(when, id), std::move(task));
    times_.emplace(id, when);
    return id;
}

void World::forget(uint64_t event) {
    auto found = times_.find(event);
    if (found == times_.end()) return;
    auto node = queue_.extract(std::pair(found->second, event));  // dies after the books are right
    times_.erase(found);
}

bool World::step() {
    if (queue_.empty()) return false;
    auto node = queue_.extract(queue_.begin());
    times_.erase(node.key().second);
    now_ = node.key().first;
    ++events_;
    note(static_cast<uint64_t>(now_));
    node.mapped()();
    return true;
}

void World::clear() {
    while (!queue_.empty()) {  // what is destroyed may forget or add events
        auto node = queue_.extract(queue_.begin());
        times_.erase(node.key().second);
    }
}

void World::run_until(Nanos when) {
    while (!queue_.empty() && queue_.begin()->first.first <= when) step();
    if (now_ < when) now_ = when;
}

SimLoop::SimLoop(World& world, uint64_t id, const ClockSkew& skew)
    : world_(world), id_(id), skew_(skew) {}

Nanos SimLoop::now() const {
    const Nanos global = world_.now();
    return skew_.boot_offset + global + (global / 1000) * skew_.drift_permille;
}

Nanos SimLoop::wall_now() const { return kWallStart + world_.now() + skew_.wall_offset; }

void SimLoop::schedule() {
    if (scheduled_ || paused_ || !alive_) return;
    scheduled_ = true;
    const Nanos when = world_.now() + static_cast<Nanos>(world_.random.below(kPostDelayMax));
    world_.at(when, [this, alive = std::weak_ptr<char>(alive_)] {
        if (alive.expired()) return;
        scheduled_ = false;
        if (!paused_) run_batch();
    });
}

void SimLoop::post(Task task) {
    if (!alive_) return;
    queue_.push_back(std::move(task));
    ++posted_;
    schedule();
}

TimerId SimLoop::after(Nanos delay, Task task) {
    const TimerId id = ++last_timer_;
    if (!alive_) return id;
    if (delay < 0) delay = 0;
    // Local to global time, rounded up so that a timer never rings early by the local clock.
    const Nanos global = delay / (1000 + skew_.drift_permille) * 1000 + 2000;
    auto shared = std::make_shared<Task>(std::move(task));
    timers_[id] = world_.at(world_.now() + global,
                            [this, id, shared, alive = std::weak_ptr<char>(alive_)] {
                                if (alive.expired()) return;
                                timers_[id] = 0;
                                post([this, id, shared] {
                                    if (timers_.erase(id) != 0) (*shared)();
                                });
                            });
    return id;
}

void SimLoop::cancel(TimerId timer) {
    auto found = timers_.find(timer);
    if (found == timers_.end()) return;
    const uint64_t event = found->second;
    timers_.erase(found);
    if (event != 0) world_.forget(event);
}

void SimLoop::at_end_of_batch(Task idle) {
    if (!alive_) return;
    idle_.push_back({posted_, std::move(idle)});
    schedule();
}

void SimLoop::run_due_idle() {
    const std::weak_ptr<char> alive = alive_;
    while (!alive.expired() && !idle_.empty() && idle_.front().due <= executed_) {
        Task task = std::move(idle_.front().task);
        idle_.pop_front();
        task();
    }
}

void SimLoop::run_batch() {
    world_.note(id_);
    const std::weak_ptr<char> alive = alive_;
    std::deque<Task> batch;
    batch.swap(queue_);
    world_.running = id_;
    while (!batch.empty()) {
        Task task = std::move(batch.front());
        batch.pop_front();
        ++executed_;
        task();
        if (alive.expired()) return;
        run_due_idle();
        if (alive.expired()) return;
        if (paused_) {  // the rest waits, in front of what came since
            while (!batch.empty()) {
                queue_.push_front(std::move(batch.back()));
                batch.pop_back();
            }
            return;
        }
    }
    run_due_idle();
    if (!alive.expired() && (!queue_.empty() || !idle_.empty())) schedule();
}

void SimLoop::resume() {
    if (!paused_) return;
    paused_ = false;
    if (!queue_.empty() || !idle_.empty()) schedule();
}

void SimLoop::kill() {
    if (!alive_) return;
    alive_.reset();
    for (auto& [timer, event] : std::exchange(timers_, {})) {
        if (event != 0) world_.forget(event);
    }
    std::exchange(queue_, {}).clear();
    std::exchange(idle_, {}).clear();
}

}  // namespace lumeofs::sim
