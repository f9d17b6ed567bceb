// SPDX-License-Identifier: Apache-2.0
// chmod, chown, truncate, utimensat. One commit sets the size, raises the epoch of the chunk that
// is cut and appends its mark; whole chunks behind it are gone from the same moment on.
#include <sys/stat.h>

#include "metad/namespace/file_data.h"
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

using Bits = wire::SetAttrBits;

bool has(const wire::SetAttrT& op, Bits bit) {
    return (op.valid & static_cast<uint32_t>(bit)) != 0;
}

Errc check_owner_changes(const wire::CallerT& caller,
                         const wire::SetAttrT& op,
                         const InodeRow& row) {
    const bool privileged = !caller.check || caller.uid == 0;
    if (has(op, Bits::mode) && !owns(caller, row)) return Errc::perm;
    if (privileged) return Errc::ok;
    if (has(op, Bits::uid) && (op.uid != row.uid || caller.uid != row.uid)) return Errc::perm;
    if (has(op, Bits::gid)) {
        if (caller.uid != row.uid) return Errc::perm;
        if (op.gid != row.gid && !in_group(caller, op.gid)) return Errc::perm;
    }
    return Errc::ok;
}

Errc check_times(const wire::CallerT& caller, const wire::SetAttrT& op, const InodeRow& row) {
    const bool given = has(op, Bits::atime) || has(op, Bits::mtime);
    const bool now = has(op, Bits::atime_now) || has(op, Bits::mtime_now);
    if ((!given && !now) || owns(caller, row)) return Errc::ok;
    if (given) return Errc::perm;
    return may(caller, row, kMayWrite) ? Errc::ok : Errc::acces;
}

Errc check_size(OpContext& ctx, const wire::SetAttrT& op, const InodeRow& row) {
    if (!has(op, Bits::size)) return Errc::ok;
    if (row.is_dir()) return Errc::isdir;
    if (!row.is_regular()) return Errc::inval;
    if (op.size > kMaxFileSize) return Errc::fbig;
    if (!may(ctx.caller, row, kMayWrite)) return Errc::acces;
    // Two cuts may be due: the tail of another session's growth, and this one.
    if (foreign_grower(ctx.t, row.ino, ctx.session)) {
        if (Errc e = can_cut_tail(ctx.t, row); e != Errc::ok) return e;
    }
    return op.size < row.size ? can_cut(ctx.t, row, op.size) : Errc::ok;
}

void resize_inline(OpContext& ctx, InodeRow& row, uint64_t size) {
    Bytes data = ctx.t.inline_data.load(row.ino);
    const uint64_t old_bytes = data.size();
    if (size < old_bytes) {
        data.resize(size);
        set_inline(ctx.t, row, old_bytes, data);
    }
    // A file without bytes in the database that becomes too large for it has nothing to move out.
    if (data.empty() && size > kInlineMax && !ctx.t.growers.load(row.ino)) row.is_inline = false;
}

void resize(OpContext& ctx, InodeRow& row, uint64_t size) {
    const bool shrinks = size < row.size;
    if (foreign_grower(ctx.t, row.ino, ctx.session)) {
        // A shrink cuts all that the tail's cut would, unless the file was moving out.
        if (shrinks && !row.is_inline) {
            ctx.t.growers.remove(row.ino);
        } else {
            cut_tail(ctx, row);
        }
    }
    if (shrinks) {
        cut_data(ctx, row, size);
        ++row.truncate_generation;
    }
    if (row.is_inline) resize_inline(ctx, row, size);
    set_size(ctx.t, row, size);
    row.mtime_ns = ctx.now_ns;
    if (ctx.caller.uid != 0) row.mode = without_set_id(row.mode);
}

void change_owner(OpContext& ctx, const wire::SetAttrT& op, InodeRow& row) {
    if (has(op, Bits::uid)) row.uid = op.uid;
    if (has(op, Bits::gid)) row.gid = op.gid;
    if (!row.is_dir() && ctx.caller.uid != 0) row.mode = without_set_id(row.mode);
}

void change_mode(OpContext& ctx, const wire::SetAttrT& op, InodeRow& row) {
    row.mode = (row.mode & S_IFMT) | (op.mode & 07777);
    if (ctx.caller.check && ctx.caller.uid != 0 && !row.is_dir() &&
        !in_group(ctx.caller, row.gid)) {
        row.mode &= ~static_cast<uint32_t>(S_ISGID);
    }
}

const uint32_t kGatherable =
    static_cast<uint32_t>(Bits::mode | Bits::uid | Bits::gid | Bits::atime | Bits::mtime);

void set_plain(OpContext& ctx, const wire::SetAttrT& op, InodeRow& row) {
    if (has(op, Bits::uid) || has(op, Bits::gid)) change_owner(ctx, op, row);
    if (has(op, Bits::kill_suid)) row.mode = without_set_id(row.mode);
    if (has(op, Bits::mode)) change_mode(ctx, op, row);
    if (has(op, Bits::atime)) row.atime_ns = op.atime_ns;
    if (has(op, Bits::mtime)) row.mtime_ns = op.mtime_ns;
}

}  // namespace

Errc check_gathered(const wire::SetAttrT* attrs) {
    return attrs == nullptr || (attrs->valid & ~kGatherable) == 0 ? Errc::ok : Errc::inval;
}

void set_gathered(OpContext& ctx, const wire::SetAttrT* attrs, InodeRow& row) {
    if (attrs != nullptr) set_plain(ctx, *attrs, row);
}

Reply setattr(OpContext& ctx, const wire::SetAttrT& op) {
    std::optional<InodeRow> found = ctx.t.inodes.load(InodeId{op.ino});
    if (!found) return reply_error(Errc::noent);
    InodeRow row = *found;
    if (Errc e = check_owner_changes(ctx.caller, op, row); e != Errc::ok) return reply_error(e);
    if (Errc e = check_times(ctx.caller, op, row); e != Errc::ok) return reply_error(e);
    if (Errc e = check_size(ctx, op, row); e != Errc::ok) return reply_error(e);

    if (has(op, Bits::size)) resize(ctx, row, op.size);
    set_plain(ctx, op, row);
    if (has(op, Bits::atime_now)) row.atime_ns = ctx.now_ns;
    if (has(op, Bits::mtime_now)) row.mtime_ns = ctx.now_ns;
    touch(row, ctx.now_ns);
    ctx.t.inodes.update(row);
    return reply_attr(row);
}

}  // namespace lumeofs::metad
