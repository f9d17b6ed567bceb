// SPDX-License-Identifier: Apache-2.0
// The state behind RaftNode; one class, its parts in files by topic:
//   raft_node.cc    step: dispatch, term check, what every Update carries at its end
//   election.cc     pre-vote, vote, the roles
//   replication.cc  proposals, append, reject, commit rule
//   read_index.cc   contact rounds, check-quorum, linearizable reads
//   snapshot.cc     accept, install, compaction floor
//   reconfigure.cc  membership one server at a time, leadership transfer
// A handler changes state and fills update_; messages are routed to "now" or "after persist" only
// when the step ends, from what they rely on, so no handler can get I1 wrong.
// Single-thread: core.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "metad/raft/progress.h"
#include "metad/raft/raft_log.h"
#include "metad/raft/raft_node.h"
#include "metad/raft/types.h"

namespace lumeofs::raft {

class Core {
public:
    Core(const Options& options, const Restored& restored, LogView* view);
    Status load(const Restored& restored, LogView* view);

    Update step(const Event& event);
    SnapshotDescriptor describe(LogIndex index) const;
    NodeStatus status() const;
    const RaftLog& log() const { return log_; }

private:
    friend struct CoreAccess;
    struct Outgoing {
        Message message;
        LogIndex relies_on;  // entries up to here must be durable here before it leaves
    };
    struct ReadBatch {
        uint64_t round = 0;
        LogIndex index;
        std::vector<uint64_t> contexts;
    };
    struct Transfer {
        NodeId target;
        uint32_t elapsed_ticks = 0;
        bool timeout_sent = false;
    };
    using MembershipAt = std::pair<LogIndex, Membership>;

    // raft_node.cc
    void on(const Tick& event);
    void on(const Received& event);
    void on(const Persisted& event);
    void on(const Applied& event);
    void on(const Proposed& event);
    void on(const MembershipProposed& event);
    void on(const ReadRequested& event);
    void on(const TransferLeadership& event);
    void on(const Compacted& event);
    void on(const SnapshotReceived& event);
    void on(const SnapshotInstalled& event);
    void on(const SnapshotSent& event);
    void on(const PeerUnreachable& event);
    void on(const Campaign& event);
    void on(const StepDown& event);
    void on(const Failed& event);
    void refuse_all(const Event& event);
    bool check_term(const Message& message);
    void dispatch(const Message& message);
    void refuse_old_term(const Message& message);
    void send(Message message, LogIndex relies_on = LogIndex{});
    void finish();
    void finish_writes();
    void finish_messages();
    void finish_commit();

    // election.cc
    bool is_leader() const { return role_ == Role::leader; }
    bool may_campaign() const;
    bool hears_leader() const;
    void restart_election_timer();
    void become_follower(Term term, NodeId leader);
    void lose_leadership();
    void campaign();
    void become_candidate(bool transfer);
    void become_leader();
    void ask_for_votes(MessageType type, Term term, bool transfer);
    void record_vote(NodeId voter, bool granted);
    void on_vote_request(const Message& message);
    void on_vote_response(const Message& message);

    // replication.cc
    Entry make_entry(EntryKind kind, Payload payload) const;
    void append_own(const Entry& entry);
    void replicate_to(NodeId follower, Progress& progress);
    bool send_append(NodeId follower, Progress& progress, bool also_empty);
    void replicate_to_all();
    void on_append_request(const Message& message);
    bool well_formed(const Message& message) const;
    void accept_entries(const Message& message);
    void reject_append(const Message& message);
    void on_append_response(const Message& message);
    void on_heartbeat(const Message& message);
    void on_heartbeat_response(const Message& message);
    void follow(NodeId leader);
    void maybe_commit();
    void follower_commit(LogIndex index);

    // read_index.cc
    void start_round();
    void confirm_reads();
    void update_quorum_round();
    void start_reads();
    void leader_tick();
    bool own_term_committed() const;

    // reconfigure.cc
    void set_membership(LogIndex index, Membership membership);
    void roll_back_memberships(LogIndex from);
    void membership_changed();
    void sync_progress();
    void transfer_tick();
    void maybe_send_timeout_now();
    void outcome(Errc code) { update_.proposal = ProposalOutcome{code, {}, 0, hard_.term}; }
    const Membership& membership() const { return memberships_.back().second; }
    const Membership& membership_at(LogIndex index) const;

    Options options_;
    RaftLog log_;
    Prng prng_;

    HardState hard_;
    HardState hard_handed_;         // what the driver was last asked to write
    uint64_t hard_persist_id_ = 0;  // in which update
    uint64_t next_persist_id_ = 1;
    uint64_t persisted_id_ = 0;

    Role role_ = Role::follower;
    NodeId leader_;
    LogIndex leader_start_;
    std::vector<MembershipAt> memberships_;  // rising; [0] is in force at the floor

    uint64_t ticks_ = 0;
    uint32_t election_elapsed_ = 0;
    uint32_t heartbeat_elapsed_ = 0;
    uint32_t election_timeout_ = 0;
    uint32_t start_pause_left_ = 0;
    // Ticks since a leader of any term was heard, whatever became of it or of us since: until it
    // reaches the election timeout that leader may count on our not voting. Starts "long ago".
    uint64_t since_leader_ticks_ = UINT64_MAX / 2;

    std::map<NodeId, bool> votes_;
    bool own_vote_pending_ = false;  // cast, but not durable: not counted yet

    std::map<NodeId, Progress> progress_;  // leader: every other member
    uint64_t uncommitted_bytes_ = 0;
    std::optional<Transfer> transfer_;

    uint64_t round_ = 0;         // newest contact round begun; never falls, whoever leads
    uint64_t quorum_round_ = 0;  // newest answered by a quorum in this leadership
    uint64_t quorum_contact_tick_ = 0;
    std::deque<std::pair<uint64_t, uint64_t>> round_ticks_;  // (round, tick of its beginning)
    std::vector<uint64_t> reads_waiting_;
    std::deque<ReadBatch> reads_in_round_;
    uint64_t reads_pending_ = 0;

    std::deque<std::pair<LogIndex, uint64_t>> handed_batches_;  // (last index, bytes), not Applied
    uint64_t unapplied_bytes_ = 0;
    std::optional<SnapshotDescriptor> installing_;
    bool failed_ = false;

    Update update_;
    std::vector<Outgoing> outgoing_;
    SoftState soft_handed_;
};

}  // namespace lumeofs::raft
