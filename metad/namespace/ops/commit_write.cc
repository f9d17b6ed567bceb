// SPDX-License-Identifier: Apache-2.0
// The size commit: written bytes become visible; a move-out ends; the write lease ends cleanly.
#include <algorithm>

#include "common/base/planted_bug.h"
#include "metad/namespace/file_data.h"
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

Errc check(const wire::CommitWriteT& op, const InodeRow& row, const GrowerRow* mine) {
    if (op.size > kMaxFileSize) return Errc::fbig;
    if (Errc e = check_gathered(op.attrs.get()); e != Errc::ok) return e;
    if (planted_bug("ns.late_size_commit")) return Errc::ok;
    if (op.truncate_generation < row.truncate_generation) return Errc::conflict;
    const bool moving = mine != nullptr && mine->moving_out;
    if (row.is_inline && op.moved_out && !moving) return Errc::conflict;
    if (row.is_inline && !op.moved_out && op.size > row.size) return Errc::conflict;
    // Whoever is not the grower any more has had its tail cut, or never had the right to one.
    if (op.size > row.size && mine == nullptr) return Errc::conflict;
    return Errc::ok;
}

// From here on a copy of these chunks is never made from nothing [45].
void note_written(OpContext& ctx, InodeId ino, const std::vector<uint64_t>& chunks) {
    for (uint64_t id : chunks) {
        const std::optional<ChunkRow> row = ctx.t.chunks.load(ChunkId{id});
        if (!row || row->owner != ino || row->written) continue;
        ChunkRow after = *row;
        after.written = true;
        ctx.t.chunks.update(*row, after);
    }
}

}  // namespace

Reply commit_write(OpContext& ctx, const wire::CommitWriteT& op) {
    InodeRow row;
    if (Errc e = load_regular(ctx.t, InodeId{op.ino}, &row); e != Errc::ok) return reply_error(e);
    std::optional<GrowerRow> grower = ctx.t.growers.load(row.ino);
    GrowerRow* mine = grower && grower->session == ctx.session ? &*grower : nullptr;
    if (Errc e = check(op, row, mine); e != Errc::ok) return reply_error(e, row);

    if (op.moved_out && row.is_inline) {
        set_inline(ctx.t, row, ctx.t.inline_data.load(row.ino).size(), View());
        row.is_inline = false;
    }
    note_written(ctx, row.ino, op.written);
    set_size(ctx.t, row, std::max(row.size, op.size));
    if (mine != nullptr && op.release) {
        // Giving the lease back in the middle of a move-out leaves chunks that nobody may see.
        if (row.is_inline && mine->moving_out) {
            cut_tail(ctx, row);
        } else {
            ctx.t.growers.remove(row.ino);
        }
    } else if (mine != nullptr && mine->moving_out && !row.is_inline) {
        ctx.t.growers.save({row.ino, ctx.session, false});
    }
    if (op.mtime_ns != 0) row.mtime_ns = std::min(op.mtime_ns, ctx.now_ns);
    if (op.clear_suid) row.mode = without_set_id(row.mode);
    set_gathered(ctx, op.attrs.get(), row);
    touch(row, ctx.now_ns);
    ctx.t.inodes.update(row);
    return reply_attr(row);
}

}  // namespace lumeofs::metad
