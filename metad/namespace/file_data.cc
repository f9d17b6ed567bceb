// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/file_data.h"

#include <algorithm>

#include "common/base/planted_bug.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

constexpr uint64_t kBornAny = INT64_MAX;  // SQLite's integers are signed

// The pair that cutting at `offset` would append fits. Requires: 0 < offset < kChunkSize.
std::vector<ShrinkMark> marks_before(const ChunkRow& chunk, uint64_t offset) {
    std::vector<ShrinkMark> kept;
    // A member below an older epoch takes the smallest mark above its own: the new one, if the
    // older is not smaller. So the older can go.
    for (const ShrinkMark& mark : chunk.marks) {
        if (mark.truncate_to < offset) kept.push_back(mark);
    }
    if (planted_bug("ns.single_mark")) kept.clear();
    return kept;
}

void mark_chunk(OpContext& ctx, const MapRow& map, uint64_t offset) {
    const std::optional<ChunkRow> before = ctx.t.chunks.load(map.chunk);
    if (!before) return ctx.db.fail(Errc::corrupt, "a map row names a chunk that is not there");
    if (before->references > 1) {
        // The chunk's bytes are also somebody else's: only our view of it ends here [42].
        MapRow cut = map;
        cut.valid_to = std::min(cut.valid_to, offset);
        ctx.t.map.save(cut);
        return;
    }
    ChunkRow after = *before;
    after.marks = marks_before(*before, offset);
    after.epoch = ctx.t.state.epoch_after(before->epoch);
    after.state = static_cast<uint8_t>(wire::ChunkState::open);  // a copy under way must fail [1]
    after.marks.push_back({after.epoch, offset});
    ctx.t.chunks.update(*before, after);
}

void drop_chunk_reference(OpContext& ctx, ChunkId id) {
    const std::optional<ChunkRow> chunk = ctx.t.chunks.load(id);
    if (!chunk) return ctx.db.fail(Errc::corrupt, "a map row names a chunk that is not there");
    if (chunk->references > 1) {
        ChunkRow after = *chunk;
        --after.references;
        ctx.t.chunks.update(*chunk, after);
        return;
    }
    ctx.t.chunks.remove(*chunk);
    std::vector<NodeId> holders = chunk->members;
    if (chunk->joiner) holders.push_back(chunk->joiner);
    holders.insert(holders.end(), chunk->absent.begin(), chunk->absent.end());
    for (NodeId node : holders) ctx.t.garbage.insert({node, id, chunk->epoch});
}

}  // namespace

uint64_t bytes_below(uint64_t size, uint32_t index) {
    const uint64_t start = uint64_t{index} * kChunkSize;
    return size <= start ? 0 : std::min(size - start, kChunkSize);
}

std::optional<MapRow> live_map(Tables& t, const InodeRow& row, uint32_t index) {
    std::optional<MapRow> map = t.map.load(row.ino, index);
    if (map && row.dead_ranges > 0 && t.cleanup.hides(*map)) return std::nullopt;
    return map;
}

std::vector<MapRow> live_range(
    Tables& t, const InodeRow& row, uint32_t first, uint32_t last, uint32_t limit, uint32_t* next) {
    *next = 0;
    std::vector<MapRow> found;
    if (row.chunks == 0) return found;
    const uint32_t read_max = 8 * limit;
    const std::vector<MapRow> rows = t.map.range(row.ino, first, last, kBornAny, read_max);
    for (const MapRow& map : rows) {
        if (row.dead_ranges > 0 && t.cleanup.hides(map)) continue;
        if (found.size() == limit) {
            *next = map.index;
            return found;
        }
        found.push_back(map);
    }
    if (rows.size() == read_max && rows.back().index < last) *next = rows.back().index + 1;
    return found;
}

void drop_map_row(OpContext& ctx, const MapRow& row) {
    ctx.t.map.remove(row.ino, row.index);
    drop_chunk_reference(ctx, row.chunk);
}

void drop_range(OpContext& ctx, InodeRow& row, uint64_t first, uint64_t last) {
    if (row.chunks == 0 || first > kLastChunkIndex) return;
    const auto from = static_cast<uint32_t>(first);
    const auto to = static_cast<uint32_t>(std::min<uint64_t>(last, kLastChunkIndex));
    uint32_t next = 0;  // rows that are hidden already do not count, they have their clean-up
    const std::vector<MapRow> rows = live_range(ctx.t, row, from, to, kDirectDropMax + 1, &next);
    if (next == 0 && rows.size() <= kDirectDropMax) {
        for (const MapRow& map : rows) drop_map_row(ctx, map);
        row.chunks -= rows.size();
        return;
    }
    ctx.t.cleanup.insert(
        {++ctx.t.state.cleanup_counter, CleanupKind::map_range, row.ino, from, to, ctx.index});
    ++row.dead_ranges;
}

