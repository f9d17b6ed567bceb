// SPDX-License-Identifier: Apache-2.0
#include "client/layout.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/checksum.h"

namespace lumeofs::client {

std::vector<Span> split_spans(uint64_t offset, uint64_t length, uint64_t piece_max) {
    LFS_ASSERT(piece_max > 0);
    std::vector<Span> spans;
    while (length > 0) {
        const uint64_t in_chunk = offset % kChunkSize;
        const uint64_t take = std::min({length, piece_max, kChunkSize - in_chunk});
        spans.push_back({chunk_index(offset), in_chunk, take});
        offset += take;
        length -= take;
    }
    return spans;
}

namespace {

// Length of the checksum piece that starts `done` bytes into a payload.
size_t piece_at(uint64_t chunk_offset, size_t done, size_t total) {
    const uint64_t in_block = (chunk_offset + done) % kBlockSize;
    return std::min<size_t>(static_cast<size_t>(kBlockSize - in_block), total - done);
}

}  // namespace

std::vector<uint64_t> piece_checksums(View payload, uint64_t chunk_offset) {
    std::vector<uint64_t> sums;
    sums.reserve(payload.size() / kBlockSize + 2);
    for (size_t done = 0; done < payload.size();) {
        const size_t take = piece_at(chunk_offset, done, payload.size());
        sums.push_back(checksum(payload.subspan(done, take)));
        done += take;
    }
    return sums;
}

bool checksums_match(View payload, uint64_t chunk_offset, const std::vector<uint64_t>& checksums) {
    size_t number = 0;
    for (size_t done = 0; done < payload.size(); ++number) {
        const size_t take = piece_at(chunk_offset, done, payload.size());
        if (number >= checksums.size()) return false;
        if (checksum(payload.subspan(done, take)) != checksums[number]) return false;
        done += take;
    }
    return number == checksums.size();
}

}  // namespace lumeofs::client
