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
// nodes then report anew. Each turn looks at a bounded number of rows and of checks; what is left of a
// report waits. single-thread: the metad loop.
#pragma once

#include <deque>
#include <map>
#include <set>

#include "metad/service/config_service.h"
#include "metad/service/leader.h"

namespace lumeofs::metad {

class CopyChecks {
public:
    CopyChecks(Leader& leader, ConfigService& configs) : leader_(leader), configs_(configs) {}

    // A page of what a node holds: all of its chunks between the first and the last of it.
    void reported(const wire::ChunkReportT& report);
    // Every beat.
    void tick();
    // The primary has asked its members, by this order.
    void done(NodeId primary, ChunkId chunk, uint64_t order);
    size_t pending() const { return missing_.size(); }

private:
    struct Page {
        NodeId node;
        ChunkId after, end;  // still to be looked at: (after, end]
        std::set<ChunkId> held;
    };
    struct Check {
        std::set<NodeId> nodes;
        std::set<NodeId> asked;  // of them, those that the order is about
        NodeId primary;          // that was ordered, and
        uint64_t order = 0;      // the number of the order
    };
    void look();
    void order(const ChunkRow& row, Check* check);
    void withdraw(const Check& check);

    Leader& leader_;
    ConfigService& configs_;
    std::deque<Page> pages_;
    std::map<ChunkId, Check> missing_;
    ChunkId cursor_;
    bool promoting_ = false;
};

}  // namespace lumeofs::metad
