// SPDX-License-Identifier: Apache-2.0
// A Raft group in one process with disks and a network that the test holds in its hands: nothing is
// durable before persist_one(), nothing arrives before deliver(). Every step is checked against the
// invariants, and every message that leaves against I1: what it relies on is on the sender's disk.
// Shared by the transcripts, the simulation and the named regression tests.
// Single-thread: test.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/assert.h"
#include "metad/raft/invariants.h"
#include "metad/raft/quorum.h"
#include "metad/raft/raft_node.h"
#include "metad/raft/transcript.h"

namespace lumeofs::raft::testing {

// The replicated state: how far, and a digest of all commands up to there.
struct State {
    LogIndex applied;
    uint64_t digest = 0;
};

struct Write {
    uint64_t persist_id = 0;
    std::optional<HardState> hard_state;
    std::optional<LogIndex> truncate_from;
    std::vector<Entry> append;
    std::optional<SnapshotDescriptor> install;
    State installed_state;
};

// What survives a crash, and the writes that do not yet.
class TestDisk : public LogView {
public:
    HardState hard_state;
    SnapshotDescriptor floor;
    std::vector<Entry> log;  // durable, floor + 1 ...
    State checkpoint;        // durable state machine
    std::deque<Write> writes;

    LogIndex last() const { return floor.index + log.size(); }
    Term term_at(LogIndex index) const {
        if (index == floor.index) return floor.term;
        if (index < floor.index || index > last()) return Term{};
        return log[index - floor.index - 1].term;
    }
    // Completes the oldest write and returns it.
    Write complete_one() {
        Write write = std::move(writes.front());
        writes.pop_front();
        if (write.hard_state) hard_state = *write.hard_state;
        if (write.truncate_from) log.resize(*write.truncate_from - floor.index - 1);
        for (const Entry& entry : write.append) {
            LFS_ASSERT(entry.index == last() + 1);
            log.push_back(entry);
        }
        if (write.install) {
            floor = *write.install;
            log.clear();
            checkpoint = write.installed_state;
        }
        return write;
    }
    void cut(const SnapshotDescriptor& new_floor) {
        log.erase(log.begin(), log.begin() + static_cast<ptrdiff_t>(new_floor.index - floor.index));
        floor = new_floor;
    }
    Result<std::vector<Entry>> load_entries(LogIndex first,
                                            LogIndex end,
                                            uint64_t bytes_max) override {
        LFS_ASSERT(first > floor.index && end <= last());
        std::vector<Entry> entries;
        uint64_t bytes = 0;
        for (LogIndex at = first; at <= end; at = at + 1) {
            const Entry& entry = log[at - floor.index - 1];
            bytes += entry.cost_bytes();
            if (!entries.empty() && bytes > bytes_max) break;
            entries.push_back(entry);
        }
        return entries;
    }
};

struct Envelope {
    NodeId from, to;
    std::optional<Message> message;
    std::optional<SnapshotReceived> snapshot;  // a whole snapshot stream in one piece
    uint64_t due = 0;                          // simulation only
};

struct TestNode {
    NodeId id;
    TestDisk disk;
    std::unique_ptr<RaftNode> raft;  // null: down
    State state;
    uint64_t writes_begun = 0;
    uint64_t writes_done = 0;
    struct Held {
        uint64_t after_writes = 0;
        Message message;
    };
    std::deque<Held> held;
    std::map<uint64_t, uint64_t> round_times;
    uint64_t quorum_round = 0;
    uint64_t lives = 0;
};

class Group {
public:
    Options options;  // id and seed are set per node
    Invariants invariants;
    std::map<NodeId, TestNode> nodes;
    std::deque<Envelope> wire;
    uint64_t time = 0;
    bool show_messages = false;
    std::vector<std::string> lines;       // what happened, for transcripts; taken by the caller
    std::vector<std::string> violations;  // beyond those of `invariants`
    std::map<std::string, uint64_t> counts;
    // Observers of the simulation.
    std::function<void(TestNode&, const Update&)> on_update;

    void add_node(NodeId id, const Membership& initial) {
        TestNode& node = nodes[id];
        node.id = id;
        node.disk.floor.membership = initial;
        start(id);
    }

    void start(NodeId id) {
        TestNode& node = nodes.at(id);
        LFS_ASSERT(!node.raft);
        Options own = options;
        own.id = id;
        own.seed = options.seed * 1000 + id.value * 10 + node.lives++;
        node.state = node.disk.checkpoint;
        const Restored restored{
            node.disk.hard_state, node.disk.floor, node.disk.last(), node.disk.checkpoint.applied};
        Result<std::unique_ptr<RaftNode>> made = RaftNode::restore(own, restored, &node.disk);
        if (!made.is_ok()) {
            violations.push_back("restore: " + made.status().to_string());
            return;
        }
        node.raft = std::move(made).value();
        node.round_times.clear();
        node.quorum_round = 0;
        invariants.started(*node.raft);
    }

