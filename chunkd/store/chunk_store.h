// SPDX-License-Identifier: Apache-2.0
// ChunkStore: the chunks of one chunkd, on one or several disks (data directories).
//
// Per disk there are a log (WAL), home space (large files cut into 16 KiB units) and an index.
// Small and overwriting writes go into the log as whole 4 KiB block images and are carried home by
// a checkpoint; large writes to fresh space go straight home and only their record is logged. What
// is submitted during one batch of the loop is made durable by one log write and one sync (group
// commit); then the callbacks run, in the order of submission.
//
// Invariants: I11: no byte leaves without its salted checksum having matched on this very read. A
// record is durable with its data or not at all; after a crash each block is as before or as after
// a record that was not acknowledged, never anything else, and an acknowledged one is there.
// Nothing is deleted but by remove() and then purge_trash(). A block that was never written reads
// as zeros and says so; a block whose checksum does not match is Errc::corrupt, never zeros. A
// failed sync or I/O error takes the disk out (I3): its chunks answer Errc::io, other disks go on.
//
// single-thread: the chunkd loop. FileSystem calls block. No callback runs inside the call that was
// given it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkd/store/types.h"
#include "common/base/result.h"
#include "common/env/file_system.h"
#include "common/env/loop.h"

namespace lumeofs::store {

class Disk;

struct StoreOptions {
    std::vector<std::string> dirs;  // absolute; each is one disk
    uint64_t cluster_id_high = 0;
    uint64_t cluster_id_low = 0;
    NodeId node;        // 0: not yet known; taken over when a later start names one
    uint64_t seed = 0;  // for the uuids of new disks
    // The node's own record of its disks, kept outside them; "" = only the copies on the disks.
    std::string record_path;
    uint64_t wal_max_size = uint64_t{256} << 20;
    uint64_t wal_segment_size = uint64_t{16} << 20;  // made when needed, then recycled
    // A checkpoint starts when this much of the log is live; 0 = a quarter of wal_max_size.
    uint64_t checkpoint_bytes = 0;
    Nanos checkpoint_age = 30 * kSecond;  // or when the oldest live record is this old
    uint32_t reserve_percent = 2;         // of a disk, kept for what must never fail
    uint64_t reserve_min_bytes = uint64_t{64} << 20;
    uint64_t home_file_size = uint64_t{1} << 30;
    uint64_t home_step = uint64_t{64} << 20;  // a home file grows by this
    // Fresh home space kept written ahead, in idle time, so that direct writes into it need no sync
    // of their own; 0 = never.
    uint64_t fill_ahead = uint64_t{128} << 20;
    uint64_t direct_min = 64 * 1024;             // shorter runs of fresh blocks go through the log
    uint64_t cache_bytes = uint64_t{128} << 20;  // clean block tables and log images kept in memory
    uint64_t read_cache_bytes = uint64_t{64} << 20;  // per disk: blocks carried home lately
    uint32_t quarantine_max = 10'000;                // bad blocks remembered
    // Called from the loop, once per disk, when it is taken out while running.
    std::function<void(uint32_t disk, const Status& why)> on_disk_failed;
    // Called when a bad block is met by read, write, checkpoint or scrub.
    std::function<void(const BadBlock&)> on_bad_block;
};

using Done = std::function<void(const Status&)>;

class ChunkStore {
public:
    // Locks the directories (busy: another process has one), checks who they belong to, replays the
    // logs. Deletes nothing. Errors, with a text that says what was expected, what was found and
    // what to do: config (foreign cluster or node, a disk that the record names is missing or its
    // directory is empty, one disk given twice), busy, io, corrupt (identity unreadable).
    // A disk whose log or index is damaged does not stop the others: it opens as `damaged`, see
    // disks(); if no disk is usable the first one's error is returned.
    static Result<std::unique_ptr<ChunkStore>> open(FileSystem& fs,
                                                    Loop& loop,
                                                    StoreOptions options);
    // Callbacks that were not run are dropped. To stop cleanly call flush() (or checkpoint_now():
    // the next start is then faster) and let the loop run once.
    ~ChunkStore();
    ChunkStore(const ChunkStore&) = delete;
    ChunkStore& operator=(const ChunkStore&) = delete;

    // --- changes --------------------------------------------------------------------------------
    // Admits a record or refuses it at once. Not ok: nothing has happened and `done` is never
    // called:
    //   not_found (no such chunk; all kinds but create), exist (create), inval (bad range, name not
    //   above `applied`, bounds of types.h), corrupt (payload does not match `plain`, or an old
    //   block that must be merged does not verify: then its number is added to *bad_blocks and
    //   another member must repair it first), nospc (no home space: nobody has applied it yet),
    //   busy (kMaxInDoubt), io (its disk was taken out).
    // Ok: the record is visible to read(newest) and meta() from now on, and `done` is called
    // exactly once: ok after it is durable, or io if the disk failed before (its effect is
    // unknown).
    Status write(WriteRecord record,
                 Payload payload,
                 Done done,
                 std::vector<uint32_t>* bad_blocks = nullptr);
    // What the caller learnt to be committed: lets read(committed) show it at once; becomes durable
    // with the next batch that is written for other reasons, without a sync of its own.
    void note_commit(ChunkId chunk, const WriteName& commit_point);
    // Moves the chunk to the trash (durable when `done` is called). not_found, io.
    Status remove(ChunkId chunk, Done done);
    // Frees at most `max` trash entries removed before `before` (wall clock); returns how many.
    Result<uint32_t> purge_trash(Nanos before, uint32_t max, Done done);
    // Writes and syncs at once what waits for the end of the batch; the callbacks run posted.
    Status flush();

