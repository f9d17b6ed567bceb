// SPDX-License-Identifier: Apache-2.0
// Roles and votes (Raft 3.4, 3.6.1), with pre-vote (9.6) and leader stickiness (4.2.3).
#include <algorithm>

#include "common/base/assert.h"
#include "metad/raft/core.h"
#include "metad/raft/quorum.h"

namespace lumeofs::raft {

bool Core::may_campaign() const {
    return membership().is_voter(options_.id) && !installing_ && !failed_;
}

// Within one minimum election timeout of hearing a leader (or of being one: check-quorum ends that
// in time) no other may be elected with our vote.
bool Core::hears_leader() const {
    return is_leader() || since_leader_ticks_ < options_.election_ticks;
}

void Core::restart_election_timer() {
    election_elapsed_ = 0;
    election_timeout_ =
        options_.election_ticks + static_cast<uint32_t>(prng_.below(options_.election_ticks));
}

void Core::become_follower(Term term, NodeId leader) {
    LFS_ASSERT(term >= hard_.term);
    if (is_leader()) lose_leadership();
    // Rule 3: the vote is cleared only by a new term, never by stepping down within one.
    if (term > hard_.term) hard_ = HardState{term, NodeId{}};
    role_ = Role::follower;
    leader_ = leader;
    votes_.clear();
    own_vote_pending_ = false;
    restart_election_timer();
}

void Core::lose_leadership() {
    for (const ReadBatch& batch : reads_in_round_) {
        update_.reads_failed.insert(
            update_.reads_failed.end(), batch.contexts.begin(), batch.contexts.end());
    }
    update_.reads_failed.insert(
        update_.reads_failed.end(), reads_waiting_.begin(), reads_waiting_.end());
    reads_in_round_.clear();
    reads_waiting_.clear();
    reads_pending_ = 0;
    progress_.clear();
    transfer_.reset();
    round_ticks_.clear();
    quorum_round_ = 0;
    uncommitted_bytes_ = 0;
    leader_start_ = LogIndex{};
}

void Core::campaign() {
    LFS_ASSERT(!is_leader());
    // From here on no leader is known: we have not heard one for a timeout.
    role_ = Role::pre_candidate;
    leader_ = NodeId{};
    votes_.clear();
    own_vote_pending_ = false;
    ask_for_votes(MessageType::pre_vote_request, Term{hard_.term.value + 1}, false);
    record_vote(options_.id, true);  // a pre-vote promises nothing, so it need not be durable
}

void Core::become_candidate(bool transfer) {
    if (is_leader()) lose_leadership();
    role_ = Role::candidate;
    leader_ = NodeId{};
    hard_ = HardState{Term{hard_.term.value + 1}, options_.id};
    votes_.clear();
    // Rules 1 and 2: term and own vote are one record, durable before the requests leave (they are
    // routed by finish_messages) and before the own vote is counted (on Persisted).
    own_vote_pending_ = true;
    restart_election_timer();
    ask_for_votes(MessageType::vote_request, hard_.term, transfer);
}

void Core::ask_for_votes(MessageType type, Term term, bool transfer) {
    for (NodeId voter : membership().voters()) {
        if (voter == options_.id) continue;
        Message request;
        request.type = type;
        request.to = voter;
        request.term = term;
        request.index = log_.last();
        request.log_term = log_.last_term();
        request.transfer = transfer;
        send(std::move(request));
    }
}

void Core::record_vote(NodeId voter, bool granted) {
    votes_.emplace(voter, granted);
    size_t yes = 0;
    size_t no = 0;
    const std::vector<NodeId> voters = membership().voters();
    for (NodeId id : voters) {
        auto vote = votes_.find(id);
        if (vote == votes_.end()) continue;
        ++(vote->second ? yes : no);
    }
    switch (vote_result(voters.size(), yes, no)) {
        case VoteResult::pending:
            return;
        case VoteResult::lost:
            become_follower(hard_.term, NodeId{});
            return;
        case VoteResult::won:
            if (role_ == Role::pre_candidate) {
                become_candidate(false);
            } else if (!own_vote_pending_) {
                become_leader();
            }
            return;
    }
}

void Core::on_vote_request(const Message& message) {
    const bool pre = message.type == MessageType::pre_vote_request;
    // I2: one vote per term. The same candidate may ask again (its answer was lost).
    const bool free = hard_.vote == message.from || (!hard_.vote && !leader_) ||
                      (pre && message.term > hard_.term);
    const bool granted = free && log_.up_to_date(message.index, message.log_term);
    Message reply;
    reply.type = pre ? MessageType::pre_vote_response : MessageType::vote_response;
    reply.to = message.from;
    reply.reject = !granted;
    if (granted && pre) reply.term = message.term;
    if (granted && !pre) {
        hard_.vote = message.from;
        election_elapsed_ = 0;
    }
    send(std::move(reply));
}

void Core::on_vote_response(const Message& message) {
    const bool pre = message.type == MessageType::pre_vote_response;
    if (role_ != (pre ? Role::pre_candidate : Role::candidate)) return;
    // A granted pre-vote names the term that was asked about; another one is of an older try.
    if (pre && !message.reject && message.term.value != hard_.term.value + 1) return;
    record_vote(message.from, !message.reject);
}

void Core::become_leader() {
    // I2: only a candidate that a majority voted for, its own durable vote among them if it is a
    // voter, leads its term.
    LFS_ASSERT(role_ == Role::candidate && hard_.vote == options_.id && !own_vote_pending_);
    LFS_ASSERT(persisted_id_ >= hard_persist_id_);
    role_ = Role::leader;
    leader_ = options_.id;
    votes_.clear();
    heartbeat_elapsed_ = 0;
    quorum_contact_tick_ = ticks_;
    progress_.clear();
    sync_progress();
    uncommitted_bytes_ =
        log_.commit() < log_.last() ? log_.cost_bytes(log_.commit() + 1, log_.last()) : 0;
    leader_start_ = log_.last() + 1;
    start_round();
    // Raft 6.4, 4.2.1 and rule 7: an empty entry first. Until it is committed we do not know the
    // commit index, so no read, no membership change; and it commits what is left of older terms.
    append_own(make_entry(EntryKind::empty, nullptr));
    replicate_to_all();
}

}  // namespace lumeofs::raft
