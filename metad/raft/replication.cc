// SPDX-License-Identifier: Apache-2.0
// Proposals, AppendEntries on both sides, heartbeats and the commit rule (Raft 3.5, 3.6.2).
#include <algorithm>

#include "common/base/assert.h"
#include "common/base/planted_bug.h"
#include "metad/raft/core.h"
#include "metad/raft/membership.h"
#include "metad/raft/quorum.h"

namespace lumeofs::raft {

// --- leader: own log
// ------------------------------------------------------------------------------

void Core::on(const Proposed& event) {
    if (!is_leader()) return outcome(Errc::not_leader);
    if (transfer_) return outcome(Errc::busy);
    if (event.payloads.empty()) return outcome(Errc::inval);
    uint64_t bytes = 0;
    for (const Payload& payload : event.payloads) {
        bytes += Entry{{}, {}, EntryKind::command, payload}.cost_bytes();
    }
    // One batch always fits into an empty log, however large it is.
    if (uncommitted_bytes_ > 0 && uncommitted_bytes_ + bytes > options_.uncommitted_bytes_max) {
        return outcome(Errc::busy);
    }
    outcome(Errc::ok);
    update_.proposal->first = log_.last() + 1;
    update_.proposal->count = event.payloads.size();
    for (const Payload& payload : event.payloads) {
        append_own(make_entry(EntryKind::command, payload));
    }
    replicate_to_all();
}

Entry Core::make_entry(EntryKind kind, Payload payload) const {
    return Entry{log_.last() + 1, hard_.term, kind, std::move(payload)};
}

// Leader append-only (Raft figure 3.2): a leader only ever adds to the end of its log.
void Core::append_own(const Entry& entry) {
    LFS_ASSERT(is_leader());
    log_.append(entry);
    uncommitted_bytes_ += entry.cost_bytes();
    update_.append.push_back(entry);
}

// --- leader: sending
// ------------------------------------------------------------------------------

void Core::replicate_to_all() {
    for (auto& [id, progress] : progress_) replicate_to(id, progress);
}

void Core::replicate_to(NodeId follower, Progress& progress) {
    while (send_append(follower, progress, false)) {
    }
}

// Sends one AppendEntries if the window allows. True if one with entries left.
bool Core::send_append(NodeId follower, Progress& progress, bool also_empty) {
    if (!progress.may_send()) return false;
    const LogIndex previous = progress.next() - 1;
    if (previous < log_.floor()) {
        progress.wants_snapshot();
        update_.snapshots_needed.push_back({follower, hard_.term, log_.floor()});
        return false;
    }
    Message message;
    message.type = MessageType::append_request;
    message.to = follower;
    message.index = previous;
    message.log_term = log_.term_at(previous);
    message.commit = log_.commit();
    message.round = round_;
    if (progress.next() <= log_.last()) {
        Result<std::vector<Entry>> entries = log_.slice(
            progress.next(), log_.last(), options_.append_entries_max, options_.append_bytes_max);
        if (!entries.is_ok()) return false;  // the driver's own log failed; it says so with Failed
        message.entries = std::move(*entries);
    }
    if (message.entries.empty() && !also_empty) return false;
    uint64_t bytes = 0;
    for (const Entry& entry : message.entries) bytes += entry.cost_bytes();
    const bool has_entries = !message.entries.empty();
    progress.sent(previous + message.entries.size(), bytes, round_);
    send(std::move(message));
    return has_entries;
}

// --- follower
// -------------------------------------------------------------------------------------

// The leader of our term was heard.
void Core::follow(NodeId leader) {
    // I2: a second leader of one term would mean that a majority voted twice: stop, do not guess.
    LFS_ASSERT(!is_leader());
    LFS_ASSERT(!leader_ || leader_ == leader);
    if (role_ != Role::follower || !leader_) become_follower(hard_.term, leader);
    election_elapsed_ = 0;
    since_leader_ticks_ = 0;
}

// The entries follow each other and `index`, no term falls or exceeds the sender's, and a
// membership decodes. What is not so was damaged on its way or sent by something that is no leader.
bool Core::well_formed(const Message& message) const {
    LogIndex at = message.index;
    Term term = message.log_term;
    for (const Entry& entry : message.entries) {
        at = at + 1;
        if (entry.index != at || entry.term < term || entry.term > message.term) return false;
        term = entry.term;
        if (entry.kind != EntryKind::membership) continue;
        if (!entry.payload || !decode_membership(*entry.payload).is_ok()) return false;
    }
    return true;
}

void Core::on_append_request(const Message& message) {
    follow(message.from);
    if (!well_formed(message)) return;
    if (installing_) return;  // rule 12: no other log work until the snapshot is in place
    if (message.index < log_.commit()) {
        // What is committed is in the log of every leader of this and later terms: it matches.
        Message reply;
        reply.type = MessageType::append_response;
        reply.to = message.from;
        reply.index = log_.commit();
        reply.round = message.round;
        send(std::move(reply), log_.commit());
        return;
    }
    if (log_.matches(message.index, message.log_term)) {
        accept_entries(message);
    } else {
        reject_append(message);
    }
}

void Core::accept_entries(const Message& message) {
    // From here on our log agrees with the leader's up to message.index.
    size_t known = 0;
    while (known < message.entries.size() &&
           log_.matches(message.entries[known].index, message.entries[known].term)) {
        ++known;
    }
    if (known < message.entries.size()) {
        const LogIndex from = message.entries[known].index;
        // Truncate only on a real conflict: an old message that ends early must not take back what
        // a newer one brought and we acknowledged (Raft figure 3.1, AppendEntries step 3).
        if (from <= log_.last()) {
            log_.truncate(from);
            roll_back_memberships(from);
            update_.truncate_from = from;
        }
        for (size_t i = known; i < message.entries.size(); ++i) {
            const Entry& entry = message.entries[i];
            log_.append(entry);
            update_.append.push_back(entry);
            if (entry.kind == EntryKind::membership) {
                set_membership(entry.index, decode_membership(*entry.payload).value());
            }
        }
    }
    // Only what THIS message verified is acknowledged, and committed (engineering 1.1, B): our log
    // may go on with entries of another leader.
    const LogIndex verified = message.index + message.entries.size();
    follower_commit(std::min(message.commit, verified));
    Message reply;
    reply.type = MessageType::append_response;
    reply.to = message.from;
    reply.index = verified;
    reply.round = message.round;
    send(std::move(reply), verified);
}

void Core::reject_append(const Message& message) {
    Message reply;
    reply.type = MessageType::append_response;
    reply.to = message.from;
    reply.reject = true;
    reply.index = message.index;
    reply.round = message.round;
    // Skip a whole term at a time: none of our entries with a higher term than the leader has at
    // this place can be in its log at or before it.
    reply.hint_index = log_.newest_with_term_at_most(message.index, message.log_term);
    reply.hint_term = log_.term_at(reply.hint_index);
    send(std::move(reply));
}

void Core::follower_commit(LogIndex index) {
    if (installing_ || index <= log_.commit()) return;
    log_.commit_to(index);
}

void Core::on_heartbeat(const Message& message) {
    follow(message.from);
    // A heartbeat verifies nothing. The leader names no commit index above what we acknowledged to
    // it; if it seems so, the message is not from a leader that keeps to the rules.
    if (message.commit <= log_.last()) follower_commit(message.commit);
    Message reply;
    reply.type = MessageType::heartbeat_response;
    reply.to = message.from;
    reply.round = message.round;
    send(std::move(reply));
}

// --- leader: answers
// ------------------------------------------------------------------------------

void Core::on_append_response(const Message& message) {
    auto found = progress_.find(message.from);
    if (!is_leader() || found == progress_.end()) return;
    Progress& progress = found->second;
    if (message.round <= round_) progress.answered_round(message.round);
    update_quorum_round();
    if (message.reject) {
        // The newest place of ours that can still agree, given the term that the follower has
        // there.
        const LogIndex agree = log_.newest_with_term_at_most(message.hint_index, message.hint_term);
        if (progress.rejected(message.index, agree)) replicate_to(found->first, progress);
        return;
    }
    if (message.index > log_.last()) return;  // claims what we never sent
    if (!progress.acknowledged(message.index)) return;
    maybe_commit();
    if (!is_leader()) return;  // the commit removed us
    replicate_to(found->first, progress);
    maybe_send_timeout_now();
}

void Core::on_heartbeat_response(const Message& message) {
    auto found = progress_.find(message.from);
    if (!is_leader() || found == progress_.end()) return;
    Progress& progress = found->second;
    if (message.round <= round_) progress.answered_round(message.round);
    update_quorum_round();
    progress.heard(message.round);
    // Something may be lost without a trace: an empty append behind all that was sent shows it.
    if (progress.match() < log_.last() || progress.state() == Progress::State::probe) {
        send_append(found->first, progress, true);
        replicate_to(found->first, progress);
    }
}

void Core::maybe_commit() {
    LFS_ASSERT(is_leader());
    std::vector<uint64_t> durable;
    for (NodeId voter : membership().voters()) {
        if (voter == options_.id) {
            durable.push_back(log_.stable().value);  // rule 5: our copy counts once it is durable
        } else {
            durable.push_back(progress_.at(voter).match().value);
        }
    }
    const LogIndex index{quorum_value(std::move(durable))};
    if (index <= log_.commit()) return;
    // Raft 3.6.2 (figure 3.7): only an entry of the own term is committed by counting; older ones
    // follow it. An older one on a majority may still be overwritten by a leader that lacks it.
    if (log_.term_at(index) != hard_.term && !planted_bug("raft.commit_old_term")) return;
    const bool was_ready = own_term_committed();
    const uint64_t bytes = log_.cost_bytes(log_.commit() + 1, index);
    LFS_ASSERT(bytes <= uncommitted_bytes_);
    uncommitted_bytes_ -= bytes;
    log_.commit_to(index);
    if (memberships_.back().first <= index && !membership().is_voter(options_.id)) {
        // Raft 4.2.2: a leader that its own change removed leads until that is committed. It tells
        // the others first; the election that follows would find out as well.
        start_round();
        become_follower(hard_.term, NodeId{});
        return;
    }
    if (!was_ready) start_reads();
}

}  // namespace lumeofs::raft
