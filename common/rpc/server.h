// SPDX-License-Identifier: Apache-2.0
// RpcServer: listens on one address and keeps the peers that came.
//
// on_peer comes before any frame of that peer, on_gone once and last. A request or push names the
// peer that sent it; whoever wants to push to a peer later keeps a weak_ptr (RpcPeer has
// weak_from_this()). At most kMaxPeers are kept; the next one is refused with Errc::busy.
// Peers are listed in the order in which they came (no order of pointers or hashes).
// single-thread: the loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/env/loop.h"
#include "common/env/transport.h"
#include "common/rpc/peer.h"

namespace lumeofs {

// Any of them may be empty.
struct RpcServerEvents {
    std::function<Status(const Hello&)> check;  // an error refuses the peer; its code goes back to it
    std::function<void(RpcPeer&)> on_peer;
    std::function<void(RpcPeer&, const Status&)> on_gone;
    std::function<void(RpcPeer&, RpcRequest)> on_request;
    std::function<void(RpcPeer&, RpcPush)> on_push;
};

class RpcServer {
public:
    static constexpr size_t kMaxPeers = 16'384;

    RpcServer(Loop& loop, Transport& transport, RpcServerEvents events);
    ~RpcServer();  // as stop()
    RpcServer(const RpcServer&) = delete;
    RpcServer& operator=(const RpcServer&) = delete;

    // "host:port"; port 0 takes a free one, see address(). May be called again after stop().
    Status listen(const std::string& address, const Hello& hello);
    // Stops listening and drops all peers without events; their askers see a disconnect.
    void stop();
    // What is really listened on, "" when not listening.
    const std::string& address() const { return address_; }
    size_t peer_count() const { return peers_.size(); }
    void for_each_peer(const std::function<void(RpcPeer&)>& visit);

private:
    void accepted(std::shared_ptr<Link> link);

    Loop& loop_;
    Transport& transport_;
    std::shared_ptr<RpcServerEvents> events_;
    std::shared_ptr<char> alive_;
    std::unique_ptr<Listener> listener_;
    std::string address_;
    uint64_t last_peer_ = 0;
    std::map<uint64_t, std::shared_ptr<RpcPeer>> peers_;  // by arrival
};

}  // namespace lumeofs