    // Power goes off: of the writes that are on their way the oldest `survive` get through.
    void crash(NodeId id, size_t survive = 0) {
        TestNode& node = nodes.at(id);
        node.raft.reset();
        for (size_t i = 0; i < survive && !node.disk.writes.empty(); ++i) node.disk.complete_one();
        node.disk.writes.clear();
        node.held.clear();
        node.writes_begun = node.writes_done = 0;
    }

    Update step(NodeId id, const Event& event) {
        TestNode& node = nodes.at(id);
        if (!node.raft) return {};
        const NodeView before = look(*node.raft);
        const LogIndex committed = invariants.committed();
        Update update = node.raft->step(event);
        invariants.check_since(before, *node.raft, update);
        for (LogIndex at = committed + 1; at <= invariants.committed(); at = at + 1) {
            check_durable_on_quorum(node, at);
        }
        check_lease(node, before);
        for (std::string& line : to_lines(id, update)) lines.push_back(std::move(line));
        if (on_update) on_update(node, update);
        obey(node, update);
        return update;
    }

    // The oldest write of this node becomes durable. False if there is none.
    bool persist_one(NodeId id) {
        TestNode& node = nodes.at(id);
        if (!node.raft || node.disk.writes.empty()) return false;
        check_install(node.disk);
        const Write write = node.disk.complete_one();
        ++node.writes_done;
        std::vector<Message> free;
        while (!node.held.empty() && node.held.front().after_writes <= node.writes_done) {
            free.push_back(std::move(node.held.front().message));
            node.held.pop_front();
        }
        for (Message& message : free) leave(node, std::move(message));
        if (write.install) {
            node.state = write.installed_state;
            check_state(node);
            ++counts["snapshot installed"];
            step(id, SnapshotInstalled{write.install->index});
        } else {
            step(id, Persisted{write.persist_id});
        }
        return true;
    }

    void deliver(Envelope envelope) {
        auto found = nodes.find(envelope.to);
        const bool up = found != nodes.end() && found->second.raft &&
                        blocked.count({envelope.from, envelope.to}) == 0;
        if (envelope.message) {
            if (show_messages) {
                lines.push_back((up ? "" : "lost: ") + to_text(*envelope.message));
            }
            if (up) step(envelope.to, Received{std::move(*envelope.message)});
            return;
        }
        if (up) step(envelope.to, *envelope.snapshot);
        step(envelope.from, SnapshotSent{envelope.to, envelope.snapshot->snapshot.index, up});
    }

    // The state machine is durable up to here, and the log is cut at `floor`.
    void compact(NodeId id, LogIndex floor) {
        TestNode& node = nodes.at(id);
        if (!node.raft || floor <= node.disk.floor.index || floor > node.state.applied) return;
        // A snapshot that waits to be installed replaces the log anyway.
        if (node.raft->status().installing) return;
        node.disk.checkpoint = node.state;
        node.disk.cut(node.raft->describe(floor));
        step(id, Compacted{floor});
        ++counts["compaction"];
    }
    void checkpoint(NodeId id) {
        TestNode& node = nodes.at(id);
        if (node.raft && !node.raft->status().installing) node.disk.checkpoint = node.state;
    }

    NodeId leader() const {  // of the highest term, or 0
        NodeId best;
        Term term;
        for (const auto& [id, node] : nodes) {
            if (!node.raft) continue;
            const NodeView view = look(*node.raft);
            if (view.role == Role::leader && view.term > term) {
                best = id;
                term = view.term;
            }
        }
        return best;
    }
    std::string first_violation() const {
        if (!invariants.violations().empty()) return invariants.violations().front();
        return violations.empty() ? "" : violations.front();
    }
    void check_now() {
        std::vector<const RaftNode*> up;
        for (const auto& [id, node] : nodes) {
            if (node.raft) up.push_back(node.raft.get());
        }
        invariants.check_now(up);
    }

    std::set<std::pair<NodeId, NodeId>> blocked;

private:
    void obey(TestNode& node, const Update& update) {
        if (update.round_started != 0) node.round_times[update.round_started] = time;
        node.quorum_round = update.quorum_round;
        if (update.persist_id != 0 || update.install) {
            Write write{
                update.persist_id, update.hard_state, update.truncate_from, update.append, {}, {}};
            if (update.persist_id != 0) begin(node, std::move(write));
            if (update.install) {
                Write install;
                install.install = update.install;
                install.installed_state = snapshots_.at(update.install->id);
                begin(node, std::move(install));
            }
        }
        if (update.truncate_from) ++counts["truncation"];
        for (const Message& message : update.send_now) leave(node, message);
        for (const Message& message : update.send_after_persist) {
            if (node.writes_done == node.writes_begun) {
                leave(node, message);
            } else {
                node.held.push_back({node.writes_begun, message});
            }
        }
        for (const SnapshotNeed& need : update.snapshots_needed) offer_snapshot(node, need);
        if (update.commit.empty()) return;
        for (const Entry& entry : update.commit) apply(node, entry);
        step(node.id, Applied{update.commit.back().index});
    }

    void begin(TestNode& node, Write write) {
        ++node.writes_begun;
        node.disk.writes.push_back(std::move(write));
    }

