// SPDX-License-Identifier: Apache-2.0
// Layout of the log (WAL) of one disk.
//
// DIR/wal/NNNN are segments of one fixed size, made once and then recycled: what is behind the last
// batch of a segment is old. A segment is filled with batches; each starts at a multiple of 4096
// and is never cut in two. A batch:
//   0 u32 magic "LWB1"           4 u32 bytes of header and records (not padded)
//   8 u64 number, +1 each       16 u64 link = `sum` of the batch before
//  24 u64 synced_upto: every batch up to this number was synced before this one was written
//  32 u32 records               36 u32 images
//  40 u64 zero                  48 u64 zero
//  56 u64 sum = XXH3-64, seeded with the disk's uuid, of header (this field as 0) and records
//  64 records (log_record.h), zeros to a multiple of 4096, then the images, 4096 bytes each, in
//     the order in which the runs of the records name them (their salted checksums are there)
// The index names the batch after which replay starts (number, link, segment, offset).
//
// Replay follows the chain: batch n+1 stands behind batch n or at the start of any segment, has
// that number and links to n. Old batches in recycled segments have the wrong number or link. A
// batch is whole if its sum, and the checksums of its images and of what it wrote straight home,
// match.
// Where the chain stops at number n, all segments are searched: if a valid batch says
// synced_upto >= n, then n had been synced and may have been acknowledged, so this is damage; else
// n is the tail that a crash tore, and nobody was told about it [hazard 43].
// A batch without
// records only says synced_upto: a checkpoint writes one before it overwrites home blocks that a
// batch may have written directly.
// Crash argument: a batch is acknowledged after the sync that
// covers it, and batch n is synced before any batch says synced_upto >= n. So an acknowledged batch
// is whole after a crash, or it is damage and we say so; an unacknowledged one is taken whole or
// not at all.
#pragma once

#include <cstdint>

namespace lumeofs::store {

inline constexpr uint32_t kBatchMagic = 0x3142574C;  // "LWB1"
inline constexpr uint32_t kBatchHeaderBytes = 64;
inline constexpr uint32_t kBatchSumAt = 56;

// Where an image stands.
struct WalPlace {
    uint32_t slot = 0;  // number of the segment file
    uint32_t offset = 0;
};

// The end of the chain: what comes next has `number`, links to `link`, and stands at `place` (or at
// the start of another segment).
struct WalHead {
    uint64_t number = 1;
    uint64_t link = 0;
    WalPlace place;
};

}  // namespace lumeofs::store
