// SPDX-License-Identifier: Apache-2.0
#include "metad/service/leader.h"

#include <algorithm>
#include <utility>

#include "common/base/limits.h"
#include "common/wire/codec.h"

namespace lumeofs::metad {

Leader::Leader(Loop& loop_in,
               Consensus& consensus_in,
               StateMachine& state_in,
               const ServiceSettings& settings_in,
               Prng prng_in)
    : loop(loop_in),
      consensus(consensus_in),
      state(state_in),
      settings(settings_in),
      prng(prng_in),
      since(loop_in.now()),
      term(consensus_in.term()),
      leases([this](const PendingRecall& recall) { send_recall(recall); }),
      readers(term, [this](const PendingRecall& recall) { send_recall(recall); }) {
    for (const SessionRow& row : state.sessions()) {
        LiveSession& live = sessions[row.id];
        live.id = row.id;
        live.last_renewed = since;
        live.ending = row.state == SessionState::fenced;
    }
    for (const NodeRow& row : state.nodes()) {
        if (row.role != static_cast<uint8_t>(Role::chunkd)) continue;
        LiveNode& live = nodes[row.id];
        live.node = row.id;
        live.incarnation = row.incarnation;
        live.lease_until = since + settings.node_lease;  // the leader before us may have renewed it
    }
}

void Leader::send_recall(const PendingRecall& recall) {
    LiveSession* holder = session(recall.session);
    if (!holder || !holder->peer) return;  // told again when it attaches
    wire::RecallT message;
    message.session = recall.session.value;
    message.ino = recall.ino.value;
    message.number = recall.number;
    message.kind = static_cast<wire::RecallKind>(recall.what);
    message.last_grant = holder->grants;
    holder->peer->push(static_cast<uint16_t>(Method::recall), wire::encode<wire::Recall>(message));
}

int64_t Leader::cluster_time() {
    last_time_ = std::max({last_time_, loop.wall_now(), state.last_now_ns() + 1});
    return last_time_;
}

void Leader::propose_raw(wire::CommandOpUnion op, std::function<void(Result<Bytes>)> done) {
    wire::CommandT command;
    last_time_ = std::max(cluster_time(), last_time_ + 1);
    command.now_ns = last_time_;
    command.op = std::move(op);
    consensus.propose(wire::encode<wire::Command>(command), guarded(std::move(done)));
}

void Leader::propose(wire::CommandOpUnion op, std::function<void(Result<wire::MetaReplyT>)> done) {
    propose_raw(std::move(op), [done = std::move(done)](Result<Bytes> bytes) {
        if (!bytes) {
            done(bytes.status());
        } else {
            done(wire::decode<wire::MetaReply>(*bytes));
        }
    });
}

size_t LiveNode::orders_of(wire::OrderKind kind) const {
    return static_cast<size_t>(std::count_if(
        orders.begin(), orders.end(), [kind](const auto& order) { return order.second.kind == kind; }));
}

uint64_t Leader::order(LiveNode& node,
                       wire::OrderKind kind,
                       std::unique_ptr<wire::ChunkGrantT> grant,
                       NodeId about) {
    wire::OrderT order;
    order.number = ++last_order_;
    order.kind = kind;
    order.term = term.value;
    order.node = about.value;
    order.grant = std::move(grant);
    node.orders.emplace(order.number, std::move(order));
    if (!std::exchange(node.called, true)) {
        loop.at_end_of_batch(guarded([this, id = node.node] { call(id); }));
    }
    return last_order_;
}

// It answers with a heartbeat, which fetches its orders: the next beat may be a second away.
void Leader::call(NodeId id) {
    LiveNode* called = node(id);
    if (!called) return;
    called->called = false;
    if (!called->peer) return;
    wire::LeaderHelloT hello;
    hello.term = term.value;
    hello.node = settings.self.value;
    called->peer->push(static_cast<uint16_t>(Method::leader_hello),
                       wire::encode<wire::LeaderHello>(hello));
}

LiveSession* Leader::session(SessionId id) {
    auto it = sessions.find(id);
    return it == sessions.end() || it->second.ending ? nullptr : &it->second;
}

LiveNode* Leader::node(NodeId id) {
    auto it = nodes.find(id);
    return it == nodes.end() ? nullptr : &it->second;
}

bool Leader::may_serve(NodeId id) const {
    auto it = nodes.find(id);
    return it != nodes.end() && !it->second.goodbye && it->second.lease_until > loop.now();
}

bool Leader::usable(NodeId id) const {
    return may_serve(id) && nodes.at(id).last_beat != 0;
}

bool Leader::heard(NodeId id) const {
    return usable(id) && loop.now() - nodes.at(id).last_beat < kBeat + kBeat / 2;
}

wire::NodeState Leader::state_of(NodeId id) const {
    auto it = nodes.find(id);
    if (it == nodes.end()) return wire::NodeState::unknown;
    if (usable(id)) return wire::NodeState::online;
    const Nanos heard = it->second.last_beat != 0 ? it->second.last_beat : since;
    if (!it->second.goodbye && loop.now() - heard < settings.node_timeout) {
        return wire::NodeState::suspect;
    }
    return wire::NodeState::offline;
}

std::vector<Candidate> Leader::candidates() const {
    std::vector<Candidate> result;
    for (const NodeRow& row : state.nodes()) {
        auto it = nodes.find(row.id);
        if (it == nodes.end()) continue;
        const auto stored = static_cast<wire::NodeState>(row.state);
        const bool leaving = stored == wire::NodeState::maintenance ||
                             stored == wire::NodeState::decommissioning ||
                             stored == wire::NodeState::removed;
        result.push_back({row.id,
                          row.zone,
                          it->second.total_bytes,
                          it->second.free_bytes,
                          usable(row.id) && !leaving});
    }
    return result;
}

Bytes encoded(const wire::MetaReplyT& reply) { return wire::encode<wire::MetaReply>(reply); }

Bytes error_reply(Errc code, std::string_view text) {
    wire::MetaReplyT reply;
    reply.errc = static_cast<uint16_t>(code);
    reply.text = text;
    return encoded(reply);
}

}  // namespace lumeofs::metad
