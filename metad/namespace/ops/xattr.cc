// SPDX-License-Identifier: Apache-2.0
// Extended attributes: set, remove, get, list.
#include <string_view>

#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

constexpr uint32_t kCreate = 1;
constexpr uint32_t kReplace = 2;
constexpr uint32_t kNamesMax = kMaxXattrListBytes;

bool starts_with(std::string_view name, std::string_view prefix) {
    return name.substr(0, prefix.size()) == prefix;
}

// The name has one of the namespaces that we keep, and the caller may use it on this inode.
Errc check_access(const wire::CallerT& caller,
                  const InodeRow& row,
                  std::string_view name,
                  uint32_t wanted) {
    if (name.empty() || name.size() > kMaxXattrNameBytes) return Errc::range;
    if (name.find('\0') != std::string_view::npos) return Errc::inval;
    const bool user = starts_with(name, "user.");
    if (!user && !starts_with(name, "trusted.") && !starts_with(name, "security.")) {
        return Errc::opnotsupp;
    }
    const size_t prefix = name.find('.') + 1;
    if (name.size() == prefix) return Errc::inval;
    if (user) {
        if (!row.is_dir() && !row.is_regular()) {
            return wanted == kMayRead ? Errc::nodata : Errc::perm;
        }
        return may(caller, row, wanted) ? Errc::ok : Errc::acces;
    }
    const bool privileged = !caller.check || caller.uid == 0;
    if (!privileged && (wanted == kMayWrite || starts_with(name, "trusted."))) {
        return wanted == kMayRead ? Errc::nodata : Errc::perm;
    }
    return Errc::ok;
}

}  // namespace

Reply set_xattr(OpContext& ctx, const wire::SetXattrT& op) {
    std::optional<InodeRow> row = ctx.t.inodes.load(InodeId{op.ino});
    if (!row) return reply_error(Errc::noent);
    if (Errc e = check_access(ctx.caller, *row, op.name, kMayWrite); e != Errc::ok) {
        return reply_error(e);
    }
    if (op.value.size() > kMaxXattrValueBytes) return reply_error(Errc::toobig);
    if ((op.flags & ~(kCreate | kReplace)) != 0) return reply_error(Errc::inval);
    const std::optional<Bytes> old = ctx.t.xattrs.load(row->ino, op.name);
    if (old && (op.flags & kCreate) != 0) return reply_error(Errc::exist);
    if (!old && (op.flags & kReplace) != 0) return reply_error(Errc::nodata);
    uint64_t total = ctx.t.xattrs.total_bytes(row->ino) + op.value.size() + op.name.size();
    if (old) total -= old->size() + op.name.size();
    // One value of full size fits with its name; apart from that the list bounds all of them.
    if (total > kMaxXattrListBytes + kMaxXattrNameBytes) return reply_error(Errc::nospc);

    ctx.t.xattrs.save(row->ino, op.name, op.value);
    touch(*row, ctx.now_ns);
    ctx.t.inodes.update(*row);
    return reply_attr(*row);
}

Reply remove_xattr(OpContext& ctx, const wire::RemoveXattrT& op) {
    std::optional<InodeRow> row = ctx.t.inodes.load(InodeId{op.ino});
    if (!row) return reply_error(Errc::noent);
    if (Errc e = check_access(ctx.caller, *row, op.name, kMayWrite); e != Errc::ok) {
        return reply_error(e);
    }
    if (!ctx.t.xattrs.load(row->ino, op.name)) return reply_error(Errc::nodata);
    ctx.t.xattrs.remove(row->ino, op.name);
    touch(*row, ctx.now_ns);
    ctx.t.inodes.update(*row);
    return reply_attr(*row);
}

Reply get_xattr(Tables& t, const wire::CallerT& caller, const wire::GetXattrT& op) {
    const std::optional<InodeRow> row = t.inodes.load(InodeId{op.ino});
    if (!row) return reply_error(Errc::noent);
    if (Errc e = check_access(caller, *row, op.name, kMayRead); e != Errc::ok) {
        return reply_error(e);
    }
    std::optional<Bytes> value = t.xattrs.load(row->ino, op.name);
    if (!value) return reply_error(Errc::nodata);
    Reply reply;
    reply.data = std::move(*value);
    return reply;
}

Reply list_xattr(Tables& t, const wire::ListXattrT& op) {
    if (!t.inodes.load(InodeId{op.ino})) return reply_error(Errc::noent);
    Reply reply;
    for (const std::string& name : t.xattrs.names(InodeId{op.ino}, kNamesMax)) {
        reply.data.insert(reply.data.end(), name.begin(), name.end());
        reply.data.push_back(0);
    }
    return reply;
}

}  // namespace lumeofs::metad
