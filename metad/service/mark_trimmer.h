// SPDX-License-Identifier: Apache-2.0
// MarkTrimmer: shrink marks that every copy has obeyed go, so that a chunk can be cut again and again
// [6].
//
// A mark may go when every node that may hold a copy (members, the joiner, absent ones) has the
// mark's epoch, or a later one, on its disk. That is learnt by ordering the nodes to adopt the current
// configuration: the order is done when it is durable. The newest mark always stays: it alone tells
// whether a chunk was cut after a given epoch. Only chunks with several marks are looked at
// (kMarksToTrim), so an ordinary truncate costs nothing.
//
// A copy whose node is away would hold the marks up for ever: when they press (kMarksPressing), a
// member that is away is taken out, as far as min_write_replicas allows, and an absent copy is written
// off: it goes when its node comes back, and a new one is filled.
//
// Transitions of what is known of (chunk, node): nothing -> ordered (order given) -> epoch known (the
// node reported it done); forgotten when the chunk has few marks again, or leadership ends.
// single-thread: the metad loop.
#pragma once

#include <map>
#include <vector>

#include "metad/service/config_service.h"
#include "metad/service/leader.h"

namespace lumeofs::metad {

inline constexpr size_t kMarksPressing = 8;

class MarkTrimmer {
public:
    MarkTrimmer(Leader& leader, ConfigService& configs) : leader_(leader), configs_(configs) {}

    // Every beat, and whenever a chunk may have been cut.
    void tick();
    // The node has `epoch` of the chunk on its disk.
    void adopted(NodeId node, ChunkId chunk, Epoch epoch);

private:
    struct Copy {
        Epoch epoch;         // that it is known to have
        uint64_t order = 0;  // number of the order that it was given last
        Epoch ordered;       // the epoch of that order
    };
    using Copies = std::map<NodeId, Copy>;

    Epoch least_known(const ChunkRow& row, const Copies& copies) const;
    void order(const ChunkRow& row, Copies* copies);
    std::optional<wire::ConfigChangeT> without_lost(const ChunkRow& row) const;
    void trim(wire::ApplyTrimMarksT command);

    Leader& leader_;
    ConfigService& configs_;
    std::map<ChunkId, Copies> known_;
    bool trimming_ = false;
    bool changing_ = false;
};

}  // namespace lumeofs::metad
