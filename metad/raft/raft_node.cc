// SPDX-License-Identifier: Apache-2.0
// step: which handler, the term check of every message, and what each Update carries at its end.
#include "metad/raft/raft_node.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/planted_bug.h"
#include "metad/raft/core.h"
#include "metad/raft/membership.h"

namespace lumeofs::raft {

RaftNode::RaftNode(std::unique_ptr<Core> core) : core_(std::move(core)) {}
RaftNode::~RaftNode() = default;

Result<std::unique_ptr<RaftNode>> RaftNode::restore(const Options& options,
                                                    const Restored& restored,
                                                    LogView* view) {
    LFS_ASSERT(options.id && view != nullptr);
    LFS_ASSERT(options.heartbeat_ticks > 0 && options.heartbeat_ticks < options.election_ticks);
    auto core = std::make_unique<Core>(options, restored, view);
    LFS_TRY(core->load(restored, view));
    return std::unique_ptr<RaftNode>(new RaftNode(std::move(core)));
}

Update RaftNode::step(const Event& event) { return core_->step(event); }
SnapshotDescriptor RaftNode::describe(LogIndex index) const { return core_->describe(index); }
Term RaftNode::term_at(LogIndex index) const { return core_->log().term_at(index); }
NodeStatus RaftNode::status() const { return core_->status(); }

Core::Core(const Options& options, const Restored& restored, LogView* view)
    : options_(options),
      log_(restored.floor.index, restored.floor.term, view, options.tail_bytes_max),
      prng_(options.seed),
      hard_(restored.hard_state),
      hard_handed_(restored.hard_state),
      memberships_{{restored.floor.index, restored.floor.membership}},
      start_pause_left_(options.start_pause_ticks) {
    restart_election_timer();
}

Status Core::load(const Restored& restored, LogView* view) {
    if (restored.applied < restored.floor.index || restored.last < restored.applied) {
        return Status(Errc::corrupt,
                      "the state machine holds more than the log: entries were lost");
    }
    constexpr uint64_t kPieceBytes = 4u << 20;
    while (log_.last() < restored.last) {
        const LogIndex first = log_.last() + 1;
        LFS_ASSIGN(std::vector<Entry> piece, view->load_entries(first, restored.last, kPieceBytes));
        if (piece.empty()) return Status(Errc::corrupt, "the log ends early");
        for (const Entry& entry : piece) {
            if (entry.index != log_.last() + 1 || entry.term < log_.last_term()) {
                return Status(Errc::corrupt, "the log has a gap or a falling term");
            }
            log_.append(entry);
            if (entry.kind != EntryKind::membership) continue;
            LFS_ASSIGN(Membership decoded,
                       decode_membership(entry.payload ? View(*entry.payload) : View()));
            // Effective on append, committed or not: a change that was under way is rolled back by
            // truncation after a restart as well.
            memberships_.emplace_back(entry.index, std::move(decoded));
        }
        log_.restored(log_.last(), std::min(log_.last(), restored.applied));
    }
    log_.restored(log_.last(), restored.applied);
    if (hard_.term < log_.last_term()) {
        return Status(Errc::corrupt, "the hard state is older than the log: the vote was lost");
    }
    // A single voter has no other life of the group to wait for.
    if (membership().voters() == std::vector<NodeId>{options_.id}) {
        start_pause_left_ = 0;
        election_elapsed_ = election_timeout_;
    }
    soft_handed_ = SoftState{role_, leader_, hard_.term, {}};
    return ok_status();
}

Update Core::step(const Event& event) {
    LFS_ASSERT(outgoing_.empty());
    update_ = Update{};
    if (failed_) {
        refuse_all(event);
        return std::move(update_);
    }
    std::visit([this](const auto& e) { on(e); }, event);
    finish();
    return std::move(update_);
}

void Core::refuse_all(const Event& event) {
    if (const auto* reads = std::get_if<ReadRequested>(&event)) {
        update_.reads_failed = reads->contexts;
    } else if (std::holds_alternative<Proposed>(event) ||
               std::holds_alternative<MembershipProposed>(event) ||
               std::holds_alternative<TransferLeadership>(event)) {
        outcome(Errc::shutting_down);
    } else if (const auto* snapshot = std::get_if<SnapshotReceived>(&event)) {
        update_.snapshot_refused = snapshot->snapshot;
    }
}

void Core::on(const Tick& /*event*/) {
    ++ticks_;
    if (start_pause_left_ > 0) --start_pause_left_;
    ++election_elapsed_;
    ++since_leader_ticks_;
    if (is_leader()) {
        leader_tick();
    } else if (election_elapsed_ >= election_timeout_ && start_pause_left_ == 0 && may_campaign()) {
        restart_election_timer();
        campaign();
    }
}

void Core::on(const Received& event) {
    const Message& message = event.message;
    if (message.to != options_.id || message.from == options_.id) return;
    if (!check_term(message)) return;
    dispatch(message);
}

// Raft 3.3: a higher term makes a follower, a lower one is not obeyed. False: the message is dealt
// with. From true on the message's term is the current one, or it is about a pre-vote.
bool Core::check_term(const Message& message) {
    const bool asks_vote =
        message.type == MessageType::vote_request || message.type == MessageType::pre_vote_request;
    if (asks_vote && message.term >= hard_.term && !message.transfer &&
        (hears_leader() || (start_pause_left_ > 0 && !planted_bug("raft.vote_after_restart")))) {
        // A leader that a quorum has just answered may count on it (Raft 4.2.3, 6.4.1): the term is
        // not even looked at. After a start we may have been part of such a quorum [26].
        return false;
    }
    if (message.term > hard_.term) {
        // A pre-vote is a question about a term that nobody has begun.
        if (message.type == MessageType::pre_vote_request) return true;
        if (message.type == MessageType::pre_vote_response && !message.reject) return true;
        const bool from_leader =
            message.type == MessageType::append_request || message.type == MessageType::heartbeat;
        become_follower(message.term, from_leader ? message.from : NodeId{});
        return true;
    }
    if (message.term < hard_.term) {
        refuse_old_term(message);
        return false;
    }
    return true;
}

// Answers carry our term, so that an old leader or candidate steps down instead of being stuck.
void Core::refuse_old_term(const Message& message) {
    Message reply;
    reply.to = message.from;
    reply.reject = true;
    switch (message.type) {
        case MessageType::append_request:
        case MessageType::heartbeat:
            reply.type = MessageType::append_response;
            break;
        case MessageType::vote_request:
            reply.type = MessageType::vote_response;
            break;
        case MessageType::pre_vote_request:
            reply.type = MessageType::pre_vote_response;
            break;
        case MessageType::pre_vote_response:
        case MessageType::vote_response:
        case MessageType::append_response:
        case MessageType::heartbeat_response:
        case MessageType::timeout_now:
            return;
    }
    send(std::move(reply));
}

void Core::dispatch(const Message& message) {
    switch (message.type) {
        case MessageType::pre_vote_request:
        case MessageType::vote_request:
            on_vote_request(message);
            return;
        case MessageType::pre_vote_response:
        case MessageType::vote_response:
            on_vote_response(message);
            return;
        case MessageType::append_request:
            on_append_request(message);
            return;
        case MessageType::append_response:
            on_append_response(message);
            return;
        case MessageType::heartbeat:
            on_heartbeat(message);
            return;
        case MessageType::heartbeat_response:
            on_heartbeat_response(message);
            return;
        case MessageType::timeout_now:
            // The leader has given up its lease and wants us: no pre-vote, and voters need not
            // wait.
            if (message.from == leader_ && role_ == Role::follower && may_campaign()) {
                become_candidate(true);
            }
            return;
    }
    // Another number is not of our making (a newer version's): it is dropped like a lost message.
}

void Core::on(const Persisted& event) {
    LFS_ASSERT(event.persist_id < next_persist_id_);
    persisted_id_ = std::max(persisted_id_, event.persist_id);
    log_.persisted(event.persist_id);
    if (own_vote_pending_ && persisted_id_ >= hard_persist_id_) {
        // Reliability rule 2: a candidate's vote for itself counts when it is durable, like any.
        own_vote_pending_ = false;
        record_vote(options_.id, true);
    }
    if (is_leader()) maybe_commit();  // rule 5: the leader's own copy counts from now on
}

void Core::on(const Applied& event) {
    log_.applied_to(event.index);
    while (!handed_batches_.empty() && handed_batches_.front().first <= event.index) {
        unapplied_bytes_ -= handed_batches_.front().second;
        handed_batches_.pop_front();
    }
}

void Core::on(const Campaign& /*event*/) {
    const bool alone = membership().voters().size() == 1;
    if (is_leader() || !may_campaign() || (start_pause_left_ > 0 && !alone)) return;
    restart_election_timer();
    campaign();
}

void Core::on(const StepDown& /*event*/) {
    if (is_leader()) become_follower(hard_.term, NodeId{});
}

void Core::on(const Failed& /*event*/) {
    // I3: what the disk holds is unknown from here on. Nothing is sent, voted or applied any more;
    // memory may be ahead of the disk, so not even a refusal may rely on it.
    if (is_leader()) lose_leadership();
    role_ = Role::follower;
    leader_ = NodeId{};
    own_vote_pending_ = false;
    failed_ = true;
    outgoing_.clear();
}

void Core::send(Message message, LogIndex relies_on) {
    message.from = options_.id;
    // Rule 4: the reply is built after the state has changed, so it carries the new term.
    if (!message.term) message.term = hard_.term;
    outgoing_.push_back({std::move(message), relies_on});
}

void Core::finish() {
    if (!failed_) {
        finish_writes();
        finish_messages();
        finish_commit();
        update_.quorum_round =
            is_leader() && !(transfer_ && transfer_->timeout_sent) ? quorum_round_ : 0;
    }
    outgoing_.clear();
    const SoftState soft{role_, leader_, hard_.term, is_leader() ? leader_start_ : LogIndex{}};
    if (soft != soft_handed_) update_.soft_state = soft_handed_ = soft;
}

void Core::finish_writes() {
    LFS_ASSERT(hard_.term >= hard_handed_.term);
    // I2, one vote per term: a vote that was given is never changed within its term.
    LFS_ASSERT(hard_.term > hard_handed_.term || !hard_handed_.vote ||
               hard_.vote == hard_handed_.vote);
    const bool new_hard_state = hard_ != hard_handed_;
    const bool log_write = update_.truncate_from || !update_.append.empty();
    LFS_ASSERT(!(log_write && installing_));
    if (!new_hard_state && !log_write) return;
    update_.persist_id = next_persist_id_++;
    if (new_hard_state) {
        update_.hard_state = hard_handed_ = hard_;
        hard_persist_id_ = update_.persist_id;
    }
    if (log_write) log_.note_write(update_.persist_id);
}

// I1: what a message relies on is durable before the message leaves. Every message relies on its
// sender's term and vote; an ack also on the entries it acknowledges.
void Core::finish_messages() {
    const bool hard_durable = persisted_id_ >= hard_persist_id_;
    for (Outgoing& out : outgoing_) {
        bool now = hard_durable && out.relies_on <= log_.stable();
        // A pre-vote request promises nothing.
        if (out.message.type == MessageType::pre_vote_request) now = true;
        if (out.message.type == MessageType::vote_response &&
            planted_bug("raft.vote_not_persisted")) {
            now = true;
        }
        // A leader exists only after its own vote was durable, so its messages never wait: they
        // overlap its own disk write (Raft 10.2.1).
        LFS_ASSERT(now || !is_leader());
        (now ? update_.send_now : update_.send_after_persist).push_back(std::move(out.message));
    }
}

void Core::finish_commit() {
    if (installing_) return;
    const LogIndex ready = std::min(log_.commit(), log_.stable());
    while (log_.handed() < ready && unapplied_bytes_ < options_.unapplied_bytes_max) {
        Result<std::vector<Entry>> entries = log_.slice(
            log_.handed() + 1, ready, UINT64_MAX, options_.unapplied_bytes_max - unapplied_bytes_);
        if (!entries.is_ok()) return;  // the driver's own log failed; it says so with Failed
        uint64_t bytes = 0;
        for (Entry& entry : *entries) {
            bytes += entry.cost_bytes();
            update_.commit.push_back(std::move(entry));
        }
        log_.handed_to(update_.commit.back().index);
        handed_batches_.emplace_back(log_.handed(), bytes);
        unapplied_bytes_ += bytes;
    }
}

NodeStatus Core::status() const {
    NodeStatus s;
    s.id = options_.id;
    s.role = role_;
    s.leader = leader_;
    s.term = hard_.term;
    s.vote = hard_.vote;
    s.floor = log_.floor();
    s.applied = log_.applied();
    s.commit = log_.commit();
    s.stable = log_.stable();
    s.last = log_.last();
    s.last_term = log_.last_term();
    s.membership = membership();
    s.membership_index = memberships_.back().first;
    s.tail_entries = log_.tail_entries();
    s.reads_pending = reads_pending_;
    s.failed = failed_;
    s.installing = installing_.has_value();
    s.round = round_;
    if (!is_leader()) return s;
    s.leader_start = leader_start_;
    s.transfer_target = transfer_ ? transfer_->target : NodeId{};
    s.quorum_round = transfer_ && transfer_->timeout_sent ? 0 : quorum_round_;
    s.quorum_contact_ticks = static_cast<uint32_t>(ticks_ - quorum_contact_tick_);
    for (const auto& [id, progress] : progress_) {
        FollowerStatus f;
        f.id = id;
        f.role = membership().is_voter(id) ? MemberRole::voter : MemberRole::learner;
        f.state = progress.state() == Progress::State::probe       ? "probe"
                  : progress.state() == Progress::State::replicate ? "replicate"
                                                                   : "snapshot";
        f.match = progress.match();
        f.next = progress.next();
        f.in_flight_messages = progress.in_flight_messages();
        f.round = progress.round();
        f.recently_active = progress.round() > 0 && progress.round() >= quorum_round_;
        s.followers.push_back(std::move(f));
    }
    return s;
}

}  // namespace lumeofs::raft
