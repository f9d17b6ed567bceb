// SPDX-License-Identifier: Apache-2.0
// Housekeeper: what the leader does on its own, a bounded bit every beat: frees unlinked files that
// nobody has open, cuts tails, works through clean-ups, and repairs: promotes where the primary is
// gone, fills new or returning replicas (fewest copies first), gives up on joiners that died, moves
// replicas away from nodes that stay offline. Garbage is handed out with heartbeats (node_service).
// single-thread: the metad loop.
#pragma once

#include "metad/service/config_service.h"
#include "metad/service/leader.h"
#include "metad/service/session_service.h"

namespace lumeofs::metad {

class Housekeeper {
public:
    Housekeeper(Leader& leader, ConfigService& configs, SessionService& sessions)
        : leader_(leader), configs_(configs), sessions_(sessions) {}

    void tick();  // every beat, when recovered
    // A joiner was filled, or given up: the next one can be.
    void joined();

private:
    void free_orphans();
    void clean_up();
    void repair();
    void repair_page(const std::vector<ChunkRow>& rows, std::vector<wire::ConfigChangeT>* changes);
    std::optional<wire::ConfigChangeT> next_step(const ChunkRow& row);
    void replace_offline(std::vector<wire::ConfigChangeT>* changes);
    void order_fill(const ChunkRow& row);
    size_t joins_of(NodeId node) const;

    Leader& leader_;
    ConfigService& configs_;
    SessionService& sessions_;
    bool orphans_running_ = false;
    std::map<InodeId, Nanos> unused_orphans_;  // not open since then, as far as we have looked
    bool cleanup_running_ = false;
    bool repair_running_ = false;
    std::map<ChunkId, NodeId> joins_;  // that we know to be under way
    std::map<uint32_t, ChunkId> repair_cursors_;  // by the number of members
    ChunkId offline_cursor_;
};

}  // namespace lumeofs::metad
