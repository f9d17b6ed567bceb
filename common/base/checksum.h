// SPDX-License-Identifier: Apache-2.0
// Checksums: XXH3-64 through libxxhash. They find damage, not tampering.
//
// block_checksum mixes the place into the sum (chunk id, block number): a block that was recycled,
// swapped or written to the wrong place never verifies.
#pragma once

#include <cstdint>

#include "common/base/bytes.h"
#include "common/base/ids.h"

namespace lumeofs {

uint64_t checksum(View bytes);
uint64_t checksum_seeded(View bytes, uint64_t seed);
// What a chunkd stores for a whole 4 KiB block. `plain` is checksum(block).
uint64_t salted(uint64_t plain, ChunkId chunk, uint64_t block_number);
inline uint64_t block_checksum(View block, ChunkId chunk, uint64_t block_number) {
    return salted(checksum(block), chunk, block_number);
}

}  // namespace lumeofs
