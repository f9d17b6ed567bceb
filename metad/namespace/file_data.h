// SPDX-License-Identifier: Apache-2.0
// Where the data of a file is and how it goes: map rows, shrink marks, tails, garbage.
//
// Rules kept here, used by all operations:
// - A chunk whose last map row goes becomes garbage at every node that may hold a copy (I6).
// - A range of the map with more than a few rows is not deleted but hidden by a clean-up entry, in
//   O(1); ApplyCleanup steps delete the rows [40].
// - Cutting a chunk in the middle raises its epoch and appends a mark [6]. Marks ascend in epoch
//   and in offset: an older mark at or behind a newer one says nothing any more and is dropped.
// - Cutting the tail of a grower that did not end cleanly hides what it may have written beyond the
//   committed size, or, for a file that was moving out, all its chunks [7, 34].
// single-thread: the metad loop.
#pragma once

#include <optional>
#include <vector>

#include "metad/namespace/ops/op.h"

namespace lumeofs::metad {

inline constexpr uint32_t kLastChunkIndex = UINT32_MAX;
// Map rows that a command deletes at once; longer ranges are hidden and cleaned up later.
inline constexpr uint32_t kDirectDropMax = 6;
// Most rows that freeing one inode or cutting one tail can change: 6 chunks with 8 members, a
// joiner and 8 absent copies each, and some xattrs, are below it.
inline constexpr uint64_t kRowsPerFreeMax = 240;
inline constexpr uint64_t kRowsPerChunkDropMax = 2 + 2 * (2 * kMaxReplicas + 1);

// The map row of piece `index`, unless there is none or it waits for its clean-up.
std::optional<MapRow> live_map(Tables& t, const InodeRow& row, uint32_t index);
// Live map rows of [first, last], ascending, at most `limit`; reads at most 8 * limit rows.
// *next: where to go on, 0 = there are no more.
std::vector<MapRow> live_range(
    Tables& t, const InodeRow& row, uint32_t first, uint32_t last, uint32_t limit, uint32_t* next);

// Bytes of piece `index` that are below `size`.
uint64_t bytes_below(uint64_t size, uint32_t index);

// Deletes one map row (live or not) and what only it referred to.
void drop_map_row(OpContext& ctx, const MapRow& row);
// No data in pieces [first, last] of `row` from now on. Changes `row` (caller saves it).
void drop_range(OpContext& ctx, InodeRow& row, uint64_t first, uint64_t last);

// Errc::busy if the chunk at the cut has no room for another mark. Changes nothing.
Errc can_cut(Tables& t, const InodeRow& row, uint64_t size);
// Everything from `size` on is gone. Requires: can_cut. Changes `row` (caller saves it).
void cut_data(OpContext& ctx, InodeRow& row, uint64_t size);

// The grower of `row`, if it is another session than `session` (then its tail must be cut first).
std::optional<GrowerRow> foreign_grower(Tables& t, InodeId ino, SessionId session);
Errc can_cut_tail(Tables& t, const InodeRow& row);
// The tail of an unclean grower. Requires: can_cut_tail. Changes `row` (caller saves it).
void cut_tail(OpContext& ctx, InodeRow& row);
// A grower of a session that is gone, not cut yet: no grants.
bool tail_uncut(Tables& t, InodeId ino);

// Sets the size and the totals with it.
void set_size(Tables& t, InodeRow& row, uint64_t size);
void set_inline(Tables& t, const InodeRow& row, uint64_t old_bytes, View data);

// The inode and all that hangs on it. Requires: no name, no orphan row.
void free_inode(OpContext& ctx, InodeRow row);

// A grant as a message; write_limit as said at StateMachine::grant_for.
wire::ChunkGrantT make_grant(const InodeRow& row,
                             const MapRow& map,
                             const ChunkRow& chunk,
                             SessionId session,
                             bool writable,
                             bool is_grower);

}  // namespace lumeofs::metad