    // --- repair and catch-up --------------------------------------------------------------------
    // Whole blocks read elsewhere when `as_of` was the newest record applied there. A block that a
    // record with a name above as_of has written here is left alone [hazard 11]: that is known
    // exactly for blocks written since track_writes(chunk, true); without tracking the call is
    // refused with Errc::conflict if as_of < meta().applied. blocks.plain is verified here. Does
    // not change `applied`; raises meta().length to `length` if that is more.
    Status rewrite_blocks(
        ChunkId chunk, const BlockData& blocks, const WriteName& as_of, uint64_t length, Done done);
    void track_writes(ChunkId chunk, bool on);
    // Stored (salted) checksums, 0 = hole; comparable between members block by block.
    Result<std::vector<uint64_t>> block_checksums(ChunkId chunk, uint32_t first, uint32_t count);
    // The bytes of one block with no check at all, for a human or a forensic copy. Never serve
    // them.
    Result<Buffer> read_block_raw(ChunkId chunk, uint32_t block);

    // --- reads ----------------------------------------------------------------------------------
    // The blocks that cover [offset, offset + length), length <= kMaxIoBytes, inside the chunk's
    // 64 MiB; blocks at and behind meta().length are holes. corrupt: some blocks do not verify;
    // they are added to *bad_blocks (and to the quarantine list). busy: the committed state of a
    // block in the range is no longer at hand (very long undecided write): ask again later.
    // not_found, io.
    Result<BlockData> read(ChunkId chunk,
                           uint64_t offset,
                           uint64_t length,
                           ReadView view = ReadView::newest,
                           std::vector<uint32_t>* bad_blocks = nullptr);
    Result<std::vector<Extent>> extents(ChunkId chunk, uint64_t offset, uint64_t length);
    Result<uint64_t> allocated_bytes(ChunkId chunk);  // of blocks that are not holes

    // --- what is here ---------------------------------------------------------------------------
    bool has(ChunkId chunk) const;  // on a disk that is in use
    bool lost(ChunkId chunk) const;  // there is a copy on a disk that was taken out
    Result<ChunkMeta> meta(ChunkId chunk);
    // Named records after the durable or noted commit point, in order of application.
    Result<std::vector<InDoubt>> in_doubt(ChunkId chunk);
    // True if a record after the commit point touches the range.
    Result<bool> undecided(ChunkId chunk, uint64_t offset, uint64_t length);
    // All chunks with a non-empty in-doubt list, ascending: what a start has to reconcile.
    std::vector<ChunkId> chunks_in_doubt() const;
    Result<std::vector<SessionWrites>> session_writes(ChunkId chunk);
    // Drops what the chunks remember of a session that was fenced (its writes are refused anyway).
    void forget_session(SessionId session);
    // At most `max` chunks with ids above `after`, ascending.
    std::vector<ChunkListing> list(ChunkId after, uint32_t max) const;
    uint64_t chunk_count() const;
    std::vector<TrashEntry> trash(uint32_t max) const;

    // --- disks ----------------------------------------------------------------------------------
    std::vector<DiskInfo> disks() const;
    DiskSpaceInfo space() const;  // of all usable disks
    bool usable() const;          // at least one disk is ok
    StoreStats stats() const;
    // Reads and verifies up to `max_blocks` blocks behind where the last call stopped, over all
    // chunks, and returns the bad ones; they go to the quarantine list too. Returns to the start
    // when all were seen: then scrub_rounds() rises.
    std::vector<BadBlock> scrub(uint32_t max_blocks);
    uint64_t scrub_rounds() const;
    // Bad blocks that were met and not written again since, and how many were ever dropped from the
    // list because it was full.
    std::vector<BadBlock> quarantine() const;
    uint64_t quarantine_dropped() const;
    // Carries everything home now (tests, clean stop). The loop is blocked meanwhile.
    Status checkpoint_now();

private:
    ChunkStore(FileSystem& fs, Loop& loop, StoreOptions options);
    Disk* find(ChunkId chunk) const;
    Status absent(ChunkId chunk) const;
    void drop_doubles();
    Result<Disk*> usable_disk_of(ChunkId chunk) const;

    FileSystem& fs_;
    Loop& loop_;
    StoreOptions options_;
    std::vector<std::unique_ptr<Disk>> disks_;
    uint64_t scrub_rounds_ = 0;
    uint32_t scrub_disk_ = 0;
};

}  // namespace lumeofs::store
