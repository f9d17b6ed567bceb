// SPDX-License-Identifier: Apache-2.0
// Configurations of chunks change, one compare-and-swap each; marks are trimmed; garbage is gone.
//
// A node that leaves a configuration keeps its copy and is remembered as absent: it may come back
// as a joiner, its marks must not be trimmed away before it has [6], and when the chunk is deleted
// or the copy is written off, the copy goes to the garbage list like any other (I6).
#include <algorithm>

#include "metad/namespace/file_data.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

constexpr uint64_t kRowsPerChange = 3 * (2 * kMaxReplicas + 2);

bool has(const std::vector<NodeId>& nodes, NodeId node) {
    return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

std::vector<NodeId> to_nodes(const std::vector<uint64_t>& values) {
    std::vector<NodeId> nodes;
    for (uint64_t value : values) nodes.push_back(NodeId{value});
    return nodes;
}

bool distinct(std::vector<NodeId> nodes) {
    std::sort(nodes.begin(), nodes.end());
    return std::adjacent_find(nodes.begin(), nodes.end()) == nodes.end();
}

// Only members and the joiner may become members: everybody else's copy is not known to be whole.
bool allowed(const wire::ConfigChangeT& change, const ChunkRow& row) {
    const std::vector<NodeId> members = to_nodes(change.members);
    if (change.epoch != row.epoch.value) return false;
    if (members.empty() || members.size() > kMaxReplicas || !distinct(members)) return false;
    for (NodeId node : members) {
        if (!node || (!has(row.members, node) && node != row.joiner)) return false;
    }
    if (change.joiner != 0 && has(members, NodeId{change.joiner})) return false;
    if (change.state != wire::ChunkState::open && change.state != wire::ChunkState::sealed) {
        return false;
    }
    if (change.raise_epoch) return true;
    // Copies that are written off must be older than the configuration, else a late order could
    // remove what the same node was given as a joiner meanwhile.
    return members == row.members && static_cast<uint8_t>(change.state) == row.state &&
           change.written_off.empty();
}

void apply_change(OpContext& ctx, const wire::ConfigChangeT& change, const ChunkRow& before) {
    ChunkRow after = before;
    after.members = to_nodes(change.members);
    after.joiner = NodeId{change.joiner};
    after.state = static_cast<uint8_t>(change.state);
    if (change.raise_epoch) after.epoch = ctx.t.state.epoch_after(before.epoch);
    for (NodeId node : before.members) after.absent.push_back(node);
    if (before.joiner) after.absent.push_back(before.joiner);
    std::vector<NodeId> absent;
    for (NodeId node : after.absent) {
        if (has(after.members, node) || node == after.joiner || has(absent, node)) continue;
        const bool written_off =
            std::find(change.written_off.begin(), change.written_off.end(), node.value) !=
            change.written_off.end();
        if (written_off) {
            ctx.t.garbage.insert({node, after.id, before.epoch});
        } else {
            absent.push_back(node);
        }
    }
    while (absent.size() > kMaxReplicas) {  // the oldest is written off
        ctx.t.garbage.insert({absent.front(), after.id, before.epoch});
        absent.erase(absent.begin());
    }
    after.absent = absent;
    if (after.joiner) ctx.t.garbage.remove(after.joiner, after.id);
    ctx.t.chunks.update(before, after);
}

}  // namespace

Reply change_configs(OpContext& ctx, const wire::ApplyConfigChangesT& op) {
    Reply reply;
    for (const auto& change : op.changes) {
        if (ctx.rows_used() + kRowsPerChange > kMaxRowsPerCommand) break;
        const std::optional<ChunkRow> before = ctx.t.chunks.load(ChunkId{change->chunk});
        if (!before || !allowed(*change, *before)) continue;
        apply_change(ctx, *change, *before);
        const std::optional<ChunkRow> after = ctx.t.chunks.load(before->id);
        if (!after) break;
        reply.grants.push_back(std::make_unique<wire::ChunkGrantT>(grant_of(*after)));
        ++reply.value;
    }
    return reply;
}

Reply garbage_done(OpContext& ctx, const wire::ApplyGarbageDoneT& op) {
    uint64_t removed = 0;
    for (uint64_t chunk : op.chunks) {
        if (ctx.rows_used() + 2 > kMaxRowsPerCommand) break;
        if (ctx.t.garbage.remove(NodeId{op.node}, ChunkId{chunk})) ++removed;
    }
    return reply_value(removed);
}

Reply condemn(OpContext& ctx, const wire::ApplyCondemnT& op) {
    uint64_t condemned = 0;
    const size_t count = std::min(op.chunks.size(), op.epochs.size());
    for (size_t i = 0; i < count; ++i) {
        if (ctx.rows_used() + 2 > kMaxRowsPerCommand) break;
        const ChunkId chunk{op.chunks[i]};
        if (!ctx.t.state.gave(chunk) || ctx.t.chunks.load(chunk)) continue;
        ctx.t.garbage.insert({NodeId{op.node}, chunk, Epoch{op.epochs[i]}});
        ++condemned;
    }
    return reply_value(condemned);
}

Reply trim_marks(OpContext& ctx, const wire::ApplyTrimMarksT& op) {
    uint64_t changed = 0;
    const size_t count = std::min(op.chunks.size(), op.epochs.size());
    for (size_t i = 0; i < count; ++i) {
        if (ctx.rows_used() + 2 > kMaxRowsPerCommand) break;
        const std::optional<ChunkRow> before = ctx.t.chunks.load(ChunkId{op.chunks[i]});
        if (!before) continue;
        ChunkRow after = *before;
        // The newest stays: whether the chunk was cut after an epoch can be told by it alone.
        if (after.marks.empty()) continue;
        const Epoch newest = after.marks.back().epoch;
        std::erase_if(after.marks, [&](const ShrinkMark& mark) {
            return mark.epoch.value <= op.epochs[i] && mark.epoch != newest;
        });
        if (after.marks == before->marks) continue;
        ctx.t.chunks.update(*before, after);
        ++changed;
    }
    return reply_value(changed);
}

}  // namespace lumeofs::metad
