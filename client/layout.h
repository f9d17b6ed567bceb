// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a file are: chunk 0, 1, 2 … of 64 MiB, each cut in checksum pieces at
// multiples of 4 KiB of the chunk offset. Decisions only, no state. Pure; thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace lumeofs::client {

// Chunk indexes travel as 32 bits, so files end here and not at kMaxFileSize; beyond: Errc::fbig.
inline constexpr uint64_t kFileSizeLimit = (uint64_t{1} << 32) * kChunkSize;
static_assert(kFileSizeLimit <= kMaxFileSize);

// A part of a file that lies in one chunk.
struct Span {
    uint32_t index = 0;   // of the chunk
    uint64_t offset = 0;  // in the chunk
    uint64_t length = 0;
    uint64_t file_offset() const { return uint64_t{index} * kChunkSize + offset; }
};

inline uint32_t chunk_index(uint64_t file_offset) {
    return static_cast<uint32_t>(file_offset / kChunkSize);
}
// How many chunks a file of this size may have.
inline uint32_t chunk_count(uint64_t size) {
    return static_cast<uint32_t>((size + kChunkSize - 1) / kChunkSize);
}

// [offset, offset+length) of a file in spans of at most `piece_max` bytes, none across two chunks.
std::vector<Span> split_spans(uint64_t offset, uint64_t length, uint64_t piece_max);

// The checksums of a payload that starts at `chunk_offset`, in the form of schema/chunk.fbs.
std::vector<uint64_t> piece_checksums(View payload, uint64_t chunk_offset);
bool checksums_match(View payload, uint64_t chunk_offset, const std::vector<uint64_t>& checksums);

}  // namespace lumeofs::client
