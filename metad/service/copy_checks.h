// SPDX-License-Identifier: Apache-2.0
// CopyChecks: copies that should be there and may not be. A node that lost a disk comes back without
// its chunks, and nobody would notice for those that are not in use: they would have a copy less than
// they are said to have, until the next disk is lost.
//
// What a node reports that it holds is compared with what it should hold. What is missing in it need
// not be lost (a chunk that was never written has no copies; one may have been made meanwhile), so
// nothing is concluded here: the chunk's primary is ordered to ask its members, and reports those
// without a copy as it always does. A check stays until the primary has done it, whoever that is.
//
// Transitions of (chunk, node): nothing -> missing (report) -> ordered (at the primary of the moment)
// -> nothing (order done; or the node is not a member any more). Forgotten when leadership ends: the
// nodes then report anew. single-thread: the metad loop.
#pragma once

#include <map>
#include <set>

#include "metad/service/leader.h"

namespace lumeofs::metad {

class CopyChecks {
public:
    explicit CopyChecks(Leader& leader) : leader_(leader) {}

    // A page of what a node holds: all of its chunks between the first and the last of it.
    void reported(const wire::ChunkReportT& report);
    // Every beat.
    void tick();
    // The primary has asked its members.
    void done(ChunkId chunk);
    size_t pending() const { return missing_.size(); }

private:
    struct Check {
        std::set<NodeId> nodes;
        NodeId primary;      // that was ordered, and
        uint64_t order = 0;  // the number of the order
    };
    void order(const ChunkRow& row, Check* check);

    Leader& leader_;
    std::map<ChunkId, Check> missing_;
};

}  // namespace lumeofs::metad
