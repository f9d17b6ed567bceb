// SPDX-License-Identifier: Apache-2.0
// Disk: one data directory of a chunk store: its log, home space, index and the chunks on it.
//
// A change is planned (checked, old blocks read and verified, home space taken), its large fresh
// parts are written home, its record and images join the pending batch, and the state in memory
// changes at once: all inside write(). flush() at the end of the loop's batch makes it durable.
// Redo at start applies the same records by the same apply(). Code by file:
//   disk.cc             loading, lists, space, poisoning, trash
//   disk_write.cc       planning and admission        disk_apply.cc     a record's effect
//   disk_flush.cc       group commit, idle work       disk_read.cc      reads, extents, scrub
//   disk_checkpoint.cc  images home, index, log cut   disk_recovery.cc  start
//
// Order that the crash argument rests on:
//  1. Direct writes go only to units that no index on disk, no record in the log and no undecided
//     write names: units just taken, or fresh out of limbo.
//  2. A log batch is written after the direct data that it names; one sync of the log covers both,
//     or the home files are synced first (home.h).
//  3. A checkpoint carries home only images whose batch was synced, syncs home, then writes the
//     index, which names nothing that is not durable; then the log is cut and limbo let go.
//  4. Redo starts at the batch where the checkpoint *began*; the index may be newer than that. This
//     is harmless: a record sets what it touches outright, so doing all of them again in order ends
//     in the same state.
// single-thread: the chunkd loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "chunkd/store/block_cache.h"
#include "chunkd/store/chunk.h"
#include "chunkd/store/chunk_store.h"
#include "chunkd/store/home.h"
#include "chunkd/store/identity.h"
#include "chunkd/store/index_log.h"
#include "chunkd/store/log_record.h"
#include "chunkd/store/wal.h"

namespace lumeofs::store {

class Disk {
public:
    Disk(FileSystem& fs,
         Loop& loop,
         const StoreOptions& options,
         uint32_t number,
         Identity identity,
         std::unique_ptr<FileLock> lock);
    ~Disk();
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    Status recover();

    Status write(WriteRecord record, Payload payload, Done done, std::vector<uint32_t>* bad);
    Status rewrite(
        ChunkId chunk, const BlockData& blocks, const WriteName& as_of, uint64_t length, Done done);
    Status remove(ChunkId chunk, Done done);
    Result<uint32_t> purge_trash(Nanos before, uint32_t max, Done done);
    void note_commit(ChunkId chunk, const WriteName& point);
    Status flush();
    Status flush_quietly();  // like flush(), but the callbacks are posted
    Status checkpoint_now();

    Result<BlockData> read(
        ChunkId chunk, uint64_t offset, uint64_t length, ReadView view, std::vector<uint32_t>* bad);
    Result<std::vector<uint64_t>> block_checksums(ChunkId chunk, uint32_t first, uint32_t count);
    Result<Buffer> read_block_raw(ChunkId chunk, uint32_t block);
    Result<std::vector<Extent>> extents(ChunkId chunk, uint64_t offset, uint64_t length);
    std::vector<BadBlock> scrub(uint32_t max_blocks, uint32_t* looked_at, bool* round_done);

    bool has(ChunkId chunk) const { return chunks_.count(chunk) != 0; }
    Result<Chunk*> load(ChunkId chunk);
    void list(ChunkId after, uint32_t max, std::vector<ChunkListing>& out) const;
    void chunks_in_doubt(std::vector<ChunkId>& out) const;
    void forget_session(SessionId session);
    uint64_t chunk_count() const { return chunks_.size(); }
    void trash(uint32_t max, std::vector<TrashEntry>& out) const;
    void quarantine(std::vector<BadBlock>& out) const;
    uint64_t quarantine_dropped() const { return quarantine_dropped_; }

    DiskState state() const { return state_; }
    DiskInfo info() const;
    DiskSpaceInfo space() const;
    StoreStats stats() const;
    Status io_error() const {
        return Status(Errc::io, identity_.dir + " was taken out: " + reason_);
    }
    void take_out(DiskState state, const Status& why);

private:
    using Key = std::pair<uint64_t, ChunkId>;  // trash number (0 = live), chunk

