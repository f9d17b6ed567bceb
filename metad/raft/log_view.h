// SPDX-License-Identifier: Apache-2.0
// What the core may ask of the stable log, synchronously: old entries for a follower that lags, for
// a state machine that lags, and the whole log once at start. Called from inside RaftNode::step.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/result.h"
#include "metad/raft/types.h"

namespace lumeofs::raft {

class LogView {
public:
    virtual ~LogView() = default;
    // Entries first, first+1, ... up to `last` at most, as many as fit into bytes_max (cost_bytes),
    // but at least one. Asked only for floor < first <= last <= what was reported as Persisted.
    // An error stops only what needed the entries; the driver, which knows it first, steps Failed.
    virtual Result<std::vector<Entry>> load_entries(LogIndex first,
                                                    LogIndex last,
                                                    uint64_t bytes_max) = 0;
};

}  // namespace lumeofs::raft
