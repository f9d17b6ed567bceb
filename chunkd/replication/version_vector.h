// SPDX-License-Identifier: Apache-2.0
// Version vectors of chunk copies: per (node, incarnation) of a primary, the last sequence applied.
//
// They say what to expect when two copies meet (BEFORE: this one only lacks writes, CONCURRENT: each
// has some that the other lacks) and are shown to people. EQUAL is a hint and no proof: a returning
// copy is still compared block by block [4]. Bounded: the entries with the lowest incarnations go
// first, after which a comparison can say CONCURRENT where it was BEFORE, never the other way round.
// Plain value; thread-compatible.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"

namespace lumeofs::replication {

enum class VectorOrder : uint8_t { equal = 1, before = 2, after = 3, concurrent = 4 };
const char* vector_order_name(VectorOrder order);

class VersionVector {
public:
    static constexpr size_t kMaxEntries = 20;

    void record(NodeId primary, Incarnation incarnation, uint64_t sequence);
    // How *this stands to `other`: before = every count is at most the other's, some are lower.
    VectorOrder compare(const VersionVector& other) const;
    bool empty() const { return entries_.empty(); }

    Bytes encode() const;                      // 24 bytes per entry
    static VersionVector decode(View bytes);   // bytes of a wrong form give an empty one: only a hint

private:
    struct Entry {
        Incarnation incarnation;
        NodeId node;
        uint64_t count = 0;
    };
    uint64_t count_of(const Entry& key) const;

    std::vector<Entry> entries_;  // ascending (incarnation, node)
};

}  // namespace lumeofs::replication
