// SPDX-License-Identifier: Apache-2.0
// ChunkReplica as the primary that serves: the window of writes under way, commit, and what is done
// about members that do not answer. See chunk_replica.h; how it came to serve: replica_recovery.cc.
#include <algorithm>

#include "chunkd/replication/chunk_replica.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {

namespace {

constexpr Nanos kBusyRetry = 50 * kMillisecond;

}  // namespace

ChunkReplica::Member* ChunkReplica::find_member(NodeId node) {
    for (Member& member : members_) {
        if (member.node == node) return &member;
    }
    return joiner_ && joiner_->node == node ? &*joiner_ : nullptr;
}

// A refusal carried a configuration: true if it was newer and is ours now.
bool ChunkReplica::learn_from(const wire::ChunkGrantT* grant) {
    if (grant == nullptr || grant->chunk != chunk_.value) return false;
    auto config = from_wire(*grant);
    if (!config.is_ok() || config->epoch <= config_.epoch) return false;
    adopt(*config, false, {});
    return true;
}

// ------------------------------------------------------------------------------------------ window

Status ChunkReplica::submit(Entry entry, std::vector<uint32_t>* bad_blocks) {
    // Planted bug 4: names that a start of before has used already.
    const Incarnation incarnation =
        planted_bug("chunkd.sequence_reused") ? Incarnation{1} : host_.incarnation();
    entry.name = {config_.epoch, incarnation, last_sequence_ + 1};
    store::WriteRecord record;
    record.chunk = chunk_;
    record.kind = entry.kind == wire::WriteKind::data ? store::RecordKind::data
                                                      : store::RecordKind::zero;
    record.name = entry.name;
    record.session = entry.session;
    record.write_no = entry.write_no;
    record.lowest_outstanding = entry.lowest_outstanding;
    record.offset = entry.offset;
    record.length = entry.length;
    record.commit_point = commit_point_;
    auto done = [weak = weak_from_this(), name = entry.name](const Status& status) {
        if (auto self = weak.lock()) self->own_durable(name, status);
    };
    LFS_TRY(write_record(
        std::move(record), {entry.data, entry.checksums, false}, std::move(done), bad_blocks));
    ++last_sequence_;
    applied_ = entry.name;
    versions_.record(host_.self(), entry.name.incarnation, entry.name.sequence);
    window_bytes_ += entry.data.size();
    window_.push_back(std::move(entry));
    host_.wake(chunk_);
    return Status();
}

void ChunkReplica::own_durable(const WriteName& name, const Status& status) {
    member_durable(name, status);
    if (!status.is_ok()) return;
    if (role_ == Role::recovering && !settling_) return settle();
    advance();
}

void ChunkReplica::pump() {
    const uint64_t round = round_;
    for (size_t i = 0; i < members_.size() && round == round_; ++i) pump_member(members_[i], false);
    if (round == round_ && joiner_) pump_member(*joiner_, true);
    if (round == round_) advance();
}

void ChunkReplica::pump_member(Member& member, bool joiner) {
    const Nanos now = host_.loop().now();
    if (member.failing_since != 0 && now < member.retry_at) return;
    // One try at a time to a member that has just failed.
    const uint32_t limit = member.failing_since != 0 ? 1 : kSentPerMember;
    while (member.next < window_end() && member.in_flight < limit) {
        const uint64_t number = member.next++;
        LFS_ASSERT(number >= window_base_);
        send_entry(member, window_[static_cast<size_t>(number - window_base_)], number, joiner);
    }
}

