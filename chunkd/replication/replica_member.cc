// SPDX-License-Identifier: Apache-2.0
// ChunkReplica as somebody else's member or joiner: what it does with the messages of the chunk's
// primary. Everything is refused that is not from the newest primaryship that it knows of (I8), and
// nothing is applied out of the chain. See chunk_replica.h.
#include <algorithm>

#include "chunkd/replication/chunk_replica.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {

wire::ReplicaReplyT ChunkReplica::replica_reply(const Status& status) const {
    wire::ReplicaReplyT reply;
    reply.errc = static_cast<uint16_t>(status.code());
    reply.text = std::string(status.text());
    reply.applied = to_wire_ptr(applied_);
    reply.free_bytes = host_.free_bytes();
    if (status.code() == Errc::stale_epoch || status.code() == Errc::not_member) {
        if (config_.epoch && !config_.members.empty()) {
            reply.config = std::make_unique<wire::ChunkGrantT>(to_wire(chunk_, config_));
        }
    }
    return reply;
}

// Checks that a message is from the primary of a configuration that is not older than ours; takes a
// newer one over (the records behind it in the log are durable only with it).
Status ChunkReplica::follow(NodeId sender,
                            Incarnation incarnation,
                            const Configuration& config,
                            bool joiner) {
    ReplicaFacts facts;
    facts.config = &config;
    facts.sender = sender;
    facts.sender_is = {config.epoch, incarnation};
    facts.promised = promised_;
    facts.to_joiner = joiner;
    Plan plan = plan_replica(own_facts({}), facts);
    if (plan.step == Step::adopt) {
        adopt(config, false, {});
        if (config_.epoch < config.epoch) {
            return Status(own_failure_ == Errc::ok ? Errc::io : own_failure_);
        }
        plan = plan_replica(own_facts({}), facts);
    }
    if (plan.step != Step::accept) return Status(plan.errc);
    primary_heard_at_ = host_.loop().now();
    if (joiner && config_.joiner != host_.self()) {
        config_.joiner = host_.self();  // announced under the epoch that we knew already
        enter_role();
    }
    if (promised_ < facts.sender_is) {
        promised_ = facts.sender_is;
        filled_by_ = {};
    }
    return Status();
}

// The primary that made us a member, or gave us up, may have died before it told us, and the chunk may
// be in nobody's use since.
void ChunkReplica::tick_joiner(Nanos now) {
    if (now - primary_heard_at_ < kJoinerPatience) return;
    primary_heard_at_ = now;
    host_.ask_config(chunk_);
}

Status ChunkReplica::create(bool complete, StatusDone done) {
    if (host_.was_removed(chunk_, config_.epoch)) {
        return Status(Errc::not_found, "this chunk was removed");
    }
    store::WriteRecord record;
    if (complete && host_.store().lost(chunk_)) {
        return Status(Errc::io, "a disk that was taken out has the copy");
    }
    record.chunk = chunk_;
    record.kind = store::RecordKind::create;
    record.name.epoch = config_.epoch;
    complete_ = complete;
    from_start_ = complete;
    voids_.clear();
    record.blob = record_blob();
    record.version_vector = versions_.encode();
    LFS_TRY(write_record(std::move(record), {}, std::move(done)));
    has_ = true;
    applied_ = durable_ = commit_point_ = {};
    return Status();
}

void ChunkReplica::member_durable(const WriteName& name, const Status& status) {
    if (status.is_ok()) {
        durable_ = std::max(durable_, name);
    }
    auto end = status.is_ok() ? waiting_durable_.upper_bound(durable_) : waiting_durable_.end();
    std::vector<std::function<void(const Status&)>> due;
    for (auto it = waiting_durable_.begin(); it != end; ++it) due.push_back(std::move(it->second));
    waiting_durable_.erase(waiting_durable_.begin(), end);
    for (auto& task : due) task(status);
}

void ChunkReplica::when_durable(const WriteName& name, std::function<void(const Status&)> task) {
    if (own_failure_ == Errc::io) return task(Status(Errc::io));
    if (name <= durable_) return task(Status());
    waiting_durable_.emplace(name, std::move(task));
}

// ----------------------------------------------------------------------------------------- writes

