// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/connector.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace lumeofs {
namespace {

constexpr Nanos kLasted = 1 * kSecond;  // a link that lived so long was a good one

}  // namespace

Connector::Connector(Loop& loop,
                     Transport& transport,
                     Prng prng,
                     ConnectorOptions options,
                     ConnectorEvents events)
    : loop_(loop),
      transport_(transport),
      prng_(prng),
      options_(std::move(options)),
      events_(std::make_shared<ConnectorEvents>(std::move(events))),
      alive_(std::make_shared<char>()),
      backoff_(options_.backoff_min),
      timer_(loop) {}

Connector::~Connector() {
    if (peer_) ending_.emplace(++attempt_, std::move(peer_));
    for (auto& [key, peer] : ending_) {  // somebody else may hold it, so it must forget us
        peer->set_handlers({});
        peer->close();
    }
}

void Connector::start() {
    if (started_) return;
    started_ = true;
    backoff_ = options_.backoff_min;
    attempt();
}

void Connector::stop() {
    started_ = false;
    connecting_ = false;
    again_at_once_ = false;
    ++attempt_;
    timer_.stop();
    if (!peer_) return;
    // The peer is kept until its link has ended, so that each pending call gets its answer.
    const uint64_t key = attempt_;
    RpcHandlers handlers;
    handlers.on_closed = [this, key](const Status&) { ending_.erase(key); };
    peer_->set_handlers(std::move(handlers));
    peer_->close();
    ending_.emplace(key, std::move(peer_));
    peer_.reset();
}

void Connector::reconnect() {
    if (!started_) return;
    backoff_ = options_.backoff_min;
    if (peer_) {
        again_at_once_ = true;
        peer_->close();
        return;
    }
    timer_.stop();
    attempt();
}

void Connector::set_address(std::string address) { options_.address = std::move(address); }

void Connector::attempt() {
    connecting_ = true;
    const uint64_t number = ++attempt_;
    std::weak_ptr<char> alive = alive_;
    transport_.connect(options_.address,
                       options_.hello(),
                       loop_.now() + options_.connect_timeout,
                       [this, alive, number](Result<std::shared_ptr<Link>> link) {
                           // A link that nobody wants any more closes by being dropped.
                           if (alive.expired() || !connecting_ || number != attempt_) return;
                           attempt_ended(std::move(link));
                       });
}

void Connector::attempt_ended(Result<std::shared_ptr<Link>> link) {
    connecting_ = false;
    auto events = events_;
    if (!link.is_ok()) {
        LFS_LOG(debug, "no connection to {}: {}", options_.address, link.status().to_string());
        schedule();
        if (events->on_failure) events->on_failure(link.status());
        return;
    }
    up_since_ = loop_.now();
    RpcHandlers handlers;
    handlers.on_request = [events](RpcRequest request) {
        if (events->on_request) {
            events->on_request(std::move(request));
        } else {
            request.responder.reply(Status(Errc::nosys, "nobody answers requests here"));
        }
    };
    handlers.on_push = [events](RpcPush push) {
        if (events->on_push) events->on_push(std::move(push));
    };
    handlers.on_closed = [this](const Status& why) { link_ended(why); };
    peer_ = RpcPeer::create(loop_, std::move(link).value(), std::move(handlers));
    auto peer = peer_;
    if (events->on_up) events->on_up(*peer);
}

void Connector::link_ended(const Status& why) {
    LFS_LOG(debug, "connection to {} ended: {}", options_.address, why.to_string());
    peer_.reset();
    const bool lasted = loop_.now() - up_since_ >= kLasted;
    if (lasted) backoff_ = options_.backoff_min;
    if (std::exchange(again_at_once_, false) || lasted) {
        timer_.start(0, [this] { attempt(); });
    } else {
        schedule();
    }
    auto events = events_;
    if (events->on_down) events->on_down(why);
}

void Connector::schedule() {
    const auto whole = static_cast<uint64_t>(backoff_);
    const auto delay = static_cast<Nanos>(prng_.between(whole / 2, whole));
    backoff_ = std::min(backoff_ * 2, options_.backoff_max);
    timer_.start(delay, [this] { attempt(); });
}

void Connector::call(uint16_t method, Bytes body, Buffer payload, Nanos timeout, RpcDone done) {
    if (is_up()) {
        peer_->call(method, std::move(body), std::move(payload), timeout, std::move(done));
        return;
    }
    std::weak_ptr<char> alive = alive_;
    loop_.post([alive, done = std::move(done), address = options_.address] {
        if (alive.expired()) return;
        done(RpcReply{Status(Errc::disconnected, "not connected to " + address), {}, {}});
    });
}

bool Connector::push(uint16_t method, Bytes body, Buffer payload) {
    return is_up() && peer_->push(method, std::move(body), std::move(payload));
}

}  // namespace lumeofs
