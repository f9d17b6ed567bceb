// SPDX-License-Identifier: Apache-2.0
#include "chunkd/replication/version_vector.h"

#include <algorithm>

namespace lumeofs::replication {

const char* vector_order_name(VectorOrder order) {
    switch (order) {
        case VectorOrder::equal: return "EQUAL";
        case VectorOrder::before: return "BEFORE";
        case VectorOrder::after: return "AFTER";
        case VectorOrder::concurrent: return "CONCURRENT";
    }
    return "?";
}

void VersionVector::record(NodeId primary, Incarnation incarnation, uint64_t sequence) {
    if (sequence == 0) return;
    // Nearly every call is about the newest primary: the last entry.
    for (auto it = entries_.rbegin(); it != entries_.rend(); ++it) {
        if (it->incarnation == incarnation && it->node == primary) {
            it->count = std::max(it->count, sequence);
            return;
        }
    }
    const auto later = [](const Entry& a, const Entry& b) {
        return a.incarnation != b.incarnation ? a.incarnation < b.incarnation : a.node < b.node;
    };
    const Entry entry{incarnation, primary, sequence};
    entries_.insert(std::lower_bound(entries_.begin(), entries_.end(), entry, later), entry);
    if (entries_.size() > kMaxEntries) entries_.erase(entries_.begin());
}

uint64_t VersionVector::count_of(const Entry& key) const {
    for (const Entry& entry : entries_) {
        if (entry.incarnation == key.incarnation && entry.node == key.node) return entry.count;
    }
    return 0;
}

VectorOrder VersionVector::compare(const VersionVector& other) const {
    bool less = false;
    bool more = false;
    for (const Entry& entry : entries_) {
        const uint64_t theirs = other.count_of(entry);
        less = less || entry.count < theirs;
        more = more || entry.count > theirs;
    }
    for (const Entry& entry : other.entries_) less = less || count_of(entry) < entry.count;
    if (less && more) return VectorOrder::concurrent;
    if (less) return VectorOrder::before;
    return more ? VectorOrder::after : VectorOrder::equal;
}

Bytes VersionVector::encode() const {
    Bytes bytes(entries_.size() * 24);
    uint8_t* at = bytes.data();
    for (const Entry& entry : entries_) {
        put_le<uint64_t>(at, entry.incarnation.value);
        put_le<uint64_t>(at + 8, entry.node.value);
        put_le<uint64_t>(at + 16, entry.count);
        at += 24;
    }
    return bytes;
}

VersionVector VersionVector::decode(View bytes) {
    VersionVector vector;
    if (bytes.size() % 24 != 0 || bytes.size() / 24 > kMaxEntries) return vector;
    for (size_t i = 0; i + 24 <= bytes.size(); i += 24) {
        vector.record(NodeId{get_le<uint64_t>(bytes.data() + i + 8)},
                      Incarnation{get_le<uint64_t>(bytes.data() + i)},
                      get_le<uint64_t>(bytes.data() + i + 16));
    }
    return vector;
}

}  // namespace lumeofs::replication