void ChunkReplica::on_replicate(NodeId sender,
                                const Configuration& config,
                                std::shared_ptr<wire::ReplicateT> message,
                                Buffer payload,
                                PeerAnswer<wire::ReplicaReplyT> answer) {
    const bool joiner = message->fill != 0;
    Status status = follow(sender, Incarnation{message->incarnation}, config, joiner);
    const std::pair<Primaryship, uint64_t> filling{promised_, message->fill};
    if (status.is_ok() && joiner && filled_by_ != filling) {
        status = Status(Errc::conflict, "this filling is not known here");
    }
    const WriteName name = from_wire(message->name.get());
    if (status.is_ok() && name.sequence == 0) status = Status(Errc::corrupt, "a write without name");
    if (status.is_ok() && !(name <= applied_)) status = apply_replicate(*message, std::move(payload));
    if (!status.is_ok()) return answer(replica_reply(status), {});
    // Also a repeat: answered when the first one is on disk.
    when_durable(name, [self = shared_from_this(), answer = std::move(answer)](const Status& result) {
        answer(self->replica_reply(result), {});
    });
}

Status ChunkReplica::apply_replicate(const wire::ReplicateT& message, Buffer payload) {
    const WriteName name = from_wire(message.name.get());
    const WriteName previous = from_wire(message.previous.get());
    const bool data = message.kind == wire::WriteKind::data;
    if (message.length == 0 || message.offset >= kChunkSize ||
        message.length > kChunkSize - message.offset ||
        (data && (payload.size() != message.length ||
                  message.checksums.size() != piece_count(message.offset, message.length)))) {
        return Status(Errc::corrupt, "replicated write has a wrong form");
    }
    if (!has_) {
        // That there was no write by its name does not say that there was nothing: it may have been
        // filled.
        if (!message.may_create) return Status(Errc::not_found, "this copy is gone");
        LFS_TRY(create(true, {}));
    }
    if (!complete_ && message.fill == 0) return Status(Errc::not_found, "this copy was never filled");
    if (previous != applied_ && !planted_bug("chunkd.no_reconcile")) {
        return Status(Errc::gap, "a write is missing here");
    }
    store::WriteRecord record;
    record.chunk = chunk_;
    record.kind = data ? store::RecordKind::data : store::RecordKind::zero;
    record.name = name;
    record.session = SessionId{message.session};
    record.write_no = message.write_no;
    record.lowest_outstanding = message.lowest_outstanding;
    record.offset = message.offset;
    record.length = message.length;
    // The chain holds, so what the primary says is committed is a prefix of what we have.
    const WriteName committed = from_wire(message.commit_point.get());
    if (committed > commit_point_ && committed <= applied_) record.commit_point = committed;
    const auto voids_before = voids_;
    if (message.void_session != 0) {
        add_void(SessionId{message.void_session}, message.void_write_no);
        reapplied_.erase({SessionId{message.void_session}, message.void_write_no});
        record.blob = record_blob();
    }
    std::vector<uint32_t> bad;
    auto done = [weak = weak_from_this(), name](const Status& status) {
        if (auto self = weak.lock()) self->member_durable(name, status);
    };
    Status status = write_record(std::move(record),
                                 {std::move(payload), message.checksums, false},
                                 std::move(done),
                                 &bad);
    if (!status.is_ok()) {
        voids_ = voids_before;
        if (status.code() != Errc::corrupt || bad.empty()) return status;
        // An old block that must be merged is bad: healed from another member, then sent again.
        host_.repair(chunk_, bad, [](const Status& result) { ignore(result, "the primary repeats"); });
        return Status(Errc::busy, "an old block is being repaired");
    }
    applied_ = name;
    versions_.record(config_.primary(), name.incarnation, name.sequence);
    if (committed > commit_point_ && committed <= applied_) {
        commit_point_ = committed;
        host_.store().note_commit(chunk_, committed);
    }
    const SessionId session{message.session};
    if (session) {
        for (const Void& gone : voids_) {
            if (gone.session == session && message.write_no <= gone.up_to) {
                reapplied_.emplace(session, message.write_no);
            }
        }
    }
    return Status();
}

// In force only under the primaryship that named the write: names of earlier ones were settled.
void ChunkReplica::on_commit_point(NodeId sender, const WriteName& name) {
    if (!has_ || sender != config_.primary() || role_ != Role::member) return;
    if (name <= commit_point_ || name > applied_) return;
    if (promised_.epoch != config_.epoch) return;
    // Our last write is of this primaryship or was found equal by its gather: a prefix of its chain.
    const Primaryship named{name.epoch, name.incarnation};
    if (named > promised_) return;
    if (named < promised_ && name != applied_) return;
    commit_point_ = name;
    host_.store().note_commit(chunk_, name);
}

