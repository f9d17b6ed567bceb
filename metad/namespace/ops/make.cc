// SPDX-License-Identifier: Apache-2.0
// create, mkdir, mknod, symlink.
#include <sys/stat.h>

#include "metad/namespace/file_data.h"
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

Errc check_type(const wire::MakeT& op) {
    switch (op.mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFIFO:
        case S_IFSOCK:
        case S_IFCHR:
        case S_IFBLK:
            return Errc::ok;
        case S_IFLNK:
            if (op.target.empty()) return Errc::noent;
            if (op.target.size() > kMaxSymlinkBytes) return Errc::nametoolong;
            return op.target.find('\0') == std::string::npos ? Errc::ok : Errc::inval;
        default:
            return Errc::inval;
    }
}

Reply answer_existing(OpContext& ctx, const wire::MakeT& op, const DentryRow& dentry) {
    const std::optional<InodeRow> old = ctx.t.inodes.load(dentry.ino);
    if (!old) {
        ctx.db.fail(Errc::corrupt, "a name without an inode");
        return reply_error(Errc::io);
    }
    if (op.exclusive || !S_ISREG(op.mode) || !old->is_regular()) {
        return reply_error(Errc::exist, *old);
    }
    Reply reply = reply_attr(*old);
    reply.value = 1;
    return reply;
}

InodeRow new_inode(OpContext& ctx, const wire::MakeT& op, const InodeRow& parent) {
    InodeRow row;
    row.ino = ctx.t.state.next_inode();
    row.mode = op.mode & (S_IFMT | 07777);
    row.nlink = row.is_dir() ? 2 : 1;
    row.uid = ctx.caller.uid;
    row.gid = ctx.caller.gid;
    if ((parent.mode & S_ISGID) != 0) {
        // BSD semantics below a setgid directory: its group is inherited, by directories for ever.
        row.gid = parent.gid;
        if (row.is_dir()) row.mode |= S_ISGID;
    }
    if (ctx.caller.check && !row.is_dir() && ctx.caller.uid != 0 &&
        (row.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !in_group(ctx.caller, row.gid)) {
        row.mode &= ~static_cast<uint32_t>(S_ISGID);
    }
    if (S_ISCHR(op.mode) || S_ISBLK(op.mode)) row.rdev = op.rdev;
    if (row.is_symlink()) {
        row.mode = S_IFLNK | 0777;
        row.size = op.target.size();
    }
    row.is_inline = row.is_regular();
    row.atime_ns = row.mtime_ns = row.ctime_ns = row.btime_ns = ctx.now_ns;
    row.version = 1;
    row.parent = parent.ino;
    return row;
}

}  // namespace

Reply make(OpContext& ctx, const wire::MakeT& op) {
    InodeRow parent;
    if (Errc e = load_dir(ctx.t, InodeId{op.parent}, &parent); e != Errc::ok) return reply_error(e);
    if (Errc e = check_new_name(op.name, Errc::exist); e != Errc::ok) return reply_error(e);
    if (!may(ctx.caller, parent, kMayExecute)) return reply_error(Errc::acces);
    if (std::optional<DentryRow> old = ctx.t.dentries.load(parent.ino, op.name)) {
        return answer_existing(ctx, op, *old);
    }
    if (parent.nlink == 0) return reply_error(Errc::noent);  // removed, but still open
    if (Errc e = check_type(op); e != Errc::ok) return reply_error(e);
    if (Errc e = may_add(ctx.caller, parent); e != Errc::ok) return reply_error(e);
    if (S_ISDIR(op.mode) && parent.nlink >= kMaxLinks) return reply_error(Errc::mlink);

    const InodeRow row = new_inode(ctx, op, parent);
    ctx.t.inodes.insert(row);
    ++ctx.t.state.totals.inodes;
    if (row.is_symlink()) set_inline(ctx.t, row, 0, as_view(op.target));
    ctx.t.dentries.insert({parent.ino, op.name, row.ino, dentry_type(row), ++parent.last_cookie});
    if (row.is_dir()) ++parent.nlink;
    touch_dir(parent, ctx.now_ns);
    ctx.t.inodes.update(parent);
    return reply_attr(row);
}

}  // namespace lumeofs::metad
