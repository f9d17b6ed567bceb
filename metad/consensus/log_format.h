// SPDX-License-Identifier: Apache-2.0
// The bytes of the Raft log on disk. This comment IS the format; all numbers are little-endian.
//
// The log is a chain of *batches* in segment files `log/<16 hex digits>.seg`, numbered without
// gaps. A segment has a fixed size, is preallocated, and is recycled (renamed and reused with its
// old bytes inside) when its entries are cut. Everything starts at multiples of 4096 bytes
// (O_DIRECT).
//
// Segment header (block 0)                  Batch header, then body, then zeros up to 4096
//   0  8  magic "LFSRLOG\n"                   0  4  magic "LFSB"
//   8  4  format revision (1)                 4  1  kind (BatchKind)
//  12  4  zero                                5  1  1 = reset (floor only), else 0
//  16  8  segment number                      6  2  zero
//  24  8  number of its first batch           8  8  batch number, rises by 1 over the whole log
//  32  8  link: checksum of the batch        16  8  link: header checksum of the batch before
//         before (0 = none)                  24  8  synced_upto: every batch up to this number was
//  40  8  segment size in bytes                     synced before this one was written
//  48  8  log id (random, from `identity`)   32  8  first index
//  56  8  XXH3-64 of bytes 0..55             40  4  count of records
//         seeded with the log id             44  4  body bytes
//                                            48  8  XXH3-64 of the body seeded with batch number
// Record (entry first index + i)             56  8  XXH3-64 of bytes 0..55 seeded with
//   0  4  payload bytes                             (log id + segment number)
//   4  1  kind (raft::EntryKind)
//   5  3  zero                             Floor body
//   8  8  term                               0  8  floor index    16  8  last index at that time
//  16  .. payload                            8  8  floor term     24 ..  membership (membership.h)
//
// Meaning, in the order of batch numbers:
//   entries   the log ends before `first index`, then these records follow
//   truncate  the log ends before `first index`
//   floor     entries up to the floor are no longer needed; with `reset` ALL entries before
//             this batch are void (snapshot installed), the log is empty and ends at the floor
//   mark      nothing; it carries a newer synced_upto (written once at every start)
//
// Validity [43, reliability rule 17]. A batch is valid if both checksums hold, its number is the
// next one and its link is the header checksum of the batch before. What follows a bad batch n is
// void.
//   tail:   n was never reported durable, nobody relies on it: cut.
//   damage: some valid header (or a later segment, or the hint stored with term and vote) says
//           that n was synced. The node must not start, let alone vote: it may have promised what
//           is lost.
// Crash argument. Batches of one sync group may reach the disk in any order and torn; none of them
// has a synced_upto >= n for a member n of the group, so a torn one is the tail. The first batch
// after the sync says synced_upto >= n, so later damage of n is told from a torn tail. Only the
// very last synced batch has no witness in the log; the mark at every start, the hint and the
// applied index of the state machine narrow that window. A segment begins only after all before it
// is synced, hence only the last one has a tail. Old bytes of a recycled segment never verify: the
// segment number is in the seed. Old batches behind a tail that was cut never link to what is
// written over it.
// Pure functions; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "metad/raft/types.h"

namespace lumeofs::consensus {

using raft::operator+;  // LogIndex arithmetic
using raft::operator-;

inline constexpr uint64_t kLogAlignment = 4096;
inline constexpr uint32_t kLogRevision = 1;
inline constexpr size_t kBatchHeaderBytes = 64;
inline constexpr size_t kRecordHeaderBytes = 16;
inline constexpr uint64_t kBatchBytesMax = uint64_t{4} << 20;

constexpr uint64_t log_aligned(uint64_t bytes) {
    return (bytes + kLogAlignment - 1) / kLogAlignment * kLogAlignment;
}

// The numbers are stored: never change or reuse one.
enum class BatchKind : uint8_t { entries = 1, truncate = 2, floor = 3, mark = 4 };

struct SegmentHeader {
    uint64_t number = 0;
    uint64_t first_batch = 0;
    uint64_t link = 0;
    uint64_t segment_bytes = 0;
};

struct BatchHeader {
    BatchKind kind = BatchKind::mark;
    bool reset = false;
    uint64_t number = 0;
    uint64_t link = 0;
    uint64_t synced_upto = 0;
    LogIndex first_index;
    uint32_t count = 0;
    uint32_t body_bytes = 0;
    uint64_t body_checksum = 0;
    uint64_t checksum = 0;  // of the header itself: the link of the next batch

    uint64_t disk_bytes() const { return log_aligned(kBatchHeaderBytes + body_bytes); }
};

struct FloorRecord {
    raft::SnapshotDescriptor floor;
    LogIndex last;
};

inline uint64_t record_bytes(const raft::Entry& entry) {
    return kRecordHeaderBytes + (entry.payload ? entry.payload->size() : 0);
}

// Writes kLogAlignment bytes at `block`.
void encode_segment_header(const SegmentHeader& header, uint64_t log_id, uint8_t* block);
Result<SegmentHeader> decode_segment_header(View block, uint64_t log_id);

// Fills in both checksums and writes the header in front of the body, which already stands at
// `batch` + kBatchHeaderBytes.
void seal_batch(BatchHeader* header, uint64_t log_id, uint64_t segment, uint8_t* batch);
// Checks form and header checksum only. corrupt: these are not the bytes of such a header.
Result<BatchHeader> decode_batch_header(View bytes, uint64_t log_id, uint64_t segment);
Status check_batch_body(const BatchHeader& header, View body);

// Appends the record at `at` and returns where the next one begins.
uint8_t* encode_record(const raft::Entry& entry, uint8_t* at);
// All records of a checked body. corrupt: it does not end exactly after `count` records.
Result<std::vector<raft::Entry>> decode_records(const BatchHeader& header, View body);

Bytes encode_floor(const FloorRecord& record);
Result<FloorRecord> decode_floor(View body);

std::string segment_name(uint64_t number);
// 0 if `name` is not that of a segment.
uint64_t parse_segment_name(const std::string& name);

}  // namespace lumeofs::consensus
