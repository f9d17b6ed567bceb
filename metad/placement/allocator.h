// SPDX-License-Identifier: Apache-2.0
// Which chunkds get a new chunk, or one more replica. PURE: plain values in, plain values out.
//
// Rules, in order: only usable nodes (lease live, not leaving, room for a chunk above the reserve);
// as many failure zones as possible; then the emptier the likelier, by weighted draw, so that nodes
// fill evenly and a node that was just added is not hit by every new chunk. The first member is the
// primary; draws being weighted, primaries spread as the replicas do.
// single-thread; deterministic for a given Prng.
#pragma once

#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/prng.h"
#include "common/base/result.h"

namespace lumeofs::metad {

struct Candidate {
    NodeId node;
    std::string zone;         // "" = a zone of its own
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;  // above the node's own reserve
    bool usable = false;
};

// Up to `count` distinct nodes, best spread first; fewer if there are not so many. `taken` are
// nodes that hold a replica already: never chosen, their zones count as used.
std::vector<NodeId> choose_nodes(const std::vector<Candidate>& candidates,
                                 size_t count,
                                 const std::vector<NodeId>& taken,
                                 Prng& prng);

// Members of a new chunk: up to `wanted`, never fewer than `least`. Errc::unavailable if too few
// nodes are there: that is a matter of time, and who asked waits; Errc::nospc if they are there but
// have no room: that is told to the program.
Result<std::vector<NodeId>> place_chunk(const std::vector<Candidate>& candidates,
                                        size_t wanted,
                                        size_t least,
                                        Prng& prng);

}  // namespace lumeofs::metad
