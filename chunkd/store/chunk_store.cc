// SPDX-License-Identifier: Apache-2.0
// The store as a whole: opening, and finding the disk of a chunk. All else is in Disk.
#include "chunkd/store/chunk_store.h"

#include <algorithm>

#include "chunkd/store/disk.h"
#include "chunkd/store/identity.h"
#include "common/base/log.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t kSegmentMin = kMaxIoBytes + (uint64_t{512} << 10);

Status check_options(const StoreOptions& options) {
    auto bad = [](const char* what) { return Status(Errc::config, what); };
    if (options.dirs.empty()) return bad("no data directory is configured");
    if (options.wal_segment_size < kSegmentMin || options.wal_segment_size % kBlockSize != 0) {
        return bad("wal_segment_size must be a multiple of 4096 of at least 4.5 MiB");
    }
    if (options.wal_max_size < 4 * options.wal_segment_size) {
        return bad("wal_max_size must be at least four times wal_segment_size");
    }
    const uint64_t unit_group = 64 * uint64_t{kUnitBytes};
    if (options.home_file_size == 0 || options.home_file_size % unit_group != 0 ||
        options.home_step < kUnitBytes || options.home_step > options.home_file_size) {
        return bad("home_file_size must be a multiple of 1 MiB and not below home_step");
    }
    if (options.reserve_percent > 50) return bad("reserve_percent must be at most 50");
    return ok_status();
}

}  // namespace

ChunkStore::ChunkStore(FileSystem& fs, Loop& loop, StoreOptions options)
    : fs_(fs), loop_(loop), options_(std::move(options)) {}

ChunkStore::~ChunkStore() = default;

Result<std::unique_ptr<ChunkStore>> ChunkStore::open(FileSystem& fs,
                                                     Loop& loop,
                                                     StoreOptions options) {
    LFS_TRY(check_options(options));
    std::unique_ptr<ChunkStore> store(new ChunkStore(fs, loop, std::move(options)));
    LFS_ASSIGN(auto claimed, claim_disks(fs, store->options_));
    Status first_error;
    for (ClaimedDisk& item : claimed) {
        const auto number = static_cast<uint32_t>(store->disks_.size());
        auto disk = std::make_unique<Disk>(
            fs, loop, store->options_, number, std::move(item.identity), std::move(item.lock));
        if (Status status = disk->recover(); !status.is_ok()) {
            if (first_error.is_ok()) first_error = status;
            disk->take_out(status.code() == Errc::corrupt ? DiskState::damaged : DiskState::failed,
                           status);
        }
        store->disks_.push_back(std::move(disk));
    }
    if (!store->usable()) return first_error;
    store->drop_doubles();
    if (!store->usable()) return Status(Errc::io, "no usable disk is left");
    return store;
}

Disk* ChunkStore::find(ChunkId chunk) const {
    for (const auto& disk : disks_) {
        if (disk->state() == DiskState::ok && disk->has(chunk)) return disk.get();
    }
    return nullptr;
}

bool ChunkStore::lost(ChunkId chunk) const {
    return std::any_of(disks_.begin(), disks_.end(), [chunk](const auto& disk) {
        return disk->state() != DiskState::ok && disk->has(chunk);
    });
}

// A disk that failed once may work again after a restart, and hold copies that were made anew on
// another one meanwhile, under a later configuration.
void ChunkStore::drop_doubles() {
    std::map<ChunkId, ChunkListing> newest;
    std::vector<ChunkListing> older;
    if (disks_.size() == 1) return;
    for (const auto& disk : disks_) {
        if (disk->state() != DiskState::ok) continue;
        std::vector<ChunkListing> all;
        disk->list(ChunkId{}, UINT32_MAX, all);
        for (const ChunkListing& one : all) {
            auto [it, first] = newest.emplace(one.chunk, one);
            if (first) continue;
            older.push_back(it->second.epoch < one.epoch ? it->second : one);
            if (it->second.epoch < one.epoch) it->second = one;
        }
    }
    for (const ChunkListing& one : older) {
        LFS_LOG(warn,
                "chunk {}: the copy of epoch {} on disk {} goes to the trash; disk {} has another",
                one.chunk.value,
                one.epoch.value,
                one.disk,
                newest.at(one.chunk).disk);
        // A disk that cannot let go of it must not serve it.
        const Status status = disks_[one.disk]->remove(one.chunk, {});
        if (!status.is_ok()) disks_[one.disk]->take_out(DiskState::failed, status);
    }
}

Status ChunkStore::absent(ChunkId chunk) const {
    if (lost(chunk)) return Status(Errc::io, "the disk of chunk " + chunk.to_string() + " was taken out");
    return Status(Errc::not_found, "no chunk " + chunk.to_string());
}

Result<Disk*> ChunkStore::usable_disk_of(ChunkId chunk) const {
    Disk* disk = find(chunk);
    if (!disk) return absent(chunk);
    return disk;
}

