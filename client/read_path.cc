// SPDX-License-Identifier: Apache-2.0
// read. Under a lease: our own changes first, then blocks read ahead, then the chunkds. Without
// one: a fresh layout from the leader serves this one read, nothing is kept [8].
#include <algorithm>
#include <utility>

#include "client/core.h"
#include "client/layout.h"
#include "common/base/planted_bug.h"

namespace lumeofs::client {
namespace {

constexpr uint32_t kLayoutAhead = 16;  // chunks asked for in one GetLayout
constexpr int kLayoutTries = 8;        // how often chunks may vanish under one read

Buffer zeros(uint64_t length) {
    Buffer buffer = Buffer::allocate(length);
    std::memset(buffer.mutable_data(), 0, length);
    return buffer;
}

ReadData slice_inline(const Bytes& bytes, uint64_t offset, uint64_t size) {
    ReadData data;
    Buffer part = zeros(size);  // what the row does not hold is zeros
    if (offset < bytes.size()) {
        std::memcpy(part.mutable_data(),
                    bytes.data() + offset,
                    std::min<uint64_t>(size, bytes.size() - offset));
    }
    data.parts.push_back(std::move(part));
    data.size = size;
    return data;
}

}  // namespace

// One read under way: its parts by file offset, and how many of them are still missing.
struct Core::ReadJob {
    InodePtr inode;
    std::map<uint64_t, Buffer> parts;
    int missing = 1;  // one for the loop that starts the parts
    Status error;
    Done<ReadData> done;

