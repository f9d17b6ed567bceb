// SPDX-License-Identifier: Apache-2.0
#include "common/base/checksum.h"

#include <xxhash.h>

namespace lumeofs {

uint64_t checksum(View bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t checksum_seeded(View bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

uint64_t salted(uint64_t plain, ChunkId chunk, uint64_t block_number) {
    uint8_t material[24];
    put_le<uint64_t>(material, plain);
    put_le<uint64_t>(material + 8, chunk.value);
    put_le<uint64_t>(material + 16, block_number);
    return XXH3_64bits(material, sizeof material);
}

}  // namespace lumeofs
