// SPDX-License-Identifier: Apache-2.0
#include "metad/service/node_service.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/wire/codec.h"
#include "metad/service/session_service.h"

namespace lumeofs::metad {
namespace {

constexpr size_t kRemovalsPerBeat = 4'096;
constexpr size_t kOrdersPerBeat = 256;
constexpr uint32_t kFencesAtOnce = 10'000;

template <typename Reply>
Bytes error_of(Errc code, const std::string& text, NodeId leader, const std::string& address) {
    typename Reply::NativeTableType reply;
    reply.errc = static_cast<uint16_t>(code);
    reply.text = text;
    reply.leader = leader.value;
    reply.leader_address = address;
    return wire::encode<Reply>(reply);
}

}  // namespace

Bytes NodeService::error_for(const wire::NodeRequestT& request,
                             Errc code,
                             const std::string& text,
                             NodeId leader,
                             const std::string& leader_address) {
    if (request.op.AsRegister()) {
        return error_of<wire::RegisterReply>(code, text, leader, leader_address);
    }
    if (request.op.AsHeartbeat()) {
        return error_of<wire::HeartbeatReply>(code, text, leader, leader_address);
    }
    return error_of<wire::ConfigReply>(code, text, leader, leader_address);
}

void NodeService::handle(const std::shared_ptr<RpcPeer>& peer, const RpcRequest& request) {
    auto message = wire::decode<wire::NodeRequest>(request.body);
    if (!message) return request.responder.reply(message.status());
    auto node_request = std::make_shared<wire::NodeRequestT>(std::move(*message));
    leader_.consensus.read_barrier(leader_.guarded(
        [this, peer, node_request, responder = request.responder](const Status& status) {
            if (!status.is_ok()) {
                responder.reply_ok(error_for(
                    *node_request, status.code(), std::string(status.text()), NodeId{}, ""));
                return;
            }
            dispatch(peer, *node_request, responder);
        }));
}

void NodeService::dispatch(const std::shared_ptr<RpcPeer>& peer,
                           const wire::NodeRequestT& request,
                           const Responder& responder) {
    const auto answer = [responder](const wire::ConfigReplyT& reply) {
        responder.reply_ok(wire::encode<wire::ConfigReply>(reply));
    };
    if (const auto* op = request.op.AsRegister()) {
        register_node(peer, *op, responder);
    } else if (const auto* beat = request.op.AsHeartbeat()) {
        heartbeat(peer, *beat, responder);
    } else if (const auto* members = request.op.AsReportMembers()) {
        configs_.report_members(*members, answer);
    } else if (const auto* join = request.op.AsJoinDone()) {
        configs_.join_done(*join, [this, answer](const wire::ConfigReplyT& reply) {
            answer(reply);
            events_.joined();
        });
    } else if (const auto* get = request.op.AsGetConfigs()) {
        answer(get_configs(*get));
    } else if (const auto* report = request.op.AsChunkReport()) {
        answer(chunk_report(*report));
    } else {
        responder.reply(Status(Errc::protocol, "a node request without an operation that is known"));
    }
}

void NodeService::register_node(const std::shared_ptr<RpcPeer>& peer,
                                const wire::RegisterT& op,
                                const Responder& responder) {
    if (!leader_.state.is_bootstrapped()) {
        responder.reply_ok(error_of<wire::RegisterReply>(
            Errc::unavailable, "the cluster is being set up", NodeId{}, ""));
        return;
    }
    wire::ApplyNodeT command;
    command.node = op.node;
    command.role = static_cast<uint8_t>(Role::chunkd);
    command.uuid_high = op.uuid_high;
    command.uuid_low = op.uuid_low;
    command.address = op.address;
    command.http_address = op.http_address;
    command.zone = op.zone;
    command.release = op.release;
    command.new_incarnation = true;
    command.attempt = op.attempt;
    wire::CommandOpUnion command_op;
    command_op.Set(std::move(command));
    const NodeId id{op.node};
    leader_.propose(std::move(command_op), [=, this](Result<wire::MetaReplyT> applied) {
        wire::RegisterReplyT reply;
        if (!applied || applied->errc != 0) {
            reply.errc = applied ? applied->errc : static_cast<uint16_t>(applied.code());
            reply.text = applied ? applied->text : std::string(applied.status().text());
            if (static_cast<Errc>(reply.errc) == Errc::exist) {
                reply.text = fmt::format(
                    "node_id {} belongs to another data directory or to a metad; give this one a node_id "
                    "that is not in use, or bring back the directory with its chunkd.identity",
                    op.node);
            }
            responder.reply_ok(wire::encode<wire::RegisterReply>(reply));
            return;
        }
        LiveNode& node = leader_.nodes[id];
        const Incarnation incarnation{applied->value};
        if (node.incarnation != incarnation) {
            // The earlier start is dead (this one holds its lock) and this one serves nothing before
            // its first heartbeat is answered.
            node.lease_until = leader_.loop.now();
            node.last_beat = 0;
            node.orders.clear();
        }
        node.node = id;
        node.peer = peer;
        node.incarnation = incarnation;
        node.goodbye = false;
        reply.incarnation = incarnation.value;
        const ClusterRow cluster = leader_.state.cluster();
        reply.cluster_id_high = cluster.cluster_id_high;
        reply.cluster_id_low = cluster.cluster_id_low;
        reply.min_write_replicas = cluster.min_write_replicas;
        reply.last_chunk = leader_.state.last_chunk().value;
        reply.default_replicas = cluster.default_replicas;
        reply.fence_number = leader_.state.last_fence();
        for (const FenceRow& fence : leader_.state.fences_since(0, kFencesAtOnce)) {
            reply.fenced_sessions.push_back(fence.session.value);
        }
        reply.nodes = node_addresses(leader_);
        reply.nodes_version = leader_.state.nodes_version();
        LFS_LOG(info, "chunkd {} registered, incarnation {}", id.value, incarnation.value);
        responder.reply_ok(wire::encode<wire::RegisterReply>(reply));
        events_.beat();
    });
}

void NodeService::heartbeat(const std::shared_ptr<RpcPeer>& peer,
                            const wire::HeartbeatT& op,
                            const Responder& responder) {
    LiveNode* node = leader_.node(NodeId{op.node});
    if (!node || node->incarnation.value != op.incarnation) {
        responder.reply_ok(error_of<wire::HeartbeatReply>(
            Errc::fenced, "this start of the node is not registered; register first", NodeId{}, ""));
        return;
    }
    const Nanos now = leader_.loop.now();
    node->peer = peer;
    node->last_beat = now;
    node->acked_fence = std::max(node->acked_fence, op.acked_fence);
    node->total_bytes = op.total_bytes;
    node->free_bytes = op.free_bytes;
    node->chunks = op.chunks;
    node->writes = op.writes;
    node->reads = op.reads;
    node->corrupt_blocks = op.corrupt_blocks;
    node->lost_chunks = op.lost_chunks;
    node->dirty_log_bytes = op.dirty_log_bytes;
    node->disks.clear();
    for (const auto& disk : op.disks) node->disks.push_back(*disk);
    wire::HeartbeatReplyT reply;
    reply.sent_ns = op.sent_ns;
    reply.term = leader_.term.value;
    reply.cluster_time_ns = leader_.cluster_time();
    reply.nodes_version = leader_.state.nodes_version();
    if (op.nodes_version != reply.nodes_version) reply.nodes = node_addresses(leader_);
    configs_.acknowledged(node->node, op.acked_removals);
    if (op.orders_term == leader_.term.value) finish_orders(*node, op.done_orders);
    if (op.goodbye) {
        LFS_LOG(info, "chunkd {} says goodbye", op.node);
        node->goodbye = true;
        node->lease_until = now;
    } else {
        bool told_everything = true;
        for (const auto& [chunk, epoch] : node->removals) {
            if (reply.removals.size() == kRemovalsPerBeat) {
                told_everything = false;
                break;
            }
            if (auto row = leader_.state.chunk(chunk)) {
                reply.removals.push_back(
                    std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(*row)));
            }
        }
        const auto fences = leader_.state.fences_since(op.acked_fence, kFencesAtOnce);
        for (const FenceRow& fence : fences) reply.fenced_sessions.push_back(fence.session.value);
        reply.fence_number = fences.empty() ? leader_.state.last_fence() : fences.back().number;
        if (told_everything) {  // never renewed without having been told what it is out of [3]
            reply.lease_ns = static_cast<uint64_t>(leader_.settings.node_lease);
            node->lease_until = now + leader_.settings.node_lease;
        }
        give_orders(*node, &reply);
    }
    responder.reply_ok(wire::encode<wire::HeartbeatReply>(reply));
    events_.beat();
}

