// SPDX-License-Identifier: Apache-2.0
// Whole chunks become holes.
#include "metad/namespace/file_data.h"
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

Reply punch_chunks(OpContext& ctx, const wire::PunchChunksT& op) {
    InodeRow row;
    if (Errc e = load_regular(ctx.t, InodeId{op.ino}, &row); e != Errc::ok) return reply_error(e);
    if (op.truncate_generation < row.truncate_generation) return reply_error(Errc::conflict, row);
    if (op.count == 0) return reply_error(Errc::inval);

    // While inline data moves out the chunks hold what is not visible yet; nothing to punch.
    if (!row.is_inline) drop_range(ctx, row, op.first, uint64_t{op.first} + op.count - 1);
    row.mtime_ns = ctx.now_ns;
    touch(row, ctx.now_ns);
    ctx.t.inodes.update(row);
    return reply_attr(row);
}

}  // namespace lumeofs::metad
