// SPDX-License-Identifier: Apache-2.0
// Entries of a directory, ascending by cookie.
#include <algorithm>

#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {
// What an entry takes in the encoded reply, about.
constexpr size_t kEntryBytes = 64;
constexpr size_t kAttrBytes = 160;
constexpr uint32_t kMinBytes = 4096;
}  // namespace

Reply read_dir(Tables& t, const wire::CallerT& caller, const wire::ReadDirT& op) {
    InodeRow dir;
    if (Errc e = load_dir(t, InodeId{op.ino}, &dir); e != Errc::ok) return reply_error(e);
    if (!may(caller, dir, kMayRead)) return reply_error(Errc::acces);
    const size_t bytes_max = std::clamp(op.max_bytes, kMinBytes, kMaxReaddirBytes);
    const size_t fixed = kEntryBytes + (op.plus ? kAttrBytes : 0);
    const auto limit = static_cast<uint32_t>(bytes_max / fixed + 1);
    Reply reply = reply_attr(dir);  // its parent is what ".." shows
    reply.value = 1;
    size_t bytes = 0;
    const std::vector<DentryTable::Entry> page =
        t.dentries.page(dir.ino, op.cookie, limit, op.plus);
    if (page.size() == limit) reply.value = 0;
    for (const DentryTable::Entry& found : page) {
        bytes += fixed + found.dentry.name.size();
        if (bytes > bytes_max && !reply.entries.empty()) {
            reply.value = 0;
            break;
        }
        auto entry = std::make_unique<wire::DirEntryT>();
        entry->name = found.dentry.name;
        entry->ino = found.dentry.ino.value;
        entry->type = static_cast<uint8_t>(found.dentry.type);
        entry->cookie = found.dentry.cookie;
        if (found.inode) entry->attr = std::make_unique<wire::AttrT>(to_attr(*found.inode));
        reply.entries.push_back(std::move(entry));
    }
    return reply;
}

}  // namespace lumeofs::metad
