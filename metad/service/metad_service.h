// SPDX-License-Identifier: Apache-2.0
// MetadService: the contents page of this room. Receives the requests of clients, chunkds and tools,
// answers not_leader with a hint where this metad does not lead, and otherwise hands them to the
// services of the current leadership, which it makes and destroys with it.
// single-thread: the metad loop.
#pragma once

#include <memory>

#include "common/rpc/server.h"
#include "metad/service/leader.h"

namespace lumeofs::metad {

class MetadService {
public:
    MetadService(Loop& loop,
                 Consensus& consensus,
                 StateMachine& state,
                 ServiceSettings settings,
                 Prng prng);
    ~MetadService();

    void on_request(RpcPeer& peer, RpcRequest request);
    void on_gone(RpcPeer& peer);
    // Pushed to everybody when this metad starts to lead: the transport's list of peers.
    void set_peers(std::function<void(const std::function<void(RpcPeer&)>&)> for_each_peer);

    bool leading() const { return leadership_ != nullptr; }
    // For the checks of the simulator; null when not leading.
    Leader* leader();

private:
    struct Leadership;

    void leadership_changed(bool ready);
    void bootstrap();
    void greet();
    void refuse(const RpcRequest& request) const;
    void admin(const RpcRequest& request);

    Loop& loop_;
    Consensus& consensus_;
    StateMachine& state_;
    const ServiceSettings settings_;
    Prng prng_;
    std::function<void(const std::function<void(RpcPeer&)>&)> for_each_peer_;
    std::shared_ptr<Leadership> leadership_;
};

}  // namespace lumeofs::metad
