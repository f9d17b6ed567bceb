// SPDX-License-Identifier: Apache-2.0
// Membership, one server at a time (Raft 4.2), and leadership transfer (Raft 3.10).
//
// Majorities of two memberships that differ in one voter always meet. That argument needs the last
// change to be committed and, because a rival leader may have appended another change, an entry of
// the own term as well (the bug of the original single-server algorithm, raft-dev 2015): from that
// commit on no leader of an older term can commit anything.
#include <algorithm>

#include "common/base/assert.h"
#include "metad/raft/core.h"
#include "metad/raft/membership.h"

namespace lumeofs::raft {

void Core::on(const MembershipProposed& event) {
    if (!is_leader()) return outcome(Errc::not_leader);
    if (transfer_) return outcome(Errc::busy);
    if (!own_term_committed()) return outcome(Errc::unavailable);
    if (memberships_.back().first > log_.commit()) return outcome(Errc::busy);
    if (event.kind == MembershipProposed::Kind::promote) {
        // Raft 4.2.1: a voter that is far behind would hold up commits, so a learner catches up
        // first.
        auto found = progress_.find(event.member.id);
        if (found != progress_.end() &&
            found->second.match() + options_.append_entries_max < log_.last()) {
            return outcome(Errc::unavailable);
        }
    }
    Result<Membership> next = change_membership(membership(), event);
    if (!next.is_ok()) return outcome(next.code());
    outcome(Errc::ok);
    update_.proposal->first = log_.last() + 1;
    update_.proposal->count = 1;
    append_own(
        make_entry(EntryKind::membership, std::make_shared<const Bytes>(encode_membership(*next))));
    set_membership(log_.last(), std::move(*next));  // effective on append
    replicate_to_all();
    update_quorum_round();
    maybe_commit();  // a smaller quorum may hold already
}

const Membership& Core::membership_at(LogIndex index) const {
    auto at = std::find_if(memberships_.rbegin(), memberships_.rend(), [&](const MembershipAt& m) {
        return m.first <= index;
    });
    return at == memberships_.rend() ? memberships_.front().second : at->second;
}

void Core::set_membership(LogIndex index, Membership membership) {
    LFS_ASSERT(index > memberships_.back().first);
    memberships_.emplace_back(index, std::move(membership));
    membership_changed();
}

// Rule 10: with the truncation of its entry a change is undone.
void Core::roll_back_memberships(LogIndex from) {
    if (memberships_.back().first < from) return;
    while (memberships_.back().first >= from) {
        memberships_.pop_back();
        LFS_ASSERT(!memberships_.empty());
    }
    membership_changed();
}

void Core::membership_changed() {
    update_.membership = membership();
    if (is_leader()) sync_progress();
}

// One Progress for each member but ourselves.
void Core::sync_progress() {
    for (auto it = progress_.begin(); it != progress_.end();) {
        it = membership().find(it->first) == nullptr ? progress_.erase(it) : std::next(it);
    }
    for (const Member& member : membership().members) {
        if (member.id == options_.id) continue;
        progress_.try_emplace(
            member.id,
            log_.last() + 1,
            Progress::Window{options_.in_flight_messages_max, options_.in_flight_bytes_max});
    }
    if (transfer_ && progress_.find(transfer_->target) == progress_.end()) transfer_.reset();
}

void Core::on(const TransferLeadership& event) {
    if (!is_leader()) return outcome(Errc::not_leader);
    NodeId target = event.target;
    if (!target) {
        LogIndex best;
        for (const auto& [id, progress] : progress_) {
            if (!membership().is_voter(id) || (target && progress.match() <= best)) continue;
            target = id;
            best = progress.match();
        }
    }
    if (!target || target == options_.id || !membership().is_voter(target)) {
        return outcome(Errc::inval);
    }
    if (transfer_) return outcome(transfer_->target == target ? Errc::ok : Errc::busy);
    outcome(Errc::ok);
    // From here on nothing is proposed, so that the target can catch up.
    transfer_ = Transfer{target, 0, false};
    maybe_send_timeout_now();
}

void Core::maybe_send_timeout_now() {
    if (!transfer_ || transfer_->timeout_sent) return;
    auto found = progress_.find(transfer_->target);
    LFS_ASSERT(found != progress_.end());
    if (found->second.match() < log_.last()) return;
    // The lease ends here, before the message leaves [26]: voters will not wait for us to fall
    // silent. Update::quorum_round is 0 from this update on.
    transfer_->timeout_sent = true;
    Message message;
    message.type = MessageType::timeout_now;
    message.to = transfer_->target;
    send(std::move(message));
}

void Core::transfer_tick() {
    if (!transfer_ || ++transfer_->elapsed_ticks < options_.election_ticks) return;
    if (!transfer_->timeout_sent) {
        transfer_.reset();  // the target never caught up: nothing was given up, go on
        return;
    }
    // The target did not take over, but its vote requests, which nobody refuses for our sake, may
    // still be on their way: in this term the lease can never be had back. So we stand for the next
    // term ourselves, the very one that those requests ask for: each voter has one vote in it, and
    // once we have won it they are void.
    if (may_campaign()) {
        become_candidate(true);
    } else {
        become_follower(hard_.term, NodeId{});
    }
}

}  // namespace lumeofs::raft
