// SPDX-License-Identifier: Apache-2.0
// Checkpoint: images go home in slices between other work, then, in one piece, home is synced, the
// index written and synced, the log cut. Never on the way of an answer, unless the log is full.
//
// A slice starts with everything submitted being durable, so that nothing that might still vanish
// is written home or named by the index. Images newer than the checkpoint's start are left in the
// log: a block that is written all the time is carried home once per checkpoint, not once per
// write.
#include <algorithm>

#include "chunkd/store/disk.h"
#include "common/base/assert.h"
#include "common/base/checksum.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"

namespace lumeofs::store {
namespace {

// A slice ends after so much time, or, where time stands still (simulation), after so many pieces.
constexpr Nanos kSliceTime = 3 * kMillisecond;
constexpr uint32_t kSlicePieces = 8;
constexpr size_t kPieceBlocks = 256;
constexpr uint64_t kMaxRun = 256;

}  // namespace

void Disk::start_checkpoint() {
    if (checkpoint_.active || state_ != DiskState::ok || loop_.now() < checkpoint_not_before_)
        return;
    const uint64_t wanted =
        options_.checkpoint_bytes != 0 ? options_.checkpoint_bytes : options_.wal_max_size / 4;
    if (wal_.live_bytes() < wanted) {
        if (!age_timer_.running() && options_.checkpoint_age > 0) {
            age_timer_.start(options_.checkpoint_age, [this] { start_slices(); });
        }
        return;
    }
    start_slices();
}

void Disk::start_slices() {
    if (checkpoint_.active || state_ != DiskState::ok) return;
    checkpoint_ = {};
    checkpoint_.active = true;
    checkpoint_timer_.start(0, [this] { checkpoint_slice(); });
}

void Disk::checkpoint_slice() {
    if (!checkpoint_.active || state_ != DiskState::ok) return;
    if (!flush_quietly().is_ok()) return;
    const Nanos before = loop_.now();
    if (checkpoint_.from.number == 0 && !checkpoint_failed(begin_carrying()).is_ok()) return;
    bool done = false;
    for (uint32_t pieces = 0; pieces < kSlicePieces && !done && loop_.now() - before < kSliceTime;
         ++pieces) {
        if (!checkpoint_failed(carry_some(kPieceBlocks, &done)).is_ok()) return;
    }
    if (done) {
        if (!checkpoint_failed(finish_checkpoint()).is_ok()) return;
    } else {
        checkpoint_timer_.start(0, [this] { checkpoint_slice(); });
    }
    stats_.checkpoint_nanos_max =
        std::max(stats_.checkpoint_nanos_max, static_cast<uint64_t>(loop_.now() - before));
}

// From here on the batches so far are known to be synced, by a durable batch that says so: replay
// will not look at the home blocks that they wrote directly, which carrying may overwrite. (Without
// it: 1 a batch writes block 5 straight home and, in a second record, an image of it; 2 the image
// is carried home; 3 power cut; 4 replay finds that the direct data does not match and takes an
// acknowledged batch for a torn one.)
Status Disk::vouch_for_log() {
    if (planted_bug("store.log_not_vouched_for")) return ok_status();  // [43]
    LFS_TRY(wal_.append({}, 0, {}));
    return wal_.sync();
}

Status Disk::begin_carrying() {
    checkpoint_.from = wal_.head();
    checkpoint_.keys.assign(dirty_.begin(), dirty_.end());
    return vouch_for_log();
}

// No space for the index is no reason to stop: what is carried home stays there, the log is not
// cut, and the next try comes later.
Status Disk::checkpoint_failed(const Status& status) {
    if (status.is_ok()) return status;
    checkpoint_.active = false;
    if (status.code() == Errc::nospc) {
        checkpoint_not_before_ = loop_.now() + kSecond;
        LFS_LOG(warn, "disk {}: no space for a checkpoint: {}", number_, status.to_string());
        return status;
    }
    return fatal(status);
}

Status Disk::checkpoint_now() {
    if (state_ != DiskState::ok) return io_error();
    LFS_TRY(flush_quietly());
    checkpoint_timer_.stop();
    checkpoint_ = {};  // what a running one has carried home stays there
    LFS_TRY(checkpoint_failed(begin_carrying()));
    for (bool done = false; !done;) LFS_TRY(checkpoint_failed(carry_some(4 * kPieceBlocks, &done)));
    return checkpoint_failed(finish_checkpoint());
}

// Takes up to about `most` blocks home, in the order of their places there, so that what was
// written to many small chunks in a row is one write again. *done: there are no more.
Status Disk::carry_some(size_t most, bool* done) {
    std::vector<CarryItem> items;
    while (checkpoint_.next_key < checkpoint_.keys.size() && items.size() < most) {
        Chunk* chunk = find_hot(checkpoint_.keys[checkpoint_.next_key]);
        if (chunk)
            gather(*chunk, checkpoint_.from.number - 1, &checkpoint_.next_block, most, items);
        if (!chunk || checkpoint_.next_block >= kChunkBlocks) {
            ++checkpoint_.next_key;
            checkpoint_.next_block = 0;
        }
    }
    *done = checkpoint_.next_key >= checkpoint_.keys.size();
    return carry(items);
}

// Adds the images of batches up to `upto` from *next_block on, whole units at a time, until there
// are `most` items; then *next_block is where to go on, kChunkBlocks at the end. Blocks of these
// units that hold nothing at home become gaps: writing zeros there makes one run of two.
void Disk::gather(const Chunk& chunk,
                  uint64_t upto,
                  uint32_t* next_block,
                  size_t most,
                  std::vector<CarryItem>& items) {
    auto it = chunk.overlay.lower_bound(*next_block);
    while (items.size() < most) {
        while (it != chunk.overlay.end() && it->second.batch > upto) ++it;
        if (it == chunk.overlay.end()) {
            *next_block = kChunkBlocks;
            return;
        }
        const uint32_t unit = it->first / kUnitBlocks;
        const uint32_t home_unit = chunk.unit_of(unit);
        LFS_ASSERT(home_unit != kNoUnit);  // reserved when the image was admitted
        for (uint32_t i = 0; i < kUnitBlocks; ++i) {
            const uint32_t block = unit * kUnitBlocks + i;
            auto image = chunk.overlay.find(block);
            const bool carried = image != chunk.overlay.end() && image->second.batch <= upto;
            if (!carried && chunk.home_sum(block) != kHole) continue;
            items.push_back({uint64_t{home_unit} * kUnitBlocks + i,
                             chunk.trash,
                             chunk.meta.chunk,
                             block,
                             carried});
        }
        *next_block = (unit + 1) * kUnitBlocks;
        it = chunk.overlay.lower_bound(*next_block);
    }
}

Status Disk::carry(std::vector<CarryItem>& items) {
    std::sort(items.begin(), items.end(), [](const CarryItem& a, const CarryItem& b) {
        return a.home_block < b.home_block;
    });
    for (size_t first = 0; first < items.size();) {
        const uint64_t home_block = items[first].home_block;
        const size_t room = std::min<uint64_t>(kMaxRun, home_.contiguous(home_block));
        size_t end = first + 1;
        while (end < items.size() && end - first < room &&
               items[end].home_block == home_block + (end - first)) {
            ++end;
        }
        LFS_TRY(carry_run(items.data() + first, end - first));
        first = end;
    }
    return ok_status();
}

Status Disk::carry_run(const CarryItem* items, size_t count) {
    Buffer data = Buffer::allocate(count * kBlock);
    std::memset(data.mutable_data(), 0, data.size());
    for (size_t i = 0; i < count; ++i) {
        Chunk& chunk = *find_hot({items[i].trash, items[i].chunk});
        LFS_TRY(keep_undo(chunk, items[i].block, items[i].home_block));
        if (!items[i].carried) continue;
        const Version& version = chunk.overlay.at(items[i].block);
        const MutableView into = data.mutable_view().subspan(i * kBlock, kBlock);
        Status status = load_image(version, into);
        if (!status.is_ok() && status.code() != Errc::corrupt) return status;
        // An image that went bad is carried home as it is: its checksum goes with it, so that every
        // reader is told, and another member can repair it.
        if (stored_sum(checksum(into), items[i].chunk, items[i].block) != version.sum) {
            note_bad(items[i].chunk, items[i].block);
        }
    }
    LFS_TRY(write_home(items[0].home_block, data));
    cache_.insert(items[0].home_block, data);
    for (size_t i = 0; i < count; ++i) {
        if (!items[i].carried) continue;
        Chunk& chunk = *find_hot({items[i].trash, items[i].chunk});
        auto it = chunk.overlay.find(items[i].block);
        chunk.set_home_sum(items[i].block, it->second.sum);
        chunk.overlay.erase(it);
    }
    return ok_status();
}

// Before a home block is overwritten: who may still ask for what it holds gets it into memory.
Status Disk::keep_undo(Chunk& chunk, uint32_t block, uint64_t home_block) {
    auto it = chunk.undo.find(block);
    if (it == chunk.undo.end()) return ok_status();
    for (Undo& undo : it->second) {
        Version& version = undo.before;
        if (version.kind != Version::Kind::home || version.home_block != home_block) continue;
        Buffer image = Buffer::allocate(kBlock);
        LFS_TRY(home_.read(home_block, image.mutable_view()));
        const bool good =
            stored_sum(checksum(image.view()), chunk.meta.chunk, block) == version.sum;
        version.kind = good ? Version::Kind::image : Version::Kind::lost;
        version.image = image;
        version.batch = 0;
    }
    return ok_status();
}

// The same for images in the part of the log that is about to be cut.
Status Disk::keep_undo_images(uint64_t upto) {
    for (const Key& key : hot_order_) {
        Chunk* chunk = find_hot(key);
        if (!chunk) continue;
        for (auto& [block, list] : chunk->undo) {
            for (Undo& undo : list) {
                Version& version = undo.before;
                if (version.kind != Version::Kind::image || !version.image.empty() ||
                    version.batch > upto) {
                    continue;
                }
                Buffer image = Buffer::allocate(kBlock);
                LFS_TRY(load_image(version, image.mutable_view()));
                version.image = image;
            }
        }
    }
    return ok_status();
}

Status Disk::finish_checkpoint() {
    LFS_TRY(flush_quietly());
    const uint64_t upto = checkpoint_.from.number - 1;
    // What is in the trash is never redone, so nothing of it may stay in the log only.
    bool vouched = false;
    for (auto& [number, item] : trash_) {
        if (!item.entry.chunk || item.entry.chunk->overlay.empty()) continue;
        if (!vouched) LFS_TRY(vouch_for_log());
        vouched = true;
        std::vector<CarryItem> items;
        uint32_t next_block = 0;
        gather(*item.entry.chunk, UINT64_MAX, &next_block, SIZE_MAX, items);
        LFS_TRY(carry(items));
    }
    if (!planted_bug("store.index_before_home")) LFS_TRY(home_.sync_all());  // [15]
    LFS_TRY(keep_undo_images(upto));
    LFS_TRY(clean_index());
    LFS_TRY(write_index());
    // From here on the index in force names nothing older than this moment.
    wal_.cut(upto);
    home_.release_limbo([this](uint32_t unit) {
        auto it = undecided_units_.find(unit);
        if (it == undecided_units_.end()) return false;
        const Chunk* chunk = find_hot({0, it->second.first});
        if (chunk && chunk->meta.commit_point < it->second.second) return true;
        undecided_units_.erase(it);
        return false;
    });
    checkpoint_.active = false;
    while (!image_cache_.empty() && image_cache_.front().batch <= upto) image_cache_.pop_front();
    age_timer_.stop();
    ++stats_.checkpoints;
    trim_cache();
    return ok_status();
}

Status Disk::write_chunk_index(Chunk& chunk, Entry& entry) {
    const uint64_t id = chunk.meta.chunk.value;
    for (uint32_t number = 0; number < kPagesPerChunk; ++number) {
        if ((chunk.dirty_pages >> number & 1) == 0) continue;
        index_.drop(chunk.page_at[number]);
        const Page& page = *chunk.pages[number];
        const bool empty = page.sums().empty() && page.units().empty();
        chunk.page_at[number] =
            empty ? IndexPlace{}
                  : index_.append(IndexKind::page, id, page.encode(number, chunk.trash));
        if (empty) chunk.pages[number].reset();
    }
    chunk.dirty_pages = 0;
    index_.drop(entry.meta_at);
    entry.meta_at = index_.append(IndexKind::meta, id, encode_meta(chunk));
    chunk.meta_dirty = false;
    return ok_status();
}

// At most; so that a full disk is met before anything of the index in memory changes.
uint64_t Disk::index_bytes_needed() const {
    constexpr uint64_t kAllocBytes = kUnitsPerAllocPage / 4 + kIndexHeaderBytes;
    constexpr uint64_t kMetaBytes = 2048;
    uint64_t bytes = 64 * 1024 + (home_.alloc_pages() + 1) * kAllocBytes + gone_.size() * 64;
    for (const Key& key : dirty_) {
        const Entry* entry = find_entry(key);
        if (!entry || !entry->chunk) continue;
        const Chunk& chunk = *entry->chunk;
        bytes += kMetaBytes + chunk.in_doubt.size() * sizeof(InDoubt);
        for (const SessionWrites& writes : chunk.sessions) bytes += 32 + writes.done.size() * 8;
        for (uint32_t number = 0; number < kPagesPerChunk; ++number) {
            if ((chunk.dirty_pages >> number & 1) != 0) bytes += chunk.pages[number]->memory() + 64;
        }
    }
    return bytes;
}

Status Disk::write_index() {
    const uint64_t directory = (chunks_.size() + trash_.size()) * 96 + 4096;
    const bool new_file = index_.wants_new_file(directory);
    LFS_TRY(index_.begin(new_file, index_bytes_needed() + (new_file ? directory : 0)));
    // The trash first: a start that reads "chunk 7 is in the trash" takes 7 out of the live ones,
    // and a second life of 7 must come behind that.
    std::vector<Key> keys(dirty_.begin(), dirty_.end());
    std::stable_partition(keys.begin(), keys.end(), [](const Key& key) { return key.first != 0; });
    std::set<Key> still_dirty;
    for (const Key& key : keys) {
        Entry* entry = find_entry(key);
        LFS_ASSERT(entry && entry->chunk);
        LFS_TRY(write_chunk_index(*entry->chunk, *entry));
        if (!entry->chunk->overlay.empty()) still_dirty.insert(key);
    }
    for (const Gone& gone : gone_) {
        for (const IndexPlace& place : gone.places) index_.drop(place);
        ByteWriter body;
        body.put<uint64_t>(gone.key.first);
        index_.append(IndexKind::gone, gone.key.second.value, body.out());
    }
    for (uint32_t page = 0; page < home_.alloc_pages(); ++page) {
        if (!home_.take_page_dirty(page) && !new_file) continue;
        index_.append(IndexKind::alloc, page, home_.encode_page(page));
    }
    if (new_file) write_directory();
    IndexCommit commit;
    commit.replay_from = checkpoint_.from;
    commit.next_trash = next_trash_;
    LFS_TRY(fatal(index_.commit(commit)));
    gone_.clear();
    dirty_ = std::move(still_dirty);
    return ok_status();
}

// Body: u32 entries, then per entry u64 chunk, u64 trash number, i64 removed at, u64 used units,
// place of its meta record (u32 file, offset, bytes), u32 in doubt (0 or 1), u64 epoch, u64 * 3
// applied, u64 length. What is not in the directory does not exist.
void Disk::write_directory() {
    ByteWriter body;
    uint32_t count = 0;
    auto close = [&] {
        body.patch<uint32_t>(0, count);
        index_.append(IndexKind::directory, 0, body.out());
        body = ByteWriter();
        body.put<uint32_t>(0);
        count = 0;
    };
    auto add = [&](const Key& key, const Entry& entry, Nanos removed_at, uint64_t used_units) {
        if (entry.meta_at.bytes == 0) return;
        const ChunkMeta* meta = entry.chunk ? &entry.chunk->meta : nullptr;
        body.put<uint64_t>(key.second.value);
        body.put<uint64_t>(key.first);
        body.put<int64_t>(removed_at);
        body.put<uint64_t>(used_units);
        body.put<uint32_t>(entry.meta_at.file);
        body.put<uint32_t>(entry.meta_at.offset);
        body.put<uint32_t>(entry.meta_at.bytes);
        body.put<uint32_t>(entry.chunk ? !entry.chunk->in_doubt.empty() : entry.in_doubt);
        const WriteName& applied = meta ? meta->applied : entry.applied;
        body.put<uint64_t>((meta ? meta->epoch : entry.epoch).value);
        body.put<uint64_t>(applied.epoch.value);
        body.put<uint64_t>(applied.incarnation.value);
        body.put<uint64_t>(applied.sequence);
        body.put<uint64_t>(meta ? meta->length : entry.length);
        if (++count == kDirectoryEntriesPerRecord) close();
    };
    body.put<uint32_t>(0);
    for (const auto& [id, entry] : chunks_) add({0, id}, entry, 0, 0);
    for (const auto& [number, item] : trash_) {
        add({number, item.id}, item.entry, item.removed_at, item.used_units);
    }
    if (count > 0) close();
}

// Marks what is in force in the emptiest index file as changed, so that this checkpoint writes it
// elsewhere and the file can go.
Status Disk::clean_index() {
    uint32_t file = 0;
    if (!index_.victim(&file)) return ok_status();
    return index_.visit_file(file, [&](const IndexLog::Record& record) -> Status {
        const ChunkId id{record.key};
        std::vector<Key> owners{{0, id}};
        for (const auto& [number, item] : trash_) {
            if (item.id == id) owners.push_back({number, id});
        }
        for (const Key& key : owners) {
            Entry* entry = find_entry(key);
            if (!entry) continue;
            if (record.kind == IndexKind::meta && entry->meta_at != record.place) continue;
            auto loaded = key.first == 0 ? load(id) : load_trash(key.first);
            if (loaded.code() == Errc::corrupt) continue;  // stays where it is, for a human
            if (!loaded.is_ok()) return loaded.status();
            Chunk& chunk = **loaded;
            bool in_force = record.kind == IndexKind::meta;
            for (uint32_t number = 0; number < kPagesPerChunk && !in_force; ++number) {
                if (chunk.page_at[number] != record.place) continue;
                const Status status =
                    ensure_pages(chunk, number * kBlocksPerPage, (number + 1) * kBlocksPerPage);
                if (status.code() == Errc::corrupt) break;
                LFS_TRY(status);
                chunk.dirty_pages |= uint32_t{1} << number;
                in_force = true;
            }
            if (!in_force) continue;
            chunk.meta_dirty = true;
            mark_dirty(chunk);
        }
        return ok_status();
    });
}

}  // namespace lumeofs::store
