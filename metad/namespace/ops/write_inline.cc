// SPDX-License-Identifier: Apache-2.0
// Writes into the data of a small file, which lives in the database.
#include <algorithm>

#include "metad/namespace/file_data.h"
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

constexpr uint32_t kGrantsInRefusal = 16;

Bytes merged(Bytes data, const wire::WriteInlineT& op) {
    const size_t end = static_cast<size_t>(op.offset) + op.data.size();
    if (data.size() < end && !op.data.empty()) data.resize(end, 0);
    std::copy(op.data.begin(),
              op.data.end(),
              data.begin() + static_cast<std::ptrdiff_t>(op.data.empty() ? 0 : op.offset));
    return data;
}

}  // namespace

Reply write_inline(OpContext& ctx, const wire::WriteInlineT& op) {
    InodeRow row;
    if (Errc e = load_regular(ctx.t, InodeId{op.ino}, &row); e != Errc::ok) return reply_error(e);
    if (!row.is_inline) {
        Reply reply = get_layout(ctx.t, row.ino, 0, kGrantsInRefusal, ctx.session, false);
        reply.errc = static_cast<uint16_t>(Errc::not_inline);
        return reply;
    }
    if (op.truncate_generation < row.truncate_generation) return reply_error(Errc::conflict, row);
    const std::optional<GrowerRow> grower = ctx.t.growers.load(row.ino);
    // The session that moves the data out has read it already: this write would be lost [34].
    if (grower && grower->session == ctx.session) return reply_error(Errc::conflict, row);
    if (op.offset > kInlineMax || op.data.size() > kInlineMax - op.offset) {
        return reply_error(Errc::inval);
    }
    if (Errc e = check_gathered(op.attrs.get()); e != Errc::ok) return reply_error(e);

    if (grower) cut_tail(ctx, row);
    Bytes old = ctx.t.inline_data.load(row.ino);
    const uint64_t old_bytes = old.size();
    const Bytes data = merged(std::move(old), op);
    set_inline(ctx.t, row, old_bytes, data);
    const uint64_t end = op.data.empty() ? 0 : op.offset + op.data.size();
    set_size(ctx.t, row, std::max(row.size, end));
    if (op.mtime_ns != 0) row.mtime_ns = std::min(op.mtime_ns, ctx.now_ns);
    if (op.clear_suid) row.mode = without_set_id(row.mode);
    set_gathered(ctx, op.attrs.get(), row);
    touch(row, ctx.now_ns);
    ctx.t.inodes.update(row);
    return reply_attr(row);
}

}  // namespace lumeofs::metad
