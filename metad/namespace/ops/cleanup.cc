// SPDX-License-Identifier: Apache-2.0
// Long clean-ups in steps of bounded size [40]: hidden ranges of maps, xattrs of dead inodes,
// growers of ended sessions; and the freeing of unlinked inodes that nobody has open any more.
#include <algorithm>

#include "metad/namespace/file_data.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

constexpr uint32_t kPage = 256;

uint64_t room(const OpContext& ctx) {
    return kMaxRowsPerCommand - std::min<uint64_t>(ctx.rows_used(), kMaxRowsPerCommand);
}

// True when the entry is done with.
bool clean_map(OpContext& ctx, const CleanupRow& entry) {
    std::optional<InodeRow> inode = ctx.t.inodes.load(entry.ino);
    uint64_t dropped = 0;
    bool done = false;
    while (!done && room(ctx) > 2 * kRowsPerChunkDropMax) {
        const std::vector<MapRow> rows =
            ctx.t.map.range(entry.ino, entry.first, entry.last, entry.stamp, kPage);
        for (const MapRow& map : rows) {
            if (room(ctx) <= 2 * kRowsPerChunkDropMax) break;
            drop_map_row(ctx, map);
            ++dropped;
        }
        done = rows.empty();
    }
    if (inode && (dropped > 0 || done)) {
        inode->chunks -= dropped;
        if (done) --inode->dead_ranges;
        ctx.t.inodes.update(*inode);
    }
    return done;
}

bool clean_xattrs(OpContext& ctx, const CleanupRow& entry) {
    const std::vector<std::string> names =
        ctx.t.xattrs.names(entry.ino, static_cast<uint32_t>(room(ctx) / 2));
    for (const std::string& name : names) ctx.t.xattrs.remove(entry.ino, name);
    return ctx.t.xattrs.names(entry.ino, 1).empty();
}

}  // namespace

Reply cleanup(OpContext& ctx) {
    if (const std::optional<CleanupRow> entry = ctx.t.cleanup.first()) {
        const bool done = entry->kind == CleanupKind::map_range ? clean_map(ctx, *entry)
                                                                : clean_xattrs(ctx, *entry);
        if (done) ctx.t.cleanup.remove(entry->number);
    } else if (const std::optional<SessionId> session = ctx.t.sessions.first_ending()) {
        if (cut_growers_of(ctx, *session)) ctx.t.sessions.remove(*session);
    }
    const bool progress = ctx.rows_used() > 0;
    const bool more = ctx.t.cleanup.first() || ctx.t.sessions.first_ending();
    return reply_value(progress && more ? 1 : 0);
}

Reply free_orphans(OpContext& ctx, const wire::ApplyFreeOrphansT& op) {
    uint64_t freed = 0;
    for (uint64_t ino : op.inodes) {
        if (room(ctx) < kRowsPerFreeMax) break;
        if (!ctx.t.orphans.contains(InodeId{ino})) continue;
        const std::optional<InodeRow> row = ctx.t.inodes.load(InodeId{ino});
        if (!row) {
            ctx.db.fail(Errc::corrupt, "an orphan without an inode");
            break;
        }
        ctx.t.orphans.remove(row->ino);
        free_inode(ctx, *row);
        ++freed;
    }
    return reply_value(freed);
}

}  // namespace lumeofs::metad
