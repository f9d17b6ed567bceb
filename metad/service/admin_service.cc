// SPDX-License-Identifier: Apache-2.0
#include "metad/service/admin_service.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lumeofs::metad {
namespace {

using nlohmann::json;

constexpr uint32_t kPage = 1'000;

const char* state_name(wire::NodeState state) {
    switch (state) {
        case wire::NodeState::unknown: return "unknown";
        case wire::NodeState::online: return "online";
        case wire::NodeState::suspect: return "suspect";
        case wire::NodeState::offline: return "offline";
        case wire::NodeState::maintenance: return "maintenance";
        case wire::NodeState::decommissioning: return "decommissioning";
        case wire::NodeState::removed: return "removed";
    }
    return "unknown";
}

const char* role_name(RaftRole role) {
    switch (role) {
        case RaftRole::follower: return "follower";
        case RaftRole::candidate: return "candidate";
        case RaftRole::leader: return "leader";
        case RaftRole::learner: return "learner";
    }
    return "unknown";
}

std::string hex128(uint64_t high, uint64_t low) {
    char text[33];
    std::snprintf(text,
                  sizeof text,
                  "%016llx%016llx",
                  static_cast<unsigned long long>(high),
                  static_cast<unsigned long long>(low));
    return text;
}

// Bytes of names need not be UTF-8: what is not becomes a replacement character.
std::string dumped(const json& value) {
    return value.dump(2, ' ', false, json::error_handler_t::replace);
}

json raft_json(const Consensus& consensus, NodeId self) {
    const ConsensusStatus status = consensus.status();
    json out = {{"node", self.value},
                {"role", role_name(status.role)},
                {"term", status.term.value},
                {"leader", status.leader.value},
                {"last_index", status.last.value},
                {"commit_index", status.commit.value},
                {"applied_index", status.applied.value},
                {"log_first_index", status.first.value},
                {"log_bytes", status.log_bytes},
                {"trouble", status.trouble},
                {"members", json::array()}};
    for (const auto& member : status.members) {
        out["members"].push_back({{"node", member.node.value},
                                  {"address", member.address},
                                  {"learner", member.learner},
                                  {"match_index", member.match.value},
                                  {"silent_ms", member.silent_for / kMillisecond}});
    }
    return out;
}

json node_json(const Leader& leader, const NodeRow& row) {
    json out = {{"node", row.id.value},
                {"address", row.address},
                {"zone", row.zone},
                {"release", row.release},
                {"incarnation", row.incarnation.value},
                {"state", state_name(leader.state_of(row.id))}};
    auto it = leader.nodes.find(row.id);
    if (it == leader.nodes.end()) return out;
    const LiveNode& node = it->second;
    out["total_bytes"] = node.total_bytes;
    out["free_bytes"] = node.free_bytes;
    out["chunks"] = node.chunks;
    out["reads"] = node.reads;
    out["writes"] = node.writes;
    out["corrupt_blocks"] = node.corrupt_blocks;
    out["log_bytes"] = node.dirty_log_bytes;
    out["orders"] = node.orders.size();
    out["silent_ms"] =
        node.last_beat == 0 ? -1 : (leader.loop.now() - node.last_beat) / kMillisecond;
    out["disks"] = json::array();
    for (const auto& disk : node.disks) {
        out["disks"].push_back({{"path", disk.path},
                                {"total_bytes", disk.total_bytes},
                                {"free_bytes", disk.free_bytes},
                                {"failed", disk.failed}});
    }
    return out;
}

json chunk_json(const Leader& leader, const ChunkRow& row) {
    json out = {{"chunk", row.id.value},
                {"epoch", row.epoch.value},
                {"inode", row.owner.value},
                {"index", row.index},
                {"wanted", row.wanted},
                {"length", row.length},
                {"joiner", row.joiner.value},
                {"members", json::array()}};
    for (NodeId member : row.members) {
        out["members"].push_back(
            {{"node", member.value}, {"state", state_name(leader.state_of(member))}});
    }
    return out;
}

// What one look at the chunk map says. Reads every row of chunks that are in trouble, none else.
struct ChunkHealth {
    uint64_t under_replicated = 0;
    uint64_t on_absent_nodes = 0;  // have a member whose node is not online
    uint64_t unreadable = 0;       // no member is online, or none has a copy
    uint64_t unwritable = 0;       // fewer than min_write_replicas online
};

ChunkHealth chunk_health(Leader& leader) {
    ChunkHealth health;
    health.under_replicated = leader.state.totals().under_replicated;
    const uint32_t least = leader.state.cluster().min_write_replicas;
    std::map<ChunkId, size_t> online;
    for (const auto& [id, node] : leader.nodes) {
        if (leader.usable(id)) continue;
        ChunkId after;
        for (;;) {
            const auto rows = leader.state.chunks_of_node(id, after, kPage);
            for (const ChunkRow& row : rows) {
                const auto& members = row.members;
                if (std::find(members.begin(), members.end(), id) == members.end()) continue;
                online[row.id] = static_cast<size_t>(
                    std::count_if(members.begin(), members.end(), [&leader](NodeId member) {
                        return leader.usable(member);
                    }));
            }
            if (rows.size() < kPage) break;
            after = rows.back().id;
        }
    }
    for (const auto& [chunk, count] : online) {
        ++health.on_absent_nodes;
        if (count == 0) ++health.unreadable;
        if (count < least) ++health.unwritable;
    }
    return health;
}

json status_json(Leader& leader, const SessionService& sessions) {
    const ClusterRow cluster = leader.state.cluster();
    const Totals totals = leader.state.totals();
    const ChunkHealth health = chunk_health(leader);
    json problems = json::array();
    bool damaged = false;
    json chunkds = json::array();
    uint64_t total = 0, free = 0, lost = 0;
    size_t usable = 0;
    for (const NodeRow& row : leader.state.nodes()) {
        if (row.role != static_cast<uint8_t>(Role::chunkd)) continue;
        chunkds.push_back(node_json(leader, row));
        const LiveNode* node = leader.node(row.id);
        if (leader.usable(row.id)) {
            ++usable;
            total += node->total_bytes;
            free += node->free_bytes;
            if (node->lost_chunks > 0) {
                damaged = true;
                lost += node->lost_chunks;
                problems.push_back(std::to_string(node->lost_chunks) + " chunks of which chunkd " +
                                   row.id.to_string() +
                                   " is the primary have no copy left: reading them is an error until "
                                   "a member comes back with its disk");
            }
            for (const auto& disk : node->disks) {
                if (disk.failed) {
                    problems.push_back("chunkd " + row.id.to_string() + ": disk " + disk.path +
                                       " failed and was taken out");
                }
            }
        } else {
            problems.push_back("chunkd " + row.id.to_string() + " (" + row.address + ") is " +
                               state_name(leader.state_of(row.id)));
        }
    }
    const ConsensusStatus raft = leader.consensus.status();
    for (const auto& member : raft.members) {
        if (member.node != leader.settings.self && member.silent_for > kElectionTimeoutMax) {
            problems.push_back("metad " + member.node.to_string() + " (" + member.address +
                               ") has not answered for " +
                               std::to_string(member.silent_for / kMillisecond) + " ms");
        }
    }
    if (usable < cluster.min_write_replicas) {
        damaged = true;
        problems.push_back("only " + std::to_string(usable) + " chunkds are online, " +
                           std::to_string(cluster.min_write_replicas) + " are needed to write");
    }
    if (health.unreadable > 0) {
        damaged = true;
        problems.push_back(std::to_string(health.unreadable) + " chunks have no member online");
    }
    if (health.unwritable > health.unreadable) {
        damaged = true;
        problems.push_back(std::to_string(health.unwritable - health.unreadable) +
                           " chunks can be read but not written");
    }
    if (health.under_replicated > 0) {
        problems.push_back(std::to_string(health.under_replicated) +
                           " chunks have fewer replicas than wanted");
    }
    if (sessions.recovering()) problems.push_back("the new leader waits for sessions to attach");
    for (const PendingRecall& recall : leader.leases.pending()) {
        const Nanos age = leader.loop.now() - recall.started;
        if (age < kSlowRequest) continue;
        problems.push_back("session " + recall.session.to_string() + " owes the recall of inode " +
                           recall.ino.to_string() + " for " + std::to_string(age / kMillisecond) +
                           " ms");
    }
    const char* word = problems.empty() ? "healthy" : damaged ? "damaged" : "degraded";
    return {{"health", word},
            {"problems", problems},
            {"cluster_id", hex128(cluster.cluster_id_high, cluster.cluster_id_low)},
            {"raft", raft_json(leader.consensus, leader.settings.self)},
            {"chunkds", chunkds},
            {"sessions", leader.sessions.size()},
            {"capacity", {{"total_bytes", total}, {"free_bytes", free}}},
            {"replicas",
             {{"default", cluster.default_replicas}, {"min_write", cluster.min_write_replicas}}},
            {"files", totals.inodes},
            {"bytes", totals.bytes},
            {"chunks",
             {{"total", totals.chunks},
              {"under_replicated", health.under_replicated},
              {"on_absent_nodes", health.on_absent_nodes},
              {"unreadable", health.unreadable + lost},
              {"unwritable", health.unwritable},
              {"garbage_copies", totals.garbage}}}};
}

Result<std::string> file_json(Leader& leader, const std::string& path) {
    InodeId ino = kRootInode;
    size_t at = 0;
    while (at < path.size()) {
        const size_t slash = std::min(path.find('/', at), path.size());
        const std::string name = path.substr(at, slash - at);
        at = slash + 1;
        if (name.empty()) continue;
        auto next = leader.state.resolve(ino, name);
        if (!next) return Status(Errc::noent, "no '" + name + "' in the path " + path);
        ino = *next;
    }
    const auto attr = leader.state.inode(ino);
    if (!attr) return Status(Errc::noent, path);
    json out = {{"path", path},
                {"inode", attr->ino},
                {"mode", attr->mode},
                {"nlink", attr->nlink},
                {"uid", attr->uid},
                {"gid", attr->gid},
                {"size", attr->size},
                {"allocated", attr->allocated},
                {"mtime_ns", attr->mtime_ns},
                {"inline", attr->is_inline},
                {"open", leader.leases.is_open(ino)},
                {"chunks", json::array()}};
    const uint64_t pieces = (attr->size + kChunkSize - 1) / kChunkSize;
    for (uint32_t index = 0; index < pieces && index < 100'000; ++index) {
        if (auto row = leader.state.chunk_at(ino, index)) {
            json chunk = chunk_json(leader, *row);
            chunk["index"] = index;
            out["chunks"].push_back(std::move(chunk));
        }
    }
    return dumped(out);
}

json sessions_json(Leader& leader) {
    json out = json::array();
    for (const SessionRow& row : leader.state.sessions()) {
        json item = {{"session", row.id.value},
                     {"host", row.host},
                     {"mount", row.mount},
                     {"state", row.state == SessionState::live ? "live" : "fenced"}};
        auto it = leader.sessions.find(row.id);
        if (it != leader.sessions.end()) {
            item["connected"] = it->second.peer != nullptr;
            item["silent_ms"] = (leader.loop.now() - it->second.last_renewed) / kMillisecond;
            item["open_files"] = leader.leases.opened_by(row.id).size();
        }
        out.push_back(std::move(item));
    }
    return out;
}

}  // namespace

