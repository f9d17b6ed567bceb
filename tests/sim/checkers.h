// SPDX-License-Identifier: Apache-2.0
// What must hold of the whole cluster, looked at from outside: all the time (tick) and when nothing
// moves any more (quiet).
//
// tick: one leader per term (I2); equal histories at equal applied indices (I4); no chunkd believes
// in its node lease when the leader knows it to be over (I10).
// quiet: equal digests; the invariants between the tables; every chunk has its members, and their
// copies are equal, block by block (I9).
// single-thread: the simulation.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tests/sim/cluster.h"

namespace lumeofs::store {
class ChunkStore;
}
namespace lumeofs::metad {
struct ChunkRow;
class StateMachine;
}

namespace lumeofs::sim {

class Checkers {
public:
    explicit Checkers(Cluster& cluster) : cluster_(cluster) {}
    void tick();
    // Why the cluster is not yet healthy and at rest, "" if it is.
    std::string unrest();
    void quiet();
    // Copies of chunks that metad neither knows nor wants removed: space that is lost.
    uint64_t leftover_copies() const { return leftover_copies_; }
    uint64_t chunks_compared() const { return chunks_compared_; }

private:
    void leaders();
    void histories();
    void node_leases();
    void compare_chunks(metad::MetadServer& leader);
    store::ChunkStore* store_of(NodeId node);
    std::string describe_copies(const metad::ChunkRow& row, uint64_t block);
    uint64_t leftovers(metad::StateMachine& state);
    bool equal_below(const metad::ChunkRow& row, uint64_t block, size_t member);

    Cluster& cluster_;
    std::map<uint64_t, uint64_t> leader_of_;  // by term
    std::map<uint64_t, uint64_t> history_;    // by applied index
    uint64_t chunks_compared_ = 0;
    uint64_t leftover_copies_ = 0;
};

}  // namespace lumeofs::sim
