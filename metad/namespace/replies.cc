// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/replies.h"

#include <algorithm>

namespace lumeofs::metad {

uint64_t allocated_bytes(const InodeRow& row) {
    if (row.is_dir()) return kBlockSize;
    if (!row.is_regular()) return 0;
    if (row.is_inline && row.chunks == 0) return std::min(row.size, kInlineMax);
    if (row.chunks > row.size / kChunkSize) return row.size;
    return row.chunks * kChunkSize;
}

wire::AttrT to_attr(const InodeRow& row) {
    wire::AttrT attr;
    attr.ino = row.ino.value;
    attr.mode = row.mode;
    attr.nlink = row.nlink;
    attr.uid = row.uid;
    attr.gid = row.gid;
    attr.rdev = row.rdev;
    attr.size = row.size;
    attr.allocated = allocated_bytes(row);
    attr.atime_ns = row.atime_ns;
    attr.mtime_ns = row.mtime_ns;
    attr.ctime_ns = row.ctime_ns;
    attr.btime_ns = row.btime_ns;
    attr.version = row.version;
    attr.truncate_generation = row.truncate_generation;
    attr.is_inline = row.is_inline;
    attr.parent = row.is_dir() ? row.parent.value : 0;
    return attr;
}

wire::MetaReplyT reply_error(Errc code) {
    wire::MetaReplyT reply;
    reply.errc = static_cast<uint16_t>(code);
    return reply;
}

wire::MetaReplyT reply_error(Errc code, const InodeRow& row) {
    wire::MetaReplyT reply = reply_attr(row);
    reply.errc = static_cast<uint16_t>(code);
    return reply;
}

wire::MetaReplyT reply_attr(const InodeRow& row) {
    wire::MetaReplyT reply;
    reply.attr = std::make_unique<wire::AttrT>(to_attr(row));
    return reply;
}

wire::MetaReplyT reply_value(uint64_t value) {
    wire::MetaReplyT reply;
    reply.value = value;
    return reply;
}

wire::ChunkGrantT grant_of(const ChunkRow& row) {
    wire::ChunkGrantT grant;
    grant.chunk = row.id.value;
    grant.index = row.index;
    grant.epoch = row.epoch.value;
    grant.state = static_cast<wire::ChunkState>(row.state);
    for (NodeId member : row.members) grant.members.push_back(member.value);
    grant.joiner = row.joiner.value;
    for (const ShrinkMark& mark : row.marks) {
        grant.marks.emplace_back(mark.epoch.value, mark.truncate_to);
    }
    grant.ino = row.owner.value;
    grant.valid_to = kChunkSize;
    grant.written = row.written;
    return grant;
}

wire::NodeAddressT address_of(const NodeRow& row) {
    wire::NodeAddressT address;
    address.node = row.id.value;
    address.address = row.address;
    address.role = row.role;
    address.state = row.state;
    address.incarnation = row.incarnation.value;
    return address;
}

}  // namespace lumeofs::metad