std::string raft_status_json(const Consensus& consensus, NodeId self) {
    return dumped(raft_json(consensus, self));
}

Result<std::string> admin_answer(Leader& leader,
                                 const SessionService& sessions,
                                 const wire::AdminRequestT& request) {
    if (request.what == "status") return dumped(status_json(leader, sessions));
    if (request.what == "raft") return raft_status_json(leader.consensus, leader.settings.self);
    if (request.what == "sessions") return dumped(sessions_json(leader));
    if (request.what == "file") return file_json(leader, request.path);
    if (request.what == "nodes") {
        json out = json::array();
        for (const NodeRow& row : leader.state.nodes()) out.push_back(node_json(leader, row));
        return dumped(out);
    }
    if (request.what == "chunk") {
        const auto row = leader.state.chunk(ChunkId{request.chunk});
        if (!row) return Status(Errc::noent, "no chunk " + std::to_string(request.chunk));
        return dumped(chunk_json(leader, *row));
    }
    if (request.what == "chunks") {
        const uint32_t limit = std::clamp(request.limit, 1u, kPage);
        const ChunkId after{request.cursor};
        const auto rows = request.node != 0
                              ? leader.state.chunks_of_node(NodeId{request.node}, after, limit)
                              : leader.state.chunks(after, limit);
        json out = {{"chunks", json::array()}, {"next_cursor", 0}};
        for (const ChunkRow& row : rows) out["chunks"].push_back(chunk_json(leader, row));
        if (rows.size() == limit) out["next_cursor"] = rows.back().id.value;
        return dumped(out);
    }
    return Status(Errc::inval,
                  "no question '" + request.what +
                      "'; known: status, nodes, chunks, chunk, file, sessions, raft");
}

}  // namespace lumeofs::metad
