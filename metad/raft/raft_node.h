// SPDX-License-Identifier: Apache-2.0
// One member of a Raft group as a pure state machine: step(Event) -> Update, no I/O, no clock, no
// threads; time is Tick events, randomness a seed. The same events give the same updates.
//
// The driver's duty. For each Update, top to bottom:
//   1. If persist_id is not 0: start writing hard_state (one atomic record, synced), then
//      truncate_from, then append; writes of successive updates become durable in order. The
//      driver may go on stepping meanwhile. When durable: step(Persisted{persist_id});
//      one may report many.
//   2. install: let earlier writes finish, put the snapshot in place atomically with an empty log
//      whose floor is the snapshot, then step(SnapshotInstalled). No log work comes in between.
//   3. round_started: note the clock, then send send_now, at once.
//   4. Send send_after_persist when all writes asked for so far are durable.
//   5. Apply commit in order, then step(Applied). More may come with that step's Update.
//   6. reads: answer when applied reaches the index. The rest (proposal, soft_state ...) as named.
//   An update of step k is obeyed before that of step k+1 (sending and writing may overlap).
//   A failed write or fsync is never retried: step(Failed), and the process gives up its role (I3).
// Messages may be lost, repeated, reordered and late; ticks may be late. A node whose disk was
// wiped must not come back under its old id (reliability rule 11): the driver prevents that.
// Single-thread: core.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "metad/raft/log_view.h"
#include "metad/raft/types.h"

namespace lumeofs::raft {

struct Options {
    NodeId id;
    uint64_t seed = 1;               // randomises election timeouts; give each node its own
    uint32_t election_ticks = 20;    // timeouts are random in [election_ticks, 2 * election_ticks)
    uint32_t heartbeat_ticks = 3;    // must be well below election_ticks
    // After its start a node gives no vote for so many ticks: its former life may have answered a
    // leader whose lease still runs [26]. Only tests set it to 0. A single voter need not wait.
    uint32_t start_pause_ticks = 20;
    uint32_t append_entries_max = 1024;      // per AppendEntries message
    uint64_t append_bytes_max = 1u << 20;    // likewise; a single larger entry travels alone
    uint32_t in_flight_messages_max = 64;    // per follower, unacknowledged
    uint64_t in_flight_bytes_max = 8u << 20;
    uint64_t uncommitted_bytes_max = 64u << 20;  // proposals beyond are answered busy
    uint64_t unapplied_bytes_max = 8u << 20;     // handed out in `commit` and not yet Applied
    uint64_t tail_bytes_max = 32u << 20;      // durable, applied entries kept in memory
    uint32_t reads_pending_max = 65'536;     // beyond: reads_failed
    uint32_t read_rounds_max = 8;            // unanswered read rounds; later reads share the next
};

// What the driver found on its disk. A new group: the floor has index 0, term 0 and the initial
// membership, the same on every first member; a node that joins later starts with an empty one.
struct Restored {
    HardState hard_state;
    SnapshotDescriptor floor;  // the log begins after this
    LogIndex last;             // last durable entry; == floor.index if none
    LogIndex applied;          // what the state machine holds; floor.index <= applied <= last
};

struct FollowerStatus {
    NodeId id;
    MemberRole role = MemberRole::voter;
    std::string state;       // "probe", "replicate", "snapshot"
    LogIndex match;
    LogIndex next;
    uint32_t in_flight_messages = 0;
    bool recently_active = false;
    uint64_t round = 0;      // newest contact round it answered
};

// For people, metrics and tests.
struct NodeStatus {
    NodeId id;
    Role role = Role::follower;
    NodeId leader;
    Term term;
    NodeId vote;
    LogIndex floor, applied, commit, stable, last;
    Term last_term;
    Membership membership;
    LogIndex membership_index;
    NodeId transfer_target;
    LogIndex leader_start;
    uint64_t round = 0;
    uint64_t quorum_round = 0;
    uint32_t quorum_contact_ticks = 0;  // leader: ticks since the newest quorum round was begun
    uint64_t reads_pending = 0;
    uint64_t tail_entries = 0;          // entries held in memory
    bool failed = false;
    bool installing = false;
    std::vector<FollowerStatus> followers;  // leader only, by id
};

class Core;

class RaftNode {
public:
    // Reads the whole stable log once, in pieces. `view` must outlive the node.
    // corrupt: the log has gaps or falling terms, a membership entry does not decode, or the hard
    // state is older than the log (a lost vote record: such a node must not vote).
    static Result<std::unique_ptr<RaftNode>> restore(const Options& options,
                                                     const Restored& restored,
                                                     LogView* view);
    ~RaftNode();
    RaftNode(const RaftNode&) = delete;
    RaftNode& operator=(const RaftNode&) = delete;

    [[nodiscard]] Update step(const Event& event);

    // The descriptor (id 0) of a snapshot of the state after `index`.
    // Requires: floor <= index <= applied.
    SnapshotDescriptor describe(LogIndex index) const;
    // The term of an entry that the log has, or of the floor; Term{0} otherwise.
    Term term_at(LogIndex index) const;
    NodeStatus status() const;

private:
    friend struct CoreAccess;  // invariants.cc looks inside
    explicit RaftNode(std::unique_ptr<Core> core);
    std::unique_ptr<Core> core_;
};

}  // namespace lumeofs::raft
