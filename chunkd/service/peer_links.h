// SPDX-License-Identifier: Apache-2.0
// PeerLinks: our own connections to the other chunkds, made as metad names them.
// single-thread: the chunkd loop.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "common/base/prng.h"
#include "common/rpc/connector.h"
#include "common/wire/messages.h"
#include "common/wire/method.h"

namespace lumeofs::chunkd {

struct PeerLinksEvents {
    std::function<Hello()> hello;
    std::function<void(NodeId)> on_up;
    std::function<void(NodeId)> on_down;
};

class PeerLinks {
public:
    PeerLinks(Loop& loop, Transport& transport, Prng prng, NodeId self, PeerLinksEvents events);
    ~PeerLinks();

    // The addresses of all nodes; other roles and ourselves are skipped.
    void learn(const std::vector<std::unique_ptr<wire::NodeAddressT>>& nodes);
    // `done` exactly once, from a later task; disconnected if there is no link.
    void call(NodeId node, Method method, Bytes body, Buffer payload, Nanos timeout, RpcDone done);
    bool push(NodeId node, Method method, Bytes body);
    bool is_up(NodeId node) const;
    // All links are made anew: our hello names another incarnation.
    void reconnect();
    void stop();
    size_t count() const { return links_.size(); }

private:
    Loop& loop_;
    Transport& transport_;
    Prng prng_;
    const NodeId self_;
    PeerLinksEvents events_;
    std::map<NodeId, std::unique_ptr<Connector>> links_;
};

}  // namespace lumeofs::chunkd