// ----------------------------------------------------------------------------------------- gather

void ChunkReplica::on_gather(NodeId sender,
                             Incarnation incarnation,
                             const Configuration& config,
                             std::function<void(wire::GatheredChunkT)> answer) {
    wire::GatheredChunkT reply;
    reply.chunk = chunk_.value;
    Status status = follow(sender, incarnation, config, false);
    if (!status.is_ok()) {
        reply.errc = static_cast<uint16_t>(status.code());
        if (config_.epoch > config.epoch) {
            reply.config = std::make_unique<wire::ChunkGrantT>(to_wire(chunk_, config_));
        }
        return answer(std::move(reply));
    }
    if (!has_) return answer(std::move(reply));
    // The list must be of durable records, and the epoch must be durable before it is promised: if
    // anything is still on its way to the disk, one more record tells when all before it are there.
    auto finish = [self = shared_from_this(), answer, primary = promised_](const Status& durable) {
        answer(self->gather_reply(durable, primary));
    };
    if (unsynced_ == 0) return finish(Status());
    status = persist_record(finish);
    if (!status.is_ok()) finish(status);
}

wire::GatheredChunkT ChunkReplica::gather_reply(const Status& durable, const Primaryship& asker) {
    wire::GatheredChunkT reply;
    reply.chunk = chunk_.value;
    auto doubts = host_.store().in_doubt(chunk_);
    auto meta = host_.store().meta(chunk_);
    Status status = durable;
    if (status.is_ok()) status = doubts.status();
    if (status.is_ok()) status = meta.status();
    // A newer primaryship came while the disk worked: the asker's list would be out of date.
    if (status.is_ok() && promised_ != asker) status = Status(Errc::stale_epoch);
    reply.errc = static_cast<uint16_t>(status.code());
    if (!status.is_ok()) return reply;
    reply.has = true;
    reply.complete = complete_;
    reply.length = meta->length;
    reply.applied = to_wire_ptr(applied_);
    reply.commit_point = to_wire_ptr(commit_point_);
    for (const store::InDoubt& one : *doubts) {
        reply.in_doubt.emplace_back(to_wire(one.name),
                                    one.session.value,
                                    one.write_no,
                                    one.offset,
                                    one.kind == store::RecordKind::truncate ? 0 : one.length);
    }
    return reply;
}

// ------------------------------------------------------------------------------ filling and repair

// What we hold of earlier epochs is about to be overwritten by the primary's blocks: no write that our
// table knows counts as done any more. (Repeats under earlier epochs are refused for their epoch.)
void ChunkReplica::void_whole_table() {
    reapplied_.clear();
    auto table = host_.store().session_writes(chunk_);
    if (!table.is_ok()) return;
    for (const store::SessionWrites& one : *table) {
        if (!one.done.empty()) add_void(one.session, one.done.back());
    }
}

void ChunkReplica::on_compare(NodeId sender,
                              const Configuration& config,
                              const wire::CompareBlocksT& message,
                              PeerAnswer<wire::CompareReplyT> answer) {
    if (message.want_data) return repair_read(message, std::move(answer));
    auto refuse = [this, answer](const Status& status) {
        wire::CompareReplyT reply;
        reply.errc = static_cast<uint16_t>(status.code());
        reply.text = std::string(status.text());
        reply.config = std::move(replica_reply(status).config);
        answer(std::move(reply), {});
    };
    Status status = follow(sender, Incarnation{message.incarnation}, config, true);
    if (!status.is_ok()) return refuse(status);
    const std::pair<Primaryship, uint64_t> filling{promised_, message.fill};
    if (message.first > kBlocksPerChunk || message.count > kBlocksPerChunk - message.first) {
        return refuse(Status(Errc::corrupt, "blocks beyond the end of a chunk"));
    }
    auto reply_sums = [self = shared_from_this(), answer, first = message.first,
                       count = message.count](const Status& durable) {
        wire::CompareReplyT reply;
        auto sums = self->host_.store().block_checksums(self->chunk_, first, count);
        auto meta = self->host_.store().meta(self->chunk_);
        Status result = durable.is_ok() ? sums.status() : durable;
        if (result.is_ok()) result = meta.status();
        reply.errc = static_cast<uint16_t>(result.code());
        reply.applied = to_wire_ptr(self->applied_);
        reply.free_bytes = self->host_.free_bytes();
        if (result.is_ok()) {
            reply.length = meta->length;
            reply.checksums = std::move(sums).value();
            reply.version_vector = self->versions_.encode();
        }
        answer(std::move(reply), {});
    };
    if (!message.start) {
        if (filled_by_ != filling) return refuse(Status(Errc::conflict, "unknown filling"));
        return reply_sums(Status());
    }
    if (!has_) {
        status = create(false, {});
        if (!status.is_ok()) return refuse(status);
    }
    complete_ = false;
    from_start_ = false;
    void_whole_table();
    filled_by_ = filling;
    host_.store().track_writes(chunk_, false);
    host_.store().track_writes(chunk_, true);
    status = persist_record(std::move(reply_sums));
    if (!status.is_ok()) refuse(status);
}

