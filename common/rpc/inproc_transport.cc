// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/inproc_transport.h"

#include <atomic>
#include <utility>

#include "common/base/assert.h"
#include "common/wire/frame.h"

namespace lumeofs {
namespace {

// One side of a link. The Link that is given out (InprocLink) only refers to it, so that dropping the
// link from inside one of its callbacks leaves the side alive until the callback has returned.
// Everything but `waiting_bytes` belongs to the side's own loop.
struct Side {
    explicit Side(Loop& l) : loop(l) {}

    Loop& loop;
    std::weak_ptr<Side> other;
    Hello peer;
    std::string peer_address;
    std::shared_ptr<LinkEvents> events;
    bool closed = false;
    std::atomic<uint64_t> waiting_bytes{0};  // sent to this side and not yet delivered
};

void deliver_close(const std::shared_ptr<Side>& side, const Status& why) {
    if (side->closed) return;
    side->closed = true;
    auto events = std::exchange(side->events, nullptr);
    if (events && events->on_closed) events->on_closed(why);
}

// Ends both sides, each on its own loop and from a later task.
void close_both(const std::shared_ptr<Side>& side, std::string_view why) {
    side->loop.post([side] { deliver_close(side, Status(Errc::disconnected, "closed here")); });
    if (auto other = side->other.lock()) {
        other->loop.post([other, text = std::string(why)] {
            deliver_close(other, Status(Errc::disconnected, text));
        });
    }
}

class InprocLink final : public Link {
public:
    explicit InprocLink(std::shared_ptr<Side> side) : side_(std::move(side)) {}
    ~InprocLink() override {
        side_->events.reset();
        close();
    }

    bool send(Frame frame) override {
        LFS_ASSERT(frame.body.size() <= kMaxBodyBytes && frame.payload.size() <= kMaxPayloadBytes);
        auto other = side_->other.lock();
        if (side_->closed || closing_ || !other || !writable()) return false;
        const uint64_t bytes = kFrameHeaderBytes + frame.body.size() + frame.payload.size();
        other->waiting_bytes += bytes;
        other->loop.post([other, bytes, frame = std::move(frame)]() mutable {
            other->waiting_bytes -= bytes;
            auto events = other->events;
            if (!other->closed && events && events->on_frame) events->on_frame(std::move(frame));
        });
        return true;
    }
    bool writable() const override {
        auto other = side_->other.lock();
        return !other || other->waiting_bytes <= kMaxQueuedBytesPerLink;
    }
    void close() override {
        if (std::exchange(closing_, true)) return;
        close_both(side_, "the peer closed the connection");
    }
    const Hello& peer() const override { return side_->peer; }
    const std::string& peer_address() const override { return side_->peer_address; }
    void set_events(LinkEvents events) override {
        if (!side_->closed) side_->events = std::make_shared<LinkEvents>(std::move(events));
    }

private:
    std::shared_ptr<Side> side_;
    bool closing_ = false;
};

using Done = std::function<void(Result<std::shared_ptr<Link>>)>;

void fail_connect(Loop& loop, Done done, Status status) {
    loop.post([done = std::move(done), status = std::move(status)] { done(status); });
}

// On the listener's loop: checks the dialler's hello, makes both sides, hands each its link.
void accept(const std::shared_ptr<InprocNetwork::Port>& port,
            const std::string& address,
            Loop& loop,
            const Hello& hello,
            Done done) {
    if (!port->open) {
        return fail_connect(loop,
                            std::move(done),
                            Status(Errc::disconnected, "nobody listens on " + address));
    }
    Status status = check_hello(port->hello, hello);
    if (status.is_ok() && port->check) status = port->check(hello);
    if (!status.is_ok()) {
        return fail_connect(loop, std::move(done), status.with_context("refused by " + address));
    }
    auto near = std::make_shared<Side>(port->loop);
    auto far = std::make_shared<Side>(loop);
    near->peer = hello;
    near->peer_address = "inproc";
    near->other = far;
    far->peer = port->hello;
    far->peer_address = address;
    far->other = near;
    // The dialler learns first, so that what the listener sends at once finds events to take it.
    loop.post([far, done = std::move(done)] { done(std::shared_ptr<Link>(new InprocLink(far))); });
    port->on_link(std::make_shared<InprocLink>(near));
}

}  // namespace

Result<std::string> InprocNetwork::add(const std::string& address, std::shared_ptr<Port> port) {
    std::lock_guard lock(mutex_);
    std::string name = address;
    if (name.ends_with(":0")) {
        name.pop_back();
        name += std::to_string(++last_number_);
    }
    if (!ports_.emplace(name, std::move(port)).second) {
        return Status(Errc::exist, name + " is in use");
    }
    return name;
}

void InprocNetwork::remove(const std::string& address) {
    std::lock_guard lock(mutex_);
    ports_.erase(address);
}

std::shared_ptr<InprocNetwork::Port> InprocNetwork::find(const std::string& address) {
    std::lock_guard lock(mutex_);
    auto found = ports_.find(address);
    return found == ports_.end() ? nullptr : found->second;
}

class InprocListener final : public Listener {
public:
    InprocListener(std::shared_ptr<InprocNetwork> network,
                   std::shared_ptr<InprocNetwork::Port> port,
                   std::string address)
        : network_(std::move(network)), port_(std::move(port)), address_(std::move(address)) {}
    ~InprocListener() override {
        port_->open = false;
        network_->remove(address_);
    }
    const std::string& address() const override { return address_; }

private:
    std::shared_ptr<InprocNetwork> network_;
    std::shared_ptr<InprocNetwork::Port> port_;
    const std::string address_;
};

void InprocTransport::connect(const std::string& address,
                              const Hello& hello,
                              Nanos /*deadline*/,
                              Done done) {
    auto port = network_->find(address);
    if (!port) {
        return fail_connect(loop_,
                            std::move(done),
                            Status(Errc::disconnected, "nobody listens on " + address));
    }
    // A hop to the dialler's own loop on the way back: `port->hello` is checked there, too.
    Loop* loop = &loop_;
    Done checked = [hello, done = std::move(done)](Result<std::shared_ptr<Link>> link) {
        if (link.is_ok()) {
            if (Status status = check_hello(hello, (*link)->peer()); !status.is_ok()) {
                return done(status);
            }
        }
        done(std::move(link));
    };
    port->loop.post([port, address, loop, hello, checked = std::move(checked)] {
        accept(port, address, *loop, hello, checked);
    });
}

Result<std::unique_ptr<Listener>> InprocTransport::listen(
    const std::string& address,
    const Hello& hello,
    std::function<Status(const Hello&)> check,
    std::function<void(std::shared_ptr<Link>)> on_link) {
    auto port = std::make_shared<InprocNetwork::Port>(
        InprocNetwork::Port{loop_, hello, std::move(check), std::move(on_link), true});
    LFS_ASSIGN(std::string name, network_->add(address, port));
    return std::unique_ptr<Listener>(std::make_unique<InprocListener>(network_, port, name));
}

}  // namespace lumeofs
