// SPDX-License-Identifier: Apache-2.0
#include "metad/raft/quorum.h"

#include <algorithm>
#include <functional>

namespace lumeofs::raft {

uint64_t quorum_value(std::vector<uint64_t> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end(), std::greater<>());
    return values[majority(values.size()) - 1];
}

VoteResult vote_result(size_t voters, size_t granted, size_t rejected) {
    if (voters == 0) return VoteResult::lost;
    if (granted >= majority(voters)) return VoteResult::won;
    if (voters - rejected < majority(voters)) return VoteResult::lost;
    return VoteResult::pending;
}

}  // namespace lumeofs::raft
