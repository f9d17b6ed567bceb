// SPDX-License-Identifier: Apache-2.0
// What a store must hold, in plain memory, and random changes to both.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "tests/unit/chunkd/store/fixture.h"

namespace lumeofs::store {

// One chunk as bytes; `end` = how far tests look (the rest of 64 MiB is never touched).
struct ChunkModel {
    explicit ChunkModel(uint64_t end) : bytes(end, 0) {}
    Bytes bytes;
    uint64_t length = 0;

    void apply(const WriteRecord& record, View data) {
        auto at = [&](uint64_t offset) { return bytes.begin() + static_cast<ptrdiff_t>(offset); };
        if (record.kind == RecordKind::data) {
            std::copy(data.begin(), data.end(), at(record.offset));
            length = std::max(length, record.offset + record.length);
        } else if (record.kind == RecordKind::zero) {
            std::fill(at(record.offset), at(record.offset + record.length), uint8_t{0});
        } else if (record.kind == RecordKind::truncate) {
            if (record.length < bytes.size()) std::fill(at(record.length), bytes.end(), uint8_t{0});
            length = std::min(length, record.length);
        }
    }
};

struct Change {
    WriteRecord record;
    Bytes data;
};

// A random data, zero or truncate change inside [0, end).
inline Change random_change(Prng& random, uint64_t end, StoreFixture& f, ChunkId chunk) {
    Change change;
    const uint64_t what = random.below(20);
    const RecordKind kind = what < 15   ? RecordKind::data
                            : what < 18 ? RecordKind::zero
                                        : RecordKind::truncate;
    change.record = f.named(chunk, kind);
    if (kind == RecordKind::truncate) {
        change.record.length = random.below(end);
        return change;
    }
    const uint64_t sizes[] = {1, 100, 4096, 10'000, 65'536, 200'000};
    uint64_t length = 1 + random.below(sizes[random.below(6)]);
    uint64_t offset = random.below(end);
    if (random.below(2) == 0) {
        offset = offset / 16384 * 16384;
        length = (length + 4095) / 4096 * 4096;
    }
    length = std::min(length, end - offset);
    change.record.offset = offset;
    change.record.length = length;
    if (kind == RecordKind::data) change.data = pattern(length, random.next());
    return change;
}

}  // namespace lumeofs::store
