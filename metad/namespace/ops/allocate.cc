// SPDX-License-Identifier: Apache-2.0
// Chunks for a range of a file, and the right to grow it; inline data begins to move out.
#include <algorithm>

#include "metad/namespace/file_data.h"
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"
#include "metad/namespace/state_machine.h"

namespace lumeofs::metad {

namespace {

bool valid_members(const std::vector<uint64_t>& members) {
    if (members.empty() || members.size() > kMaxReplicas) return false;
    for (size_t i = 0; i < members.size(); ++i) {
        if (members[i] == 0) return false;
        if (std::find(members.begin(),
                      members.begin() + static_cast<std::ptrdiff_t>(i),
                      members[i]) != members.begin() + static_cast<std::ptrdiff_t>(i)) {
            return false;
        }
    }
    return true;
}

const wire::PlacementT* placement_for(const OpContext& ctx, uint32_t index) {
    for (const auto& placement : ctx.command->placements) {
        if (placement->index == index && valid_members(placement->members)) return placement.get();
    }
    return nullptr;
}

// Will piece `index` have no live row once the tail of another session is cut?
bool will_be_missing(OpContext& ctx, const InodeRow& row, uint32_t index, bool cut_first) {
    if (cut_first && (row.is_inline || bytes_below(row.size, index) == 0)) return true;
    return !live_map(ctx.t, row, index);
}

struct Plan {
    std::optional<GrowerRow> grower;  // our own
    bool cut_first = false;
    bool begins_move_out = false;
    bool becomes_chunked = false;  // was inline, without a byte
    bool grows = false;
};

Errc make_plan(OpContext& ctx, const wire::AllocateT& op, const InodeRow& row, Plan* plan) {
    if (op.truncate_generation < row.truncate_generation) return Errc::conflict;
    if (op.count == 0 || op.count > kMaxChunksPerAllocate) return Errc::inval;
    if (uint64_t{op.first} + op.count - 1 > kLastChunkIndex) return Errc::fbig;
    plan->grower = ctx.t.growers.load(row.ino);
    if (plan->grower && plan->grower->session != ctx.session) {
        if (Errc e = can_cut_tail(ctx.t, row); e != Errc::ok) return e;
        plan->cut_first = true;
        plan->grower.reset();
    }
    const uint64_t end = (uint64_t{op.first} + op.count) * kChunkSize;
    plan->grows = end > row.size || row.is_inline;
    if (row.is_inline && !(plan->grower && plan->grower->moving_out)) {
        plan->becomes_chunked = ctx.t.inline_data.load(row.ino).empty();
        plan->begins_move_out = !plan->becomes_chunked;
        if (plan->begins_move_out && op.move_out_version != row.version) return Errc::conflict;
    }
    for (uint32_t i = 0; i < op.count; ++i) {
        if (will_be_missing(ctx, row, op.first + i, plan->cut_first) &&
            placement_for(ctx, op.first + i) == nullptr) {
            return Errc::recall;  // the leader looked at another map than this one
        }
    }
    return Errc::ok;
}

void add_chunk(OpContext& ctx, InodeRow& row, uint32_t index) {
    // A row that waits for its clean-up is in the way: its turn is now.
    if (const std::optional<MapRow> dead = ctx.t.map.load(row.ino, index)) {
        drop_map_row(ctx, *dead);
        --row.chunks;
    }
    ChunkRow chunk;
    chunk.id = ctx.t.state.next_chunk();
    chunk.epoch = make_epoch(ctx.t.state.cluster.generation, 1);
    for (uint64_t member : placement_for(ctx, index)->members) {
        chunk.members.push_back(NodeId{member});
    }
    chunk.wanted = ctx.t.state.cluster.default_replicas;
    chunk.owner = row.ino;
    chunk.index = index;
    ctx.t.chunks.insert(chunk);
    ctx.t.map.save({row.ino, index, chunk.id, kChunkSize, ctx.index});
    ++row.chunks;
}

Reply refuse(OpContext& ctx, Errc code, const InodeRow& row) {
    if (code != Errc::conflict) return reply_error(code);
    Reply reply = reply_error(code, row);
    if (row.is_inline) reply.data = ctx.t.inline_data.load(row.ino);
    return reply;
}

}  // namespace

Reply allocate(OpContext& ctx, const wire::AllocateT& op) {
    InodeRow row;
    if (Errc e = load_regular(ctx.t, InodeId{op.ino}, &row); e != Errc::ok) return reply_error(e);
    Plan plan;
    if (Errc e = make_plan(ctx, op, row, &plan); e != Errc::ok) return refuse(ctx, e, row);

    if (plan.cut_first) cut_tail(ctx, row);
    bool changed = plan.cut_first || plan.becomes_chunked || plan.begins_move_out;
    if (plan.becomes_chunked) row.is_inline = false;
    for (uint32_t i = 0; i < op.count; ++i) {
        if (live_map(ctx.t, row, op.first + i)) continue;
        add_chunk(ctx, row, op.first + i);
        changed = true;
    }
    if (plan.grows && (!plan.grower || plan.begins_move_out)) {
        const bool moving = plan.begins_move_out || (plan.grower && plan.grower->moving_out);
        ctx.t.growers.save({row.ino, ctx.session, moving});
        changed = true;
    }
    if (changed) {
        ++row.version;
        ctx.t.inodes.update(row);
    }
    return get_layout(ctx.t, row.ino, op.first, op.count, ctx.session, true);
}

}  // namespace lumeofs::metad
