// SPDX-License-Identifier: Apache-2.0
// The replicated part of FakeMetad: what queries and mutations of meta.fbs do to names, files and chunks.
// single-thread.
#pragma once

#include <algorithm>
#include <memory>
#include <string>

#include "common/base/assert.h"
#include "common/wire/messages.h"
#include "tests/unit/client/fake_loop.h"
#include "tests/unit/client/fake_state.h"

namespace lumeofs::client_test {

class FakeNamespace {
public:
    virtual ~FakeNamespace() = default;

protected:
    FakeNamespace(FakeLoop& loop, FakeState& state) : loop_(loop), state_(state) {}

    virtual bool is_open(uint64_t ino) = 0;
    virtual bool holds_write_lease(uint64_t session, uint64_t ino) = 0;

    static wire::MetaReplyT error(Errc code) {
        wire::MetaReplyT reply;
        reply.errc = static_cast<uint16_t>(code);
        return reply;
    }

    void layout(
        uint64_t session, uint64_t ino, uint32_t first, uint32_t count, wire::MetaReplyT* reply) {
        FakeInode& inode = state_.inodes.at(ino);
        reply->attr = std::make_unique<wire::AttrT>(inode.attr);
        if (inode.attr.is_inline) reply->data = inode.inline_data;
        for (auto it = inode.chunks.lower_bound(first);
             it != inode.chunks.end() && it->first - first < count;
             ++it) {
            reply->grants.push_back(make_grant(session, ino, it->second, false));
        }
    }
    std::unique_ptr<wire::ChunkGrantT> make_grant(uint64_t session,
                                                  uint64_t ino,
                                                  uint64_t chunk,
                                                  bool whole) {
        auto grant = std::make_unique<wire::ChunkGrantT>(state_.chunks.at(chunk).grant);
        const uint64_t size = state_.inodes.at(ino).attr.size;
        const uint64_t start = uint64_t{grant->index} * kChunkSize;
        const bool writable = holds_write_lease(session, ino);
        grant->session = session;
        grant->write_limit = !writable       ? 0
                             : whole         ? kChunkSize
                             : size <= start ? 0
                                             : std::min(kChunkSize, size - start);
        return grant;
    }

    int64_t now_ns() {
        state_.clock_ns = std::max(state_.clock_ns + 1, loop_.wall_now());
        return state_.clock_ns;
    }
    // Whether the commit that gives the lease back was carried out.
    wire::MetaReplyT plain_query(const wire::QueryT& query) {
        wire::MetaReplyT reply;
        if (const auto* op = query.op.AsReadDir()) {
            FakeInode& dir = state_.inodes.at(op->ino);
            uint64_t cookie = 0, used = 0;
            reply.value = 1;
            for (const auto& [name, ino] : dir.entries) {
                if (++cookie <= op->cookie) continue;
                used += 24 + name.size();
                if (used > op->max_bytes && !reply.entries.empty()) {
                    reply.value = 0;
                    break;
                }
                auto entry = std::make_unique<wire::DirEntryT>();
                entry->name = name;
                entry->ino = ino;
                entry->cookie = cookie;
                entry->type = static_cast<uint8_t>(state_.inodes.at(ino).attr.mode >> 12);
                if (op->plus)
                    entry->attr = std::make_unique<wire::AttrT>(state_.inodes.at(ino).attr);
                reply.entries.push_back(std::move(entry));
            }
        } else if (const auto* link = query.op.AsReadLink()) {
            const std::string& target = state_.inodes.at(link->ino).target;
            reply.data.assign(target.begin(), target.end());
        } else if (const auto* get = query.op.AsGetXattr()) {
            auto& xattrs = state_.inodes.at(get->ino).xattrs;
            auto it = xattrs.find(get->name);
            if (it == xattrs.end()) return error(Errc::nodata);
            reply.data = it->second;
        } else {
            reply.statfs = std::make_unique<wire::StatFsInfoT>();
            reply.statfs->total_bytes = 1 << 30;
        }
        return reply;
    }

