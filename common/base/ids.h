// SPDX-License-Identifier: Apache-2.0
// Identities and counters, each a type of its own so that one cannot be passed for another.
//
// InodeId and ChunkId: 10 bits metadata group, 6 bits generation, 48 bits counter; the root inode
// is 1 (group 0, generation 0). The generation rises when metadata is restored from a backup or a
// group is forced, so ids made after the restore never equal ids made after the backup.
// Epoch: generation in the high 16 bits, number in the low 48: compares in the right order.
// Incarnation: one per start of a chunkd, given by a commit; 0 = none.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace lumeofs {

template <typename Tag>
struct Id {
    uint64_t value = 0;

    constexpr Id() = default;
    constexpr explicit Id(uint64_t v) : value(v) {}
    constexpr auto operator<=>(const Id&) const = default;
    constexpr explicit operator bool() const { return value != 0; }
    std::string to_string() const { return std::to_string(value); }
};

using InodeId = Id<struct InodeTag>;
using ChunkId = Id<struct ChunkTag>;
using NodeId = Id<struct NodeTag>;          // metads and chunkds share one number space
using SessionId = Id<struct SessionTag>;
using Epoch = Id<struct EpochTag>;
using Incarnation = Id<struct IncarnationTag>;
using Term = Id<struct TermTag>;
using LogIndex = Id<struct LogIndexTag>;

inline constexpr InodeId kRootInode{1};

inline constexpr int kCounterBits = 48;
inline constexpr int kGenerationBits = 6;
inline constexpr int kGroupBits = 10;
inline constexpr uint64_t kCounterMask = (uint64_t{1} << kCounterBits) - 1;

constexpr uint64_t make_id(uint64_t group, uint64_t generation, uint64_t counter) {
    return (group << (kGenerationBits + kCounterBits)) | (generation << kCounterBits) |
           (counter & kCounterMask);
}
constexpr Epoch make_epoch(uint64_t generation, uint64_t number) {
    return Epoch{(generation << kCounterBits) | (number & kCounterMask)};
}
constexpr Epoch next_epoch(Epoch epoch) { return Epoch{epoch.value + 1}; }

}  // namespace lumeofs

template <typename Tag>
struct std::hash<lumeofs::Id<Tag>> {
    size_t operator()(const lumeofs::Id<Tag>& id) const noexcept {
        uint64_t x = id.value * 0x9E3779B97F4A7C15ULL;
        return static_cast<size_t>(x ^ (x >> 32));
    }
};