void ChunkReplica::send_entry(Member& member, Entry& entry, uint64_t number, bool joiner) {
    wire::ReplicateT message;
    message.config = std::make_unique<wire::ChunkGrantT>(to_wire(chunk_, config_));
    message.incarnation = host_.incarnation().value;
    message.name = to_wire_ptr(entry.name);
    message.previous = to_wire_ptr(member.last_sent);
    message.commit_point = to_wire_ptr(commit_point_);
    message.session = entry.session.value;
    message.write_no = entry.write_no;
    message.lowest_outstanding = entry.lowest_outstanding;
    message.kind = entry.kind;
    message.offset = entry.offset;
    message.length = entry.length;
    message.checksums = entry.checksums;
    message.void_session = entry.void_session.value;
    message.void_write_no = entry.void_write_no;
    if (joiner) message.fill = fill_->number;
    message.may_create = !joiner && member.gathered && !member.facts.has && member.acked_count == 0;
    member.last_sent = entry.name;
    ++member.in_flight;
    last_send_at_ = host_.loop().now();
    host_.outside().call_node(
        member.node,
        Method::replicate,
        wire::encode<wire::Replicate>(message),
        entry.data,
        kRpcTimeout,
        [weak = weak_from_this(),
         node = member.node,
         round = round_,
         attempt = member.attempt,
         number,
         name = entry.name,
         told = commit_point_](RpcReply reply) {
            if (auto self = weak.lock()) {
                self->replicated(node, round, attempt, number, name, told, std::move(reply));
            }
        });
}

void ChunkReplica::replicated(NodeId node,
                              uint64_t round,
                              uint32_t attempt,
                              uint64_t number,
                              const WriteName& name,
                              const WriteName& told,
                              RpcReply rpc) {
    if (round != round_) return;
    Member* member = find_member(node);
    if (member == nullptr) return;
    const bool current = attempt == member->attempt;
    if (current) --member->in_flight;
    Errc errc = rpc.status.code();
    wire::ReplicaReplyT reply;
    if (errc == Errc::ok) {
        auto decoded = wire::decode<wire::ReplicaReply>(rpc.body);
        errc = decoded.is_ok() ? static_cast<Errc>(decoded->errc) : Errc::protocol;
        if (decoded.is_ok()) reply = std::move(decoded).value();
    }
    if (errc == Errc::ok) {
        // Also the late answer to an earlier attempt: it has this write and all before it.
        member->free_bytes = reply.free_bytes;
        member->free_at = host_.loop().now();
        if (number + 1 > member->acked_count) {
            member->acked_count = number + 1;
            member->acked = name;
            if (member->next < member->acked_count) {
                member->next = member->acked_count;
                member->last_sent = name;
            }
        }
        member->told = std::max(member->told, told);
        member->trouble = Trouble::none;
        member->failing_since = 0;
        member->corrupt_replies = 0;
        return pump();
    }
    if (!current) return;
    if (learn_from(reply.config.get())) return;
    const bool joiner = joiner_ && member == &*joiner_;
    if (errc == Errc::gap && !joiner) {
        ++host_.stats().gaps;
        return resend_from(*member, from_wire(reply.applied.get()));
    }
    if (joiner) return restart_fill(errc);
    member_failed(*member, errc);
}

// The member lacks something that we sent. If its last write is one that we know it to have, sending
// goes on from there; otherwise its history is not ours, and that must be settled first.
void ChunkReplica::resend_from(Member& member, const WriteName& applied) {
    uint64_t next = member.acked_count;
    bool known = applied == member.acked;
    for (uint64_t number = window_base_; number < window_end() && !known; ++number) {
        known = window_[static_cast<size_t>(number - window_base_)].name == applied;
        if (known) next = number + 1;
    }
    if (!known) {
        LFS_LOG(warn,
                "chunk {}: node {} ends with a write that we did not send it",
                chunk_.value,
                member.node.value);
        return start_recovery();
    }
    ++member.attempt;
    member.in_flight = 0;
    member.next = next;
    member.last_sent = applied;
    pump();
}

void ChunkReplica::member_failed(Member& member, Errc why) {
    const Nanos now = host_.loop().now();
    ++member.attempt;
    member.in_flight = 0;
    member.next = member.acked_count;
    member.last_sent = member.acked;
    member.last_error = why;
    if (member.failing_since == 0) member.failing_since = now;
    Trouble trouble = Trouble::late;
    Nanos delay = kBusyRetry;
    if (why == Errc::disconnected || why == Errc::shutting_down) {
        trouble = Trouble::down;
        delay = kRetryDelay;
    } else if (why == Errc::io || why == Errc::poisoned || why == Errc::nospc ||
               why == Errc::not_found || why == Errc::not_member) {
        trouble = Trouble::definite;
        delay = 5 * kRetryDelay;
    } else if (why == Errc::corrupt && ++member.corrupt_replies > 3) {
        // Our own store has verified these bytes, and so has each earlier try: it is not the wire.
        trouble = Trouble::definite;
        delay = 5 * kRetryDelay;
    }
    // "Late" after "down" stays down: a link that comes and goes is no sign of life.
    if (member.trouble == Trouble::none || trouble != Trouble::late) member.trouble = trouble;
    member.retry_at = now + delay;
    host_.wake(chunk_);
}

