// SPDX-License-Identifier: Apache-2.0
// Contact rounds: the leader numbers its heartbeats, answers repeat the number, and the newest
// round that a quorum answered proves that at the time this round was *begun* there was no newer
// leader. Three things rest on it: check-quorum, linearizable reads (Raft 6.4) and, in the driver,
// leases [26].
#include <algorithm>

#include "common/base/assert.h"
#include "metad/raft/core.h"
#include "metad/raft/quorum.h"

namespace lumeofs::raft {

bool Core::own_term_committed() const { return is_leader() && log_.commit() >= leader_start_; }

void Core::start_round() {
    heartbeat_elapsed_ = 0;
    if (update_.round_started == 0) {
        // One round per step at most: all its messages leave after the step, so whatever the step
        // handled came before the round.
        update_.round_started = ++round_;
        round_ticks_.emplace_back(round_, ticks_);
    }
    for (auto& [id, progress] : progress_) {
        Message message;
        message.type = MessageType::heartbeat;
        message.to = id;
        // Never above what this follower acknowledged to this leader: only that is verified.
        message.commit = std::min(progress.match(), log_.commit());
        message.round = round_;
        send(std::move(message));
    }
    update_quorum_round();
}

void Core::update_quorum_round() {
    std::vector<uint64_t> rounds;
    for (NodeId voter : membership().voters()) {
        rounds.push_back(voter == options_.id ? round_ : progress_.at(voter).round());
    }
    const uint64_t confirmed = quorum_value(std::move(rounds));
    if (confirmed <= quorum_round_) return;
    quorum_round_ = confirmed;
    while (!round_ticks_.empty() && round_ticks_.front().first <= confirmed) {
        quorum_contact_tick_ = round_ticks_.front().second;
        round_ticks_.pop_front();
    }
    confirm_reads();
    start_reads();
}

void Core::confirm_reads() {
    while (!reads_in_round_.empty() && reads_in_round_.front().round <= quorum_round_) {
        ReadBatch batch = std::move(reads_in_round_.front());
        reads_in_round_.pop_front();
        reads_pending_ -= batch.contexts.size();
        for (uint64_t context : batch.contexts) update_.reads.push_back({context, batch.index});
    }
}

void Core::on(const ReadRequested& event) {
    if (!is_leader() || reads_pending_ + event.contexts.size() > options_.reads_pending_max) {
        update_.reads_failed = event.contexts;
        return;
    }
    reads_waiting_.insert(reads_waiting_.end(), event.contexts.begin(), event.contexts.end());
    reads_pending_ += event.contexts.size();
    start_reads();
}

// Reads wait for the empty entry of the term (before it the commit index may be behind what an
// older leader answered), and then for a round that begins after them (rule 6).
void Core::start_reads() {
    if (reads_waiting_.empty() || !own_term_committed()) return;
    if (reads_in_round_.size() >= options_.read_rounds_max) return;
    const bool begun = update_.round_started != 0;
    ReadBatch batch;
    batch.round = begun ? round_ : round_ + 1;
    batch.index = log_.commit();
    batch.contexts = std::move(reads_waiting_);
    reads_waiting_.clear();
    reads_in_round_.push_back(std::move(batch));
    if (!begun) start_round();
    confirm_reads();  // a single voter is its own quorum
}

void Core::leader_tick() {
    transfer_tick();
    if (!is_leader()) return;
    // Check-quorum (Raft 6.2): one election timeout after the begin of the newest round that a
    // quorum answered, others may be electing: do not go on serving a minority.
    if (ticks_ - quorum_contact_tick_ >= options_.election_ticks) {
        become_follower(hard_.term, NodeId{});
        return;
    }
    if (++heartbeat_elapsed_ < options_.heartbeat_ticks) return;
    start_reads();
    if (update_.round_started == 0) start_round();
}

}  // namespace lumeofs::raft