Status ChunkStore::write(WriteRecord record,
                         Payload payload,
                         Done done,
                         std::vector<uint32_t>* bad_blocks) {
    Disk* disk = find(record.chunk);
    if (!disk) {
        if (record.kind != RecordKind::create) {
            return absent(record.chunk);
        }
        uint64_t most = 0;
        for (const auto& candidate : disks_) {
            if (candidate->state() != DiskState::ok) continue;
            const uint64_t free = candidate->space().free_bytes;
            if (disk && free <= most) continue;
            disk = candidate.get();
            most = free;
        }
        if (!disk) return Status(Errc::io, "no usable disk");
        if (most == 0) return Status(Errc::nospc, "no disk has room for a new chunk");
    }
    return disk->write(std::move(record), std::move(payload), std::move(done), bad_blocks);
}

void ChunkStore::note_commit(ChunkId chunk, const WriteName& commit_point) {
    if (Disk* disk = find(chunk)) disk->note_commit(chunk, commit_point);
}

Status ChunkStore::remove(ChunkId chunk, Done done) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    return disk->remove(chunk, std::move(done));
}

Result<uint32_t> ChunkStore::purge_trash(Nanos before, uint32_t max, Done done) {
    // One answer for all disks: the last one to be durable gives it.
    auto left = std::make_shared<size_t>(0);
    auto worst = std::make_shared<Status>();
    auto part = [left, worst, done = std::move(done)](const Status& status) {
        if (!status.is_ok()) *worst = status;
        if (--*left == 0 && done) done(*worst);
    };
    uint32_t purged = 0;
    std::vector<Disk*> usable;
    for (const auto& disk : disks_) {
        if (disk->state() == DiskState::ok) usable.push_back(disk.get());
    }
    if (usable.empty()) return Status(Errc::io, "no usable disk");
    *left = usable.size();
    for (Disk* disk : usable) {
        auto count = disk->purge_trash(before, max - purged, part);
        if (!count.is_ok()) {
            loop_.post([part, status = count.status()] { part(status); });
            continue;
        }
        purged += *count;
    }
    return purged;
}

Status ChunkStore::flush() {
    Status result;
    for (const auto& disk : disks_) {
        if (disk->state() != DiskState::ok) continue;
        if (Status status = disk->flush_quietly(); !status.is_ok()) result = status;
    }
    return result;
}

Status ChunkStore::checkpoint_now() {
    Status result;
    for (const auto& disk : disks_) {
        if (disk->state() != DiskState::ok) continue;
        if (Status status = disk->checkpoint_now(); !status.is_ok()) result = status;
    }
    return result;
}

Status ChunkStore::rewrite_blocks(
    ChunkId chunk, const BlockData& blocks, const WriteName& as_of, uint64_t length, Done done) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    return disk->rewrite(chunk, blocks, as_of, length, std::move(done));
}

void ChunkStore::track_writes(ChunkId chunk, bool on) {
    auto disk = usable_disk_of(chunk);
    if (!disk.is_ok()) return;
    auto loaded = (*disk)->load(chunk);
    if (!loaded.is_ok()) return;
    (*loaded)->tracking = on;
    (*loaded)->touched.clear();
}

Result<std::vector<uint64_t>> ChunkStore::block_checksums(ChunkId chunk,
                                                          uint32_t first,
                                                          uint32_t count) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    return disk->block_checksums(chunk, first, count);
}

Result<Buffer> ChunkStore::read_block_raw(ChunkId chunk, uint32_t block) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    return disk->read_block_raw(chunk, block);
}

Result<BlockData> ChunkStore::read(ChunkId chunk,
                                   uint64_t offset,
                                   uint64_t length,
                                   ReadView view,
                                   std::vector<uint32_t>* bad_blocks) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    return disk->read(chunk, offset, length, view, bad_blocks);
}

Result<std::vector<Extent>> ChunkStore::extents(ChunkId chunk, uint64_t offset, uint64_t length) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    return disk->extents(chunk, offset, length);
}

Result<uint64_t> ChunkStore::allocated_bytes(ChunkId chunk) {
    LFS_ASSIGN(auto list, extents(chunk, 0, kChunkSize));
    uint64_t bytes = 0;
    for (const Extent& extent : list) bytes += extent.length;
    return bytes;
}

bool ChunkStore::has(ChunkId chunk) const { return find(chunk) != nullptr; }

Result<ChunkMeta> ChunkStore::meta(ChunkId chunk) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    LFS_ASSIGN(Chunk * loaded, disk->load(chunk));
    return loaded->meta;
}

Result<std::vector<InDoubt>> ChunkStore::in_doubt(ChunkId chunk) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    LFS_ASSIGN(Chunk * loaded, disk->load(chunk));
    return std::vector<InDoubt>(loaded->in_doubt.begin(), loaded->in_doubt.end());
}

Result<bool> ChunkStore::undecided(ChunkId chunk, uint64_t offset, uint64_t length) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    LFS_ASSIGN(Chunk * loaded, disk->load(chunk));
    return std::any_of(loaded->in_doubt.begin(), loaded->in_doubt.end(), [&](const InDoubt& item) {
        if (item.kind == RecordKind::truncate) return offset + length > item.length;
        return item.offset < offset + length && offset < item.offset + item.length;
    });
}