// ------------------------------------------------------------------------------------------ commit

void ChunkReplica::advance() {
    if (advancing_) return;  // an answer below led back here; the loop below goes on
    advancing_ = true;
    const uint64_t round = round_;
    while (round == round_ && committed_count_ < window_end()) {
        Entry& entry = window_[static_cast<size_t>(committed_count_ - window_base_)];
        bool everywhere = entry.name <= durable_;
        if (!planted_bug("chunkd.ack_before_secondaries")) {
            for (const Member& one : members_) {
                everywhere = everywhere && one.acked_count > committed_count_;
            }
            // Once metad was asked to make the joiner a member, it counts as one: its membership
            // may be committed at any moment (replica_fill.cc).
            if (joiner_ && fill_ && fill_->stage >= FillStage::finishing) {
                everywhere = everywhere && joiner_->acked_count > committed_count_;
            }
        }
        if (!everywhere) break;
        ++committed_count_;
        commit_point_ = entry.name;
        host_.store().note_commit(chunk_, entry.name);
        finish_entry(entry);
    }
    advancing_ = false;
    if (round != round_) return;
    // A joiner may lag; when it lags too far its filling starts over.
    if (joiner_ && fill_ && fill_->stage < FillStage::finishing &&
        (window_.size() >= kWindowRecords || window_bytes_ >= kWindowBytes)) {
        const uint64_t behind = committed_count_ - std::min(committed_count_, joiner_->acked_count);
        if (behind > kWindowRecords / 2) restart_fill(Errc::busy);
    }
    auto everybody_has = [this](uint64_t number) {
        return (!joiner_ || joiner_->acked_count > number) &&
               std::all_of(members_.begin(), members_.end(), [number](const Member& one) {
                   return one.acked_count > number;
               });
    };
    while (!window_.empty() && window_base_ < committed_count_ && everybody_has(window_base_)) {
        window_bytes_ -= window_.front().data.size();
        window_.pop_front();
        ++window_base_;
    }
    if (role_ == Role::recovering && settling_ && !settle_waits_) {
        if (!settle_.empty()) {
            pump_settlement();
        } else if (committed_count_ == window_end()) {
            serve();
        }
    }
}

void ChunkReplica::finish_entry(Entry& entry) {
    auto waiters = std::exchange(entry.waiters, {});
    answer_waiters(&waiters);
    if (entry.session) host_.write_decided();
}

// The lease is looked at once more where it counts: when the answer goes out. Also how many we are:
// what was under way when members were lost may be settled by too few, and is not acknowledged then.
void ChunkReplica::answer_waiters(std::vector<std::shared_ptr<ClientWrite>>* waiters) {
    for (auto& request : *waiters) {
        const OwnFacts own = own_facts(SessionId{request->request.session});
        if (!own.lease_valid || own.few_members) {
            answer(request->answer, Errc::unavailable);
        } else {
            request->answer(ok_reply(), {});
        }
    }
    waiters->clear();
}

// -------------------------------------------------------------------------------------------- time