void NodeService::finish_orders(LiveNode& node, const std::vector<uint64_t>& done) {
    wire::ApplyGarbageDoneT command;
    command.node = node.node.value;
    std::vector<std::pair<ChunkId, Epoch>> adopted;
    std::vector<std::pair<ChunkId, uint64_t>> checked;
    for (uint64_t number : done) {
        auto it = node.orders.find(number);
        if (it == node.orders.end()) continue;
        const wire::ChunkGrantT& grant = *it->second.grant;
        if (it->second.kind == wire::OrderKind::remove_chunk) {
            command.chunks.push_back(grant.chunk);
        } else if (it->second.kind == wire::OrderKind::adopt) {
            adopted.emplace_back(ChunkId{grant.chunk}, Epoch{grant.epoch});
        } else if (it->second.kind == wire::OrderKind::check_copies) {
            checked.emplace_back(ChunkId{grant.chunk}, number);
        }
        node.orders.erase(it);
    }
    for (const auto& [chunk, epoch] : adopted) events_.adopted(node.node, chunk, epoch);
    for (const auto& [chunk, number] : checked) events_.checked(node.node, chunk, number);
    if (command.chunks.empty()) return;
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose(std::move(op), [](const Result<wire::MetaReplyT>&) {});  // else ordered again
}

