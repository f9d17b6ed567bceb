// SPDX-License-Identifier: Apache-2.0
// fallocate, lseek, copy_file_range. Holes are made with the file to ourselves: everything is
// flushed, whole chunks lose their rows, parts are zeroed at the chunkds, and the new mtime is
// committed.
#include <algorithm>
#include <utility>

#include "client/core.h"
#include "client/layout.h"

namespace lumeofs::client {
namespace {

constexpr uint32_t kSeekWindow = 4096;  // chunks asked for at once
constexpr uint32_t kPunchAtOnce = 256;  // rows of one command
constexpr uint64_t kCopyBytes = uint64_t{1} << 20;
const Caller kNobody{};

}  // namespace

void Core::fallocate(const Caller& caller,
                     const HandlePtr& file,
                     uint32_t mode,
                     uint64_t offset,
                     uint64_t length,
                     StatusDone done) {
    if (file->inode->lost) return done(Status(Errc::io, "the session was ended"));
    if (length == 0) return done(Status(Errc::inval));
    if (offset >= kFileSizeLimit || length > kFileSizeLimit - offset)
        return done(Status(Errc::fbig));
    const bool keep = (mode & kFallocateKeepSize) != 0;
    const bool hole = (mode & kFallocatePunchHole) != 0;
    const bool zero = (mode & kFallocateZeroRange) != 0;
    const uint32_t known = kFallocateKeepSize | kFallocatePunchHole | kFallocateZeroRange;
    if ((mode & ~known) != 0 || (hole && (!keep || zero))) return done(Status(Errc::opnotsupp));
    const uint64_t end = offset + length;
    // Space is not set aside: what matters to programs is that the file has the size.
    auto grow = [=, this](const Status& status) {
        if (!status.is_ok() || keep) return done(status);
        getattr(caller, file->ino, [=, this](const Result<Attr>& attr) {
            if (!attr.is_ok()) return done(attr.status());
            if (attr->size >= end) return done(ok_status());
            SetAttrs larger;
            larger.size = end;
            setattr(
                caller, file->ino, larger, [done](const Result<Attr>& set) { done(set.status()); });
        });
    };
    if (!hole && !zero) return grow(ok_status());
    punch(caller, file, offset, end, grow);
}

void Core::punch(
    const Caller& caller, const HandlePtr& file, uint64_t offset, uint64_t end, StatusDone done) {
    const InodePtr inode = file->inode;
    ++inode->pending;
    auto finish = [this, inode, done = std::move(done)](const Status& status) {
        --inode->pending;
        end_exclusive(inode);
        done(status);
    };
    need_write_lease(inode, true, [=, this](const Status& status) {
        if (!status.is_ok()) {
            --inode->pending;
            return done(status);
        }
        flush_to(inode, inode->buffer.last_write(), false, [=, this](const Status& flushed) {
            if (!flushed.is_ok()) return finish(flushed);
            const uint64_t stop = std::min(end, inode->size);
            auto commit = [=, this](const Status& punched) {
                if (!punched.is_ok() || inode->lost) return finish(punched);
                inode->cache.clear();
                inode->modified(meta_.cluster_now());
                inode->touch(loop_.now());
                flush_to(inode, inode->buffer.last_write(), false, finish);
            };
            if (offset >= stop) return finish(ok_status());
            if (inode->is_inline && !inode->moving_out) {
                const uint64_t to = std::min<uint64_t>(stop, inode->inline_data.size());
                if (offset < to) {
                    std::fill(inode->inline_data.begin() + static_cast<ptrdiff_t>(offset),
                              inode->inline_data.begin() + static_cast<ptrdiff_t>(to),
                              uint8_t{0});
                    inode->inline_from = offset;
                    inode->inline_to = to;
                }
                return commit(ok_status());
            }
            inode->cache.clear();
            punch_next(caller, inode, offset, stop, commit);
        });
    });
}

// Requires: exclusive use, nothing dirty. One chunk, or one run of whole chunks, per step.
void Core::punch_next(const Caller& caller,
                      const InodePtr& inode,
                      uint64_t offset,
                      uint64_t end,
                      const StatusDone& done) {
    if (inode->lost) return done(Status(Errc::io, "the session was ended"));
    if (offset >= end) return done(ok_status());
    auto go_on = [=, this](uint64_t from) {
        return [=, this](const Status& status) {
            if (!status.is_ok()) return done(status);
            punch_next(caller, inode, from, end, done);
        };
    };
    const uint32_t first = chunk_index(offset);
    const uint64_t in_chunk = offset % kChunkSize;
    const bool to_the_end = end >= inode->size;
    const uint32_t stop = to_the_end ? chunk_count(end) : chunk_index(end);
    if (in_chunk == 0 && first < stop) {
        const uint32_t count = std::min(stop - first, kPunchAtOnce);
        return punch_whole(inode, first, count, go_on(uint64_t{first + count} * kChunkSize));
    }
    const uint64_t length = std::min(kChunkSize - in_chunk, end - offset);
    if (!layout_known(*inode, first, first)) {
        return need_layout(caller, inode, offset, length, go_on(offset));
    }
    auto chunk = inode->chunks.find(first);
    if (chunk == inode->chunks.end()) return punch_next(caller, inode, offset + length, end, done);
    if (!writable_chunk(*inode, offset, length)) return make_writable(inode, first, go_on(offset));
    chunks_.zero(inode->ino, chunk->second, in_chunk, length, go_on(offset + length));
}

void Core::punch_whole(const InodePtr& inode, uint32_t first, uint32_t count, StatusDone done) {
    wire::PunchChunksT op;
    op.ino = inode->ino.value;
    op.first = first;
    op.count = count;
    op.truncate_generation = inode->truncate_generation;
    wire::MutationOpUnion request;
    request.Set(std::move(op));
    mutate(Urgency::flush,
                 Binding::session,
                 kNobody,
                 std::move(request),
                 [this, inode, first, count, done = std::move(done)](const MetaAnswer& answer) {
                     if (!answer.status.is_ok()) return done(answer.status);
                     for (uint32_t index = first; index < first + count; ++index) {
                         inode->chunks.erase(index);
                         if (!inode->all_chunks_known) inode->holes.insert(index);
                     }
                     if (answer.reply.attr) adopt_attr(*inode, *answer.reply.attr);
                     done(ok_status());
                 });
}

void Core::make_writable(const InodePtr& inode, uint32_t index, StatusDone done) {
    wire::AllocateT op;
    op.ino = inode->ino.value;
    op.first = index;
    op.count = 1;
    op.truncate_generation = inode->truncate_generation;
    wire::MutationOpUnion request;
    request.Set(std::move(op));
    mutate(
        Urgency::flush,
        Binding::session,
        kNobody,
        std::move(request),
        [this, inode, index, done = std::move(done)](const MetaAnswer& answer) {
            if (!answer.status.is_ok()) return done(answer.status);
            inode->grower = true;
            if (answer.reply.attr) adopt_attr(*inode, *answer.reply.attr);
            adopt_layout(*inode, answer.reply, false);
            const bool granted = writable_chunk(*inode, uint64_t{index} * kChunkSize, 1) != nullptr;
            done(granted ? ok_status() : Status(Errc::io, "no grant for what was allocated"));
        });
}

// --- lseek

struct Core::SeekState {
    uint64_t size = 0;
    uint64_t window_end = 0;  // file offset up to which `chunks` is complete
    std::map<uint32_t, ChunkPtr> chunks;
};

void Core::lseek(
    const Caller& caller, const HandlePtr& file, uint64_t offset, Seek what, Done<uint64_t> done) {
    const InodePtr inode = file->inode;
    if (inode->lost) return done(Status(Errc::io, "the session was ended"));
    if (offset >= kFileSizeLimit) return done(Errc::nxio);
    ++inode->pending;
    flush_to(inode, inode->buffer.last_write(), false, [=, this](const Status& flushed) {
        --inode->pending;
        if (!flushed.is_ok()) return done(flushed);
        wire::GetLayoutT op;
        op.ino = inode->ino.value;
        op.first = chunk_index(offset);
        op.count = kSeekWindow;
        wire::QueryOpUnion request;
        request.Set(std::move(op));
        meta_.query(caller, std::move(request), [=, this](const MetaAnswer& answer) {
            if (!answer.status.is_ok()) return done(answer.status);
            if (!answer.reply.attr) return done(Errc::corrupt);
            const uint64_t size = answer.reply.attr->size;
            if (offset >= size) return done(Errc::nxio);
            if (answer.reply.attr->is_inline) return done(what == Seek::data ? offset : size);
            auto state = std::make_shared<SeekState>();
            state->size = size;
            state->window_end = (uint64_t{op.first} + op.count) * kChunkSize;
            for (const auto& grant : answer.reply.grants) {
                state->chunks[grant->index] = std::make_shared<ChunkRef>(ChunkRef{*grant});
            }
            seek_in(caller, file, offset, what, state, done);
        });
    });
}

void Core::seek_in(const Caller& caller,
                   const HandlePtr& file,
                   uint64_t offset,
                   Seek what,
                   const std::shared_ptr<SeekState>& state,
                   Done<uint64_t> done) {
    if (offset >= state->size) {
        return what == Seek::hole ? done(state->size) : done(Errc::nxio);
    }
    if (offset >= state->window_end) return lseek(caller, file, offset, what, std::move(done));
    const uint32_t index = chunk_index(offset);
    const uint64_t base = uint64_t{index} * kChunkSize;
    auto at = state->chunks.find(index);
    if (at == state->chunks.end()) {
        if (what == Seek::hole) return done(offset);
        auto next = state->chunks.upper_bound(index);
        const uint64_t from =
            next == state->chunks.end() ? state->window_end : uint64_t{next->first} * kChunkSize;
        return seek_in(caller, file, from, what, state, std::move(done));
    }
    const uint64_t from = offset - base;
    const uint64_t to = std::min(kChunkSize, state->size - base);
    chunks_.extents(
        file->ino, at->second, from, to - from, [=, this](Result<std::vector<DataRange>> found) {
            if (!found.is_ok()) return done(found.status());
            uint64_t position = from;
            for (const DataRange& range : *found) {
                if (what == Seek::data) return done(base + std::max(range.offset, from));
                if (range.offset > position) break;
                position = std::max(position, range.offset + range.length);
            }
            if (what == Seek::hole && position < to) return done(base + position);
            seek_in(caller, file, base + to, what, state, done);
        });
}

// --- copy_file_range

void Core::copy(const Caller& caller,
                const HandlePtr& from,
                uint64_t from_offset,
                const HandlePtr& to,
                uint64_t to_offset,
                uint64_t length,
                uint64_t copied,
                Gone gone,
                Done<uint64_t> done) {
    if (length == 0 || (gone && *gone)) return done(copied);
    const uint64_t step = std::min(length, kCopyBytes - to_offset % kCopyBytes);
    auto fail = [copied, done](const Status& status) {
        if (copied > 0) return done(copied);
        done(status);
    };
    read(caller, from, from_offset, step, [=, this](Result<ReadData> data) {
        if (!data.is_ok()) return fail(data.status());
        if (data->size == 0) return done(copied);
        Buffer bytes = data->parts.front();
        if (data->parts.size() > 1) {
            bytes = Buffer::allocate(data->size);
            uint8_t* into = bytes.mutable_data();
            for (const Buffer& part : data->parts) {
                std::memcpy(into, part.data(), part.size());
                into += part.size();
            }
        }
        const uint64_t got = data->size;
        write(caller, to, to_offset, bytes, gone, [=, this](const Result<uint64_t>& written) {
            if (!written.is_ok()) return fail(written.status());
            copy(caller,
                 from,
                 from_offset + got,
                 to,
                 to_offset + got,
                 length - got,
                 copied + got,
                 gone,
                 done);
        });
    });
}

}  // namespace lumeofs::client
