// SPDX-License-Identifier: Apache-2.0
// Write-back of one inode: bytes to the chunkds in pieces, several in flight, then one commit of
// size and mtime to the leader; small files in one WriteInline. All of it uses reserved slots and
// waits for no recall [29]. pump() is called whenever something has changed and does what can be
// done.
#include <algorithm>
#include <utility>

#include "client/core.h"
#include "client/layout.h"
#include "common/base/log.h"

namespace lumeofs::client {
namespace {

constexpr size_t kPiecesInFlight = 8;
constexpr uint32_t kAllocateMax = 64;  // chunks of one request

const Caller kNobody{};  // flushes are checked by nobody: the write was

std::unique_ptr<wire::SetAttrT> gathered_of(const Inode& inode) {
    if (inode.gathered == SetAttrs{}) return nullptr;
    return std::make_unique<wire::SetAttrT>(to_wire(inode.ino, inode.gathered));
}

// What was set again since the commit was sent goes with the next one.
template <typename T>
void drop_if_same(std::optional<T>& now, const std::optional<T>& sent) {
    if (now == sent) now.reset();
}
void drop_gathered(Inode& inode, const SetAttrs& sent) {
    drop_if_same(inode.gathered.mode, sent.mode);
    drop_if_same(inode.gathered.uid, sent.uid);
    drop_if_same(inode.gathered.gid, sent.gid);
    drop_if_same(inode.gathered.atime_ns, sent.atime_ns);
    drop_if_same(inode.gathered.mtime_ns, sent.mtime_ns);
}

}  // namespace

void Core::flush_to(const InodePtr& inode, uint64_t target, bool data_only, StatusDone done) {
    if (inode->lost) return done(Status(Errc::io, "the session was ended"));
    if (inode->committed >= target && !inode->releasing) return done(ok_status());
    inode->jobs.push_back({target, data_only, std::move(done)});
    pump(inode);
}

void Core::pump(const InodePtr& at) {
    const InodePtr inode = at;
    if (inode->lost || inode->releasing) return;
    if (!inode->dirty() && !inode->jobs.empty()) finish_jobs(inode);
    if (inode->releasing) return;  // a callback may have gone on
    if (!meta_.lease_valid()) {
        stalled_ = true;
        return;
    }
    if (inode->reacquire) return acquire(inode);
    if (inode->lease != wire::LeaseMode::write) return;
    uint64_t target = inode->winding ? inode->buffer.last_write() : 0;
    for (const FlushJob& job : inode->jobs) target = std::max(target, job.target);
    if (inode->is_inline && !inode->moving_out) {
        if (target > inode->committed && !inode->commit_running)
            send_inline(inode, inode->buffer.last_write());
        return;
    }
    // While an inline write is under way the move out must wait: slots keep no order.
    if (inode->moving_out && inode->commit_running && !inode->grower) return;
    send_pieces(inode, target > inode->committed ? target : 0);
    commit_if_due(inode);
}

void Core::send_pieces(const InodePtr& inode, uint64_t target) {
    if (!inode->parked.empty() && !inode->allocating) allocate(inode);
    while (inode->buffer.pieces_in_flight() < kPiecesInFlight) {
        auto piece = inode->buffer.take_full();
        if (!piece && target > 0) piece = inode->buffer.take_any(target);
        if (!piece) return;
        send_piece(inode, *piece);
    }
}

ChunkPtr Core::writable_chunk(const Inode& inode, uint64_t offset, uint64_t length) const {
    auto it = inode.chunks.find(chunk_index(offset));
    if (it == inode.chunks.end()) return nullptr;
    const wire::ChunkGrantT& grant = it->second->grant;
    const bool far_enough = grant.write_limit >= offset % kChunkSize + length;
    return far_enough && grant.session == meta_.session() ? it->second : nullptr;
}

void Core::send_piece(const InodePtr& inode, const WriteBuffer::Piece& piece) {
    ChunkPtr chunk = writable_chunk(*inode, piece.offset, piece.data.size());
    if (!chunk) {
        inode->parked.push_back(piece);
        if (!inode->allocating) allocate(inode);
        return;
    }
    chunks_.write(inode->ino,
                  chunk,
                  piece.offset % kChunkSize,
                  piece.data,
                  [this, inode, chunk, piece](const Status& status) {
                      const bool first = status.is_ok() && !chunk->grant.written;
                      if (first) inode->first_written.insert(chunk->grant.chunk);
                      piece_done(inode, piece, status);
                  });
}

void Core::piece_done(const InodePtr& inode,
                      const WriteBuffer::Piece& piece,
                      const Status& status) {
    inode->buffer.finish(piece.offset);
    // What was fetched while the piece was under way may be from before it.
    inode->cache.drop(piece.offset, piece.data.size());
    if (status.is_ok()) {
        inode->written_end = std::max(inode->written_end, piece.end());
    } else if (!inode->lost) {
        const bool gone = status.code() == Errc::noent || status.code() == Errc::stale;
        record_error(*inode, gone ? Status(Errc::io, "the chunk is gone") : status);
    }
    account(inode);
    pump(inode);
}

// --- chunks for what has none

void Core::allocate(const InodePtr& inode) {
    uint32_t first = UINT32_MAX;
    for (const auto& piece : inode->parked) first = std::min(first, chunk_index(piece.offset));
    uint32_t count = 1;
    for (bool more = true; more && count < kAllocateMax;) {
        more = std::any_of(inode->parked.begin(), inode->parked.end(), [&](const auto& piece) {
            return chunk_index(piece.offset) == first + count;
        });
        if (more) ++count;
    }
    inode->allocating = true;
    wire::AllocateT op;
    op.ino = inode->ino.value;
    op.first = first;
    op.count = count;
    op.truncate_generation = inode->truncate_generation;
    op.move_out_version = inode->is_inline ? inode->attr.version : 0;
    wire::MutationOpUnion request;
    request.Set(std::move(op));
    mutate(Urgency::flush,
                 Binding::session,
                 kNobody,
                 std::move(request),
                 [this, inode](MetaAnswer answer) {
                     inode->allocating = false;
                     on_allocated(inode, std::move(answer));
                 });
}

void Core::on_allocated(const InodePtr& inode, MetaAnswer answer) {
    if (inode->lost) return;
    const Errc code = answer.status.code();
    if (code == Errc::recall) {  // the leader does not know our lease: take it again
        inode->reacquire = true;
        inode->lease = wire::LeaseMode::none;
        return acquire(inode);
    }
    if (code == Errc::conflict && answer.reply.attr) {
        adopt_attr(*inode, *answer.reply.attr);
        return pump(inode);
    }
    // A chunkd may have told us of a newer configuration while the answer was on its way: what was granted
    // under the older one says nothing about the newer.
    const auto& grants = answer.reply.grants;
    const bool outdated = std::any_of(grants.begin(), grants.end(), [&](const auto& grant) {
        auto known = inode->chunks.find(grant->index);
        return known != inode->chunks.end() && known->second->grant.chunk == grant->chunk &&
               known->second->grant.epoch > grant->epoch;
    });
    if (answer.status.is_ok()) {
        inode->grower = true;
        if (answer.reply.attr) adopt_attr(*inode, *answer.reply.attr);
        adopt_layout(*inode, answer.reply, false);
    }
    auto parked = std::exchange(inode->parked, {});
    bool progress = false;
    for (const auto& piece : parked) {
        if (writable_chunk(*inode, piece.offset, piece.data.size())) {
            progress = true;
            send_piece(inode, piece);
        } else if (answer.status.is_ok()) {
            inode->parked.push_back(piece);  // another chunk: the next request
        } else {
            piece_done(inode, piece, answer.status);
        }
    }
    if (inode->parked.empty()) return pump(inode);
    if (progress) return pump(inode);
    if (outdated) return allocate(inode);
    // The leader allocates but grants too little: this would go round for ever.
    auto refused = std::exchange(inode->parked, {});
    for (const auto& piece : refused) {
        piece_done(inode, piece, Status(Errc::io, "no grant for what was allocated"));
    }
}

// --- commits

bool Core::commit_if_due(const InodePtr& inode) {
    if (inode->commit_running || (inode->jobs.empty() && !inode->winding)) return false;
    uint64_t covered = inode->committed;
    if (inode->buffer.empty()) {
        covered = inode->buffer.last_write();
    } else {
        for (const FlushJob& job : inode->jobs) {
            if (inode->buffer.clean_up_to(job.target)) covered = std::max(covered, job.target);
        }
    }
    if (inode->moving_out && covered < inode->moving_change) return false;
    const bool to_release = inode->winding && !inode->exclusive && inode->buffer.empty();
    if (covered <= inode->committed && !(to_release && inode->grower)) {
        return false;
    }
    const bool data_only =
        !inode->winding && !inode->moving_out && inode->size == inode->attr.size &&
        inode->first_written.empty() &&
        std::all_of(inode->jobs.begin(), inode->jobs.end(), [](const FlushJob& job) {
            return job.data_only;
        });
    if (data_only) {  // the mtime goes with a later commit
        std::vector<FlushJob> ready;
        std::erase_if(inode->jobs, [&](FlushJob& job) {
            if (job.target > covered) return false;
            ready.push_back(std::move(job));
            return true;
        });
        for (FlushJob& job : ready) job.done(ok_status());
        return false;
    }
    send_commit(inode, covered);
    return true;
}

void Core::send_commit(const InodePtr& inode, uint64_t covered) {
    const bool release = inode->winding && !inode->exclusive && inode->buffer.empty() &&
                         covered == inode->buffer.last_write();
    inode->commit_running = true;
    if (release) inode->releasing = true;
    wire::CommitWriteT op;
    op.ino = inode->ino.value;
    // Never beyond what was written: bytes whose write failed would be asked for as growth to which
    // we have no right.
    const uint64_t reached = std::max(inode->attr.size, inode->written_end);
    op.size = inode->buffer.empty() ? std::min(inode->size, reached) : reached;
    op.mtime_ns = inode->mtime_dirty ? inode->mtime_ns : 0;
    op.truncate_generation = inode->truncate_generation;
    op.moved_out = inode->moving_out;
    op.clear_suid = inode->clear_suid;
    op.release = release;
    op.attrs = gathered_of(*inode);
    op.written.assign(inode->first_written.begin(), inode->first_written.end());
    const Commit commit{covered,
                        op.truncate_generation,
                        op.mtime_ns,
                        op.moved_out,
                        release,
                        op.clear_suid,
                        inode->gathered,
                        op.written};
    wire::MutationOpUnion request;
    request.Set(std::move(op));
    mutate(Urgency::flush,
                 Binding::session,
                 kNobody,
                 std::move(request),
                 [this, inode, commit](MetaAnswer answer) {
                     on_committed(inode, commit, std::move(answer));
                 });
    inode->release_request = meta_.last_request();
}

void Core::send_inline(const InodePtr& inode, uint64_t covered) {
    if (inode->inline_from >= inode->inline_to) return send_commit(inode, covered);  // mtime only
    const bool release = inode->winding && !inode->exclusive;
    inode->commit_running = true;
    if (release) inode->releasing = true;
    const uint64_t from = std::exchange(inode->inline_from, UINT64_MAX);
    const uint64_t to = std::exchange(inode->inline_to, 0);
    wire::WriteInlineT op;
    op.ino = inode->ino.value;
    op.offset = from;
    op.data.assign(inode->inline_data.begin() + static_cast<ptrdiff_t>(from),
                   inode->inline_data.begin() + static_cast<ptrdiff_t>(to));
    op.mtime_ns = inode->mtime_ns;
    op.truncate_generation = inode->truncate_generation;
    op.clear_suid = inode->clear_suid;
    op.release = release;
    op.attrs = gathered_of(*inode);
    wire::MutationOpUnion request;
    request.Set(std::move(op));
    mutate(
        Urgency::flush,
        Binding::session,
        kNobody,
        std::move(request),
        [this,
         inode,
         from,
         to,
         commit = Commit{covered,
                         inode->truncate_generation,
                         inode->mtime_ns,
                         false,
                         release,
                         inode->clear_suid,
                         inode->gathered,
                         {}}](MetaAnswer answer) {
            const Errc code = answer.status.code();
            if (code == Errc::conflict || code == Errc::recall || code == Errc::not_inline) {
                inode->inline_from = std::min(inode->inline_from, from);
                inode->inline_to = std::max(inode->inline_to, to);
            }
            on_committed(inode, commit, std::move(answer));
        });
    inode->release_request = meta_.last_request();
}

// Metad knows now that they hold data.
void Core::note_written(Inode& inode, const std::vector<uint64_t>& chunks) {
    for (uint64_t chunk : chunks) inode.first_written.erase(chunk);
    for (auto& [index, ref] : inode.chunks) {
        if (std::find(chunks.begin(), chunks.end(), ref->grant.chunk) != chunks.end()) {
            ref->grant.written = true;
        }
    }
}

void Core::on_committed(const InodePtr& inode, const Commit& commit, MetaAnswer answer) {
    inode->commit_running = false;
    if (inode->lost) return;
    const Errc code = answer.status.code();
    // A truncate came between: the same again with its generation (which we may know already, by
    // another answer). Any other conflict means that the leader has cut what we had written (our
    // lease had ended there): that is lost.
    const bool outdated = code == Errc::conflict && answer.reply.attr &&
                          answer.reply.attr->truncate_generation > commit.truncate_generation;
    if (code == Errc::recall || outdated || code == Errc::not_inline) {
        inode->releasing = false;
        const bool was_inline = inode->is_inline;
        if (answer.reply.attr) adopt_attr(*inode, *answer.reply.attr);
        if (code == Errc::recall) {
            inode->reacquire = true;
            inode->lease = wire::LeaseMode::none;
            acquire(inode);
        } else if (code == Errc::not_inline && was_inline &&
                   inode->inline_from < inode->inline_to) {
            inode->is_inline = false;
            adopt_layout(*inode, answer.reply, true);
            const uint64_t from = std::exchange(inode->inline_from, UINT64_MAX);
            const uint64_t to = std::exchange(inode->inline_to, 0);
            const View changed = View(inode->inline_data).subspan(from, to - from);
            inode->buffer.write(from, Buffer::copy_of(changed), loop_.now());
        }
        pump(inode);
        for (Task& task : std::exchange(inode->after_release, {})) task();
        return advance(inode);
    }
    inode->committed = std::max(inode->committed, commit.covered);
    drop_gathered(*inode, commit.gathered);
    if (answer.status.is_ok()) {
        if (!commit.written.empty()) note_written(*inode, commit.written);
        if (commit.moved_out) {
            inode->moving_out = false;
            inode->inline_data.clear();
        }
        if (inode->mtime_ns == commit.mtime_ns || commit.mtime_ns == 0) inode->mtime_dirty = false;
        if (commit.clear_suid) inode->clear_suid = false;
        if (commit.released) inode->grower = false;
        if (answer.reply.attr) adopt_attr(*inode, *answer.reply.attr);
    } else {
        record_error(*inode, answer.status);
        inode->grower = false;
        if (commit.released) give_back(inode);
    }
    if (!inode->dirty()) inode->dirty_since = 0;
    if (commit.released) end_release(inode);
    finish_jobs(inode);
    pump(inode);
    advance(inode);
}

void Core::finish_jobs(const InodePtr& inode) {
    std::vector<FlushJob> ready;
    std::erase_if(inode->jobs, [&](FlushJob& job) {
        if (job.target > inode->committed && !inode->lost) return false;
        ready.push_back(std::move(job));
        return true;
    });
    const Status status = inode->lost ? Status(Errc::io, "the session was ended") : ok_status();
    for (FlushJob& job : ready) job.done(status);
}

// Each handle will report it once, at its next write, fsync or close.
void Core::record_error(Inode& inode, const Status& status) {
    LFS_LOG(error, "writing back inode {} failed: {}", inode.ino.to_string(), status.to_string());
    inode.error = to_posix(status, "write-back");
    ++inode.error_count;
}

// The file outgrows its inline data: all of it becomes dirty bytes of chunk 0, and the commit that
// covers them drops the inline row [34].
void Core::move_out(Inode& inode) {
    const bool is_move = inode.is_inline;
    const uint64_t length = std::min<uint64_t>(inode.inline_data.size(), inode.size);
    if (length > 0)
        inode.buffer.write(0, Buffer::copy_of(View(inode.inline_data).first(length)), loop_.now());
    inode.touch(loop_.now());
    inode.moving_out = is_move;
    inode.moving_change = inode.buffer.last_write();
    inode.inline_from = UINT64_MAX;
    inode.inline_to = 0;
    inode.all_chunks_known = true;
}

// --- bounds

void Core::account(const InodePtr& inode) {
    const uint64_t now = inode->buffer.bytes();
    uint64_t& before = dirty_of_[inode->ino];
    dirty_bytes_ += now - before;
    before = now;
    if (now == 0) dirty_of_.erase(inode->ino);
    if (inode->dirty() && inode->dirty_since == 0) inode->dirty_since = loop_.now();
    while (!space_waiters_.empty() && dirty_bytes_ < options_.dirty_limit) {
        Task task = std::move(space_waiters_.front());
        space_waiters_.pop_front();
        task();
    }
}

void Core::flush_oldest() {
    const auto inodes = inodes_;
    for (const auto& [ino, inode] : inodes) {
        if (inode->buffer.empty()) continue;
        flush_to(inode, inode->buffer.last_write(), true, [](const Status&) {});
    }
}

}  // namespace lumeofs::client
