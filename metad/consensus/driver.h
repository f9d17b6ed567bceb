// SPDX-License-Identifier: Apache-2.0
// RaftDriver: Consensus over the pure core (metad/raft/), this node's disk and the network.
//
// Everything that arrives in one batch of loop tasks (messages, proposals, reads, ticks) is stepped
// into the core; when the batch ends, work() obeys the gathered updates: send what need not wait,
// write and sync ONCE, send what waited, apply, answer. So what arrives while a sync runs is the
// next batch, and the leader's sync overlaps those of the followers.
//
// I1 holds because send_after_persist leaves only after the sync of all writes asked for before it.
// I3: the first failed write, sync or apply ends this node's part: nothing is sent, voted or
// answered any more, status().trouble says why, and options.on_failure tells the process, which
// should exit. A damaged log is refused by open() already.
//
// Order of calls: open() (the state machine is open), start() on the loop, then feed on_push() and
// on_request() with what the RPC server gets for Method::raft and Method::snapshot_piece; stop(),
// then destroy. open() returns a driver that does nothing before start().
// single-thread: the metad loop.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/env/file_system.h"
#include "common/env/loop.h"
#include "common/env/transport.h"
#include "common/rpc/peer.h"
#include "metad/consensus/ask_first.h"
#include "metad/consensus/consensus.h"
#include "metad/consensus/peer_link.h"
#include "metad/consensus/proposals.h"
#include "metad/consensus/replicated_state.h"
#include "metad/consensus/storage.h"
#include "metad/raft/raft_node.h"

namespace lumeofs::consensus {

class SnapshotSender;

struct DriverOptions {
    std::string data_dir;  // exists; everything goes below data_dir/raft
    NodeId node;
    std::string address;              // of this node, as the others reach it ("host:port")
    std::vector<raft::Member> peers;  // the first members, this node among them: the same list in
                                      // the same form on each of them; used only at the first start
    bool join = false;  // first start as a new member of a running group; no peers
    Uuid cluster;       // 0 = at the first start cluster_of(peers) (join: learnt from
                        // the group), later whatever the directory says
    uint64_t seed = 0;  // from the system's random source, different for every start
    Nanos tick = kRaftTick;
    uint32_t election_ticks = static_cast<uint32_t>(kElectionTimeoutMin / kRaftTick);
    uint32_t heartbeat_ticks = static_cast<uint32_t>(kRaftHeartbeat / kRaftTick);
    uint32_t start_pause_ticks = static_cast<uint32_t>(kElectionTimeoutMin / kRaftTick);
    uint64_t log_bytes_max = uint64_t{256} << 20;  // beyond: checkpoint and cut (raft_log_max_size)
    uint64_t log_bytes_kept = uint64_t{32} << 20;  // newest entries that a cut leaves for laggards
    uint64_t segment_bytes = kRaftSegmentBytes;
    size_t proposals_max = 16'384;  // waiting here; beyond: busy
    uint64_t proposal_bytes_max = uint64_t{64} << 20;
    std::function<Hello()> hello;                   // for links to other metads
    std::function<void(const Status&)> on_failure;  // once; the process should exit with this error
};

// The largest command that propose() takes.
inline constexpr size_t kMaxCommandBytes = kMaxBytesPerAppend;

// The id of a cluster that was first started with these members.
Uuid cluster_of(const std::vector<raft::Member>& peers);

class RaftDriver final : public Consensus {
public:
    struct Env {
        Loop& loop;
        FileSystem& fs;
        Transport& transport;
    };

    // Requires: `state` is open and outlives the driver; so do loop, fs and transport.
    // config: the directory is another node's or cluster's, or the options make no sense.
    // corrupt: the log, term and vote, or the database are damaged: this node must not take part.
    static Result<std::unique_ptr<RaftDriver>> open(const Env& env,
                                                    const DriverOptions& options,
                                                    ReplicatedState& state);
    ~RaftDriver() override;
    RaftDriver(const RaftDriver&) = delete;
    RaftDriver& operator=(const RaftDriver&) = delete;

    void start();
    // Ends links and timers; who still waits gets shutting_down. Nothing happens afterwards.
    void stop();

    // From the RPC server, for pushes and requests of peers with Role::metad.
    void on_push(const Hello& from, const RpcPush& push);
    void on_request(const Hello& from, RpcRequest request);

    // --- Consensus
    void propose(Bytes command, ProposeDone done) override;
    void read_barrier(ReadDone done) override;
    bool is_ready_leader() const override { return ready_; }
    Term term() const override { return soft_.term; }
    NodeId leader() const override { return soft_.leader; }
    std::string leader_address() const override;
    Nanos quorum_contact() const override;
    ConsensusStatus status() const override;
    void on_leadership(std::function<void(bool)> changed) override;

