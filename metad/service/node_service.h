// SPDX-License-Identifier: Apache-2.0
// chunkds: registration, heartbeats with node leases, fences, removals and orders, reports of what
// they hold (schema/cluster.fbs). Everything is answered after a read barrier, so that a deposed
// leader renews nobody [26]. single-thread: the metad loop.
#pragma once

#include <functional>
#include <memory>

#include "metad/service/config_service.h"
#include "metad/service/leader.h"

namespace lumeofs::metad {

class NodeService {
public:
    struct Events {
        std::function<void()> beat;  // after each heartbeat: somebody may wait for what it said
        std::function<void(NodeId, ChunkId, Epoch)> adopted;  // durably, by an order
        std::function<void()> joined;  // or a joiner was given up
        std::function<void(const wire::ChunkReportT&)> reported;
        // The primary has asked the members, by the order of this number.
        std::function<void(NodeId, ChunkId, uint64_t)> checked;
    };
    NodeService(Leader& leader, ConfigService& configs, Events events)
        : leader_(leader), configs_(configs), events_(std::move(events)) {}

    void handle(const std::shared_ptr<RpcPeer>& peer, const RpcRequest& request);
    void peer_closed(const RpcPeer* peer);
    // Encoded reply of the type that the request's operation has, for errors outside of it.
    static Bytes error_for(const wire::NodeRequestT& request,
                           Errc code,
                           const std::string& text,
                           NodeId leader,
                           const std::string& leader_address);

private:
    void dispatch(const std::shared_ptr<RpcPeer>& peer,
                  const wire::NodeRequestT& request,
                  const Responder& responder);
    void register_node(const std::shared_ptr<RpcPeer>& peer,
                       const wire::RegisterT& op,
                       const Responder& responder);
    void heartbeat(const std::shared_ptr<RpcPeer>& peer,
                   const wire::HeartbeatT& op,
                   const Responder& responder);
    void finish_orders(LiveNode& node, const std::vector<uint64_t>& done);
    void give_orders(LiveNode& node, wire::HeartbeatReplyT* reply);
    wire::ConfigReplyT get_configs(const wire::GetConfigsT& op);
    wire::ConfigReplyT chunk_report(const wire::ChunkReportT& op);

    Leader& leader_;
    ConfigService& configs_;
    Events events_;
};

}  // namespace lumeofs::metad
