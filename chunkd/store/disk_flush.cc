// SPDX-License-Identifier: Apache-2.0
// Group commit: what one batch of the loop submitted becomes one log write (several if it is very
// large) and one sync; then everybody is answered in order.
#include <algorithm>

#include "chunkd/store/disk.h"
#include "common/base/assert.h"
#include "common/base/planted_bug.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t kBatchBytes = 8u << 20;

}  // namespace

Disk::Pending& Disk::pending_batch(uint64_t record_bytes, uint64_t images) {
    const uint64_t limit = std::min(kBatchBytes, options_.wal_segment_size);
    if (!pending_.empty()) {
        const Pending& last = pending_.back();
        const uint64_t bytes =
            Wal::batch_bytes(last.records.size() + record_bytes, last.refs.size() + images);
        if (bytes <= limit) return pending_.back();
    }
    Pending batch;
    batch.number = wal_.head().number + pending_.size();
    pending_.push_back(std::move(batch));
    return pending_.back();
}

void Disk::append_record(const LogRecord& record, const std::vector<Buffer>& images, Chunk* chunk) {
    ByteWriter encoded;
    encode_record(record, encoded);
    Pending& batch = pending_batch(encoded.size(), record.images());
    batch.records.bytes(encoded.out());
    ++batch.record_count;
    batch.images.insert(batch.images.end(), images.begin(), images.end());
    for (const Run& run : record.runs) {
        if (run.kind != RunKind::image) continue;
        for (uint32_t i = 0; i < run.count; ++i) batch.refs.push_back({chunk, run.first + i});
    }
}

void Disk::schedule_flush() {
    if (flush_scheduled_) return;
    flush_scheduled_ = true;
    loop_.at_end_of_batch([alive = alive_, this] {
        if (*alive) ignore(flush(), "who waits is told");
    });
}

// Remembers where the images of a batch stand; the last one of a block counts.
void Disk::note_batch_written(Pending& batch, WalPlace first_image) {
    for (size_t i = 0; i < batch.refs.size(); ++i) {
        auto& overlay = batch.refs[i].chunk->overlay;
        auto it = overlay.find(batch.refs[i].block);
        if (it == overlay.end() || it->second.batch != batch.number) continue;
        it->second.place = {first_image.slot,
                            first_image.offset + static_cast<uint32_t>(i) * kBlock};
    }
}

Status Disk::write_batches() {
    for (ChunkId id : noted_) {
        auto it = chunks_.find(id);
        if (it == chunks_.end() || !it->second.chunk) continue;
        LogRecord record;
        record.kind = LogKind::commit_point;
        record.change.chunk = id;
        record.change.commit_point = it->second.chunk->meta.commit_point;
        append_record(record, {}, nullptr);
    }
    noted_.clear();
    if (!planted_bug("store.unwritten_space_unsynced")) LFS_TRY(home_.sync_uncovered());  // [16d]
    for (Pending& batch : pending_) {
        LFS_ASSERT(batch.number == wal_.head().number);
        LFS_ASSIGN(WalPlace first_image,
                   wal_.append(batch.records.out(), batch.record_count, batch.images));
        note_batch_written(batch, first_image);
        ++stats_.log_batches;
        stats_.log_bytes += Wal::batch_bytes(batch.records.size(), batch.refs.size());
    }
    pending_.clear();
    const Nanos before = loop_.now();
    if (!planted_bug("store.ack_before_sync")) LFS_TRY(wal_.sync());
    const auto took = static_cast<uint64_t>(loop_.now() - before);
    ++stats_.log_syncs;
    stats_.sync_nanos += took;
    stats_.sync_nanos_max = std::max(stats_.sync_nanos_max, took);
    return ok_status();
}

void Disk::answer(std::vector<Done> waiting, const Status& status, bool post) {
    if (waiting.empty()) return;
    if (!post) {
        for (Done& done : waiting) {
            if (done) done(status);
        }
        return;
    }
    loop_.post([alive = alive_, waiting = std::move(waiting), status] {
        if (!*alive) return;
        for (const Done& done : waiting) {
            if (done) done(status);
        }
    });
}

Status Disk::flush() {
    flush_scheduled_ = false;
    if (state_ != DiskState::ok) return io_error();
    if (pending_.empty()) return ok_status();
    LFS_TRY(fatal(write_batches()));
    last_write_ = loop_.now();
    start_checkpoint();
    arm_background();
    answer(std::exchange(waiting_, {}), ok_status(), false);
    return ok_status();
}

Status Disk::flush_quietly() {
    if (state_ != DiskState::ok) return io_error();
    if (pending_.empty()) return ok_status();
    LFS_TRY(fatal(write_batches()));
    answer(std::exchange(waiting_, {}), ok_status(), true);
    return ok_status();
}

void Disk::note_commit(ChunkId id, const WriteName& point) {
    auto it = chunks_.find(id);
    if (it == chunks_.end() || !it->second.chunk || state_ != DiskState::ok) return;
    Chunk& chunk = *it->second.chunk;
    if (point <= chunk.meta.commit_point) return;
    chunk.advance_commit(point);
    mark_dirty(chunk);
    noted_.insert(id);
}

}  // namespace lumeofs::store
