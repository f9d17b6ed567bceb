// SPDX-License-Identifier: Apache-2.0
// What the driver does when a batch of tasks ends: it obeys the gathered updates.
#include <algorithm>

#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "metad/consensus/driver.h"
#include "metad/consensus/snapshot_sender.h"

namespace lumeofs::consensus {
namespace {

constexpr size_t kProposalsWorthABatch = 64;

}  // namespace

void RaftDriver::work() {
    if (!running_) return;
    step_proposals();
    step_reads();
    // Each turn obeys what the turn before has brought about: a commit from a sync, an apply that
    // frees the next commit. It ends, because proposals and messages wait for the next batch.
    do {
        flush_links();  // send_now: the others write while we do
        persist();
        flush_links();
        apply_committed();
        install_snapshot();
        if (!running_) return;
        reads_.applied(state_.applied());
    } while (!writes_.empty() || !after_persist_.empty() || !commits_.empty() || install_);
    std::vector<raft::SnapshotNeed> needed;
    needed.swap(snapshots_needed_);
    for (const raft::SnapshotNeed& need : needed) start_sender(need);
    publish_leadership();
    maybe_compact();
    flush_links();
    // What the steps above have begun anew (or callbacks have asked for) is the next batch.
    work_scheduled_ = false;
    if (!running_) return;
    if (proposals_due() || !new_reads_.empty() || !writes_.empty() ||
        !after_persist_.empty() || !commits_.empty() || !snapshots_needed_.empty()) {
        schedule_work();
    }
}

// What comes while a batch of the log is on its way waits for it and becomes the next one, unless
// it is much: a batch costs a sync and a message at every member, whatever its size.
bool RaftDriver::proposals_due() const {
    if (new_proposals_.empty()) return false;
    return proposals_.size() == 0 || new_proposals_.size() >= kProposalsWorthABatch ||
           new_proposal_bytes_ >= kMaxBytesPerAppend / 2;
}

// All that waits becomes one batch of the log.
void RaftDriver::step_proposals() {
    if (!proposals_due()) return;
    std::vector<Proposal> batch;
    batch.swap(new_proposals_);
    new_proposal_bytes_ = 0;
    raft::Proposed event;
    event.payloads.reserve(batch.size());
    for (Proposal& proposal : batch) {
        event.payloads.push_back(std::make_shared<const Bytes>(std::move(proposal.command)));
    }
    const std::optional<raft::ProposalOutcome> outcome = step(event);
    LFS_ASSERT(outcome);
    for (size_t i = 0; i < batch.size(); ++i) {
        if (outcome->code == Errc::ok) {
            proposals_.add(outcome->first + i, outcome->term, std::move(batch[i].done));
        } else {
            batch[i].done(Status(outcome->code, "the command was not appended"));
        }
    }
}

void RaftDriver::step_reads() {
    if (new_reads_.empty()) return;
    std::vector<ReadDone> batch;
    batch.swap(new_reads_);
    const uint64_t context = ++last_read_context_;
    reads_.asked(context, std::move(batch));
    step(raft::ReadRequested{{context}});
}

// Makes all writes that were asked for durable, then sends what waited for them. This is the one
// place to move to a helper thread when a sync is slow [47]: take `writes` and `messages` along,
// keep gathering, and go on below the write when it is done.
void RaftDriver::persist() {
    std::vector<Write> writes;
    writes.swap(writes_);
    std::vector<raft::Message> messages;
    messages.swap(after_persist_);
    Status status = storage_->log->failure();  // of a read from inside a step
    if (status.is_ok() && !writes.empty()) status = write_all(writes);
    if (!status.is_ok()) return fail(status);
    send(messages);
    if (!writes.empty()) step(raft::Persisted{writes.back().persist_id});
}

// One write and one sync for the entries of all updates, unless term or vote or the cutting of a
// conflict lies between them.
Status RaftDriver::write_all(const std::vector<Write>& writes) {
    LogStore& log = *storage_->log;
    std::optional<LogIndex> truncate_from;
    std::vector<raft::Entry> entries;
    const auto write_gathered = [&]() -> Status {
        if (!truncate_from && entries.empty()) return Status();
        LFS_TRY(log.write(truncate_from, entries));
        truncate_from.reset();
        entries.clear();
        return Status();
    };
    for (const Write& write : writes) {
        if (write.hard_state) {
            LFS_TRY(write_gathered());
            LFS_TRY(log.sync());
            LFS_TRY(storage_->hard_state->save(*write.hard_state, log.synced_batch()));
        }
        if (write.truncate_from) {
            LFS_TRY(write_gathered());
            truncate_from = write.truncate_from;
        }
        entries.insert(entries.end(), write.append.begin(), write.append.end());
    }
    LFS_TRY(write_gathered());
    if (planted_bug("consensus.ack_before_sync")) return Status();
    return log.sync();
}

void RaftDriver::apply_committed() {
    if (!running_ || commits_.empty()) return;
    std::deque<raft::Entry> batch;
    batch.swap(commits_);
    std::vector<View> commands;
    commands.reserve(batch.size());
    for (const raft::Entry& entry : batch) {
        const bool command = entry.kind == raft::EntryKind::command && entry.payload;
        commands.push_back(command ? View(*entry.payload) : View());
    }
    const LogIndex first = batch.front().index;
    LFS_ASSERT(first == state_.applied() + 1);
    Result<std::vector<Bytes>> replies = state_.apply(first, commands);
    if (!replies) return fail(replies.status().with_context("applying the log"));
    LFS_ASSERT(replies->size() == batch.size());
    const LogIndex last = batch.back().index;
    step(raft::Applied{last});
    env_.transport.hold_sends(true);
    for (size_t i = 0; i < batch.size(); ++i) {
        proposals_.applied(batch[i].index, batch[i].term, std::move((*replies)[i]));
    }
    env_.transport.hold_sends(false);
}

void RaftDriver::install_snapshot() {
    if (!running_ || !install_ || !writes_.empty() || !commits_.empty()) return;
    const raft::SnapshotDescriptor snapshot = *install_;
    install_.reset();
    LFS_LOG(info, "installing a snapshot of entry {}", snapshot.index.value);
    Status status = storage_->snapshots.begin_install(snapshot);
    if (status.is_ok()) {
        status = storage_->install({snapshot, storage_->snapshots.path_of(snapshot.id)}, state_);
    }
    if (!status.is_ok()) return fail(status.with_context("installing a snapshot"));
    step(raft::SnapshotInstalled{snapshot.index});
    if (finishing_) answer_pieces(Status(), true);
}

void RaftDriver::maybe_compact() {
    const uint64_t bytes = storage_->log->live_bytes();
    if (!running_ || bytes < compact_at_bytes_) return;
    Result<LogIndex> cut = cut_log(options_.log_bytes_kept);
    if (!cut) return fail(cut.status().with_context("compacting the log"));
    // What could not be cut (a pinned snapshot, a laggard being filled) is tried again a bit later.
    compact_at_bytes_ =
        std::max(options_.log_bytes_max, storage_->log->live_bytes() + options_.log_bytes_max / 8);
}

Result<LogIndex> RaftDriver::compact(bool everything) {
    if (!failure_.is_ok() || !running_) return Status(Errc::unavailable, "consensus has stopped");
    Result<LogIndex> cut = cut_log(everything ? 0 : options_.log_bytes_kept);
    if (!cut) fail(cut.status().with_context("compacting the log"));
    return cut;
}

// The log is cut only below the applied index of the last completed checkpoint [12, rule 14].
Result<LogIndex> RaftDriver::cut_log(uint64_t bytes_kept) {
    LogStore& log = *storage_->log;
    // With writes gathered but not yet made there is more to come at once: let the batch end first.
    if (!writes_.empty() || install_) return log.floor().index;
    LogIndex index = state_.applied();
    if (!planted_bug("consensus.cut_above_checkpoint")) {
        LFS_ASSIGN(index, state_.checkpoint());
    }
    const raft::NodeStatus core = node_->status();
    index = std::min({index, state_.applied(), core.applied, log.index_before_tail(bytes_kept)});
    // Whoever is being filled goes on with the entries after its snapshot, and whoever is only a
    // few messages behind must not need one; not at any price, though.
    if (log.live_bytes() < 4 * options_.log_bytes_max) {
        for (const auto& [node, sender] : senders_) index = std::min(index, sender->index());
        for (const raft::FollowerStatus& follower : core.followers) {
            const bool follows = follower.recently_active && follower.id != options_.node &&
                                 !senders_.contains(follower.id);
            if (follows) index = std::min(index, follower.match);
        }
    }
    if (index <= log.floor().index) return log.floor().index;
    LFS_TRY(log.cut(node_->describe(index)));
    step(raft::Compacted{index});
    return index;
}

}  // namespace lumeofs::consensus
