// SPDX-License-Identifier: Apache-2.0
// AskFirst: which followers are told of new entries at once, and which a little later.
//
// An entry is committed by the disks of a majority; the other followers only keep up. Those who
// answered first when all were asked are the chosen ones; what the rest is sent waits up to
// kAskLater and leaves together, so that many batches here are one frame, one write and one sync
// there. When an entry is not committed in that time, all are asked again and the fastest are
// chosen anew: a slow or dead follower costs one such time. Only the order of sending depends on
// it, never safety.
// Guarded by the owner.
#pragma once

#include <cstddef>
#include <set>

#include "common/base/ids.h"

namespace lumeofs::consensus {

class AskFirst {
public:
    // From now on all are asked, until `count` of them have answered for entries after `newest`:
    // older answers say nothing about who is fast now. 0: nobody may wait.
    void choose(size_t count, LogIndex newest) {
        count_ = count;
        newest_ = newest;
        chosen_.clear();
    }
    // A voter has made the log durable up to `index`.
    void answered(NodeId node, LogIndex index) {
        if (chosen_.size() < count_ && index > newest_) chosen_.insert(node);
    }
    bool may_wait(NodeId node) const {
        return count_ > 0 && chosen_.size() == count_ && !chosen_.contains(node);
    }
    bool is_chosen(NodeId node) const { return chosen_.contains(node); }

private:
    size_t count_ = 0;
    LogIndex newest_;
    std::set<NodeId> chosen_;
};

}  // namespace lumeofs::consensus
