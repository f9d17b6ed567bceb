// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/disk.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/checksum.h"
#include "common/base/log.h"

namespace lumeofs::store {
namespace {

constexpr Nanos kBackgroundPeriod = 20 * kMillisecond;
constexpr Nanos kIdleAfter = 200 * kMillisecond;
constexpr uint64_t kLoadsPerTrim = 1024;

HomeOptions home_options(const StoreOptions& options, const std::string& dir) {
    HomeOptions home;
    home.dir = dir;
    home.file_size = options.home_file_size;
    home.step = options.home_step;
    home.fill_ahead = options.fill_ahead;
    return home;
}

}  // namespace

uint64_t stored_sum(uint64_t plain, ChunkId chunk, uint32_t block) {
    const uint64_t sum = salted(plain, chunk, block);
    return sum == kHole ? 1 : sum;
}

Disk::Disk(FileSystem& fs,
           Loop& loop,
           const StoreOptions& options,
           uint32_t number,
           Identity identity,
           std::unique_ptr<FileLock> lock)
    : fs_(fs),
      loop_(loop),
      options_(options),
      number_(number),
      identity_(std::move(identity)),
      lock_(std::move(lock)),
      wal_(fs,
           identity_.dir + "/wal",
           identity_.uuid_low,
           options.wal_segment_size,
           options.wal_max_size),
      home_(fs,
            [&] {
                HomeOptions home = home_options(options, identity_.dir);
                home.keep_free = [this] { return reserve_bytes(); };
                return home;
            }()),
      index_(fs, identity_.dir + "/index", identity_.uuid_high, identity_.uuid_low),
      cache_(options.read_cache_bytes),
      checkpoint_timer_(loop),
      age_timer_(loop),
      background_timer_(loop) {}

Disk::~Disk() { *alive_ = false; }

Status Disk::failed(const Status& status) {
    if (status.is_ok() || status.code() == Errc::corrupt || status.code() == Errc::nospc)
        return status;
    take_out(DiskState::failed, status);
    return io_error();
}

Status Disk::fatal(const Status& status) {
    if (status.is_ok()) return status;
    take_out(DiskState::failed, status);
    return io_error();
}

void Disk::take_out(DiskState state, const Status& why) {
    if (state_ != DiskState::ok) return;
    state_ = state;
    reason_ = why.to_string();
    LFS_LOG(error, "disk {} ({}) is taken out: {}", number_, identity_.dir, reason_);
    checkpoint_.active = false;
    checkpoint_timer_.stop();
    age_timer_.stop();
    background_timer_.stop();
    answer(std::exchange(waiting_, {}), io_error(), true);
    pending_.clear();
    loop_.post([alive = alive_, this, why] {
        if (*alive && options_.on_disk_failed) options_.on_disk_failed(number_, why);
    });
}

// --- what is in memory ---------------------------------------------------------------------------

Result<std::unique_ptr<Chunk>> Disk::load_chunk(ChunkId id, const IndexPlace& at) {
    auto body = index_.read(at, IndexKind::meta, id.value);
    if (!body.is_ok()) return failed(body.status());
    return decode_meta(*body, id);
}

Result<Chunk*> Disk::load(ChunkId chunk) {
    if (state_ != DiskState::ok) return io_error();
    auto it = chunks_.find(chunk);
    if (it == chunks_.end()) return Status(Errc::not_found, "no chunk " + chunk.to_string());
    Entry& entry = it->second;
    if (!entry.chunk) {
        if (++loads_ % kLoadsPerTrim == 0) trim_cache();
        LFS_ASSIGN(entry.chunk, load_chunk(chunk, entry.meta_at));
        hot_order_.push_back({0, chunk});
    }
    return entry.chunk.get();
}

Result<Chunk*> Disk::load_trash(uint64_t number) {
    auto it = trash_.find(number);
    if (it == trash_.end()) return Status(Errc::not_found, "no such trash entry");
    Entry& entry = it->second.entry;
    if (!entry.chunk) {
        LFS_ASSIGN(entry.chunk, load_chunk(it->second.id, entry.meta_at));
        hot_order_.push_back({number, it->second.id});
    }
    return entry.chunk.get();
}

Entry* Disk::find_entry(const Key& key) {
    return const_cast<Entry*>(std::as_const(*this).find_entry(key));
}

const Entry* Disk::find_entry(const Key& key) const {
    if (key.first == 0) {
        auto it = chunks_.find(key.second);
        return it == chunks_.end() ? nullptr : &it->second;
    }
    auto it = trash_.find(key.first);
    return it == trash_.end() ? nullptr : &it->second.entry;
}

Chunk* Disk::find_hot(const Key& key) {
    Entry* entry = find_entry(key);
    return entry ? entry->chunk.get() : nullptr;
}

// Loads the pages of blocks [first, end).
Status Disk::ensure_pages(Chunk& chunk, uint32_t first, uint32_t end) {
    if (first >= end) return ok_status();
    const uint32_t last = (std::min(end, kChunkBlocks) - 1) / kBlocksPerPage;
    for (uint32_t number = first / kBlocksPerPage; number <= last; ++number) {
        if (chunk.pages[number] || chunk.page_at[number].bytes == 0) continue;
        auto body = index_.read(chunk.page_at[number], IndexKind::page, chunk.meta.chunk.value);
        if (!body.is_ok()) return failed(body.status());
        LFS_ASSIGN(chunk.pages[number], Page::decode(*body, number));
    }
    return ok_status();
}

void Disk::trim_cache() {
    uint64_t bytes = 0;
    for (const Key& key : hot_order_) {
        if (Chunk* chunk = find_hot(key)) bytes += chunk->memory();
    }
    for (size_t left = hot_order_.size(); left > 0 && bytes > options_.cache_bytes / 2; --left) {
        const Key key = hot_order_.front();
        hot_order_.pop_front();
        Entry* entry = find_entry(key);
        if (!entry || !entry->chunk) continue;
        if (!entry->chunk->evictable() || dirty_.count(key) != 0) {
            hot_order_.push_back(key);
            continue;
        }
        bytes -= std::min<uint64_t>(bytes, entry->chunk->memory());
        entry->epoch = entry->chunk->meta.epoch;
        entry->applied = entry->chunk->meta.applied;
        entry->length = entry->chunk->meta.length;
        entry->in_doubt = false;
        entry->chunk.reset();
    }
    while (image_cache_.size() * kBlock > options_.cache_bytes / 2) {
        const CachedImage item = image_cache_.front();
        image_cache_.pop_front();
        Chunk* chunk = find_hot(item.key);
        if (!chunk) continue;
        auto it = chunk->overlay.find(item.block);
        if (it != chunk->overlay.end() && it->second.batch == item.batch)
            it->second.image = Buffer();
    }
    stats_.cached_bytes = bytes + image_cache_.size() * kBlock;
}

void Disk::note_bad(ChunkId chunk, uint32_t block) {
    ++stats_.bad_blocks_seen;
    if (quarantine_.count({chunk, block}) != 0) return;
    LFS_LOG(warn, "disk {}: block {} of chunk {} does not verify", number_, block, chunk.value);
    if (quarantine_.size() >= options_.quarantine_max) {
        ++quarantine_dropped_;
    } else {
        quarantine_.insert({chunk, block});
    }
    loop_.post([alive = alive_, this, chunk, block] {
        if (*alive && options_.on_bad_block) options_.on_bad_block({chunk, block, number_});
    });
}

// --- lists ---------------------------------------------------------------------------------------

void Disk::list(ChunkId after, uint32_t max, std::vector<ChunkListing>& out) const {
    uint32_t count = 0;
    for (auto it = chunks_.upper_bound(after); it != chunks_.end() && count < max; ++it, ++count) {
        const Entry& entry = it->second;
        ChunkListing listing{it->first, entry.epoch, entry.applied, entry.length, number_};
        if (entry.chunk) {
            listing.epoch = entry.chunk->meta.epoch;
            listing.applied = entry.chunk->meta.applied;
            listing.length = entry.chunk->meta.length;
        }
        out.push_back(listing);
    }
}

void Disk::chunks_in_doubt(std::vector<ChunkId>& out) const {
    for (const auto& [id, entry] : chunks_) {
        if (entry.chunk ? !entry.chunk->in_doubt.empty() : entry.in_doubt) out.push_back(id);
    }
}

void Disk::forget_session(SessionId session) {
    // Chunks that are not in memory keep it: the session is fenced, so nobody asks.
    for (auto& [id, entry] : chunks_) {
        if (!entry.chunk) continue;
        const size_t dropped = std::erase_if(entry.chunk->sessions, [&](const SessionWrites& item) {
            return item.session == session;
        });
        if (dropped == 0) continue;
        entry.chunk->meta_dirty = true;
        mark_dirty(*entry.chunk);
    }
}

void Disk::trash(uint32_t max, std::vector<TrashEntry>& out) const {
    uint32_t count = 0;
    for (auto it = trash_.begin(); it != trash_.end() && count < max; ++it, ++count) {
        out.push_back({it->second.id,
                       it->first,
                       it->second.removed_at,
                       it->second.used_units * kUnitBytes,
                       number_});
    }
}

void Disk::quarantine(std::vector<BadBlock>& out) const {
    for (const auto& [chunk, block] : quarantine_) out.push_back({chunk, block, number_});
}

// --- space ---------------------------------------------------------------------------------------

// What growing must leave to the file system: the configured reserve and the log's right to grow.
uint64_t Disk::reserve_bytes() const {
    auto space = fs_.space(identity_.dir);
    const uint64_t total = space.is_ok() ? space->total_bytes : 0;
    const uint64_t share = total / 100 * options_.reserve_percent;
    const uint64_t log =
        options_.wal_max_size - std::min(options_.wal_max_size, wal_.allocated_bytes());
    return std::max(share, options_.reserve_min_bytes) + log;
}

DiskSpaceInfo Disk::space() const {
    DiskSpaceInfo info;
    auto space = fs_.space(identity_.dir);
    if (!space.is_ok() || state_ != DiskState::ok) return info;
    info.total_bytes = space->total_bytes;
    info.reserved_bytes = reserve_bytes();
    const uint64_t room =
        space->free_bytes > info.reserved_bytes ? space->free_bytes - info.reserved_bytes : 0;
    info.free_bytes = room + home_.free_units() * kUnitBytes;
    info.used_bytes = home_.used_units() * kUnitBytes;
    return info;
}

DiskInfo Disk::info() const {
    DiskInfo info;
    info.dir = identity_.dir;
    info.uuid = identity_.uuid_text();
    info.state = state_;
    info.reason = reason_;
    info.space = space();
    info.chunks = chunks_.size();
    return info;
}

StoreStats Disk::stats() const {
    stats_.log_live_bytes = wal_.live_bytes();
    stats_.home_syncs = home_.syncs();
    return stats_;
}

// --- trash ---------------------------------------------------------------------------------------

Status Disk::remove(ChunkId id, Done done) {
    if (state_ != DiskState::ok) return io_error();
    LFS_TRY(make_log_room(1024, true));
    LFS_ASSIGN(Chunk * chunk, load(id));
    Plan plan;
    plan.chunk = chunk;
    plan.record.kind = LogKind::remove;
    plan.record.change.chunk = id;
    plan.record.aux = next_trash_++;
    plan.record.wall = loop_.wall_now();
    append_record(plan.record, {}, nullptr);
    move_to_trash(id, plan.record.aux, plan.record.wall);
    waiting_.push_back(std::move(done));
    schedule_flush();
    return ok_status();
}

Result<uint32_t> Disk::purge_trash(Nanos before, uint32_t max, Done done) {
    if (state_ != DiskState::ok) return io_error();
    std::vector<uint64_t> numbers;
    for (const auto& [number, item] : trash_) {
        if (numbers.size() >= max) break;
        if (item.removed_at < before) numbers.push_back(number);
    }
    if (numbers.empty()) {
        answer({std::move(done)}, ok_status(), true);
        return uint32_t{0};
    }
    // Batches that wait may hold images of these chunks.
    LFS_TRY(flush_quietly());
    LFS_TRY(make_log_room(1024 * numbers.size(), true));
    for (uint64_t number : numbers) {
        LogRecord record;
        record.kind = LogKind::purge;
        record.change.chunk = trash_.at(number).id;
        record.aux = number;
        append_record(record, {}, nullptr);
        LFS_TRY(drop_trash(number, false));
    }
    waiting_.push_back(std::move(done));
    schedule_flush();
    return static_cast<uint32_t>(numbers.size());
}

// --- in idle time --------------------------------------------------------------------------------

void Disk::arm_background() {
    if (!background_timer_.running()) {
        background_timer_.start(kBackgroundPeriod, [this] { background(); });
    }
}

// Log segments and written home space are made ready while nobody waits.
void Disk::background() {
    if (state_ != DiskState::ok) return;
    if (loop_.now() - last_write_ < kIdleAfter) return arm_background();
    if (Status status = wal_.prepare(); !status.is_ok()) {
        if (status.code() != Errc::nospc) ignore(failed(status), "taken out");
        return;
    }
    auto more = home_.fill_step();
    if (!more.is_ok()) {
        if (more.code() != Errc::nospc) ignore(failed(more.status()), "taken out");
        return;
    }
    if (*more) arm_background();
}

}  // namespace lumeofs::store