    void apply(TestNode& node, const Entry& entry) {
        LFS_ASSERT(entry.index == node.state.applied + 1);
        uint64_t digest = node.state.digest * 0x100000001B3ULL + entry.term.value + 1;
        if (entry.payload) {
            for (uint8_t byte : *entry.payload) digest = (digest ^ byte) * 0x100000001B3ULL;
        }
        node.state = State{entry.index, digest};
        check_state(node);
    }
    void check_state(const TestNode& node) {
        const auto [found, first] = digests_.emplace(node.state.applied, node.state.digest);
        if (!first && found->second != node.state.digest) {
            violations.push_back("state machines differ at " + node.state.applied.to_string());
        }
    }

    void offer_snapshot(TestNode& node, const SnapshotNeed& need) {
        SnapshotDescriptor descriptor = node.raft->describe(node.state.applied);
        descriptor.id = ++snapshot_ids_;
        snapshots_[descriptor.id] = node.state;
        Envelope envelope;
        envelope.from = node.id;
        envelope.to = need.follower;
        envelope.snapshot = SnapshotReceived{node.id, need.term, descriptor};
        wire.push_back(std::move(envelope));
    }

    void leave(TestNode& node, Message message) {
        check_leaves(node, message);
        Envelope envelope;
        envelope.from = message.from;
        envelope.to = message.to;
        envelope.message = std::move(message);
        wire.push_back(std::move(envelope));
    }

    // I1, seen from the disk.
    void check_leaves(const TestNode& node, const Message& message) {
        const HardState& durable = node.disk.hard_state;
        const std::string what = "I1: leaves before it is durable: " + to_text(message);
        const bool pre = message.type == MessageType::pre_vote_request ||
                         (message.type == MessageType::pre_vote_response && !message.reject);
        if (!pre && durable.term < message.term) violations.push_back(what);
        const bool own_vote = message.type == MessageType::vote_request;
        const bool vote = message.type == MessageType::vote_response && !message.reject;
        if ((own_vote || vote) && durable.term == message.term &&
            durable.vote != (own_vote ? node.id : message.to)) {
            violations.push_back(what);
        }
        if (message.type == MessageType::append_response && !message.reject &&
            message.index > node.disk.last()) {
            violations.push_back(what);
        }
    }

    void check_durable_on_quorum(const TestNode& node, LogIndex index) {
        size_t have = 0;
        const std::vector<NodeId> voters = node.raft->status().membership.voters();
        const Term term = invariants.committed_term(index);
        for (NodeId voter : voters) {
            const auto found = nodes.find(voter);
            if (found == nodes.end()) continue;
            const TestDisk& disk = found->second.disk;
            if (disk.floor.index >= index || disk.term_at(index) == term) ++have;
        }
        if (have < majority(voters.size())) {
            violations.push_back("committed but not durable on a quorum: " + index.to_string());
        }
    }

    // A snapshot replaces the log: nothing committed may stand behind it there, since this node may
    // have acknowledged it.
    void check_install(const TestDisk& disk) {
        if (!disk.writes.front().install) return;
        const LogIndex end = std::min(disk.last(), invariants.committed());
        for (LogIndex at = disk.writes.front().install->index + 1; at <= end; at = at + 1) {
            if (disk.term_at(at) == invariants.committed_term(at)) {
                violations.push_back("a snapshot throws away committed entry " + at.to_string());
            }
        }
    }

    // [26]: whoever has just been elected, no older leader can still count on its lease.
    void check_lease(const TestNode& node, const NodeView& before) {
        const NodeView now = look(*node.raft);
        if (now.role != Role::leader || before.role == Role::leader) return;
        ++counts["election"];
        for (const auto& [id, other] : nodes) {
            if (id == node.id || !other.raft || other.quorum_round == 0) continue;
            const NodeView old = look(*other.raft);
            // Late votes may still make a leader of an OLDER term: it gets no quorum, so no lease.
            if (old.role != Role::leader || old.term > now.term || !leases_matter) continue;
            const auto sent = other.round_times.find(other.quorum_round);
            LFS_ASSERT(sent != other.round_times.end());
            if (time < sent->second + options.election_ticks) {
                violations.push_back("elected while the lease of " + id.to_string() + " runs");
            }
        }
    }

public:
    bool leases_matter = true;  // false where a test forces elections with Campaign

private:
    std::map<uint64_t, State> snapshots_;
    uint64_t snapshot_ids_ = 0;
    std::map<LogIndex, uint64_t> digests_;
};

inline Membership members(std::initializer_list<uint64_t> voters,
                          std::initializer_list<uint64_t> learners = {}) {
    Membership membership;
    for (uint64_t id : voters) {
        membership.members.push_back({NodeId{id}, MemberRole::voter, ""});
    }
    for (uint64_t id : learners) {
        membership.members.push_back({NodeId{id}, MemberRole::learner, ""});
    }
    std::sort(membership.members.begin(),
              membership.members.end(),
              [](const Member& a, const Member& b) { return a.id < b.id; });
    return membership;
}

inline Payload payload(const std::string& text) {
    return std::make_shared<const Bytes>(text.begin(), text.end());
}

}  // namespace lumeofs::raft::testing
