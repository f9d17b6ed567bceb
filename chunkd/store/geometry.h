// SPDX-License-Identifier: Apache-2.0
// Sizes inside the store. A *unit* is what home space is allocated in (16 KiB: a small file wastes
// little, a large one is still a few long runs); a *page* is what the index stores of a chunk at a
// time (2 MiB of data: changing one block does not rewrite the table of 64 MiB).
#pragma once

#include <cstdint>

#include "common/base/limits.h"

namespace lumeofs::store {

inline constexpr uint32_t kBlock = static_cast<uint32_t>(kBlockSize);
inline constexpr uint32_t kUnitBlocks = 4;
inline constexpr uint32_t kUnitBytes = kUnitBlocks * kBlock;
inline constexpr uint32_t kBlocksPerPage = 512;
inline constexpr uint32_t kUnitsPerPage = kBlocksPerPage / kUnitBlocks;
inline constexpr uint32_t kChunkBlocks = static_cast<uint32_t>(kBlocksPerChunk);
inline constexpr uint32_t kPagesPerChunk = kChunkBlocks / kBlocksPerPage;
inline constexpr uint32_t kNoUnit = UINT32_MAX;
inline constexpr uint32_t kUnitsPerAllocPage = 32'768;  // 512 MiB of home space
static_assert(kPagesPerChunk * kBlocksPerPage == kBlocksPerChunk);

}  // namespace lumeofs::store
