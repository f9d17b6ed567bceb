// SPDX-License-Identifier: Apache-2.0
#include "metad/service/housekeeper.h"

#include <algorithm>

#include "common/base/log.h"

namespace lumeofs::metad {
namespace {

constexpr uint32_t kOrphansLookedAt = 4096;
constexpr uint32_t kOrphansPerCommand = 256;
constexpr Nanos kOrphanGrace = kSecond;
constexpr uint32_t kChunksPerBeat = 64;

bool holds(const std::vector<NodeId>& nodes, NodeId node) {
    return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

}  // namespace

void Housekeeper::tick() {
    if (sessions_.recovering()) return;
    free_orphans();
    clean_up();
    repair();
}

void Housekeeper::joined() {
    if (!sessions_.recovering()) repair();
}

// Not at once: who has just looked a name up that a rename has replaced may be about to open it, and
// must find what it has looked up.
void Housekeeper::free_orphans() {
    if (orphans_running_) return;
    const Nanos now = leader_.loop.now();
    std::map<InodeId, Nanos> unused;
    wire::ApplyFreeOrphansT command;
    for (InodeId ino : leader_.state.orphans(InodeId{}, kOrphansLookedAt)) {
        if (leader_.leases.is_open(ino)) continue;
        const auto known = unused_orphans_.find(ino);
        const Nanos since = known == unused_orphans_.end() ? now : known->second;
        unused.emplace(ino, since);
        if (now - since < kOrphanGrace || command.inodes.size() >= kOrphansPerCommand) continue;
        command.inodes.push_back(ino.value);
    }
    unused_orphans_ = std::move(unused);
    if (command.inodes.empty()) return;
    orphans_running_ = true;
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose(std::move(op), [this](const Result<wire::MetaReplyT>& reply) {
        orphans_running_ = false;
        if (reply) free_orphans();
    });
}

void Housekeeper::clean_up() {
    if (cleanup_running_ || !leader_.state.cleanup_pending()) return;
    cleanup_running_ = true;
    wire::CommandOpUnion op;
    op.Set(wire::ApplyCleanupT{});
    leader_.propose(std::move(op), [this](const Result<wire::MetaReplyT>& reply) {
        cleanup_running_ = false;
        if (reply && reply->value == 1) clean_up();
    });
}

size_t Housekeeper::joins_of(NodeId node) const {
    return static_cast<size_t>(std::count_if(
        joins_.begin(), joins_.end(), [node](const auto& join) { return join.second == node; }));
}

void Housekeeper::order_fill(const ChunkRow& row) {
    LiveNode* primary = leader_.node(row.members[0]);
    if (!primary) return;
    for (auto it = primary->orders.begin(); it != primary->orders.end();) {
        const wire::OrderT& order = it->second;
        if (order.kind == wire::OrderKind::fill_joiner && order.grant->chunk == row.id.value) {
            if (order.grant->epoch == row.epoch.value && order.node == row.joiner.value) return;
            it = primary->orders.erase(it);  // of an older configuration
        } else {
            ++it;
        }
    }
    leader_.order(*primary,
                  wire::OrderKind::fill_joiner,
                  std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(row)),
                  row.joiner);
}

// The one thing to do next for a chunk that has too few members; nothing if it must wait.
std::optional<wire::ConfigChangeT> Housekeeper::next_step(const ChunkRow& row) {
    if (!leader_.usable(row.members[0])) return configs_.promotion(row);
    if (row.joiner) {
        if (leader_.usable(row.joiner)) {
            joins_[row.id] = row.joiner;
            order_fill(row);
            return std::nullopt;
        }
        wire::ConfigChangeT change = change_of(row);
        change.joiner = 0;
        change.raise_epoch = false;
        return change;
    }
    // A node that has an older copy catches up by difference: cheaper than an empty one.
    NodeId target;
    for (NodeId node : row.absent) {
        const LiveNode* live = leader_.node(node);
        if (leader_.usable(node) && !live->removals.contains(row.id)) target = node;
    }
    if (!target) {
        std::vector<NodeId> taken = row.members;
        for (const auto& [id, node] : leader_.nodes) {
            if (node.removals.contains(row.id)) taken.push_back(id);
        }
        const auto chosen = choose_nodes(leader_.candidates(), 1, taken, leader_.prng);
        if (chosen.empty()) return std::nullopt;
        target = chosen[0];
    }
    if (joins_of(target) >= leader_.settings.joins_per_node) return std::nullopt;
    joins_[row.id] = target;
    wire::ConfigChangeT change = change_of(row);
    change.joiner = target.value;
    change.raise_epoch = false;
    return change;
}

void Housekeeper::repair_page(const std::vector<ChunkRow>& rows,
                              std::vector<wire::ConfigChangeT>* changes) {
    for (const ChunkRow& row : rows) {
        if (auto change = next_step(row)) changes->push_back(std::move(*change));
    }
}

// A member whose node stays offline is replaced where there is a node to replace it with; otherwise
// it stays a member: it comes back with its data, and needs no catching up if nothing was written.
void Housekeeper::replace_offline(std::vector<wire::ConfigChangeT>* changes) {
    const auto candidates = leader_.candidates();
    const uint32_t least = leader_.state.cluster().min_write_replicas;
    for (const auto& [id, node] : leader_.nodes) {
        if (leader_.state_of(id) != wire::NodeState::offline) continue;
        const auto rows = leader_.state.chunks_of_node(id, offline_cursor_, kChunksPerBeat);
        offline_cursor_ = rows.size() < kChunksPerBeat ? ChunkId{} : rows.back().id;
        for (const ChunkRow& row : rows) {
            if (!holds(row.members, id) || row.members.size() <= least) continue;
            if (!leader_.usable(row.members[0])) {
                if (auto change = configs_.promotion(row)) changes->push_back(std::move(*change));
                continue;
            }
            if (choose_nodes(candidates, 1, row.members, leader_.prng).empty()) continue;
            wire::ConfigChangeT change = change_of(row);
            std::erase(change.members, id.value);
            changes->push_back(std::move(change));
        }
        return;  // one node at a time
    }
}

void Housekeeper::repair() {
    if (repair_running_) return;
    std::erase_if(joins_, [this](const auto& join) {
        const auto row = leader_.state.chunk(join.first);
        return !row || row->joiner != join.second;
    });
    std::vector<wire::ConfigChangeT> changes;
    const uint32_t wanted = leader_.state.cluster().default_replicas;
    for (uint32_t members = 1; members < wanted && changes.size() < kChunksPerBeat; ++members) {
        const auto first = leader_.state.under_replicated(members, ChunkId{}, kChunksPerBeat);
        repair_page(first, &changes);
        if (first.size() < kChunksPerBeat) continue;
        // Those may all have to wait for something; the others get their turn.
        ChunkId& cursor = repair_cursors_[members];
        cursor = std::max(cursor, first.back().id);
        const auto more = leader_.state.under_replicated(members, cursor, kChunksPerBeat);
        repair_page(more, &changes);
        cursor = more.size() < kChunksPerBeat ? ChunkId{} : more.back().id;
    }
    if (changes.empty()) replace_offline(&changes);
    if (changes.empty()) return;
    repair_running_ = true;
    configs_.change(std::move(changes),
                    [this](const Result<std::vector<wire::ChunkGrantT>>& grants) {
                        repair_running_ = false;
                        if (!grants) return;
                        for (const auto& grant : *grants) {
                            auto row = leader_.state.chunk(ChunkId{grant.chunk});
                            if (row && row->joiner && leader_.usable(row->members[0])) {
                                order_fill(*row);
                            }
                        }
                    });
}

}  // namespace lumeofs::metad
