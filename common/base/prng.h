// SPDX-License-Identifier: Apache-2.0
// Seeded random numbers whose sequence is the same everywhere (the std:: distributions are not).
// xoshiro256** seeded by splitmix64. Not for secrets. Guarded by its owner.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "common/base/assert.h"

namespace lumeofs {

class Prng {
public:
    explicit Prng(uint64_t seed) {
        for (uint64_t& word : state_) {
            seed += 0x9E3779B97F4A7C15ULL;
            uint64_t z = seed;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
            word = z ^ (z >> 31);
        }
    }
    // A stream of its own for `name`, so that a new draw in one place does not shift the others.
    Prng fork(std::string_view name) {
        uint64_t hash = 0xCBF29CE484222325ULL;
        for (char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ULL;
        return Prng(state_[0] ^ (state_[3] * 3) ^ hash);
    }

    uint64_t next() {
        const uint64_t result = rotl(state_[1] * 5, 7) * 9;
        const uint64_t t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = rotl(state_[3], 45);
        return result;
    }
    // Uniform in [0, bound). Requires: bound > 0.
    uint64_t below(uint64_t bound) {
        LFS_ASSERT(bound > 0);
        __extension__ using Wide = unsigned __int128;
        return static_cast<uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
    }
    // Uniform in [low, high], both included.
    uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
    bool chance(uint64_t numerator, uint64_t denominator) { return below(denominator) < numerator; }

    template <typename Container>
    void shuffle(Container& items) {
        for (uint64_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
    }

private:
    static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
    uint64_t state_[4];
};

}  // namespace lumeofs
