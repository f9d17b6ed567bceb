// SPDX-License-Identifier: Apache-2.0
// What goes into the Raft core and what comes out: plain values, no clock, no file, no socket.
//
// An Event says what has happened (time passed, a message came, a write is durable); the Update
// that RaftNode::step returns for it says what has to be done, and in which order.
// Payloads are counted and immutable: one block of bytes, however many followers it is sent to.
// References "Raft n.m" are to sections of Ongaro's dissertation; I1, I2 to docs/GUARANTEES.md:
// I1: term, vote and entries are durable before a message that relies on them leaves.
// I2: at most one leader per term.
// Immutable values; thread-compatible.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace lumeofs::raft {

constexpr LogIndex operator+(LogIndex at, uint64_t count) { return LogIndex{at.value + count}; }
constexpr LogIndex operator-(LogIndex at, uint64_t count) { return LogIndex{at.value - count}; }
constexpr uint64_t operator-(LogIndex a, LogIndex b) { return a.value - b.value; }

// --- the log ------------------------------------------------------------------------------------

using Payload = std::shared_ptr<const Bytes>;

// The numbers are stored in the log and sent: never change or reuse one.
enum class EntryKind : uint8_t {
    empty = 0,       // the first entry of a leader's term; payload is null
    command = 1,     // a proposal; the core never looks inside
    membership = 2,  // an encoded Membership (membership.h), effective as soon as it is appended
};

struct Entry {
    LogIndex index;
    Term term;
    EntryKind kind = EntryKind::empty;
    Payload payload;  // null or empty means no bytes

    // What the bounds on messages, windows and batches count for this entry.
    uint64_t cost_bytes() const { return (payload ? payload->size() : 0) + 32; }
};

// Term and vote: ONE atomic durable record (reliability rule 1), never two writes.
struct HardState {
    Term term;
    NodeId vote;  // whom this node voted for in `term`; 0 = nobody

    bool operator==(const HardState&) const = default;
};

enum class MemberRole : uint8_t {
    voter = 0,
    learner = 1,  // receives the log, is in no quorum, never campaigns
};

struct Member {
    NodeId id;
    MemberRole role = MemberRole::voter;
    std::string address;  // opaque to the core: where the driver finds it

    bool operator==(const Member&) const = default;
};

// Who belongs to the group; sorted by id, each id once.
struct Membership {
    std::vector<Member> members;

    bool operator==(const Membership&) const = default;
    const Member* find(NodeId id) const;
    bool is_voter(NodeId id) const;
    std::vector<NodeId> voters() const;
};

// A snapshot as the core knows it; the bytes are the driver's and travel out of band.
struct SnapshotDescriptor {
    LogIndex index;         // the state after applying this entry
    Term term;              // of that entry
    Membership membership;  // in force at that entry
    uint64_t id = 0;        // the driver's own name for the bytes; the core only hands it back

    bool operator==(const SnapshotDescriptor&) const = default;
};

// --- messages -----------------------------------------------------------------------------------

// The numbers are sent: never change or reuse one.
enum class MessageType : uint8_t {
    pre_vote_request = 1,    // term (the one it would campaign in), index, log_term
    pre_vote_response = 2,   // granted: term = the asked one; reject: term = the voter's own
    vote_request = 3,        // index, log_term: last entry of the candidate; transfer
    vote_response = 4,       // reject
    append_request = 5,      // index, log_term: the entry before entries[0]; entries, commit, round
    append_response = 6,     // index: match, or with reject the refused index and the hints; round
    heartbeat = 7,           // commit (never above what this follower acknowledged), round
    heartbeat_response = 8,  // round
    timeout_now = 9,         // campaign at once (leadership transfer)
};

struct Message {
    MessageType type = MessageType::heartbeat;
    NodeId from;
    NodeId to;
    Term term;
    LogIndex index;
    Term log_term;
    LogIndex commit;
    // The leader's contact round. A response repeats the round of its request, so that a leader
    // knows *when* it was still the leader in the eyes of a quorum (reads, leases [26]).
    uint64_t round = 0;
    bool reject = false;
    bool transfer = false;  // the old leader has given up its lease: vote in spite of hearing it
    LogIndex hint_index;    // reject of append_request: the newest place that may still agree,
    Term hint_term;         // and the term of the follower's entry there
    std::vector<Entry> entries;
};

// --- events -------------------------------------------------------------------------------------

struct Tick {};  // one tick of the driver's timer has passed

struct Received {
    Message message;
};

// All that Updates up to and including this one asked to persist is durable (fsync returned).
struct Persisted {
    uint64_t persist_id = 0;
};

// The state machine holds everything up to here (in memory is enough; see Compacted for durable).
struct Applied {
    LogIndex index;
};

// A batch of commands; they get consecutive indexes. Answer: Update::proposal.
struct Proposed {
    std::vector<Payload> payloads;
};

// One server at a time (Raft 4.2.1). Answer: Update::proposal.
struct MembershipProposed {
    enum class Kind : uint8_t { add_voter, add_learner, promote, remove };
    Kind kind = Kind::add_voter;
    Member member;  // promote, remove: only the id counts
};

