// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/server.h"

#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/wire/frame.h"

namespace lumeofs {

RpcServer::RpcServer(Loop& loop, Transport& transport, RpcServerEvents events)
    : loop_(loop),
      transport_(transport),
      events_(std::make_shared<RpcServerEvents>(std::move(events))),
      alive_(std::make_shared<char>()) {}

RpcServer::~RpcServer() { stop(); }

Status RpcServer::listen(const std::string& address, const Hello& hello) {
    std::weak_ptr<char> alive = alive_;
    auto check = [this, alive](const Hello& peer) {
        if (alive.expired()) return Status(Errc::shutting_down);
        if (peers_.size() >= kMaxPeers) return Status(Errc::busy, "too many connections");
        auto events = events_;
        return events->check ? events->check(peer) : ok_status();
    };
    auto on_link = [this, alive](std::shared_ptr<Link> link) {
        if (!alive.expired()) accepted(std::move(link));
    };
    LFS_ASSIGN(listener_, transport_.listen(address, hello, check, on_link));
    address_ = listener_->address();
    return ok_status();
}

void RpcServer::stop() {
    alive_ = std::make_shared<char>();  // what is still under way from before is not ours any more
    listener_.reset();
    address_.clear();
    std::map<uint64_t, std::shared_ptr<RpcPeer>> peers = std::move(peers_);
    peers_.clear();
    for (auto& [id, peer] : peers) {
        peer->set_handlers({});
        peer->close();  // somebody else may hold it too
    }
}

void RpcServer::for_each_peer(const std::function<void(RpcPeer&)>& visit) {
    std::vector<std::shared_ptr<RpcPeer>> peers;  // a visit may end peers
    peers.reserve(peers_.size());
    for (auto& [id, peer] : peers_) peers.push_back(peer);
    for (auto& peer : peers) visit(*peer);
}

void RpcServer::accepted(std::shared_ptr<Link> link) {
    const uint64_t id = ++last_peer_;
    auto events = events_;
    auto peer = RpcPeer::create(loop_, std::move(link), {});
    peers_.emplace(id, peer);
    std::weak_ptr<char> alive = alive_;
    // The handlers must not hold the peer: it holds them.
    std::weak_ptr<RpcPeer> weak = peer;
    RpcHandlers handlers;
    handlers.on_request = [events, weak](RpcRequest request) {
        auto from = weak.lock();
        if (from && events->on_request) {
            events->on_request(*from, std::move(request));
        } else {
            request.responder.reply(Status(Errc::nosys, "nobody answers requests here"));
        }
    };
    handlers.on_push = [events, weak](RpcPush push) {
        auto from = weak.lock();
        if (from && events->on_push) events->on_push(*from, std::move(push));
    };
    handlers.on_closed = [this, alive, events, weak, id](const Status& why) {
        auto gone = weak.lock();
        if (alive.expired() || !gone) return;
        peers_.erase(id);
        LFS_LOG(debug, "{} at {} is gone: {}", describe(gone->hello()), gone->address(), why.to_string());
        if (events->on_gone) events->on_gone(*gone, why);
    };
    peer->set_handlers(std::move(handlers));
    if (events->on_peer) events->on_peer(*peer);
}

}  // namespace lumeofs