// Members that do not answer: metad is told, and says who is in the configuration from now on. Late
// is not dead: a member that is connected has kBusyMemberPatience, and one member at most is ever
// given up for lateness [37].
void ChunkReplica::report_troubles(Nanos now) {
    if (own_failure_ != Errc::ok && now - own_reported_at_ >= kReportAgain) {
        own_reported_at_ = now;
        host_.report(chunk_, config_.epoch, {host_.self()}, own_failure_);
    }
    if (!may_judge()) return;
    std::vector<NodeId> failed, without_copy;
    Errc why = Errc::ok;
    Member* latest = nullptr;
    for (Member& one : members_) {
        if (one.failing_since == 0) continue;
        const Nanos since = now - one.failing_since;
        if (one.trouble == Trouble::late) {
            if (since >= kBusyMemberPatience &&
                (latest == nullptr || one.failing_since < latest->failing_since)) {
                latest = &one;
            }
            continue;
        }
        if (one.trouble == Trouble::down && since < kDownPatience) continue;
        if (one.reported_at != 0 && now - one.reported_at < kReportAgain) continue;
        one.reported_at = now;
        if (one.last_error == Errc::not_found) {
            without_copy.push_back(one.node);
            continue;
        }
        failed.push_back(one.node);
        why = one.last_error;
    }
    // On their own, and first: they count for nothing, so that any number of them may be removed.
    if (!without_copy.empty()) {
        host_.report(chunk_, config_.epoch, std::move(without_copy), Errc::not_found);
    }
    if (failed.empty() && latest != nullptr && (!late_reported_ || latest->reported_at != 0) &&
        (latest->reported_at == 0 || now - latest->reported_at >= kReportAgain)) {
        latest->reported_at = now;
        late_reported_ = true;
        failed.push_back(latest->node);
        why = latest->last_error;
    }
    if (!failed.empty()) host_.report(chunk_, config_.epoch, std::move(failed), why);
}

void ChunkReplica::send_commit_points(Nanos now) {
    if (role_ != Role::serving || commit_point_.sequence == 0) return;
    if (now - last_send_at_ < kCommitPointDelay) return;
    for (Member& one : members_) {
        // Only under our own names: what an earlier primary committed was settled by gather.
        if (one.told >= commit_point_ || one.failing_since != 0 || one.acked < commit_point_) continue;
        if (!host_.outside().node_up(one.node)) continue;
        host_.send_commit_point(one.node, chunk_, commit_point_);
        one.told = commit_point_;
    }
}

bool ChunkReplica::tick(Nanos now) {
    auto waiting = std::exchange(waiting_, {});
    std::vector<Waiting> expired;
    for (Waiting& one : waiting) {
        if (one.first != 0 && one.first <= now) {
            expired.push_back(std::move(one));
        } else {
            waiting_.push_back(std::move(one));
        }
    }
    for (Waiting& one : expired) one.second(true);
    if (role_ == Role::joiner) {
        tick_joiner(now);
        return true;
    }
    if (role_ != Role::recovering && role_ != Role::serving) return !waiting_.empty();
    const uint64_t round = round_;
    if (role_ == Role::recovering && !settling_) {
        for (size_t i = 0; i < members_.size() && round == round_; ++i) {
            Member& one = members_[i];
            if (!one.gathered && !one.asking && now >= one.retry_at) ask(one);
        }
        if (round == round_) settle();
    } else {
        pump();
    }
    if (round != round_) return true;
    report_troubles(now);
    send_commit_points(now);
    if (fill_) tick_fill(now);
    bool untold = false;
    for (const Member& one : members_) {
        untold = untold || (one.told < commit_point_ && one.acked >= commit_point_ &&
                            host_.outside().node_up(one.node));
    }
    return untold || role_ == Role::recovering || window_base_ < committed_count_ || !window_.empty() || !waiting_.empty() || fill_ ||
           own_failure_ != Errc::ok;
}

void ChunkReplica::peer_up(NodeId node) {
    Member* member = find_member(node);
    if (member == nullptr) return;
    member->retry_at = 0;
    host_.wake(chunk_);
    if (lost_) return start_recovery();  // it may have its copy again
    if (member->failing_since == 0) return;
    if (role_ == Role::recovering && !settling_) {
        if (!member->gathered && !member->asking) ask(*member);
    } else {
        pump();
    }
}

// What it was told may not have become durable before it went: its start has the list again.
void ChunkReplica::peer_down(NodeId node) {
    if (Member* member = find_member(node); member != nullptr) member->told = {};
}

}  // namespace lumeofs::replication