Errc can_cut(Tables& t, const InodeRow& row, uint64_t size) {
    const uint64_t offset = size % kChunkSize;
    const uint64_t index = size / kChunkSize;
    if (offset == 0 || index > kLastChunkIndex || row.chunks == 0) return Errc::ok;
    const std::optional<MapRow> map = live_map(t, row, static_cast<uint32_t>(index));
    if (!map) return Errc::ok;
    const std::optional<ChunkRow> chunk = t.chunks.load(map->chunk);
    if (!chunk || chunk->references > 1) return Errc::ok;
    return marks_before(*chunk, offset).size() < kMaxShrinkMarks ? Errc::ok : Errc::busy;
}

void cut_data(OpContext& ctx, InodeRow& row, uint64_t size) {
    const uint64_t offset = size % kChunkSize;
    const uint64_t index = size / kChunkSize;
    if (row.chunks == 0 || index > kLastChunkIndex) return;
    if (offset != 0) {
        const std::optional<MapRow> map = live_map(ctx.t, row, static_cast<uint32_t>(index));
        if (map) mark_chunk(ctx, *map, offset);
    }
    drop_range(ctx, row, offset == 0 ? index : index + 1, kLastChunkIndex);
}

std::optional<GrowerRow> foreign_grower(Tables& t, InodeId ino, SessionId session) {
    std::optional<GrowerRow> grower = t.growers.load(ino);
    if (grower && grower->session == session) return std::nullopt;
    return grower;
}

Errc can_cut_tail(Tables& t, const InodeRow& row) {
    return row.is_inline ? Errc::ok : can_cut(t, row, row.size);
}

void cut_tail(OpContext& ctx, InodeRow& row) {
    ctx.t.growers.remove(row.ino);
    if (planted_bug("ns.tail_not_cut")) return;
    cut_data(ctx, row, row.is_inline ? 0 : row.size);
    // A size commit that is still on its way must not bring the tail back [17].
    ++row.truncate_generation;
}

bool tail_uncut(Tables& t, InodeId ino) {
    const std::optional<GrowerRow> grower = t.growers.load(ino);
    if (!grower) return false;
    const uint32_t state = t.sessions.state(grower->session);
    return state != kSessionLive && state != kSessionFenced;
}

void set_size(Tables& t, InodeRow& row, uint64_t size) {
    if (row.is_regular()) t.state.totals.bytes += size - row.size;
    row.size = size;
}

void set_inline(Tables& t, const InodeRow& row, uint64_t old_bytes, View data) {
    t.state.totals.inline_bytes += data.size() - old_bytes;
    t.inline_data.save(row.ino, data);
}

void free_inode(OpContext& ctx, InodeRow row) {
    drop_range(ctx, row, 0, kLastChunkIndex);
    if (row.is_inline || row.is_symlink()) {
        const uint64_t bytes = ctx.t.inline_data.load(row.ino).size();
        if (bytes > 0) set_inline(ctx.t, row, bytes, View());
    }
    const std::vector<std::string> names = ctx.t.xattrs.names(row.ino, kDirectDropMax + 1);
    if (names.size() <= kDirectDropMax) {
        for (const std::string& name : names) ctx.t.xattrs.remove(row.ino, name);
    } else {
        ctx.t.cleanup.insert(
            {++ctx.t.state.cleanup_counter, CleanupKind::xattrs, row.ino, 0, 0, ctx.index});
    }
    if (row.is_regular()) ctx.t.growers.remove(row.ino);
    set_size(ctx.t, row, 0);
    ctx.t.inodes.remove(row.ino);
    --ctx.t.state.totals.inodes;
}

wire::ChunkGrantT make_grant(const InodeRow& row,
                             const MapRow& map,
                             const ChunkRow& chunk,
                             SessionId session,
                             bool writable,
                             bool is_grower) {
    wire::ChunkGrantT grant = grant_of(chunk);
    grant.index = map.index;
    grant.ino = row.ino.value;
    grant.session = session.value;
    grant.valid_to = map.valid_to;
    if (writable) {
        grant.write_limit = is_grower ? kChunkSize : bytes_below(row.size, map.index);
    }
    return grant;
}

}  // namespace lumeofs::metad
