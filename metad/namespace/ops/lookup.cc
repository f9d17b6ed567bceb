// SPDX-License-Identifier: Apache-2.0
// The small queries by name or inode: lookup, getattr, readlink, path.
#include <algorithm>

#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

Reply lookup(Tables& t, const wire::CallerT& caller, const wire::LookupT& op) {
    InodeRow parent;
    if (Errc e = load_dir(t, InodeId{op.parent}, &parent); e != Errc::ok) return reply_error(e);
    if (Errc e = check_name(op.name); e != Errc::ok) return reply_error(e);
    if (!may(caller, parent, kMayExecute)) return reply_error(Errc::acces);
    InodeId ino = op.name == "." ? parent.ino : parent.parent;
    if (op.name != "." && op.name != "..") {
        const std::optional<DentryRow> dentry = t.dentries.load(parent.ino, op.name);
        if (!dentry) return reply_error(Errc::noent);
        ino = dentry->ino;
    }
    const std::optional<InodeRow> row = t.inodes.load(ino);
    return row ? reply_attr(*row) : reply_error(Errc::noent);  // ".." of a removed one
}

Reply get_attr(Tables& t, const wire::GetAttrT& op) {
    const std::optional<InodeRow> row = t.inodes.load(InodeId{op.ino});
    return row ? reply_attr(*row) : reply_error(Errc::noent);
}

Reply read_link(Tables& t, const wire::ReadLinkT& op) {
    const std::optional<InodeRow> row = t.inodes.load(InodeId{op.ino});
    if (!row) return reply_error(Errc::noent);
    if (!row->is_symlink()) return reply_error(Errc::inval);
    Reply reply;
    reply.data = t.inline_data.load(row->ino);
    return reply;
}

Reply get_path(Tables& t, const wire::GetPathT& op) {
    std::optional<InodeRow> row = t.inodes.load(InodeId{op.ino});
    std::string path;
    while (row && row->ino != kRootInode) {
        // Of a file with several names, `parent` may be a directory that it has left: then noent.
        const std::optional<std::string> name = t.dentries.name_of(row->parent, row->ino);
        if (!name) return reply_error(Errc::noent);
        path.insert(0, *name).insert(0, 1, '/');
        row = t.inodes.load(row->parent);
    }
    if (!row) return reply_error(Errc::noent);
    if (path.empty()) path.push_back('/');
    Reply reply;
    reply.data.assign(path.begin(), path.end());
    return reply;
}

}  // namespace lumeofs::metad
