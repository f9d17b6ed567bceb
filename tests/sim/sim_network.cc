// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_network.h"

#include <algorithm>
#include <deque>

#include "common/base/assert.h"
#include "common/wire/frame.h"
#include "common/wire/method.h"

namespace lumeofs::sim {

namespace {

constexpr Nanos kStall = 30 * kSecond;      // as NngConnection::kSendStall
constexpr uint64_t kBytesPerMicro = 1'000;  // 1 GB/s
using Done = std::function<void(Result<std::shared_ptr<Link>>)>;

}  // namespace

struct SimNetwork::Side {
    Side(SimNetwork& n, ProcessId p, Loop& l) : network(n), process(p), loop(&l) {}
    SimNetwork& network;
    const ProcessId process;
    Loop* loop;  // null: the process is dead
    std::weak_ptr<Side> other;
    ProcessId other_process = 0;
    Hello peer;
    std::string peer_address;
    std::shared_ptr<LinkEvents> events;
    bool closed = false;   // no more frames in or out
    bool told = false;     // on_closed is on its way
    Nanos next_arrival = 0;
    uint64_t waiting_bytes = 0;                       // sent to this side, not yet delivered
    std::deque<std::pair<Frame, uint64_t>> held;      // arrived at a blocked way
    uint64_t stall_event = 0;
    bool close_when_free = false;                     // the other side gave up meanwhile
};

struct SimNetwork::Port {
    ProcessId process = 0;
    Loop* loop = nullptr;
    Hello hello;
    std::function<Status(const Hello&)> check;
    std::function<void(std::shared_ptr<Link>)> on_link;
    bool open = true;
};

class SimLink final : public Link {
public:
    explicit SimLink(std::shared_ptr<SimNetwork::Side> side) : side_(std::move(side)) {}
    ~SimLink() override {
        side_->events.reset();
        close();
    }
    bool send(Frame frame) override {
        LFS_ASSERT(frame.body.size() <= kMaxBodyBytes && frame.payload.size() <= kMaxPayloadBytes);
        auto other = side_->other.lock();
        if (side_->closed || closing_ || !other || !writable()) return false;
        const uint64_t bytes = kFrameHeaderBytes + frame.body.size() + frame.payload.size();
        side_->network.send(side_, other, std::move(frame), bytes);
        return true;
    }
    bool writable() const override {
        auto other = side_->other.lock();
        return !other || other->waiting_bytes <= kMaxQueuedBytesPerLink;
    }
    void close() override {
        if (std::exchange(closing_, true)) return;
        side_->network.close_both(side_, "the peer closed the connection");
    }
    const Hello& peer() const override { return side_->peer; }
    const std::string& peer_address() const override { return side_->peer_address; }
    void set_events(LinkEvents events) override {
        if (!side_->told) {
            side_->events = std::make_shared<LinkEvents>(std::move(events));
        } else if (side_->loop != nullptr && events.on_closed) {
            // It ended between being made and being handed over.
            side_->loop->post([closed = std::move(events.on_closed)] {
                closed(Status(Errc::disconnected, "ended at once"));
            });
        }
    }

private:
    std::shared_ptr<SimNetwork::Side> side_;
    bool closing_ = false;
};

class SimListener final : public Listener {
public:
    SimListener(SimNetwork& network, std::shared_ptr<SimNetwork::Port> port, std::string address)
        : network_(network), port_(std::move(port)), address_(std::move(address)) {}
    ~SimListener() override {
        port_->open = false;
        auto found = network_.ports_.find(address_);
        if (found != network_.ports_.end() && found->second == port_) network_.ports_.erase(found);
    }
    const std::string& address() const override { return address_; }

private:
    SimNetwork& network_;
    std::shared_ptr<SimNetwork::Port> port_;
    const std::string address_;
};

class SimTransport final : public Transport {
public:
    SimTransport(SimNetwork& network, ProcessId process, Loop& loop)
        : network_(network), process_(process), loop_(loop) {}
    void connect(const std::string& address,
                 const Hello& hello,
                 Nanos deadline,
                 Done done) override {
        network_.dial(process_, loop_, address, hello, deadline, std::move(done));
    }
    Result<std::unique_ptr<Listener>> listen(
        const std::string& address,
        const Hello& hello,
        std::function<Status(const Hello&)> check,
        std::function<void(std::shared_ptr<Link>)> on_link) override {
        auto port = std::make_shared<SimNetwork::Port>(SimNetwork::Port{
            process_, &loop_, hello, std::move(check), std::move(on_link), true});
        if (!network_.ports_.emplace(address, port).second) {
            return Status(Errc::exist, address + " is in use");
        }
        return std::unique_ptr<Listener>(std::make_unique<SimListener>(network_, port, address));
    }

private:
    SimNetwork& network_;
    const ProcessId process_;
    Loop& loop_;
};

SimNetwork::~SimNetwork() = default;

std::unique_ptr<Transport> SimNetwork::transport(ProcessId process, Loop& loop) {
    return std::make_unique<SimTransport>(*this, process, loop);
}

Nanos SimNetwork::latency() {
    Nanos delay = static_cast<Nanos>(random_.between(static_cast<uint64_t>(faults.latency_min),
                                                     static_cast<uint64_t>(faults.latency_max)));
    if (faults.spike_per_10k != 0 && random_.chance(faults.spike_per_10k, 10'000)) {
        ++fired_;
        delay += static_cast<Nanos>(random_.below(static_cast<uint64_t>(faults.spike_max)));
    }
    return delay;
}

void SimNetwork::remember(const SidePtr& a, const SidePtr& b) {
    if (sides_.size() > 256) {
        std::erase_if(sides_, [](const std::weak_ptr<Side>& side) { return side.expired(); });
    }
    sides_.push_back(a);
    sides_.push_back(b);
}

void SimNetwork::send(const SidePtr& from, const SidePtr& to, Frame frame, uint64_t bytes) {
    ++frames_;
    const bool raft = frame.kind == FrameKind::push &&
                      frame.method == static_cast<uint16_t>(Method::raft);
    if (faults.reset_per_100k != 0 && random_.chance(faults.reset_per_100k, 100'000)) {
        ++fired_;
        return close_both(from, "a frame was lost");
    }
    Nanos when = world_.now() + latency() + static_cast<Nanos>(bytes * 1000 / kBytesPerMicro);
    if (raft) {
        if (random_.below(1000) < faults.raft_lost_per_1k) {
            ++fired_;
            return;
        }
        if (random_.below(1000) < faults.raft_repeated_per_1k) {
            ++fired_;
            to->waiting_bytes += bytes;
            const Nanos later = when + static_cast<Nanos>(random_.below(uint64_t{2} * kSecond));
            world_.at(later, [this, to, frame, bytes]() mutable {
                arrive(to, std::move(frame), bytes);
            });
        }
        if (random_.below(1000) < faults.raft_reordered_per_1k) {
            ++fired_;
            when += static_cast<Nanos>(random_.below(uint64_t{500} * kMillisecond));
            to->waiting_bytes += bytes;
            world_.at(when, [this, to, frame = std::move(frame), bytes]() mutable {
                arrive(to, std::move(frame), bytes);
            });
            return;
        }
    }
    when = std::max(when, to->next_arrival + 1);
    to->next_arrival = when;
    to->waiting_bytes += bytes;
    world_.at(when, [this, to, frame = std::move(frame), bytes]() mutable {
        arrive(to, std::move(frame), bytes);
    });
}

void SimNetwork::arrive(const SidePtr& to, Frame frame, uint64_t bytes) {
    if (to->closed) return;
    if (to->held.empty() && !is_blocked(to->other_process, to->process)) {
        return hand_over(to, std::move(frame), bytes);
    }
    to->held.emplace_back(std::move(frame), bytes);
    if (to->stall_event != 0) return;
    to->stall_event = world_.at(world_.now() + kStall, [this, to] {
        to->stall_event = 0;
        if (to->held.empty() || to->closed) return;
        // The sender gives up; the receiver hears of it when it can be reached again.
        to->held.clear();
        to->close_when_free = true;
        if (auto from = to->other.lock()) close_side(from, "the peer takes nothing");
    });
}

void SimNetwork::hand_over(const SidePtr& to, Frame frame, uint64_t bytes) {
    world_.note(to->process * 1000 + frame.method);
    if (to->loop == nullptr) return;
    to->loop->post([to, bytes, frame = std::move(frame)]() mutable {
        to->waiting_bytes -= std::min(bytes, to->waiting_bytes);
        auto events = to->events;
        if (!to->closed && events && events->on_frame) events->on_frame(std::move(frame));
    });
}

void SimNetwork::close_side(const SidePtr& side, std::string why) {
    if (side->told) return;
    side->told = true;
    side->closed = true;
    side->held.clear();
    if (side->loop == nullptr) return;
    side->loop->post([side, why = std::move(why)] {
        auto events = std::exchange(side->events, nullptr);
        if (events && events->on_closed) events->on_closed(Status(Errc::disconnected, why));
    });
}

void SimNetwork::close_both(const SidePtr& side, const std::string& why) {
    close_side(side, "closed here");
    auto other = side->other.lock();
    if (!other || other->told) return;
    // What was sent before the close still arrives first.
    const Nanos when = std::max(world_.now() + latency(), other->next_arrival + 1);
    other->next_arrival = when;
    world_.at(when, [this, other, why] {
        if (is_blocked(other->other_process, other->process)) {
            other->close_when_free = true;
        } else {
            close_side(other, why);
        }
    });
}

void SimNetwork::unblock(ProcessId from, ProcessId to) {
    if (blocked_.erase({from, to}) == 0) return;
    for (size_t i = 0; i < sides_.size(); ++i) {
        auto side = sides_[i].lock();
        if (!side || side->process != to || side->other_process != from || side->closed) continue;
        while (!side->held.empty()) {
            auto [frame, bytes] = std::move(side->held.front());
            side->held.pop_front();
            hand_over(side, std::move(frame), bytes);
        }
        if (side->close_when_free) close_side(side, "the peer gave up");
    }
}

void SimNetwork::heal() {
    while (!blocked_.empty()) {
        const auto way = *blocked_.begin();
        unblock(way.first, way.second);
    }
}

void SimNetwork::reset_links(ProcessId a, ProcessId b) {
    for (size_t i = 0; i < sides_.size(); ++i) {
        auto side = sides_[i].lock();
        if (side && side->process == a && side->other_process == b && !side->closed) {
            ++fired_;
            close_both(side, "connection reset");
        }
    }
}

void SimNetwork::process_died(ProcessId process, bool silently) {
    std::erase_if(ports_, [&](auto& port) {
        if (port.second->process == process) port.second->open = false;
        return port.second->process == process;
    });
    for (size_t i = 0; i < sides_.size(); ++i) {
        auto side = sides_[i].lock();
        if (!side || side->process != process || side->loop == nullptr) continue;
        side->loop = nullptr;
        side->closed = true;
        side->told = true;
        auto other = side->other.lock();
        if (!other || other->told) continue;
        const Nanos delay = silently ? static_cast<Nanos>(random_.below(uint64_t{20} * kSecond))
                                     : latency();
        world_.at(std::max(world_.now() + delay, other->next_arrival + 1),
                  [this, other] { close_side(other, "the peer is gone"); });
    }
}

void SimNetwork::dial(ProcessId from,
                      Loop& loop,
                      const std::string& address,
                      const Hello& hello,
                      Nanos deadline,
                      Done done) {
    // Held by the dialler's side, so that nothing is called in a process that has died.
    auto far = std::make_shared<Side>(*this, from, loop);
    auto over = std::make_shared<bool>(false);
    auto fail = [far, over, done](const Status& status) {
        if (far->loop == nullptr || std::exchange(*over, true)) return;
        far->loop->post([done, status] { done(status); });
    };
    sides_.push_back(far);
    auto found = ports_.find(address);
    const ProcessId target = found == ports_.end() ? 0 : found->second->process;
    const Nanos there = world_.now() + latency();
    const Nanos left = std::max<Nanos>(0, deadline - loop.now());
    world_.at(world_.now() + left, [fail, address] {
        fail(Status(Errc::timeout, "no answer from " + address));
    });
    if (target != 0 && (is_blocked(from, target) || is_blocked(target, from))) return;
    world_.at(there, [this, from, far, over, address, hello, done, fail] {
        auto port = ports_.find(address);
        if (port == ports_.end()) {
            return fail(Status(Errc::disconnected, "nobody listens on " + address));
        }
        auto listening = port->second;
        listening->loop->post([this, listening, from, far, over, address, hello, done, fail] {
            if (*over) return;
            if (!listening->open || far->loop == nullptr) {
                return fail(Status(Errc::disconnected, "nobody listens on " + address));
            }
            Status status = check_hello(listening->hello, hello);
            if (status.is_ok() && listening->check) status = listening->check(hello);
            if (!status.is_ok()) return fail(status.with_context("refused by " + address));
            *over = true;
            auto near = std::make_shared<Side>(*this, listening->process, *listening->loop);
            near->peer = hello;
            near->peer_address = "sim:" + std::to_string(from);
            near->other = far;
            near->other_process = from;
            far->peer = listening->hello;
            far->peer_address = address;
            far->other = near;
            far->other_process = listening->process;
            remember(near, far);
            far->next_arrival = world_.now() + latency();
            world_.at(far->next_arrival, [far, near, done] {
                if (far->loop == nullptr) return;
                far->loop->post([far, near, done] {
                    done(std::shared_ptr<Link>(std::make_shared<SimLink>(far)));
                });
            });
            listening->on_link(std::make_shared<SimLink>(near));
        });
    });
}

}  // namespace lumeofs::sim
