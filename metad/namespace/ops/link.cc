// SPDX-License-Identifier: Apache-2.0
// link(2): one more name of an inode that is no directory.
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

Reply link(OpContext& ctx, const wire::LinkT& op) {
    InodeRow parent;
    if (Errc e = load_dir(ctx.t, InodeId{op.new_parent}, &parent); e != Errc::ok) {
        return reply_error(e);
    }
    if (Errc e = check_new_name(op.new_name, Errc::exist); e != Errc::ok) return reply_error(e);
    std::optional<InodeRow> row = ctx.t.inodes.load(InodeId{op.ino});
    if (!row) return reply_error(Errc::noent);
    if (!may(ctx.caller, parent, kMayExecute)) return reply_error(Errc::acces);
    if (ctx.t.dentries.load(parent.ino, op.new_name)) return reply_error(Errc::exist);
    // An inode without names is on its way out; it does not come back.
    if (parent.nlink == 0 || row->nlink == 0) return reply_error(Errc::noent);
    if (row->is_dir()) return reply_error(Errc::perm);
    if (row->nlink >= kMaxLinks) return reply_error(Errc::mlink);
    if (Errc e = may_add(ctx.caller, parent); e != Errc::ok) return reply_error(e);

    ctx.t.dentries.insert(
        {parent.ino, op.new_name, row->ino, dentry_type(*row), ++parent.last_cookie});
    touch_dir(parent, ctx.now_ns);
    ctx.t.inodes.update(parent);
    ++row->nlink;
    row->parent = parent.ino;
    touch(*row, ctx.now_ns);
    ctx.t.inodes.update(*row);
    return reply_attr(*row);
}

}  // namespace lumeofs::metad