    void part_done(uint64_t offset, Result<Buffer> data) {
        if (data.is_ok()) {
            parts[offset] = std::move(*data);
        } else {
            error = data.status();
        }
        finish_one();
    }
    void finish_one() {
        if (--missing > 0) return;
        if (!error.is_ok()) return done(error);
        ReadData result;
        result.parts.reserve(parts.size());
        for (auto& [offset, part] : parts) {
            result.size += part.size();
            result.parts.push_back(std::move(part));
        }
        done(std::move(result));
    }
};

void Core::read(const Caller& caller,
                const HandlePtr& file,
                uint64_t offset,
                uint64_t size,
                Done<ReadData> done) {
    read_try(caller, file, offset, size, kLayoutTries, std::move(done));
}

// A chunk may go while it is read (another client truncates): then the layout is asked for again.
void Core::read_try(const Caller& caller,
                    const HandlePtr& file,
                    uint64_t offset,
                    uint64_t size,
                    int tries,
                    Done<ReadData> answer) {
    const InodePtr inode = file->inode;
    Done<ReadData> done = [=, this](Result<ReadData> data) {
        const bool gone = data.code() == Errc::noent && !inode->lost;
        if (!gone) return answer(std::move(data));
        if (tries == 0) return answer(Status(Errc::io, "a chunk is gone"));
        inode->cache.clear();
        inode->chunks.clear();
        inode->holes.clear();
        inode->all_chunks_known = false;
        read_try(caller, file, offset, size, tries - 1, answer);
    };
    if (inode->lost) return done(Status(Errc::io, "the session was ended"));
    if (size == 0) return done(ReadData{});
    if (inode->releasing) {  // our last commit is not answered yet: the leader's answer could lack
                             // it
        inode->after_release.push_back(
            [=, this] { read_try(caller, file, offset, size, tries, answer); });
        return;
    }
    if (inode->reacquire || (inode->has_lease() && !meta_.lease_valid())) {
        stalled_ = true;
        lease_time_waiters_.push_back(
            [=, this] { read_try(caller, file, offset, size, tries, answer); });
        return;
    }
    if (inode->has_lease()) return read_leased(caller, file, offset, size, tries, std::move(done));
    read_unleased(caller, inode, offset, size, std::move(done));
}

void Core::read_leased(const Caller& caller,
                       const HandlePtr& file,
                       uint64_t offset,
                       uint64_t size,
                       int tries,
                       Done<ReadData> done) {
    const InodePtr inode = file->inode;
    if (offset >= inode->size) return done(ReadData{});
    size = std::min(size, inode->size - offset);
    if (inode->is_inline && !inode->moving_out) {
        return done(slice_inline(inode->inline_data, offset, size));
    }
    const uint64_t ahead = file->read_ahead.on_read(offset, size, options_.read_ahead_max);
    const uint64_t last = std::min(std::max(ahead, offset + size), inode->size);
    if (!layout_known(*inode, chunk_index(offset), chunk_index(offset + size - 1))) {
        ++inode->pending;
        return need_layout(caller, inode, offset, size, [=, this](const Status& status) {
            --inode->pending;
            if (!status.is_ok()) return done(status);
            read_try(caller, file, offset, size, tries, done);
        });
    }
    if (ahead != 0) {
        const uint64_t behind = file->read_ahead.window() + kReadAheadSegment;
        if (offset > behind) inode->cache.drop_before(offset - behind);
    }
    read_spans(inode, offset, size, true, inode->chunks, std::move(done));
    if (ahead != 0) prefetch(inode, offset + size, last);
}

bool Core::layout_known(const Inode& inode, uint32_t first, uint32_t last) const {
    if (inode.all_chunks_known) return true;
    for (uint32_t index = first; index <= last; ++index) {
        if (!inode.chunks.contains(index) && !inode.holes.contains(index)) return false;
    }
    return true;
}

// Asks for the chunks of the range and some beyond; they are kept as long as the lease.
void Core::need_layout(const Caller& caller,
                       const InodePtr& inode,
                       uint64_t offset,
                       uint64_t length,
                       StatusDone done) {
    wire::GetLayoutT op;
    op.ino = inode->ino.value;
    op.first = chunk_index(offset);
    op.count = std::max(chunk_index(offset + length - 1) - op.first + 1, kLayoutAhead);
    wire::QueryOpUnion request;
    request.Set(std::move(op));
    meta_.query(caller,
                std::move(request),
                [this, inode, op, serial = inode->lease_serial, done = std::move(done)](
                    const MetaAnswer& answer) {
                    if (!answer.status.is_ok()) return done(answer.status);
                    // If the lease went meanwhile the reader starts over and finds its way without
                    // one.
                    if (inode->lease_serial == serial && inode->has_lease()) {
                        for (uint32_t i = 0; i < op.count; ++i) {
                            if (!inode->chunks.contains(op.first + i))
                                inode->holes.insert(op.first + i);
                        }
                        wire::MetaReplyT layout;
                        for (const auto& grant : answer.reply.grants) {
                            // What was allocated since may be more than the answer knows; never
                            // less.
                            if (inode->chunks.contains(grant->index)) continue;
                            layout.grants.push_back(std::make_unique<wire::ChunkGrantT>(*grant));
                        }
                        adopt_layout(*inode, layout, false);
                    }
                    done(ok_status());
                });
}

void Core::read_unleased(const Caller& caller,
                         const InodePtr& inode,
                         uint64_t offset,
                         uint64_t size,
                         Done<ReadData> done) {
    if (planted_bug("client.keep_grant_after_lease") && !inode->chunks.empty()) {
        if (offset >= inode->size) return done(ReadData{});
        size = std::min(size, inode->size - offset);
        return read_spans(inode, offset, size, false, inode->chunks, std::move(done));
    }
    if (offset >= kFileSizeLimit) return done(ReadData{});
    wire::GetLayoutT op;
    op.ino = inode->ino.value;
    op.first = chunk_index(offset);
    op.count = chunk_index(std::min(offset + size, kFileSizeLimit) - 1) - op.first + 1;
    wire::QueryOpUnion request;
    request.Set(std::move(op));
    ++inode->pending;
    meta_.query(
        caller, std::move(request), [=, this, done = std::move(done)](const MetaAnswer& answer) {
            --inode->pending;
            if (inode->lost) return done(Status(Errc::io, "the session was ended"));
            if (!answer.status.is_ok() || !answer.reply.attr) {
                return done(answer.status.is_ok()
                                ? Status(Errc::corrupt, "a layout without attributes")
                                : answer.status);
            }
            const wire::AttrT& attr = *answer.reply.attr;
            if (offset >= attr.size) return done(ReadData{});
            const uint64_t length = std::min(size, attr.size - offset);
            if (attr.is_inline) {
                const Bytes bytes(answer.reply.data.begin(), answer.reply.data.end());
                return done(slice_inline(bytes, offset, length));
            }
            std::map<uint32_t, ChunkPtr> chunks;
            for (const auto& grant : answer.reply.grants) {
                chunks[grant->index] = std::make_shared<ChunkRef>(ChunkRef{*grant});
            }
            read_spans(inode, offset, length, false, chunks, done);
        });
}

// Requires: what `chunks` lacks in the range is a hole.
void Core::read_spans(const InodePtr& inode,
                      uint64_t offset,
                      uint64_t size,
                      bool use_cache,
                      const std::map<uint32_t, ChunkPtr>& chunks,
                      Done<ReadData> done) {
    auto job = std::make_shared<ReadJob>();
    job->inode = inode;
    job->done = std::move(done);
    auto fetch = [&](uint64_t from, uint64_t length) {
        for (const Span& span : split_spans(from, length, kMaxIoBytes)) {
            const uint64_t at = span.file_offset();
            auto chunk = chunks.find(span.index);
            ++job->missing;
            if (chunk == chunks.end()) {
                job->part_done(at, zeros(span.length));
            } else {
                chunks_.read(
                    inode->ino,
                    chunk->second,
                    span.offset,
                    span.length,
                    [job, at](Result<Buffer> data) { job->part_done(at, std::move(data)); });
            }
        }
    };
    auto gap = [&](uint64_t from, uint64_t to) {
        while (from < to) {
            auto segment = use_cache ? inode->cache.find(from) : nullptr;
            if (!segment || (segment->ready && !segment->data.is_ok())) {
                const uint64_t next = use_cache ? inode->cache.next_start(from) : UINT64_MAX;
                const uint64_t end = std::min(to, segment ? segment->end() : next);
                fetch(from, end - from);
                from = end;
                continue;
            }
            const uint64_t end = std::min(to, segment->end());
            // A plain pointer: the segment must not own itself through its waiters.
            auto take = [job, segment = segment.get(), from, end] {
                if (!segment->data.is_ok()) return job->part_done(from, segment->data.status());
                job->part_done(from, segment->data->slice(from - segment->offset, end - from));
            };
            ++job->missing;
            if (segment->ready) {
                take();
            } else {
                segment->waiting.push_back(take);
            }
            from = end;
        }
    };
    uint64_t at = offset;
    for (WriteBuffer::Piece& piece : inode->buffer.overlay(offset, size)) {
        gap(at, piece.offset);
        at = piece.end();
        job->parts[piece.offset] = std::move(piece.data);
    }
    gap(at, offset + size);
    job->finish_one();
}

// Fetches [from, to) into the cache where it is not there yet, as far as the layout is known.
void Core::prefetch(const InodePtr& inode, uint64_t from, uint64_t to) {
    while (from < to) {
        if (auto segment = inode->cache.find(from)) {
            from = segment->end();
            continue;
        }
        const uint64_t boundary = (from / kReadAheadSegment + 1) * kReadAheadSegment;
        const uint64_t end = std::min({to, boundary, inode->cache.next_start(from)});
        // Small steps are put off until they are worth a request, except at the end of the file.
        if (end - from < kReadAheadMin && end != boundary && end != inode->size) return;
        const uint32_t index = chunk_index(from);
        auto chunk = inode->chunks.find(index);
        if (chunk == inode->chunks.end()) {
            if (!inode->all_chunks_known && !inode->holes.contains(index)) return;
            from = (uint64_t{index} + 1) * kChunkSize;
            continue;
        }
        auto segment = inode->cache.add(from, end - from);
        chunks_.read(inode->ino,
                     chunk->second,
                     from % kChunkSize,
                     end - from,
                     [segment](Result<Buffer> data) { segment->fill(std::move(data)); });
        from = end;
    }
}

}  // namespace lumeofs::client
