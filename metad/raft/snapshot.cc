// SPDX-License-Identifier: Apache-2.0
// Snapshots as descriptors (Raft 5.1, 5.3): accept or refuse one whose bytes have arrived, put it
// in the place of the log, cut the log. The bytes never pass through the core.
#include <algorithm>

#include "common/base/assert.h"
#include "metad/raft/core.h"

namespace lumeofs::raft {

void Core::on(const SnapshotReceived& event) {
    const SnapshotDescriptor& snapshot = event.snapshot;
    if (event.term > hard_.term) become_follower(event.term, event.from);
    if (event.term == hard_.term && !is_leader()) follow(event.from);
    const bool of_use = !is_leader() && !installing_ && snapshot.index > log_.commit();
    // What a snapshot holds is committed, whoever sent it: an old sender's is as good.
    if (of_use && !log_.matches(snapshot.index, snapshot.term)) {
        if (role_ != Role::follower) become_follower(hard_.term, NodeId{});
        // From here until SnapshotInstalled the log is left alone (rule 12).
        installing_ = snapshot;
        update_.install = snapshot;
        return;
    }
    update_.snapshot_refused = snapshot;
    if (is_leader() || installing_) return;
    // Our log has that entry, so it is the same up to there and committed. Installing would throw
    // away entries behind it that we may have acknowledged.
    if (of_use) log_.commit_to(snapshot.index);
    if (!leader_) return;
    Message reply;
    reply.type = MessageType::append_response;
    reply.to = leader_;
    reply.index = log_.commit();
    send(std::move(reply), log_.commit());
}

void Core::on(const SnapshotInstalled& event) {
    LFS_ASSERT(installing_ && installing_->index == event.index);
    const SnapshotDescriptor snapshot = std::move(*installing_);
    installing_.reset();
    LFS_ASSERT(snapshot.index > log_.commit());
    log_.reset(snapshot.index, snapshot.term);
    memberships_.clear();
    memberships_.emplace_back(snapshot.index, snapshot.membership);
    handed_batches_.clear();
    unapplied_bytes_ = 0;
    membership_changed();
    if (!leader_) return;
    Message reply;
    reply.type = MessageType::append_response;
    reply.to = leader_;
    reply.index = snapshot.index;  // committed, so every later leader has it
    send(std::move(reply), snapshot.index);
}

void Core::on(const SnapshotSent& event) {
    auto found = progress_.find(event.follower);
    if (!is_leader() || found == progress_.end()) return;
    found->second.snapshot_ended(event.delivered ? std::min(event.index, log_.last()) : LogIndex{});
}

void Core::on(const PeerUnreachable& event) {
    auto found = progress_.find(event.node);
    if (is_leader() && found != progress_.end()) found->second.link_broke();
}

void Core::on(const Compacted& event) {
    if (event.floor <= log_.floor()) return;
    log_.compact(event.floor);
    // Keep the newest membership at or below the floor: it is the one in force there.
    while (memberships_.size() > 1 && memberships_[1].first <= event.floor) {
        memberships_.erase(memberships_.begin());
    }
}

SnapshotDescriptor Core::describe(LogIndex index) const {
    LFS_ASSERT(index >= log_.floor() && index <= log_.applied());
    return SnapshotDescriptor{index, log_.term_at(index), membership_at(index), 0};
}

}  // namespace lumeofs::raft
