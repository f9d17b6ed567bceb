// SPDX-License-Identifier: Apache-2.0
// The one row that every batch writes: applied index, counters, cluster settings, totals.
//
// It is kept in memory as `State` and saved once per batch, in the batch's transaction. After a
// failed commit memory and disk differ; nothing is answered any more then (see db.h).
// single-thread: the metad loop.
#pragma once

#include "metad/namespace/db.h"
#include "metad/namespace/rows.h"

namespace lumeofs::metad {

struct State {
    uint64_t applied = 0;
    Nanos now_ns = 0;
    uint64_t history = 0;
    uint64_t inode_counter = 0;  // last ones given
    uint64_t chunk_counter = 0;
    uint64_t session_counter = 0;
    uint64_t cleanup_counter = 0;
    uint64_t incarnation = 0;
    uint64_t last_fence = 0;
    uint64_t nodes_version = 0;
    bool bootstrapped = false;
    ClusterRow cluster;
    Totals totals;

    InodeId next_inode() { return InodeId{make_id(0, cluster.generation, ++inode_counter)}; }
    ChunkId next_chunk() { return ChunkId{make_id(0, cluster.generation, ++chunk_counter)}; }
    ChunkId last_chunk() const {
        return chunk_counter == 0 ? ChunkId{}
                                  : ChunkId{make_id(0, cluster.generation, chunk_counter)};
    }
    // The id was given by this very history: a chunk without a row was deleted, and is not one that
    // a restored older database has never heard of [18].
    bool gave(ChunkId chunk) const {
        const uint64_t counter = chunk.value & kCounterMask;
        return chunk.value == make_id(0, cluster.generation, counter) && counter != 0 &&
               counter <= chunk_counter;
    }
    SessionId next_session() {
        return SessionId{make_id(0, cluster.generation, ++session_counter)};
    }
    // The epoch after `epoch`, in the current generation [18].
    Epoch epoch_after(Epoch epoch) const {
        return make_epoch(cluster.generation, (epoch.value & kCounterMask) + 1);
    }
};

class StateTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE state(id INTEGER PRIMARY KEY, applied INTEGER, now_ns INTEGER,"
        " history INTEGER, inode_counter INTEGER,"
        " chunk_counter INTEGER, session_counter INTEGER, cleanup_counter INTEGER,"
        " incarnation INTEGER, last_fence INTEGER, nodes_version INTEGER,"
        " bootstrapped INTEGER, cluster_high INTEGER, cluster_low INTEGER, generation INTEGER,"
        " default_replicas INTEGER,"
        " min_write_replicas INTEGER, inodes INTEGER, chunks INTEGER, bytes INTEGER,"
        " inline_bytes INTEGER, garbage INTEGER, under_replicated INTEGER,"
        " sessions INTEGER)";
    explicit StateTable(Db& db);
    // False if there is no row.
    bool load(State* state);
    void save(const State& state);

private:
    Statement select_;
    Statement replace_;
};

}  // namespace lumeofs::metad
