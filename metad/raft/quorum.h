// SPDX-License-Identifier: Apache-2.0
// Majority arithmetic. Pure functions; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lumeofs::raft {

// How many of `voters` are a majority.
constexpr size_t majority(size_t voters) { return voters / 2 + 1; }

// The largest value that a majority of the voters has reached; 0 without voters. With one value per
// voter: match indexes give what may be committed, rounds give what a quorum has answered.
uint64_t quorum_value(std::vector<uint64_t> values);

enum class VoteResult : uint8_t { pending, won, lost };
VoteResult vote_result(size_t voters, size_t granted, size_t rejected);

}  // namespace lumeofs::raft
