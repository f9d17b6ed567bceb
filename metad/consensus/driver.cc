// SPDX-License-Identifier: Apache-2.0
// Opening, events in, status out. Obeying the updates: driver_work.cc; the network:
// driver_peers.cc.
#include "metad/consensus/driver.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/checksum.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "metad/consensus/snapshot_sender.h"
#include "metad/raft/membership.h"

namespace lumeofs::consensus {
namespace {

raft::Membership sorted_membership(const std::vector<raft::Member>& peers) {
    raft::Membership membership{peers};
    std::sort(membership.members.begin(),
              membership.members.end(),
              [](const raft::Member& a, const raft::Member& b) { return a.id < b.id; });
    return membership;
}

Status bad_options(std::string_view why) { return Status(Errc::config, why); }

Status check_options(const DriverOptions& options) {
    if (!options.node) return bad_options("node_id must not be 0");
    if (options.heartbeat_ticks == 0 || options.heartbeat_ticks * 2 > options.election_ticks) {
        return bad_options("heartbeat_interval must be well below election_timeout");
    }
    if (options.segment_bytes % kLogAlignment != 0 || options.segment_bytes < 4 * kLogAlignment) {
        return bad_options(
            "a log segment must be a multiple of 4096 bytes, at least four times that");
    }
    if (options.join) return Status();
    const raft::Membership membership = sorted_membership(options.peers);
    for (size_t i = 1; i < membership.members.size(); ++i) {
        if (membership.members[i - 1].id == membership.members[i].id) {
            return bad_options(
                fmt::format("node_id {} stands twice in peers", membership.members[i].id.value));
        }
    }
    if (membership.find(options.node) == nullptr) {
        return bad_options(fmt::format("node_id {} is not among peers", options.node.value));
    }
    return Status();
}

RaftRole role_of(raft::Role role, bool learner) {
    switch (role) {
        case raft::Role::leader:
            return RaftRole::leader;
        case raft::Role::pre_candidate:
        case raft::Role::candidate:
            return RaftRole::candidate;
        case raft::Role::follower:
            break;
    }
    return learner ? RaftRole::learner : RaftRole::follower;
}

}  // namespace

Uuid cluster_of(const std::vector<raft::Member>& peers) {
    const Bytes bytes = raft::encode_membership(sorted_membership(peers));
    return {checksum_seeded(bytes, 1), checksum_seeded(bytes, 2)};
}

RaftDriver::RaftDriver(const Env& env, const DriverOptions& options, ReplicatedState& state)
    : env_(env),
      options_(options),
      state_(state),
      prng_(Prng(options.seed).fork("consensus")),
      compact_at_bytes_(options.log_bytes_max),
      alive_(std::make_shared<char>()),
      ticker_(env.loop),
      later_(env.loop) {}

RaftDriver::~RaftDriver() { stop(); }

Result<std::unique_ptr<RaftDriver>> RaftDriver::open(const Env& env,
                                                     const DriverOptions& options,
                                                     ReplicatedState& state) {
    LFS_TRY(check_options(options));
    std::unique_ptr<RaftDriver> driver(new RaftDriver(env, options, state));
    LFS_TRY(driver->restore());
    return driver;
}

Status RaftDriver::restore() {
    StorageOptions storage;
    storage.data_dir = options_.data_dir;
    storage.node = options_.node;
    storage.cluster = options_.cluster;
    if (!options_.join) {
        storage.bootstrap = sorted_membership(options_.peers);
        storage.new_cluster = options_.cluster ? options_.cluster : cluster_of(options_.peers);
    }
    storage.segment_bytes = options_.segment_bytes;
    Prng ids = prng_.fork("ids");
    storage.new_node_uuid = {ids.next(), ids.next()};
    storage.new_log_id = ids.next();
    LFS_ASSIGN(storage_, Storage::open(env_.loop, env_.fs, storage, state_));

    raft::Options core;
    core.id = options_.node;
    core.seed = prng_.fork("core").next() ^ options_.node.value;
    core.election_ticks = options_.election_ticks;
    core.heartbeat_ticks = options_.heartbeat_ticks;
    core.start_pause_ticks = options_.start_pause_ticks;
    core.append_entries_max = kMaxEntriesPerAppend;
    core.append_bytes_max = kMaxBytesPerAppend;
    core.in_flight_messages_max = kMaxInFlightAppends;
    raft::Restored restored;
    restored.hard_state = storage_->hard_state->state();
    restored.floor = storage_->log->floor();
    restored.last = storage_->log->last();
    restored.applied = state_.applied();
    LFS_ASSIGN(node_, raft::RaftNode::restore(core, restored, storage_->log.get()));
    membership_ = node_->status().membership;
    soft_.term = restored.hard_state.term;
    return Status();
}

void RaftDriver::start() {
    LFS_ASSERT(!running_ && failure_.is_ok());
    running_ = true;
    last_tick_ = env_.loop.now();
    ticker_.repeat(options_.tick, [this] { on_tick(); });
    follow_membership();
    const std::vector<NodeId> voters = membership_.voters();
    // Alone there is nobody to wait for.
    if (voters.size() == 1 && voters[0] == options_.node) step(raft::Campaign{});
}

void RaftDriver::stop() {
    alive_ = std::make_shared<char>();  // tasks that were posted before now do nothing
    running_ = false;
    ticker_.stop();
    later_.stop();
    senders_.clear();
    links_.clear();
    answer_pieces(Status(Errc::shutting_down), false);
    fail_waiters(Status(Errc::shutting_down, "this metad is stopping"));
    publish_leadership();
}

// --- events in ----------------------------------------------------------------------------------

// The only way into the core. What the update asks for is gathered and done when the batch of tasks
// ends (work()); the outcome of a proposal is returned.
std::optional<raft::ProposalOutcome> RaftDriver::step(const raft::Event& event) {
    LFS_ASSERT(!stepping_);
    stepping_ = true;
    raft::Update update = node_->step(event);
    stepping_ = false;
    gather(update);
    schedule_work();
    return update.proposal;
}

void RaftDriver::gather(raft::Update& update) {
    if (update.soft_state) follow_soft_state(*update.soft_state);
    note_contact(update);
    if (update.persist_id != 0) {
        writes_.push_back(
            {update.persist_id, update.hard_state, update.truncate_from, std::move(update.append)});
    }
    if (update.install) install_ = update.install;
    if (update.snapshot_refused) {
        if (Status status = storage_->snapshots.remove(update.snapshot_refused->id);
            !status.is_ok()) {
            LFS_LOG(warn, "cannot remove a refused snapshot: {}", status.to_string());
        }
    }
    send(update.send_now);
    for (raft::Message& message : update.send_after_persist) {
        after_persist_.push_back(std::move(message));
    }
    for (raft::Entry& entry : update.commit) commits_.push_back(std::move(entry));
    for (const raft::ReadState& read : update.reads) reads_.confirmed(read.context, read.index);
    const Status lost(Errc::not_leader, "not the leader, or no longer");
    for (uint64_t context : update.reads_failed) reads_.failed(context, lost);
    for (raft::SnapshotNeed& need : update.snapshots_needed) snapshots_needed_.push_back(need);
    if (update.membership) {
        membership_ = std::move(*update.membership);
        if (running_) follow_membership();
    }
}

void RaftDriver::follow_soft_state(const raft::SoftState& now) {
    const bool was_leader = soft_.role == raft::Role::leader;
    const bool is_leader = now.role == raft::Role::leader;
    if (was_leader && (!is_leader || now.term != soft_.term)) {
        LFS_LOG(info, "no longer leader of term {}", soft_.term.value);
        rounds_.clear();
        quorum_contact_ = -1;
        senders_.clear();
        soft_ = now;
        publish_leadership();
        // Their entries may or may not be applied later: their clients repeat them in their slots.
        proposals_.fail_all(Status(Errc::not_leader, "the leadership was lost"));
    }
    if (is_leader && !was_leader) LFS_LOG(info, "leader of term {}", now.term.value);
    soft_ = now;
    if (is_leader && !was_leader) ask_all_again();
}

// [26]: what others may count on starts when the round that a quorum answered was SENT.
void RaftDriver::note_contact(const raft::Update& update) {
    if (update.round_started != 0) rounds_[update.round_started] = env_.loop.now();
    if (update.quorum_round == 0) {
        quorum_contact_ = -1;
        return;
    }
    const auto found = rounds_.find(update.quorum_round);
    if (found == rounds_.end()) return;  // noted before
    quorum_contact_ = planted_bug("consensus.lease_from_answer") ? env_.loop.now() : found->second;
    rounds_.erase(rounds_.begin(), std::next(found));
}

void RaftDriver::schedule_work() {
    if (work_scheduled_ || !running_) return;
    work_scheduled_ = true;
    env_.loop.at_end_of_batch([this, alive = std::weak_ptr<char>(alive_)] {
        if (!alive.expired()) work();
    });
}

void RaftDriver::on_tick() {
    const Nanos now = env_.loop.now();
    const Nanos gap = now - last_tick_;
    last_tick_ = now;
    // A pause (of the VM, the disk, the process): others may have gone on without us, and what came
    // meanwhile has not been read yet. Whoever leads after this begins all lease terms anew [32].
    if (soft_.role == raft::Role::leader && gap > options_.tick * options_.election_ticks) {
        LFS_LOG(warn, "nothing ran here for {} ms: giving up the leadership", gap / kMillisecond);
        step(raft::StepDown{});
    }
    step(raft::Tick{});
    storage_->log->prepare_spare(4u << 20);  // 80 MiB/s: ahead of what one node commits
    drop_strangers();
}

void RaftDriver::propose(Bytes command, ProposeDone done) {
    LFS_ASSERT(!command.empty());
    if (!failure_.is_ok() || !running_)
        return done(Status(Errc::unavailable, "consensus has stopped"));
    if (command.size() > std::min<uint64_t>(kMaxCommandBytes, storage_->log->payload_bytes_max())) {
        return done(Status(Errc::toobig, "the command is too large for the log"));
    }
    if (soft_.role != raft::Role::leader) return done(Status(Errc::not_leader, "not the leader"));
    const uint64_t bytes = new_proposal_bytes_ + command.size();
    if (new_proposals_.size() + proposals_.size() >= options_.proposals_max ||
        bytes > options_.proposal_bytes_max) {
        return done(Status(Errc::busy, "too many proposals wait"));
    }
    new_proposal_bytes_ = bytes;
    new_proposals_.push_back({std::move(command), std::move(done)});
    schedule_work();
}

void RaftDriver::read_barrier(ReadDone done) {
    if (!failure_.is_ok() || !running_)
        return done(Status(Errc::unavailable, "consensus has stopped"));
    if (soft_.role != raft::Role::leader) return done(Status(Errc::not_leader, "not the leader"));
    // Never past reads that wait: requests of one link keep their order.
    if (read_lease_holds() && new_reads_.empty() && reads_.empty()) return done(Status());
    new_reads_.push_back(std::move(done));
    schedule_work();
}

void RaftDriver::on_leadership(std::function<void(bool)> changed) {
    leadership_changed_.push_back(std::move(changed));
}

void RaftDriver::publish_leadership() {
    const bool now = running_ && failure_.is_ok() && soft_.role == raft::Role::leader &&
                     state_.applied() >= soft_.leader_start;
    if (now == ready_) return;
    ready_ = now;
    for (const auto& changed : leadership_changed_) changed(now);
}

// --- failure ------------------------------------------------------------------------------------

void RaftDriver::fail(const Status& why) {
    if (!failure_.is_ok()) return;
    failure_ = why;
    LFS_LOG(error, "this metad fences itself: {}", why.to_string());
    raft::Update last = node_->step(raft::Failed{});
    if (last.soft_state) follow_soft_state(*last.soft_state);
    quorum_contact_ = -1;
    writes_.clear();
    after_persist_.clear();
    commits_.clear();
    install_.reset();
    stop();
    if (options_.on_failure) {
        env_.loop.post([done = options_.on_failure, why] { done(why); });
    }
}

void RaftDriver::fail_waiters(const Status& why) {
    std::vector<Proposal> proposals;
    proposals.swap(new_proposals_);
    new_proposal_bytes_ = 0;
    std::vector<ReadDone> reads;
    reads.swap(new_reads_);
    for (Proposal& proposal : proposals) proposal.done(why);
    for (ReadDone& read : reads) read(why);
    proposals_.fail_all(why);
    reads_.fail_all(why);
}

// --- administration and status ------------------------------------------------------------------

void RaftDriver::change_membership(raft::MembershipProposed change,
                                   std::function<void(Status)> done) {
    if (!failure_.is_ok() || !running_)
        return done(Status(Errc::unavailable, "consensus has stopped"));
    const std::optional<raft::ProposalOutcome> outcome = step(std::move(change));
    LFS_ASSERT(outcome);
    if (outcome->code != Errc::ok) {
        return done(Status(outcome->code, "the group does not take this change now"));
    }
    proposals_.add(outcome->first,
                   outcome->term,
                   [done = std::move(done)](const Result<Bytes>& reply) { done(reply.status()); });
}

Status RaftDriver::transfer_leadership(NodeId target) {
    if (!failure_.is_ok() || !running_) return Status(Errc::unavailable, "consensus has stopped");
    const std::optional<raft::ProposalOutcome> outcome = step(raft::TransferLeadership{target});
    LFS_ASSERT(outcome);
    return outcome->code == Errc::ok ? Status() : Status(outcome->code, "cannot hand over now");
}

std::string RaftDriver::leader_address() const {
    const raft::Member* member = membership_.find(soft_.leader);
    return member == nullptr ? "" : member->address;
}

Nanos RaftDriver::quorum_contact() const {
    return soft_.role == raft::Role::leader && failure_.is_ok() ? quorum_contact_ : -1;
}

// No other node can have been elected, so nothing was answered anywhere that is not applied here: a
// quorum has heard a round that was sent no longer ago than this, and a voter refuses its vote for
// an election timeout after it has heard a leader, or has started [26]. The quarter that is left
// out pays for clocks of different speed and for ticks that come early by one. What this leader has
// answered itself is applied; what it has not answered need not be seen.
bool RaftDriver::read_lease_holds() const {
    const Nanos timeout = options_.tick * options_.election_ticks;
    return ready_ && quorum_contact() >= 0 && env_.loop.now() < quorum_contact_ + timeout * 3 / 4;
}

uint64_t RaftDriver::frames_sent() const {
    uint64_t frames = frames_of_old_links_;
    for (const auto& [node, link] : links_) frames += link->frames_sent();
    return frames;
}

ConsensusStatus RaftDriver::status() const {
    const raft::NodeStatus core = node_->status();
    const raft::Member* self = membership_.find(options_.node);
    ConsensusStatus status;
    status.role = role_of(core.role, self != nullptr && self->role == raft::MemberRole::learner);
    status.term = core.term;
    status.leader = core.leader;
    status.last = core.last;
    status.commit = core.commit;
    status.applied = state_.applied();
    status.first = storage_->log->floor().index + 1;
    status.log_bytes = storage_->log->live_bytes();
    for (const raft::Member& member : membership_.members) {
        ConsensusStatus::Member out;
        out.node = member.id;
        out.address = member.address;
        out.learner = member.role == raft::MemberRole::learner;
        if (member.id == options_.node) out.match = core.stable;
        for (const raft::FollowerStatus& follower : core.followers) {
            if (follower.id != member.id) continue;
            out.match = follower.match;
            const auto heard = last_heard_.find(member.id);
            if (heard != last_heard_.end()) out.silent_for = env_.loop.now() - heard->second;
        }
        status.members.push_back(std::move(out));
    }
    if (!failure_.is_ok()) {
        status.trouble = failure_.to_string();
    } else if (!core.leader) {
        status.trouble = "no leader is known";
    }
    return status;
}

}  // namespace lumeofs::consensus