void ChunkReplica::on_copy(NodeId sender,
                           const Configuration& config,
                           const wire::CopyBlocksT& message,
                           Buffer payload,
                           PeerAnswer<wire::ReplicaReplyT> answer) {
    Status status = follow(sender, Incarnation{message.incarnation}, config, true);
    const std::pair<Primaryship, uint64_t> filling{promised_, message.fill};
    if (status.is_ok() && (filled_by_ != filling || !has_)) {
        status = Status(Errc::conflict, "unknown filling");
    }
    const size_t count = message.checksums.size();
    if (status.is_ok() && (count == 0 || message.holes.size() != count ||
                           message.first > kBlocksPerChunk ||
                           count > kBlocksPerChunk - message.first ||
                           payload.size() != count * kBlockSize)) {
        status = Status(Errc::corrupt, "copied blocks have a wrong form");
    }
    if (!status.is_ok()) return answer(replica_reply(status), {});
    store::BlockData blocks;
    blocks.first_block = message.first;
    blocks.data = std::move(payload);
    blocks.plain = message.checksums;
    for (size_t i = 0; i < count; ++i) blocks.hole.push_back(message.holes[i] != 0);
    WriteName as_of = from_wire(message.as_of.get());
    if (planted_bug("chunkd.copy_over_newer")) {
        host_.store().track_writes(chunk_, false);
        host_.store().track_writes(chunk_, true);
        as_of = std::max(as_of, applied_);
    }
    auto done = [self = shared_from_this(), answer](const Status& result) {
        answer(self->replica_reply(result), {});
    };
    status = host_.store().rewrite_blocks(chunk_, blocks, as_of, message.length, done);
    if (!status.is_ok()) answer(replica_reply(status), {});
}

// Another member lost these blocks: ours, if nothing is undecided about them.
void ChunkReplica::repair_read(const wire::CompareBlocksT& message,
                               PeerAnswer<wire::CompareReplyT> answer) {
    wire::CompareReplyT reply;
    reply.applied = to_wire_ptr(applied_);
    Buffer payload;
    Status status;
    const uint64_t offset = uint64_t{message.first} * kBlockSize;
    const uint64_t length = uint64_t{message.count} * kBlockSize;
    if (message.count == 0 || length > kMaxIoBytes || message.first >= kBlocksPerChunk ||
        message.count > kBlocksPerChunk - message.first) {
        status = Status(Errc::inval);
    } else if (!has_ || !complete_ || !config_.is_member(host_.self())) {
        status = Status(Errc::not_member);
    } else {
        auto undecided = host_.store().undecided(chunk_, offset, length);
        if (!undecided.is_ok()) {
            status = undecided.status();
        } else if (*undecided) {
            status = Status(Errc::busy, "the blocks are being written");
        } else {
            std::vector<uint32_t> bad;
            auto blocks = host_.store().read(chunk_, offset, length, store::ReadView::newest, &bad);
            status = blocks.status();
            if (blocks.is_ok()) {
                payload = blocks->data;
                reply.checksums = std::move(blocks->plain);
                for (bool hole : blocks->hole) reply.holes.push_back(hole);
                auto meta = host_.store().meta(chunk_);
                if (meta.is_ok()) reply.length = meta->length;
            }
        }
    }
    reply.errc = static_cast<uint16_t>(status.code());
    answer(std::move(reply), std::move(payload));
}

}  // namespace lumeofs::replication