// Linearizable reads; each context comes back in Update::reads or Update::reads_failed, once.
// A context must never be used again for a retry (reliability rule 6).
struct ReadRequested {
    std::vector<uint64_t> contexts;
};

// Target 0: the voter that is furthest. Answer: Update::proposal (code only).
struct TransferLeadership {
    NodeId target;
};

// The driver has durably cut its log: entries up to and including `floor` may be gone, and the
// floor's descriptor (RaftNode::describe, taken before) is stored with the log.
// Requires: floor <= what the state machine holds *durably* [12].
struct Compacted {
    LogIndex floor;
};

// All bytes of a snapshot arrived here and were verified. Answer: Update::install or
// Update::snapshot_refused. `from` and `term` are those of the leader that streamed it.
struct SnapshotReceived {
    NodeId from;
    Term term;
    SnapshotDescriptor snapshot;
};

// The snapshot of Update::install is in place, durably and atomically with the cut of the log.
struct SnapshotInstalled {
    LogIndex index;
};

// The end of a stream that Update::snapshots_needed asked for; index: what was streamed.
struct SnapshotSent {
    NodeId follower;
    LogIndex index;
    bool delivered = false;
};

// The link to this node broke: what was in flight to it may be lost.
struct PeerUnreachable {
    NodeId node;
};

struct Campaign {};  // stand for election now (tests, first start); pre-vote still applies
struct StepDown {};  // a leader goes back to follower (slow disk, shutdown); no effect on others
struct Failed {};    // a write or fsync failed (I3): step down and do nothing any more

using Event = std::variant<Tick,
                           Received,
                           Persisted,
                           Applied,
                           Proposed,
                           MembershipProposed,
                           ReadRequested,
                           TransferLeadership,
                           Compacted,
                           SnapshotReceived,
                           SnapshotInstalled,
                           SnapshotSent,
                           PeerUnreachable,
                           Campaign,
                           StepDown,
                           Failed>;

// --- update -------------------------------------------------------------------------------------

enum class Role : uint8_t { follower, pre_candidate, candidate, leader };

struct SoftState {
    Role role = Role::follower;
    NodeId leader;  // 0 = unknown
    Term term;
    // On a leader: the index of its empty entry. It may serve once it has *applied* this index.
    LogIndex leader_start;

    bool operator==(const SoftState&) const = default;
};

struct ReadState {
    uint64_t context = 0;
    LogIndex index;  // answer the read as soon as this is applied
};

// What became of Proposed, MembershipProposed or TransferLeadership.
struct ProposalOutcome {
    // ok, not_leader (see SoftState::leader), busy (too much is uncommitted, or another membership
    // change or a transfer is under way), unavailable (nothing of the own term is committed yet),
    // inval (the change makes no sense), shutting_down (Failed).
    Errc code = Errc::ok;
    LogIndex first;  // index of the first entry of the batch
    uint64_t count = 0;
    Term term;       // what commits at that index with another term is not this proposal
};

// A follower lacks entries that the log no longer has: stream it a snapshot whose index is at least
// `floor`, then report SnapshotSent. Asked once until that report (or until the follower is back).
struct SnapshotNeed {
    NodeId follower;
    Term term;       // the leader's: goes into the stream, and from there into SnapshotReceived
    LogIndex floor;
};

// What the driver has to do for one event. Order: see raft_node.h.
struct Update {
    // Not 0: there is something to persist (hard_state, truncate_from, append); report it with
    // Persisted{persist_id}. Ids rise; one report may cover several updates.
    uint64_t persist_id = 0;
    std::optional<HardState> hard_state;     // 1. durable before truncate_from, append begin
    std::optional<LogIndex> truncate_from;   // 2. the stable log ends just before this index
    std::vector<Entry> append;               // 3. follows the end of the log without a gap
    // Replace state machine and log by this snapshot (already received); the log is then empty with
    // its floor at the snapshot. Comes with no truncate_from and no append.
    std::optional<SnapshotDescriptor> install;
    // These bytes are of no use here: delete them.
    std::optional<SnapshotDescriptor> snapshot_refused;

    std::vector<Message> send_now;           // need not wait for any write
    // Wait until ALL writes asked for so far, by this and by earlier updates, are durable (I1).
    // If none is outstanding they may leave at once.
    std::vector<Message> send_after_persist;

    std::vector<Entry> commit;               // committed and durable here: apply, report Applied
    std::vector<ReadState> reads;            // confirmed by a quorum round begun after the request
    std::vector<uint64_t> reads_failed;      // not (or no longer) leader: ask elsewhere
    std::vector<SnapshotNeed> snapshots_needed;
    std::optional<ProposalOutcome> proposal;  // set exactly for events that promise it
    std::optional<SoftState> soft_state;      // set when it changed
    std::optional<Membership> membership;     // set when the one in force changed (or rolled back)

    // A contact round began with this update: note the clock BEFORE its messages leave. 0 = none.
    uint64_t round_started = 0;
    // Newest round that a quorum has answered: leases and time-based promises run from the time
    // noted for it [26]. 0 = no lease at all: not the leader, nothing answered yet, or given up
    // for a transfer. Always filled in, so the newest Update tells the present state.
    uint64_t quorum_round = 0;
};

}  // namespace lumeofs::raft
