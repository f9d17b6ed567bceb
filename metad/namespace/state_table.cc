// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/state_table.h"

namespace lumeofs::metad {

StateTable::StateTable(Db& db)
    : select_(db, "SELECT * FROM state WHERE id=1"),
      replace_(db,
               "INSERT INTO state VALUES(1,?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,"
               "?17,?18,?19,?20,?21,?22,?23) ON CONFLICT(id) DO UPDATE SET applied=?1, now_ns=?2,"
               " history=?3, inode_counter=?4, chunk_counter=?5, session_counter=?6,"
               " cleanup_counter=?7, incarnation=?8, last_fence=?9, nodes_version=?10,"
               " bootstrapped=?11, cluster_high=?12, cluster_low=?13, generation=?14,"
               " default_replicas=?15, min_write_replicas=?16, inodes=?17, chunks=?18, bytes=?19,"
               " inline_bytes=?20, garbage=?21, under_replicated=?22, sessions=?23") {}

bool StateTable::load(State* state) {
    Statement::Cursor row = select_.start();
    if (!row.next()) return false;
    int column = 0;
    state->applied = row.u64(++column);
    state->now_ns = row.i64(++column);
    state->history = row.u64(++column);
    state->inode_counter = row.u64(++column);
    state->chunk_counter = row.u64(++column);
    state->session_counter = row.u64(++column);
    state->cleanup_counter = row.u64(++column);
    state->incarnation = row.u64(++column);
    state->last_fence = row.u64(++column);
    state->nodes_version = row.u64(++column);
    state->bootstrapped = row.flag(++column);
    state->cluster.cluster_id_high = row.u64(++column);
    state->cluster.cluster_id_low = row.u64(++column);
    state->cluster.generation = row.u32(++column);
    state->cluster.default_replicas = row.u32(++column);
    state->cluster.min_write_replicas = row.u32(++column);
    state->totals.inodes = row.u64(++column);
    state->totals.chunks = row.u64(++column);
    state->totals.bytes = row.u64(++column);
    state->totals.inline_bytes = row.u64(++column);
    state->totals.garbage = row.u64(++column);
    state->totals.under_replicated = row.u64(++column);
    state->totals.sessions = row.u64(++column);
    return true;
}

void StateTable::save(const State& state) {
    replace_.run(state.applied,
                 state.now_ns,
                 state.history,
                 state.inode_counter,
                 state.chunk_counter,
                 state.session_counter,
                 state.cleanup_counter,
                 state.incarnation,
                 state.last_fence,
                 state.nodes_version,
                 state.bootstrapped,
                 state.cluster.cluster_id_high,
                 state.cluster.cluster_id_low,
                 state.cluster.generation,
                 state.cluster.default_replicas,
                 state.cluster.min_write_replicas,
                 state.totals.inodes,
                 state.totals.chunks,
                 state.totals.bytes,
                 state.totals.inline_bytes,
                 state.totals.garbage,
                 state.totals.under_replicated,
                 state.totals.sessions);
}

}  // namespace lumeofs::metad
