// SPDX-License-Identifier: Apache-2.0
// unlink(2) and rmdir(2).
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

Errc check_kind(OpContext& ctx, const wire::UnlinkT& op, const InodeRow& victim) {
    if (!op.directory) return victim.is_dir() ? Errc::isdir : Errc::ok;
    if (!victim.is_dir()) return Errc::notdir;
    return ctx.t.dentries.empty(victim.ino) ? Errc::ok : Errc::notempty;
}

}  // namespace

Reply unlink(OpContext& ctx, const wire::UnlinkT& op) {
    InodeRow parent;
    if (Errc e = load_dir(ctx.t, InodeId{op.parent}, &parent); e != Errc::ok) return reply_error(e);
    if (op.directory && op.name == "..") return reply_error(Errc::notempty);
    const Errc dots = op.directory ? Errc::inval : Errc::isdir;
    if (Errc e = check_new_name(op.name, dots); e != Errc::ok) return reply_error(e);
    if (!may(ctx.caller, parent, kMayExecute)) return reply_error(Errc::acces);
    const std::optional<DentryRow> dentry = ctx.t.dentries.load(parent.ino, op.name);
    if (!dentry) return reply_error(Errc::noent);
    const std::optional<InodeRow> victim = ctx.t.inodes.load(dentry->ino);
    if (!victim) {
        ctx.db.fail(Errc::corrupt, "a name without an inode");
        return reply_error(Errc::io);
    }
    if (Errc e = may_remove(ctx.caller, parent, *victim); e != Errc::ok) return reply_error(e);
    if (Errc e = check_kind(ctx, op, *victim); e != Errc::ok) return reply_error(e);
    if (!foreseen(ctx, victim->ino)) return reply_error(Errc::recall);

    ctx.t.dentries.remove(parent.ino, op.name);
    if (victim->is_dir()) --parent.nlink;
    touch_dir(parent, ctx.now_ns);
    ctx.t.inodes.update(parent);
    return reply_attr(drop_name(ctx, *victim));
}

}  // namespace lumeofs::metad
