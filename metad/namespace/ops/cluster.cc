// SPDX-License-Identifier: Apache-2.0
// Nodes and the settings that all of them share.
#include <sys/stat.h>

#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

Reply bootstrap(OpContext& ctx, const wire::ApplyBootstrapT& op) {
    State& state = ctx.t.state;
    if (state.bootstrapped && (op.cluster_id_high != state.cluster.cluster_id_high ||
                               op.cluster_id_low != state.cluster.cluster_id_low)) {
        return reply_error(Errc::exist);
    }
    if (op.generation >= (1u << kGenerationBits) || op.generation < state.cluster.generation ||
        op.default_replicas == 0 || op.default_replicas > kMaxReplicas ||
        op.min_write_replicas == 0 || op.min_write_replicas > op.default_replicas) {
        return reply_error(Errc::inval);
    }
    state.cluster = {op.cluster_id_high,
                     op.cluster_id_low,
                     op.generation,
                     op.default_replicas,
                     op.min_write_replicas};
    if (!state.bootstrapped) {
        InodeRow root;
        root.ino = kRootInode;
        root.mode = S_IFDIR | 0755;
        root.nlink = 2;
        root.atime_ns = root.mtime_ns = root.ctime_ns = root.btime_ns = ctx.now_ns;
        root.version = 1;
        root.parent = kRootInode;
        ctx.t.inodes.insert(root);
        state.inode_counter = kRootInode.value;
        state.totals.inodes = 1;
        state.bootstrapped = true;
    }
    return Reply();
}

namespace {

void take(std::string* to, const std::string& from) {
    if (!from.empty()) *to = from;
}

bool same(const NodeRow& a, const NodeRow& b) {
    return a.role == b.role && a.uuid_high == b.uuid_high && a.uuid_low == b.uuid_low &&
           a.address == b.address && a.http_address == b.http_address && a.zone == b.zone &&
           a.state == b.state && a.incarnation == b.incarnation && a.release == b.release;
}

}  // namespace

Reply change_node(OpContext& ctx, const wire::ApplyNodeT& op) {
    State& state = ctx.t.state;
    if (op.node == 0) return reply_error(Errc::inval);
    const std::optional<NodeRow> old = ctx.t.nodes.load(NodeId{op.node});
    NodeRow row = old.value_or(NodeRow());
    const bool has_uuid = op.uuid_high != 0 || op.uuid_low != 0;
    const bool knows_uuid = row.uuid_high != 0 || row.uuid_low != 0;
    const bool removed = row.state == static_cast<uint8_t>(wire::NodeState::removed);
    if (has_uuid && knows_uuid && !removed &&
        (op.uuid_high != row.uuid_high || op.uuid_low != row.uuid_low)) {
        return reply_error(Errc::conflict);  // other disks under the number of a known node
    }
    row.id = NodeId{op.node};
    if (has_uuid) row.uuid_high = op.uuid_high, row.uuid_low = op.uuid_low;
    if (op.role != 0) row.role = op.role;
    if (op.state != 0) row.state = op.state;
    take(&row.address, op.address);
    take(&row.http_address, op.http_address);
    take(&row.zone, op.zone);
    take(&row.release, op.release);
    if (op.new_incarnation && (op.attempt == 0 || op.attempt != row.attempt)) {
        row.incarnation = Incarnation{++state.incarnation};
        row.attempt = op.attempt;
    }
    if (!old || !same(*old, row)) {
        ctx.t.nodes.save(row);
        state.nodes_version = ctx.index;
    }
    Reply reply = reply_value(row.incarnation.value);
    reply.nodes_version = state.nodes_version;
    return reply;
}

}  // namespace lumeofs::metad