    // --- administration; `done` may come from inside the call
    void change_membership(raft::MembershipProposed change, std::function<void(Status)> done);
    // Target 0: the voter that is furthest. ok: begun (see leader() for what comes of it).
    Status transfer_leadership(NodeId target);
    // Checkpoint, and cut the log: down to log_bytes_kept, or with `everything` as far as the
    // members that answer allow. The index that the log begins after now.
    Result<LogIndex> compact(bool everything = false);

    Uuid cluster() const { return storage_->identity.cluster; }
    const Status& failure() const { return failure_; }
    // Of messages between metads and syncs of the log, since the start; tests count hops with them.
    uint64_t frames_sent() const;
    uint64_t syncs() const { return storage_->log->sync_count(); }
    const LogStore& log() const { return *storage_->log; }

private:
    struct Write {
        uint64_t persist_id = 0;
        std::optional<raft::HardState> hard_state;
        std::optional<LogIndex> truncate_from;
        std::vector<raft::Entry> append;
    };
    struct Proposal {
        Bytes command;
        ProposeDone done;
    };

    RaftDriver(const Env& env, const DriverOptions& options, ReplicatedState& state);
    Status restore();

    // driver.cc: events in, updates gathered
    std::optional<raft::ProposalOutcome> step(const raft::Event& event);
    void gather(raft::Update& update);
    void follow_soft_state(const raft::SoftState& now);
    void note_contact(const raft::Update& update);
    void schedule_work();
    void on_tick();
    void publish_leadership();
    bool read_lease_holds() const;
    void fail(const Status& why);
    void fail_waiters(const Status& why);

    // driver_work.cc: obeying them
    void work();
    bool proposals_due() const;
    void step_proposals();
    void step_reads();
    void persist();
    Status write_all(const std::vector<Write>& writes);
    void apply_committed();
    void install_snapshot();
    void maybe_compact();
    Result<LogIndex> cut_log(uint64_t bytes_kept);

    // driver_peers.cc: the others
    void send(std::vector<raft::Message>& messages);
    void flush_links();
    void ask_the_rest();
    void ask_all_again();
    PeerLink* link_to(NodeId node);
    void open_link(NodeId node, const std::string& address);
    void follow_membership();
    void drop_strangers();
    Status check_sender(const Hello& from, const Sender& sender, NodeId to);
    Sender own_sender() const;
    void start_sender(const raft::SnapshotNeed& need);
    void sender_ended(NodeId follower, LogIndex index, bool delivered);
    void on_piece(const SnapshotPieceHead& head, View bytes, const Responder& responder);
    void piece_received(const SnapshotPieceHead& head, Result<raft::SnapshotDescriptor> snapshot);
    void answer_pieces(const Status& status, bool done);

    Env env_;
    DriverOptions options_;
    ReplicatedState& state_;
    Prng prng_;
    std::unique_ptr<Storage> storage_;
    std::unique_ptr<raft::RaftNode> node_;
    raft::Membership membership_;
    raft::SoftState soft_;
    Status failure_;
    bool running_ = false;
    bool ready_ = false;
    bool stepping_ = false;
    bool work_scheduled_ = false;
    std::vector<std::function<void(bool)>> leadership_changed_;

    // Gathered from updates, obeyed by work().
    std::vector<Write> writes_;
    std::vector<raft::Message> after_persist_;
    std::deque<raft::Entry> commits_;
    std::optional<raft::SnapshotDescriptor> install_;
    std::vector<raft::SnapshotNeed> snapshots_needed_;

    std::vector<Proposal> new_proposals_;
    uint64_t new_proposal_bytes_ = 0;
    std::vector<ReadDone> new_reads_;
    uint64_t last_read_context_ = 0;
    Proposals proposals_;
    Reads reads_;

    std::map<uint64_t, Nanos> rounds_;  // contact round -> boot time at which it was sent
    Nanos quorum_contact_ = -1;
    Nanos last_tick_ = 0;
    uint64_t compact_at_bytes_;

    std::map<NodeId, std::unique_ptr<PeerLink>> links_;
    std::map<NodeId, Nanos> last_heard_;
    std::set<NodeId> refused_;  // senders that were complained about
    std::map<NodeId, std::unique_ptr<SnapshotSender>> senders_;
    AskFirst ask_first_;
    LogIndex held_back_;  // the newest entry when entries began to wait for later_
    uint64_t last_stream_ = 0;
    uint64_t frames_of_old_links_ = 0;
    // The stream that is being verified or installed, and the last one that was.
    std::optional<SnapshotPieceHead> finishing_, finished_;
    std::vector<Responder> finishing_waiters_;

    std::shared_ptr<char> alive_;  // goes with us; posted tasks look at it
    Timer ticker_;
    Timer later_;  // runs while entries wait for followers that are not asked first
};

}  // namespace lumeofs::consensus