std::vector<ChunkId> ChunkStore::chunks_in_doubt() const {
    std::vector<ChunkId> out;
    for (const auto& disk : disks_) {
        if (disk->state() == DiskState::ok) disk->chunks_in_doubt(out);
    }
    std::sort(out.begin(), out.end());
    return out;
}

Result<std::vector<SessionWrites>> ChunkStore::session_writes(ChunkId chunk) {
    LFS_ASSIGN(Disk * disk, usable_disk_of(chunk));
    LFS_ASSIGN(Chunk * loaded, disk->load(chunk));
    return loaded->sessions;
}

void ChunkStore::forget_session(SessionId session) {
    for (const auto& disk : disks_) disk->forget_session(session);
}

std::vector<ChunkListing> ChunkStore::list(ChunkId after, uint32_t max) const {
    std::vector<ChunkListing> out;
    for (const auto& disk : disks_) {
        if (disk->state() == DiskState::ok) disk->list(after, max, out);
    }
    std::sort(out.begin(), out.end(), [](const ChunkListing& a, const ChunkListing& b) {
        return a.chunk < b.chunk;
    });
    if (out.size() > max) out.resize(max);
    return out;
}

uint64_t ChunkStore::chunk_count() const {
    uint64_t count = 0;
    for (const auto& disk : disks_)
        count += disk->state() == DiskState::ok ? disk->chunk_count() : 0;
    return count;
}

std::vector<TrashEntry> ChunkStore::trash(uint32_t max) const {
    std::vector<TrashEntry> out;
    for (const auto& disk : disks_) disk->trash(max - static_cast<uint32_t>(out.size()), out);
    return out;
}

std::vector<DiskInfo> ChunkStore::disks() const {
    std::vector<DiskInfo> out;
    for (const auto& disk : disks_) out.push_back(disk->info());
    return out;
}

DiskSpaceInfo ChunkStore::space() const {
    DiskSpaceInfo sum;
    for (const auto& disk : disks_) {
        const DiskSpaceInfo one = disk->space();
        sum.total_bytes += one.total_bytes;
        sum.free_bytes += one.free_bytes;
        sum.reserved_bytes += one.reserved_bytes;
        sum.used_bytes += one.used_bytes;
    }
    return sum;
}

bool ChunkStore::usable() const {
    return std::any_of(disks_.begin(), disks_.end(), [](const auto& disk) {
        return disk->state() == DiskState::ok;
    });
}

StoreStats ChunkStore::stats() const {
    StoreStats sum;
    for (const auto& disk : disks_) {
        const StoreStats one = disk->stats();
        sum.writes += one.writes;
        sum.write_bytes += one.write_bytes;
        sum.direct_bytes += one.direct_bytes;
        sum.reads += one.reads;
        sum.read_bytes += one.read_bytes;
        sum.log_batches += one.log_batches;
        sum.log_bytes += one.log_bytes;
        sum.log_syncs += one.log_syncs;
        sum.home_syncs += one.home_syncs;
        sum.sync_nanos += one.sync_nanos;
        sum.sync_nanos_max = std::max(sum.sync_nanos_max, one.sync_nanos_max);
        sum.checkpoints += one.checkpoints;
        sum.checkpoint_nanos_max = std::max(sum.checkpoint_nanos_max, one.checkpoint_nanos_max);
        sum.bad_blocks_seen += one.bad_blocks_seen;
        sum.scrubbed_blocks += one.scrubbed_blocks;
        sum.log_live_bytes += one.log_live_bytes;
        sum.cached_bytes += one.cached_bytes;
    }
    return sum;
}

std::vector<BadBlock> ChunkStore::scrub(uint32_t max_blocks) {
    std::vector<BadBlock> out;
    uint32_t looked_at = 0;
    for (size_t tried = 0; tried <= disks_.size() && looked_at < max_blocks; ++tried) {
        if (scrub_disk_ >= disks_.size()) break;
        bool round_done = disks_[scrub_disk_]->state() != DiskState::ok;
        if (!round_done) {
            auto found = disks_[scrub_disk_]->scrub(max_blocks, &looked_at, &round_done);
            out.insert(out.end(), found.begin(), found.end());
        }
        if (round_done) ++scrub_disk_;
    }
    if (scrub_disk_ >= disks_.size()) {
        scrub_disk_ = 0;
        ++scrub_rounds_;
    }
    return out;
}

uint64_t ChunkStore::scrub_rounds() const { return scrub_rounds_; }

std::vector<BadBlock> ChunkStore::quarantine() const {
    std::vector<BadBlock> out;
    for (const auto& disk : disks_) disk->quarantine(out);
    return out;
}

uint64_t ChunkStore::quarantine_dropped() const {
    uint64_t count = 0;
    for (const auto& disk : disks_) count += disk->quarantine_dropped();
    return count;
}

}  // namespace lumeofs::store
