// SPDX-License-Identifier: Apache-2.0
// Plain values of the chunk store's interface. See chunk_store.h for what is promised about them.
//
// Every change to a chunk is a WriteRecord. Records of one chunk are applied in the order in which
// they are submitted; a record, its data and its metadata become durable together or not at all.
// Immutable values; thread-compatible.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/limits.h"

namespace lumeofs::store {

inline constexpr uint32_t kMaxVersionVectorBytes = 512;
inline constexpr uint32_t kMaxBlobBytes = 1024;
inline constexpr uint32_t kMaxInDoubt = 4096;         // records after the commit point, per chunk
inline constexpr uint32_t kMaxSessionsPerChunk = 64;  // in the dedup table; the oldest goes first
inline constexpr uint32_t kMaxWritesPerSession =
    256;  // numbers remembered above lowest_outstanding
inline constexpr uint64_t kNoShrinkMark = UINT64_MAX;

// The name of a chunk write. Ordered as they are applied: an epoch has one primary at a time, and
// incarnations come from one counter, so a later primary of the same epoch has a higher one.
struct WriteName {
    Epoch epoch;
    Incarnation incarnation;
    uint64_t sequence = 0;  // 0 = no write yet

    constexpr auto operator<=>(const WriteName&) const = default;
};

enum class RecordKind : uint8_t {
    create = 1,        // the chunk comes to be, empty, at record.name.epoch; exist if it is there
    data = 2,          // payload at [offset, offset + length)
    zero = 3,          // [offset, offset + length) reads as zeros; whole blocks become holes
    truncate = 4,      // shrink: `length` = bytes that stay (0 = all goes); takes over shrink_mark
    set_epoch = 5,     // takes over name.epoch (and shrink_mark, version vector, blob if given)
    commit_point = 6,  // commit_point becomes durable, nothing else
    remove = 7,        // written by ChunkStore::remove only
};

struct WriteRecord {
    ChunkId chunk;
    RecordKind kind = RecordKind::data;
    // data, zero, truncate: becomes ChunkMeta::applied (and must be above it, else Errc::inval).
    // create, set_epoch: only name.epoch counts and becomes ChunkMeta::epoch.
    // A name with sequence 0 and kind data/zero/truncate is a nameless change: it is neither
    // remembered as applied nor in doubt (used by reconciliation and tests).
    WriteName name;
    // Dedup: remembered per chunk if session is not 0.
    SessionId session;
    uint64_t write_no = 0;
    uint64_t lowest_outstanding = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    // truncate, set_epoch: the epoch of the mark (row of metad) that this record carries out; kept
    // in ChunkMeta::shrink_epoch. 0 = none.
    Epoch shrink_epoch;
    // What the sender knows to be committed (every member has it); 0s = nothing new. Made durable
    // with this record, never lowers what is stored.
    WriteName commit_point;
    // Taken over together with the record if set; bounds above.
    std::optional<Bytes> version_vector;
    std::optional<Bytes> blob;
};

// Data of a record and how it was checked. plain[i] = checksum() of those bytes of the payload that
// lie in block offset / kBlockSize + i (the first and the last may be parts of a block).
struct Payload {
    Buffer data;
    std::vector<uint64_t> plain;  // empty: the store computes them
    bool verified = false;        // the caller compared them with the bytes; false: the store does
};

// What is known about a chunk; durable with the record that changed it.
struct ChunkMeta {
    ChunkId chunk;
    Epoch epoch;
    WriteName applied;       // last named record applied here
    WriteName commit_point;  // durable; everything up to here is on every member
    uint64_t length = 0;     // highest byte written + 1, cut by truncate
    Epoch shrink_epoch;      // newest mark carried out
    Bytes version_vector;    // opaque
    Bytes blob;              // opaque, the replication room's own
};

// A named record after the commit point: it may be missing at other members. Its data is what
// read() returns now for its range (a later record may have changed it once more: then that one is
// in the list too, behind it).
struct InDoubt {
    WriteName name;
    RecordKind kind = RecordKind::data;
    SessionId session;
    uint64_t write_no = 0;
    uint64_t lowest_outstanding = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
};

// What the chunk has seen of one session's writes.
struct SessionWrites {
    SessionId session;
    uint64_t lowest_outstanding = 0;  // every number below was answered or will never be used
    std::vector<uint64_t> done;       // numbers >= lowest_outstanding applied here, ascending
};

enum class ReadView : uint8_t {
    newest,     // everything applied
    committed,  // as if no record after the commit point had been applied [hazard 41]
};

// Blocks as read: whole blocks that cover the range asked for. Every block's salted checksum
// matched on this very read.
struct BlockData {
    uint64_t first_block = 0;
    Buffer data;                  // count * kBlockSize bytes; the caller slices what was asked for
    std::vector<uint64_t> plain;  // checksum() of each whole block, to travel end to end
    std::vector<bool> hole;       // never written, or zeroed: the bytes are zeros
};

struct Extent {  // of data, in bytes of the chunk, multiples of kBlockSize
    uint64_t offset = 0;
    uint64_t length = 0;
    bool operator==(const Extent&) const = default;
};

enum class DiskState : uint8_t {
    ok = 1,
    failed = 2,   // a sync or an I/O failed: taken out, nothing is read or written any more
    damaged = 3,  // its log or index lost something that had been acknowledged: taken out
};

struct DiskSpaceInfo {
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;      // what new writes may still use; the reserve is not in it
    uint64_t reserved_bytes = 0;  // for deletes, truncates, checkpoints and the log
    uint64_t used_bytes = 0;      // home space held by chunks, trash included
};

struct DiskInfo {
    std::string dir;
    std::string uuid;
    DiskState state = DiskState::ok;
    std::string reason;  // why it is not ok, "" otherwise
    DiskSpaceInfo space;
    uint64_t chunks = 0;
};

struct ChunkListing {
    ChunkId chunk;
    Epoch epoch;
    WriteName applied;
    uint64_t length = 0;
    uint32_t disk = 0;
};

struct TrashEntry {
    ChunkId chunk;
    uint64_t number = 0;   // tells two lives of one chunk id apart
    Nanos removed_at = 0;  // wall clock
    uint64_t used_bytes = 0;
    uint32_t disk = 0;
};

struct BadBlock {
    ChunkId chunk;
    uint32_t block = 0;
    uint32_t disk = 0;
    bool operator==(const BadBlock&) const = default;
};

struct StoreStats {
    uint64_t writes = 0;  // records made durable
    uint64_t write_bytes = 0;
    uint64_t direct_bytes = 0;  // of them straight home
    uint64_t reads = 0;
    uint64_t read_bytes = 0;
    uint64_t log_batches = 0;
    uint64_t log_bytes = 0;
    uint64_t log_syncs = 0;
    uint64_t home_syncs = 0;
    uint64_t sync_nanos = 0;  // time spent in log syncs, by the loop's clock
    uint64_t sync_nanos_max = 0;
    uint64_t checkpoints = 0;
    uint64_t checkpoint_nanos_max = 0;  // longest slice
    uint64_t bad_blocks_seen = 0;
    uint64_t scrubbed_blocks = 0;
    uint64_t log_live_bytes = 0;  // now
    uint64_t cached_bytes = 0;    // now: block tables and log images in memory
};

}  // namespace lumeofs::store