    struct TrashItem {
        ChunkId id;
        Nanos removed_at = 0;
        uint64_t used_units = 0;
        Entry entry;
    };
    struct DirectWrite {
        uint64_t home_block = 0;
        Buffer data;
    };
    struct Plan {
        Chunk* chunk = nullptr;
        LogRecord record;
        std::vector<Buffer> images;
        std::vector<DirectWrite> direct;
        std::map<uint32_t, uint32_t> units;  // chunk unit -> home unit taken by this plan
    };
    struct ImageRef {
        Chunk* chunk = nullptr;
        uint32_t block = 0;
    };
    struct Pending {  // one log batch to be
        uint64_t number = 0;
        ByteWriter records;
        uint32_t record_count = 0;
        std::vector<Buffer> images;
        std::vector<ImageRef> refs;  // one per image block
    };
    struct CachedImage {
        Key key;
        uint32_t block = 0;
        uint64_t batch = 0;
    };
    // Where the images of a record come from while it is applied.
    struct ImageCursor {
        const std::vector<Buffer>* buffers = nullptr;  // live
        size_t buffer = 0;
        size_t offset = 0;
        WalPlace place;  // redo
        uint64_t batch = 0;
        Version next(uint64_t sum);
    };
    struct CarryItem {  // a block on its way home
        uint64_t home_block = 0;
        uint64_t trash = 0;
        ChunkId chunk;
        uint32_t block = 0;
        bool carried = false;  // else a gap: nothing is there, zeros are written
    };
    struct Checkpoint {
        bool active = false;
        WalHead from{0, 0, {}};  // redo starts here once it is done; number 0: not yet begun
        std::vector<Key> keys;
        size_t next_key = 0;
        uint32_t next_block = 0;
    };

    // disk.cc
    Result<std::unique_ptr<Chunk>> load_chunk(ChunkId id, const IndexPlace& at);
    Result<Chunk*> load_trash(uint64_t number);
    Chunk* find_hot(const Key& key);
    Entry* find_entry(const Key& key);
    const Entry* find_entry(const Key& key) const;
    Status ensure_pages(Chunk& chunk, uint32_t first, uint32_t end);
    Status failed(const Status& status);  // an I/O error takes the disk out; others pass through
    Status fatal(const Status& status);   // any error takes the disk out
    void mark_dirty(Chunk& chunk) { dirty_.insert({chunk.trash, chunk.meta.chunk}); }
    void trim_cache();
    void note_bad(ChunkId chunk, uint32_t block);
    uint64_t reserve_bytes() const;
    void arm_background();
    void background();

    // disk_write.cc
    Status admit(const Chunk& chunk, const WriteRecord& record) const;
    Status check_payload(const WriteRecord& record, Payload& payload) const;
    Status plan_data(Plan& plan,
                     const WriteRecord& record,
                     Payload& payload,
                     std::vector<uint32_t>* bad);
    Status plan_zero(Plan& plan, const WriteRecord& record, std::vector<uint32_t>* bad);
    Status plan_truncate(Plan& plan, const WriteRecord& record, std::vector<uint32_t>* bad);
    Status plan_partial(Plan& plan,
                        uint32_t block,
                        uint32_t from,
                        View bytes,
                        uint32_t zeros,
                        std::vector<uint32_t>* bad);
    Status plan_whole(
        Plan& plan, uint32_t first, const Buffer& data, const uint64_t* plain, bool direct_allowed);
    Status plan_images(
        Plan& plan, uint32_t first, uint32_t count, const Buffer& data, const uint64_t* plain);
    Status plan_direct(
        Plan& plan, uint32_t first, uint32_t count, const Buffer& data, const uint64_t* plain);
    Status take_units(Plan& plan, const std::vector<uint32_t>& chunk_units, bool direct);
    bool direct_unit(const Plan& plan, uint32_t chunk_unit) const;
    void drop_plan(Plan& plan);
    Status execute(Plan& plan, Done done);
    Status make_log_room(uint64_t bytes, bool may_use_reserve);

    // disk_apply.cc
    void apply_change(Chunk& chunk, const LogRecord& record, ImageCursor& images, bool redo);
    void apply_runs(Chunk& chunk, const LogRecord& record, ImageCursor& images, bool redo);
    void apply_meta(Chunk& chunk, const LogRecord& record);
    void free_empty_units(Chunk& chunk, uint32_t first, uint32_t count, const WriteName& by);
    Chunk* create_chunk(ChunkId id, Epoch epoch);
    void move_to_trash(ChunkId id, uint64_t number, Nanos wall);
    Status drop_trash(uint64_t number, bool redo);

