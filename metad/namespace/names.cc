// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/names.h"

#include <algorithm>

#include "metad/namespace/file_data.h"

namespace lumeofs::metad {

Errc check_name(std::string_view name) {
    if (name.empty()) return Errc::noent;
    if (name.size() > kMaxNameBytes) return Errc::nametoolong;
    if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
        return Errc::inval;
    }
    return Errc::ok;
}

Errc check_new_name(std::string_view name, Errc dots) {
    if (name == "." || name == "..") return dots;
    return check_name(name);
}

Errc load_dir(Tables& t, InodeId ino, InodeRow* row) {
    std::optional<InodeRow> found = t.inodes.load(ino);
    if (!found) return Errc::noent;
    if (!found->is_dir()) return Errc::notdir;
    *row = *found;
    return Errc::ok;
}

Errc load_regular(Tables& t, InodeId ino, InodeRow* row) {
    std::optional<InodeRow> found = t.inodes.load(ino);
    if (!found) return Errc::noent;
    if (found->is_dir()) return Errc::isdir;
    if (!found->is_regular()) return Errc::inval;
    *row = *found;
    return Errc::ok;
}

bool listed(const std::vector<uint64_t>& list, InodeId ino) {
    return std::find(list.begin(), list.end(), ino.value) != list.end();
}

bool foreseen(const OpContext& ctx, InodeId victim) {
    return listed(ctx.command->recalled, victim);
}

void touch(InodeRow& row, Nanos now_ns) {
    row.ctime_ns = now_ns;
    ++row.version;
}

void touch_dir(InodeRow& dir, Nanos now_ns) {
    dir.mtime_ns = now_ns;
    touch(dir, now_ns);
}

InodeRow drop_name(OpContext& ctx, InodeRow row) {
    touch(row, ctx.now_ns);
    row.nlink = row.is_dir() ? 0 : row.nlink - 1;
    if (row.nlink > 0) {
        ctx.t.inodes.update(row);
    } else if (listed(ctx.command->openers, row.ino)) {
        ctx.t.orphans.insert(row.ino);
        ctx.t.inodes.update(row);
    } else {
        free_inode(ctx, row);
    }
    return row;
}

uint32_t dentry_type(const InodeRow& row) { return row.mode >> 12; }

}  // namespace lumeofs::metad