    wire::MetaReplyT attr_reply(uint64_t ino) {
        wire::MetaReplyT reply;
        FakeInode& inode = state_.inodes.at(ino);
        ++inode.attr.version;
        inode.attr.ctime_ns = now_ns();
        reply.attr = std::make_unique<wire::AttrT>(inode.attr);
        return reply;
    }
    wire::MetaReplyT conflict(uint64_t ino) {
        wire::MetaReplyT reply = error(Errc::conflict);
        reply.attr = std::make_unique<wire::AttrT>(state_.inodes.at(ino).attr);
        return reply;
    }
    wire::MetaReplyT apply(const wire::MutationT& m) {
        if (const auto* op = m.op.AsMake()) return make(*op);
        if (const auto* op = m.op.AsUnlink()) return unlink(*op);
        if (const auto* op = m.op.AsRename()) return rename(*op);
        if (const auto* op = m.op.AsSetAttr()) return set_attr(m.session, *op);
        if (const auto* op = m.op.AsSetXattr()) {
            state_.inodes.at(op->ino).xattrs[op->name] = op->value;
            return {};
        }
        if (const auto* op = m.op.AsWriteInline()) return write_inline(*op);
        if (const auto* op = m.op.AsAllocate()) return allocate(m.session, *op);
        if (const auto* op = m.op.AsCommitWrite()) return commit(m.session, *op);
        if (const auto* op = m.op.AsPunchChunks()) return punch(*op);
        return error(Errc::nosys);
    }
    wire::MetaReplyT make(const wire::MakeT& op) {
        auto& entries = state_.inodes.at(op.parent).entries;
        if (auto it = entries.find(op.name); it != entries.end()) {
            if (op.exclusive) return error(Errc::exist);
            wire::MetaReplyT reply = attr_reply(it->second);
            reply.value = 1;
            return reply;
        }
        const uint64_t ino = ++state_.last_ino;
        FakeInode inode;
        inode.attr.ino = ino;
        inode.attr.mode = op.mode;
        inode.attr.nlink = 1;
        inode.attr.is_inline = (op.mode & 0170000) == 0100000;
        inode.attr.mtime_ns = now_ns();
        inode.target = op.target;
        state_.inodes[ino] = std::move(inode);
        entries[op.name] = ino;
        return attr_reply(ino);
    }
    wire::MetaReplyT unlink(const wire::UnlinkT& op) {
        auto& entries = state_.inodes.at(op.parent).entries;
        auto it = entries.find(op.name);
        if (it == entries.end()) return error(Errc::noent);
        const uint64_t ino = it->second;
        entries.erase(it);
        --state_.inodes.at(ino).attr.nlink;
        wire::MetaReplyT reply = attr_reply(ino);
        drop_if_orphan(ino);
        return reply;
    }
    void drop_if_orphan(uint64_t ino) {
        auto it = state_.inodes.find(ino);
        if (it == state_.inodes.end() || it->second.attr.nlink > 0 || is_open(ino)) return;
        for (const auto& [index, chunk] : it->second.chunks) state_.chunks.erase(chunk);
        state_.inodes.erase(it);
    }
    wire::MetaReplyT rename(const wire::RenameT& op) {
        auto& from = state_.inodes.at(op.parent).entries;
        if (!from.contains(op.name)) return error(Errc::noent);
        const uint64_t ino = from.at(op.name);
        from.erase(op.name);
        state_.inodes.at(op.new_parent).entries[op.new_name] = ino;
        return attr_reply(ino);
    }
    wire::MetaReplyT set_attr(uint64_t session, const wire::SetAttrT& op) {
        auto it = state_.inodes.find(op.ino);
        if (it == state_.inodes.end()) return error(Errc::stale);
        if (state_.refuse_setattr) return error(Errc::acces);
        FakeInode& inode = it->second;
        auto has = [&](wire::SetAttrBits bit) {
            return (op.valid & static_cast<uint32_t>(bit)) != 0;
        };
        set_plain(inode, op);
        if (has(wire::SetAttrBits::size)) {
            if (op.size < inode.attr.size) cut(inode, op.size);
            inode.attr.size = op.size;
            inode.attr.mtime_ns = now_ns();
        }
        wire::MetaReplyT reply = attr_reply(op.ino);
        for (const auto& [index, chunk] : inode.chunks)
            reply.grants.push_back(make_grant(session, op.ino, chunk, false));
        return reply;
    }
    static void set_plain(FakeInode& inode, const wire::SetAttrT& op) {
        auto has = [&](wire::SetAttrBits bit) {
            return (op.valid & static_cast<uint32_t>(bit)) != 0;
        };
        if (has(wire::SetAttrBits::mode)) inode.attr.mode = (inode.attr.mode & 0170000) | op.mode;
        if (has(wire::SetAttrBits::uid)) inode.attr.uid = op.uid;
        if (has(wire::SetAttrBits::mtime)) inode.attr.mtime_ns = op.mtime_ns;
    }
    void cut(FakeInode& inode, uint64_t size) {
        ++inode.attr.truncate_generation;
        if (inode.inline_data.size() > size) inode.inline_data.resize(size);
        for (auto it = inode.chunks.begin(); it != inode.chunks.end();) {
            const uint64_t start = uint64_t{it->first} * kChunkSize;
            if (start >= size) {
                state_.chunks.erase(it->second);
                it = inode.chunks.erase(it);
                continue;
            }
            if (size < start + kChunkSize) {
                state_.cut_chunk(it->second, size - start);
                ++state_.chunks.at(it->second).grant.epoch;
            }
            ++it;
        }
    }
    wire::MetaReplyT write_inline(const wire::WriteInlineT& op) {
        FakeInode& inode = state_.inodes.at(op.ino);
        if (!inode.attr.is_inline) return error(Errc::not_inline);
        if (op.truncate_generation < inode.attr.truncate_generation) return conflict(op.ino);
        const uint64_t end = op.offset + op.data.size();
        LFS_ASSERT(end <= kInlineMax);
        if (inode.inline_data.size() < end) inode.inline_data.resize(end);
        std::copy(op.data.begin(),
                  op.data.end(),
                  inode.inline_data.begin() + static_cast<ptrdiff_t>(op.offset));
        inode.attr.size = std::max(inode.attr.size, end);
        inode.attr.mtime_ns = op.mtime_ns;
        if (op.attrs) set_plain(inode, *op.attrs);
        return attr_reply(op.ino);
    }
    wire::MetaReplyT allocate(uint64_t session, const wire::AllocateT& op) {
        FakeInode& inode = state_.inodes.at(op.ino);
        if (op.truncate_generation < inode.attr.truncate_generation) return conflict(op.ino);
        if (inode.attr.is_inline && inode.chunks.empty()) {
            if (inode.inline_data.empty())
                inode.attr.is_inline = false;
            else if (op.move_out_version != inode.attr.version)
                return conflict(op.ino);
        }
        if ((uint64_t{op.first} + op.count) * kChunkSize > inode.attr.size) inode.grower = session;
        wire::MetaReplyT reply = attr_reply(op.ino);
        for (uint32_t index = op.first; index < op.first + op.count; ++index) {
            uint64_t& id = inode.chunks[index];
            if (id == 0) {
                id = ++state_.last_chunk;
                FakeChunk chunk;
                chunk.grant.chunk = id;
                chunk.grant.index = index;
                chunk.grant.epoch = 1;
                chunk.grant.ino = op.ino;
                for (const auto& node : state_.nodes) {
                    if (!state_.dead.contains(node.node)) chunk.grant.members.push_back(node.node);
                }
                state_.chunks[id] = std::move(chunk);
            }
            reply.grants.push_back(make_grant(session, op.ino, id, true));
        }
        return reply;
    }
    wire::MetaReplyT commit(uint64_t session, const wire::CommitWriteT& op) {
        FakeInode& inode = state_.inodes.at(op.ino);
        if (op.truncate_generation < inode.attr.truncate_generation) return conflict(op.ino);
        if (op.size > inode.attr.size && inode.grower != session) return conflict(op.ino);
        if (op.moved_out) {
            inode.attr.is_inline = false;
            inode.inline_data.clear();
        }
        LFS_ASSERT(!inode.attr.is_inline || op.size <= std::max(inode.attr.size, kInlineMax));
        for (uint64_t chunk : op.written) {
            if (state_.chunks.contains(chunk)) state_.chunks.at(chunk).grant.written = true;
        }
        inode.attr.size = std::max(inode.attr.size, op.size);
        if (op.mtime_ns != 0) inode.attr.mtime_ns = op.mtime_ns;
        if (op.attrs) set_plain(inode, *op.attrs);
        if (op.release && inode.grower == session) inode.grower = 0;
        return attr_reply(op.ino);
    }
    wire::MetaReplyT punch(const wire::PunchChunksT& op) {
        FakeInode& inode = state_.inodes.at(op.ino);
        for (uint32_t index = op.first; index < op.first + op.count; ++index) {
            auto it = inode.chunks.find(index);
            if (it == inode.chunks.end()) continue;
            state_.chunks.erase(it->second);
            inode.chunks.erase(it);
        }
        return attr_reply(op.ino);
    }

    FakeLoop& loop_;
    FakeState& state_;
};

}  // namespace lumeofs::client_test
