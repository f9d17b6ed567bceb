// SPDX-License-Identifier: Apache-2.0
// The read half of the state machine.
#include <algorithm>

#include "common/base/assert.h"
#include "metad/namespace/digest.h"
#include "metad/namespace/file_data.h"
#include "metad/namespace/invariants.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"
#include "metad/namespace/state_machine.h"

namespace lumeofs::metad {

wire::MetaReplyT StateMachine::query(const wire::QueryT& query) {
    if (db_->failed()) return reply_error(Errc::io);
    const wire::CallerT nobody;
    const wire::CallerT& caller = query.caller ? *query.caller : nobody;
    Tables& t = *tables_;
    if (const auto* op = query.op.AsLookup()) return metad::lookup(t, caller, *op);
    if (const auto* op = query.op.AsGetAttr()) return get_attr(t, *op);
    if (const auto* op = query.op.AsReadLink()) return read_link(t, *op);
    if (const auto* op = query.op.AsReadDir()) return read_dir(t, caller, *op);
    if (const auto* op = query.op.AsGetXattr()) return get_xattr(t, caller, *op);
    if (const auto* op = query.op.AsListXattr()) return list_xattr(t, *op);
    if (query.op.AsStatFs() != nullptr) return stat_fs(t);
    if (const auto* op = query.op.AsGetLayout()) {
        return layout(InodeId{op->ino}, op->first, op->count, SessionId{query.session}, false);
    }
    if (const auto* op = query.op.AsGetPath()) return get_path(t, *op);
    if (const auto* op = query.op.AsGetNodes()) return get_nodes(t, *op);
    return reply_error(Errc::corrupt);
}

wire::MetaReplyT StateMachine::layout(
    InodeId ino, uint32_t first, uint32_t count, SessionId session, bool writable) {
    return get_layout(*tables_, ino, first, count, session, writable);
}

std::optional<wire::ChunkGrantT> StateMachine::grant_for(InodeId ino,
                                                         uint32_t index,
                                                         SessionId session,
                                                         bool writable) {
    wire::MetaReplyT reply = layout(ino, index, 1, session, writable);
    if (reply.errc != 0 || reply.grants.empty()) return std::nullopt;
    return std::move(*reply.grants.front());
}

bool StateMachine::was_deleted(ChunkId chunk) {
    return tables_->state.gave(chunk) && !tables_->chunks.load(chunk);
}

ChunkId StateMachine::last_chunk() const { return tables_->state.last_chunk(); }

// Everything whose attributes change: a holder answers stat(2) from what it knows (system.md 2.4),
// so its lease must be gone before another session changes the mode, the link count or the ctime.
std::vector<InodeId> StateMachine::lease_targets(const wire::MutationT& mutation) {
    if (const auto* op = mutation.op.AsSetAttr()) return {InodeId{op->ino}};
    if (const auto* op = mutation.op.AsSetXattr()) return {InodeId{op->ino}};
    if (const auto* op = mutation.op.AsRemoveXattr()) return {InodeId{op->ino}};
    if (const auto* op = mutation.op.AsLink()) return {InodeId{op->ino}};
    if (const auto* op = mutation.op.AsWriteInline()) return {InodeId{op->ino}};
    if (const auto* op = mutation.op.AsAllocate()) return {InodeId{op->ino}};
    if (const auto* op = mutation.op.AsCommitWrite()) return {InodeId{op->ino}};
    if (const auto* op = mutation.op.AsPunchChunks()) return {InodeId{op->ino}};
    std::vector<InodeId> targets = victims(mutation);
    if (const auto* op = mutation.op.AsRename()) {
        const std::optional<InodeId> moved = resolve(InodeId{op->parent}, op->name);
        if (moved) targets.push_back(*moved);
    }
    return targets;
}

std::vector<InodeId> StateMachine::victims(const wire::MutationT& mutation) {
    std::optional<InodeId> victim;
    if (const auto* op = mutation.op.AsUnlink()) victim = resolve(InodeId{op->parent}, op->name);
    if (const auto* op = mutation.op.AsRename()) {
        victim = resolve(InodeId{op->new_parent}, op->new_name);
    }
    if (!victim) return {};
    return {*victim};
}

std::vector<uint32_t> StateMachine::missing_chunks(InodeId ino, uint32_t first, uint32_t count) {
    std::vector<uint32_t> missing;
    const std::optional<InodeRow> row = tables_->inodes.load(ino);
    if (!row || !row->is_regular()) return missing;
    count = std::min(count, kMaxChunksPerAllocate);
    // If a grower of another session must be cut first, its pieces beyond the size go: be ready.
    const bool may_cut = tables_->growers.load(ino).has_value();
    for (uint64_t i = first; i < uint64_t{first} + count && i <= kLastChunkIndex; ++i) {
        const auto index = static_cast<uint32_t>(i);
        const bool cut = may_cut && (row->is_inline || bytes_below(row->size, index) == 0);
        if (cut || !live_map(*tables_, *row, index)) missing.push_back(index);
    }
    return missing;
}

std::optional<InodeId> StateMachine::resolve(InodeId parent, std::string_view name) {
    const std::optional<DentryRow> dentry = tables_->dentries.load(parent, name);
    if (!dentry) return std::nullopt;
    return dentry->ino;
}

std::optional<wire::AttrT> StateMachine::inode(InodeId ino) {
    const std::optional<InodeRow> row = tables_->inodes.load(ino);
    if (!row) return std::nullopt;
    return to_attr(*row);
}

std::optional<GrowerRow> StateMachine::grower(InodeId ino) { return tables_->growers.load(ino); }
bool StateMachine::tail_uncut(InodeId ino) { return metad::tail_uncut(*tables_, ino); }
std::vector<GrowerRow> StateMachine::growers(InodeId after, uint32_t limit) {
    return tables_->growers.page(after, limit);
}

SessionState StateMachine::session_state(SessionId session) {
    const uint32_t state = tables_->sessions.state(session);
    if (state == kSessionLive) return SessionState::live;
    return state == kSessionFenced ? SessionState::fenced : SessionState::none;
}
std::vector<SessionRow> StateMachine::sessions() { return tables_->sessions.all(); }
std::optional<SessionRow> StateMachine::session(SessionId session) {
    return tables_->sessions.load(session);
}
std::vector<FenceRow> StateMachine::fences_since(uint64_t number, uint32_t limit) {
    return tables_->sessions.fences_since(number, limit);
}
uint64_t StateMachine::last_fence() const { return tables_->state.last_fence; }

std::vector<ChunkRow> StateMachine::with_lengths(std::vector<ChunkRow> rows) {
    for (ChunkRow& row : rows) {
        const std::optional<InodeRow> owner = tables_->inodes.load(row.owner);
        if (!owner || owner->is_inline) continue;
        const std::optional<MapRow> map = live_map(*tables_, *owner, row.index);
        if (map && map->chunk == row.id) row.length = bytes_below(owner->size, row.index);
    }
    return rows;
}

std::optional<ChunkRow> StateMachine::chunk(ChunkId chunk) {
    std::optional<ChunkRow> row = tables_->chunks.load(chunk);
    if (!row) return std::nullopt;
    return with_lengths({*row}).front();
}

std::optional<ChunkRow> StateMachine::chunk_at(InodeId ino, uint32_t index) {
    const std::optional<InodeRow> row = tables_->inodes.load(ino);
    if (!row) return std::nullopt;
    const std::optional<MapRow> map = live_map(*tables_, *row, index);
    return map ? chunk(map->chunk) : std::nullopt;
}

std::vector<ChunkRow> StateMachine::chunks(ChunkId after, uint32_t limit) {
    return with_lengths(tables_->chunks.page(after, limit));
}
std::vector<ChunkRow> StateMachine::chunks_of_node(NodeId node, ChunkId after, uint32_t limit) {
    return with_lengths(tables_->chunks.page_of_node(node, after, limit));
}
uint64_t StateMachine::chunk_count_of_node(NodeId node) {
    return tables_->chunks.count_of_node(node);
}
std::vector<ChunkRow> StateMachine::under_replicated(uint32_t members,
                                                     ChunkId after,
                                                     uint32_t limit) {
    return with_lengths(tables_->chunks.page_short(members, after, limit));
}
std::vector<ChunkRow> StateMachine::chunks_with_marks(ChunkId after, uint32_t limit) {
    return with_lengths(tables_->chunks.page_marked(after, limit));
}
wire::ChunkGrantT StateMachine::to_grant(const ChunkRow& row) { return grant_of(row); }

std::vector<GarbageRow> StateMachine::garbage_of_node(NodeId node, ChunkId after, uint32_t limit) {
    return tables_->garbage.page(node, after, limit);
}
bool StateMachine::is_garbage(ChunkId chunk) { return tables_->garbage.contains(chunk); }
std::vector<InodeId> StateMachine::orphans(InodeId after, uint32_t limit) {
    return tables_->orphans.page(after, limit);
}
bool StateMachine::cleanup_pending() {
    return tables_->cleanup.first().has_value() || tables_->sessions.first_ending().has_value();
}

std::vector<NodeRow> StateMachine::nodes() { return tables_->nodes.all(); }
std::optional<NodeRow> StateMachine::node(NodeId node) { return tables_->nodes.load(node); }
uint64_t StateMachine::nodes_version() const { return tables_->state.nodes_version; }
bool StateMachine::is_bootstrapped() const { return tables_->state.bootstrapped; }
ClusterRow StateMachine::cluster() const { return tables_->state.cluster; }
Totals StateMachine::totals() const { return tables_->state.totals; }
Nanos StateMachine::last_now_ns() const { return tables_->state.now_ns; }
uint64_t StateMachine::history() const { return tables_->state.history; }

Result<uint64_t> StateMachine::digest() {
    commit();
    return digest_of(*db_);
}
std::vector<std::string> StateMachine::check_invariants() {
    commit();
    return broken_invariants(*db_);
}

}  // namespace lumeofs::metad