// Orders stay until they are reported done; they carry the term, and this is behind a read barrier of
// the term: nothing is deleted on the word of a deposed leader [19].
void NodeService::give_orders(LiveNode& node, wire::HeartbeatReplyT* reply) {
    if (node.orders.size() < kOrdersPerBeat) {
        std::set<uint64_t> ordered;
        for (const auto& [number, order] : node.orders) {
            if (order.kind == wire::OrderKind::remove_chunk) ordered.insert(order.grant->chunk);
        }
        for (const GarbageRow& row :
             leader_.state.garbage_of_node(node.node, ChunkId{}, kOrdersPerBeat)) {
            if (ordered.contains(row.chunk.value)) continue;
            auto grant = std::make_unique<wire::ChunkGrantT>();
            grant->chunk = row.chunk.value;
            grant->epoch = row.epoch.value;
            leader_.order(node, wire::OrderKind::remove_chunk, std::move(grant));
        }
    }
    // Removals last: nobody waits for them.
    for (const bool removals : {false, true}) {
        for (const auto& [number, order] : node.orders) {
            if (reply->orders.size() == kOrdersPerBeat) break;
            if ((order.kind == wire::OrderKind::remove_chunk) != removals) continue;
            reply->orders.push_back(std::make_unique<wire::OrderT>(order));
        }
    }
}

wire::ConfigReplyT NodeService::get_configs(const wire::GetConfigsT& op) {
    wire::ConfigReplyT reply;
    for (uint64_t chunk : op.chunks) {
        if (auto row = leader_.state.chunk(ChunkId{chunk})) {
            reply.grants.push_back(
                std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(*row)));
        } else {
            reply.unknown.push_back(chunk);
        }
    }
    return reply;
}

// What a node holds: told what it does not know yet. Copies of deleted chunks become garbage; chunks
// that nobody knows are left alone [19]. What it should hold and does not is looked into.
wire::ConfigReplyT NodeService::chunk_report(const wire::ChunkReportT& op) {
    wire::ConfigReplyT reply;
    std::vector<std::pair<ChunkId, Epoch>> unknown;
    for (const auto& held : op.chunks) {
        const auto row = leader_.state.chunk(ChunkId{held->chunk});
        if (!row) {
            reply.unknown.push_back(held->chunk);
            unknown.emplace_back(ChunkId{held->chunk}, Epoch{held->epoch});
        } else if (row->epoch.value > held->epoch) {
            reply.grants.push_back(
                std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(*row)));
        }
    }
    configs_.condemn_deleted(NodeId{op.node}, unknown);
    events_.reported(op);
    return reply;
}

void NodeService::peer_closed(const RpcPeer* peer) {
    for (auto& [id, node] : leader_.nodes) {
        if (node.peer.get() == peer) node.peer.reset();
    }
}

}  // namespace lumeofs::metad