    // disk_flush.cc
    Pending& pending_batch(uint64_t record_bytes, uint64_t images);
    void append_record(const LogRecord& record, const std::vector<Buffer>& images, Chunk* chunk);
    void schedule_flush();
    Status write_batches();
    void answer(std::vector<Done> waiting, const Status& status, bool post);
    void note_batch_written(Pending& batch, WalPlace first_image);

    // disk_read.cc
    Status read_blocks(Chunk& chunk,
                       uint32_t first,
                       uint32_t count,
                       ReadView view,
                       MutableView out,
                       std::vector<uint64_t>* plain,
                       std::vector<bool>* hole,
                       std::vector<uint32_t>* bad);
    Status load_image(const Version& version, MutableView out);
    bool take_cached(const Chunk& chunk, uint32_t block, const Version& version, MutableView out);
    Status write_home(uint64_t home_block, const Buffer& data);
    Status scrub_chunk(Chunk& chunk, uint32_t max, uint32_t* looked_at, std::vector<BadBlock>& out);

    // disk_checkpoint.cc
    void start_checkpoint();
    void start_slices();
    Status begin_carrying();
    Status checkpoint_failed(const Status& status);
    Status vouch_for_log();
    void checkpoint_slice();
    Status carry_some(size_t most, bool* done);
    void gather(const Chunk& chunk,
                uint64_t upto,
                uint32_t* next_block,
                size_t most,
                std::vector<CarryItem>& items);
    Status carry(std::vector<CarryItem>& items);
    Status carry_run(const CarryItem* items, size_t count);
    Status keep_undo(Chunk& chunk, uint32_t block, uint64_t home_block);
    Status keep_undo_images(uint64_t upto);
    Status finish_checkpoint();
    Status write_index();
    uint64_t index_bytes_needed() const;
    Status write_chunk_index(Chunk& chunk, Entry& entry);
    void write_directory();
    Status clean_index();

    // disk_recovery.cc
    Status visit_index(const IndexLog::Record& record);
    Status visit_meta(const IndexLog::Record& record);
    Status visit_directory(View body);
    Status start_fresh();
    Status replay(const IndexCommit& commit);
    Result<bool> tail_is_whole(const WalBatch& batch, const std::vector<LogRecord>& records);
    Status redo(const WalBatch& batch, const std::vector<LogRecord>& records);
    Status redo_record(const LogRecord& record, ImageCursor& images);
    Status redo_touch(Chunk& chunk);
    Status settle_units();

    FileSystem& fs_;
    Loop& loop_;
    const StoreOptions& options_;
    const uint32_t number_;
    Identity identity_;
    std::unique_ptr<FileLock> lock_;
    DiskState state_ = DiskState::ok;
    std::string reason_;

    Wal wal_;
    Home home_;
    IndexLog index_;
    BlockCache cache_;

    std::map<ChunkId, Entry> chunks_;
    std::map<uint64_t, TrashItem> trash_;
    uint64_t next_trash_ = 1;
    std::set<Key> dirty_;        // differ from the index
    std::deque<Key> hot_order_;  // in memory, in order of loading
    uint64_t loads_ = 0;
    struct Gone {
        Key key;
        std::vector<IndexPlace> places;
    };
    std::vector<Gone> gone_;  // purged, still in the index
    std::map<uint32_t, std::pair<ChunkId, WriteName>> undecided_units_;  // limbo that undo names

    std::vector<Pending> pending_;
    std::vector<Done> waiting_;
    std::set<ChunkId> noted_;  // commit points to be made durable with the next batch
    bool flush_scheduled_ = false;
    std::deque<CachedImage> image_cache_;
    Nanos checkpoint_not_before_ = 0;  // after one that found no space
    Nanos last_write_ = 0;

    Checkpoint checkpoint_;
    std::vector<uint32_t> redo_before_;  // home units that touched chunks had in the index
    std::set<Key> redo_touched_;

    std::set<std::pair<ChunkId, uint32_t>> quarantine_;
    uint64_t quarantine_dropped_ = 0;
    Key scrub_at_{0, ChunkId{0}};
    uint32_t scrub_block_ = 0;
    bool scrubbing_ = false;  // reads go to the disk itself

    mutable StoreStats stats_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    Timer checkpoint_timer_;
    Timer age_timer_;
    Timer background_timer_;
};

// The checksum stored for a block; never kHole.
uint64_t stored_sum(uint64_t plain, ChunkId chunk, uint32_t block);

}  // namespace lumeofs::store
