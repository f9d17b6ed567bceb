// SPDX-License-Identifier: Apache-2.0
// RemovedChunks: what was removed here by orders, the last kRemovedKept. A late message of a primary
// that has not heard of the removal must not make the chunk again: its epoch is not above that of the
// order. Forgotten at a restart: reports to metad find what slips through.
// single-thread: the chunkd loop.
#pragma once

#include <algorithm>
#include <deque>
#include <map>

#include "common/base/ids.h"

namespace lumeofs::replication {

inline constexpr size_t kRemovedKept = 64 * 1024;

class RemovedChunks {
public:
    void add(ChunkId chunk, Epoch epoch) {
        auto [known, added] = epochs_.try_emplace(chunk, epoch);
        known->second = std::max(known->second, epoch);
        if (added) order_.push_back(chunk);
        if (order_.size() <= kRemovedKept) return;
        epochs_.erase(order_.front());
        order_.pop_front();
    }
    bool covers(ChunkId chunk, Epoch epoch) const {
        auto it = epochs_.find(chunk);
        return it != epochs_.end() && epoch <= it->second;
    }

private:
    std::map<ChunkId, Epoch> epochs_;
    std::deque<ChunkId> order_;
};

}  // namespace lumeofs::replication
