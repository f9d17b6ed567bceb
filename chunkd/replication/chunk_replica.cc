// SPDX-License-Identifier: Apache-2.0
#include "chunkd/replication/chunk_replica.h"

#include <algorithm>

#include "common/base/checksum.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {

std::vector<uint64_t> piece_checksums(uint64_t offset, View bytes) {
    std::vector<uint64_t> sums;
    sums.reserve(piece_count(offset, bytes.size()));
    while (!bytes.empty()) {
        const size_t room = static_cast<size_t>(kBlockSize - offset % kBlockSize);
        const size_t piece = std::min(room, bytes.size());
        sums.push_back(checksum(bytes.first(piece)));
        bytes = bytes.subspan(piece);
        offset += piece;
    }
    return sums;
}

std::vector<uint64_t> slice_checksums(const store::BlockData& blocks,
                                      uint64_t offset,
                                      uint64_t length,
                                      Buffer* out) {
    const uint64_t start = offset - blocks.first_block * kBlockSize;
    *out = blocks.data.slice(static_cast<size_t>(start), static_cast<size_t>(length));
    std::vector<uint64_t> sums;
    uint64_t at = offset;
    const uint64_t end = offset + length;
    while (at < end) {
        const uint64_t block = at / kBlockSize;
        const uint64_t piece_end = std::min(end, (block + 1) * kBlockSize);
        if (piece_end - at == kBlockSize) {
            sums.push_back(blocks.plain[static_cast<size_t>(block - blocks.first_block)]);
        } else {
            const View part = out->view().subspan(static_cast<size_t>(at - offset),
                                                  static_cast<size_t>(piece_end - at));
            sums.push_back(checksum(part));
        }
        at = piece_end;
    }
    return sums;
}

ChunkReplica::ChunkReplica(ReplicaHost& host, ChunkId chunk) : host_(host), chunk_(chunk) {}
ChunkReplica::~ChunkReplica() = default;

Status ChunkReplica::load() {
    has_ = host_.store().has(chunk_);
    if (!has_) return Status();
    LFS_ASSIGN(store::ChunkMeta meta, host_.store().meta(chunk_));
    applied_ = durable_ = meta.applied;
    commit_point_ = meta.commit_point;
    versions_ = VersionVector::decode(meta.version_vector);
    auto record = decode_record(meta.blob);
    if (record.is_ok()) {
        config_ = record->config;
        complete_ = record->complete;
        from_start_ = record->from_start;
        voids_ = record->voids;
    } else {
        LFS_LOG(warn, "chunk {}: {}", chunk_.value, record.status().to_string());
    }
    config_.epoch = meta.epoch;
    note_version();
    enter_role();
    return Status();
}

// ------------------------------------------------------------------------------------------- roles

Bytes ChunkReplica::record_blob() const {
    return encode_record({config_, complete_, from_start_, voids_});
}

void ChunkReplica::note_version() {
    if (applied_.sequence == 0 || applied_.epoch != config_.epoch) return;
    versions_.record(config_.primary(), applied_.incarnation, applied_.sequence);
}

Status ChunkReplica::write_record(store::WriteRecord record,
                                  store::Payload payload,
                                  StatusDone done,
                                  std::vector<uint32_t>* bad_blocks) {
    auto counted = [self = shared_from_this(), done = std::move(done)](const Status& status) {
        --self->unsynced_;
        if (!status.is_ok()) {
            self->own_failure_ = Errc::io;
            self->host_.wake(self->chunk_);
        }
        if (done) done(status);
    };
    LFS_TRY(host_.store().write(
        std::move(record), std::move(payload), std::move(counted), bad_blocks));
    ++unsynced_;
    return Status();
}

Status ChunkReplica::persist_record(StatusDone done) {
    store::WriteRecord record;
    record.chunk = chunk_;
    record.kind = store::RecordKind::set_epoch;
    record.name.epoch = config_.epoch;
    record.version_vector = versions_.encode();
    record.blob = record_blob();
    return write_record(std::move(record), {}, std::move(done));
}

// The cut of the marks and the epoch are submitted together, in this order: the log makes them durable
// together, and a crash between them only repeats the cut [6].
Status ChunkReplica::write_epoch(const Configuration& config, StatusDone done) {
    const auto step = shrink_step(config.marks, config_.epoch);
    if (step) {
        store::WriteRecord cut;
        cut.chunk = chunk_;
        cut.kind = store::RecordKind::truncate;
        cut.name.epoch = config.epoch;
        cut.length = step->truncate_to;
        cut.shrink_epoch = step->newest;
        LFS_TRY(write_record(std::move(cut), {}, {}));
    }
    Configuration before = std::exchange(config_, config);
    const bool was_complete = complete_;
    if (before.joiner == host_.self() && config.is_member(host_.self())) complete_ = true;
    Status status = persist_record(std::move(done));
    if (!status.is_ok()) {
        config_ = std::move(before);
        complete_ = was_complete;
    }
    return status;
}

void ChunkReplica::adopt(const Configuration& config, bool from_metad, StatusDone done) {
    auto finish = [this, &done](const Status& status) {
        if (!done) return;
        // What is here may still be on its way to the disk: the same log makes it durable first.
        if (!status.is_ok() || !has_ || unsynced_ == 0) return done(status);
        const Status queued = persist_record(done);
        if (!queued.is_ok()) done(queued);
    };
    if (config.epoch < config_.epoch) return finish(Status());
    if (config.epoch == config_.epoch && !config_.members.empty()) {
        // While a JoinDone is open only its answer says what became of the joiner (replica_fill.cc).
        const bool fixed = fill_ && fill_->stage >= FillStage::finishing;
        if (from_metad && config.joiner != config_.joiner && !fixed) {
            config_.joiner = config.joiner;
            if (role_ != Role::serving && role_ != Role::recovering) {
                enter_role();
            } else {
                if (fill_ && fill_->node != config.joiner) {
                    fill_.reset();
                    joiner_.reset();
                    advance();
                }
                if (role_ == Role::serving && config.joiner && !fill_) begin_fill(config.joiner);
            }
        }
        return finish(Status());
    }
    note_version();
    if (!has_) {
        config_ = config;
        enter_role();
        return finish(Status());
    }
    Status status = write_epoch(config, done);
    if (!status.is_ok()) {
        own_failure_ = Errc::io;
        LFS_LOG(error, "chunk {}: cannot adopt: {}", chunk_.value, status.to_string());
        host_.wake(chunk_);
        return finish(status);
    }
    enter_role();
}

void ChunkReplica::enter_role() {
    const NodeId self = host_.self();
    const Role before = role_;
    if (own_failure_ != Errc::io) own_failure_ = Errc::ok;
    if (config_.primary() == self && self) {
        role_ = Role::recovering;
        start_recovery();
        return;
    }
    if (before == Role::recovering || before == Role::serving) leave_primary();
    if (config_.is_member(self)) {
        role_ = Role::member;
        if (has_ && before == Role::joiner) host_.store().track_writes(chunk_, false);
    } else if (config_.joiner == self && self) {
        role_ = Role::joiner;
        primary_heard_at_ = host_.loop().now();
        host_.wake(chunk_);
    } else {
        role_ = Role::outside;
    }
    run_waiting();
}

// We are not the primary any more. What was under way is in the in-doubt lists: the new primary
// settles it; the askers go there and repeat.
void ChunkReplica::leave_primary() {
    ++round_;
    settling_ = false;
    if (std::exchange(lost_, false)) host_.note_lost(chunk_, false);
    settle_.clear();
    members_.clear();
    joiner_.reset();
    fill_.reset();
    dedup_.clear();
    std::vector<std::shared_ptr<ClientWrite>> left;
    for (Completing& one : completing_) left.insert(left.end(), one.waiters.begin(), one.waiters.end());
    for (Entry& one : window_) left.insert(left.end(), one.waiters.begin(), one.waiters.end());
    completing_.clear();
    window_.clear();
    window_bytes_ = 0;
    for (auto& request : left) answer(request->answer, Errc::stale_epoch, true);
    host_.write_decided();
}

void ChunkReplica::drop(Errc why) {
    role_ = Role::outside;
    leave_primary();
    auto waiting = std::exchange(waiting_, {});
    for (Waiting& one : waiting) one.second(true);
    auto durable = std::exchange(waiting_durable_, {});
    for (auto& [name, task] : durable) task(Status(why));
}

bool ChunkReplica::idle() const {
    return window_.empty() && completing_.empty() && settle_.empty() && waiting_.empty() &&
           waiting_durable_.empty() && !fill_ && role_ != Role::recovering &&
           role_ != Role::joiner && unsynced_ == 0;
}

bool ChunkReplica::has_pending_of(const std::function<bool(SessionId)>& fenced) const {
    for (const Entry& one : window_) {
        if (one.session && one.name > commit_point_ && fenced(one.session)) return true;
    }
    for (const Completing& one : completing_) {
        if (one.session && fenced(one.session)) return true;
    }
    for (const SettleItem& one : settle_) {
        if (one.session && fenced(one.session)) return true;
    }
    return false;
}

// ----------------------------------------------------------------------------------------- answers

void ChunkReplica::answer(const ChunkAnswer& to, Errc errc, bool send_config) {
    wire::ChunkReplyT reply;
    reply.errc = static_cast<uint16_t>(errc);
    reply.free_bytes = least_room();
    if (errc == Errc::stale_epoch) ++host_.stats().stale_epochs;
    if (send_config && config_.epoch && !config_.members.empty()) {
        reply.grant = std::make_unique<wire::ChunkGrantT>(to_wire(chunk_, config_));
    }
    to(std::move(reply), {});
}

wire::ChunkReplyT ChunkReplica::ok_reply() const {
    wire::ChunkReplyT reply;
    reply.free_bytes = least_room();
    return reply;
}

// Room of the fullest member. What a member said long ago is not believed: room may have come back,
// and only a new write would tell [20].
uint64_t ChunkReplica::least_room() const {
    uint64_t room = host_.free_bytes();
    const Nanos now = host_.loop().now();
    for (const Member& member : members_) {
        if (now - member.free_at < 2 * kSecond) room = std::min(room, member.free_bytes);
    }
    return room;
}

OwnFacts ChunkReplica::own_facts(SessionId session) const {
    const bool lease = planted_bug("chunkd.serve_without_lease") || host_.outside().lease_valid();
    return {host_.self(), &config_, role_, lease, host_.session_fenced(session), few_members(), lost_};
}

void ChunkReplica::wait_for_service(Nanos deadline, std::function<void(bool expired)> task) {
    waiting_.emplace_back(deadline, std::move(task));
    host_.wake(chunk_);
}

void ChunkReplica::run_waiting() {
    auto waiting = std::exchange(waiting_, {});
    for (Waiting& one : waiting) one.second(false);
}

// ----------------------------------------------------------------------------------- client writes

WriteFacts ChunkReplica::write_facts(const ClientWrite& write) const {
    const wire::WriteChunkT& request = write.request;
    WriteFacts facts;
    facts.grant = &write.grant;
    facts.range = {request.offset, request.length};
    facts.write_limit = request.grant->write_limit;
    facts.grant_is_of_session = request.session != 0 && (request.grant->session == request.session ||
                                                        request.grant->session == 0);
    facts.data = request.kind == wire::WriteKind::data;
    facts.payload_bytes = write.payload.size();
    facts.checksum_count = request.checksums.size();
    facts.forwarded = write.forwarded;
    facts.write_no = request.write_no;
    facts.lowest_outstanding = request.lowest_outstanding;
    facts.free_bytes = least_room();
    facts.full_up = window_.size() >= kWindowRecords || window_bytes_ >= kWindowBytes ||
                    waiting_.size() >= kWaitingMax;
    const SessionId session{request.session};
    for (const Entry& one : window_) {
        facts.under_way = facts.under_way || (one.session == session &&
                                              one.write_no == request.write_no &&
                                              one.name > commit_point_);
    }
    if (auto it = dedup_.find(session); it != dedup_.end()) {
        facts.known_lowest = it->second.lowest;
        facts.known_done = it->second.done.contains(request.write_no);
    }
    return facts;
}

void ChunkReplica::write(std::shared_ptr<ClientWrite> write) {
    const SessionId session{write->request.session};
    for (int round = 0; round < 2; ++round) {
        const Plan plan = plan_write(own_facts(session), write_facts(*write));
        switch (plan.step) {
            case Step::adopt: {
                adopt(write->grant, false, {});
                if (config_.epoch >= write->grant.epoch) continue;
                return answer(write->answer, own_failure_ == Errc::ok ? Errc::io : own_failure_);
            }
            case Step::forward: return forward(write);
            case Step::redirect: {
                ++host_.stats().redirects;
                wire::ChunkReplyT reply = ok_reply();
                reply.errc = static_cast<uint16_t>(Errc::not_member);
                reply.redirect = config_.primary().value;
                return write->answer(std::move(reply), {});
            }
            case Step::wait:
                write->place = host_.waiting_place();
                if (!write->place) return answer(write->answer, Errc::busy);
                return wait_for_service(write->deadline, [self = shared_from_this(), write](bool late) {
                    write->place.reset();
                    if (late) return self->answer(write->answer, Errc::unavailable);
                    self->write(write);
                });
            case Step::done_already: return write->answer(ok_reply(), {});
            case Step::join:
                for (Entry& one : window_) {
                    if (one.session == session && one.write_no == write->request.write_no &&
                        one.name > commit_point_) {
                        one.waiters.push_back(write);
                        return;
                    }
                }
                return answer(write->answer, Errc::unavailable);
            case Step::accept: return accept(write);
            case Step::refuse:
            case Step::serve: return answer(write->answer, plan.errc, plan.send_config);
        }
    }
    answer(write->answer, Errc::unavailable, true);
}

void ChunkReplica::accept(const std::shared_ptr<ClientWrite>& write) {
    const wire::WriteChunkT& request = write->request;
    Entry entry;
    entry.kind = request.kind;
    entry.offset = request.offset;
    entry.length = request.length;
    entry.data = write->payload;
    entry.checksums = request.checksums;
    entry.session = SessionId{request.session};
    entry.write_no = request.write_no;
    entry.lowest_outstanding = request.lowest_outstanding;
    entry.waiters.push_back(write);
    std::vector<uint32_t> bad;
    const Status status = submit(std::move(entry), &bad);
    if (status.is_ok()) {
        ++host_.stats().writes;
        Dedup& table = dedup_[SessionId{request.session}];
        table.done.insert(request.write_no);
        table.lowest = std::max(table.lowest, request.lowest_outstanding);
        table.done.erase(table.done.begin(), table.done.lower_bound(table.lowest));
        if (dedup_.size() > store::kMaxSessionsPerChunk) dedup_.erase(dedup_.begin());
        pump();
        return;
    }
    if (status.code() == Errc::corrupt && !bad.empty()) {
        // An old block must be merged and does not verify: another member has it [15].
        host_.repair(chunk_, bad, [self = shared_from_this(), write](const Status& repaired) {
            if (!repaired.is_ok()) return self->answer(write->answer, repaired.code());
            self->write(write);
        });
        return;
    }
    if (status.code() == Errc::io || status.code() == Errc::poisoned) {
        own_failure_ = Errc::io;
        host_.wake(chunk_);
        return answer(write->answer, Errc::unavailable);
    }
    answer(write->answer, status.code());
}

void ChunkReplica::forward(const std::shared_ptr<ClientWrite>& write) {
    ++host_.stats().forwards;
    Nanos timeout = kRpcTimeout;
    if (write->deadline != 0) {
        timeout = std::clamp<Nanos>(write->deadline - host_.loop().now(), 1, kRpcTimeout);
    }
    host_.outside().call_node(
        config_.primary(),
        Method::write_chunk,
        wire::encode<wire::WriteChunk>(write->request),
        write->payload,
        timeout,
        [self = shared_from_this(), write](RpcReply reply) {
            // No answer: the effect is unknown, the client repeats under the same number.
            if (!reply.status.is_ok()) return self->answer(write->answer, Errc::unavailable);
            auto answer = wire::decode<wire::ChunkReply>(reply.body);
            if (!answer.is_ok()) return self->answer(write->answer, Errc::unavailable);
            write->answer(std::move(answer).value(), {});
        });
}

// ------------------------------------------------------------------------------------ client reads

void ChunkReplica::read(std::shared_ptr<ClientRead> read) {
    for (int round = 0; round < 2; ++round) {
        ReadFacts facts;
        facts.grant = &read->grant;
        facts.range = {read->offset, read->length};
        facts.has_chunk = has_ && (complete_ || role_ == Role::serving);
        facts.shrunk_since_grant = shrunk_since(config_, read->grant.epoch);
        if (has_) {
            auto undecided = host_.store().undecided(chunk_, read->offset, read->length);
            facts.undecided = !undecided.is_ok() || *undecided;
            auto meta = host_.store().meta(chunk_);
            if (meta.is_ok() && meta->shrink_epoch > read->grant.epoch) {
                facts.shrunk_since_grant = true;
            }
        }
        const Plan plan = plan_read(own_facts(read->session), facts);
        switch (plan.step) {
            case Step::adopt: {
                adopt(read->grant, false, {});
                if (config_.epoch >= read->grant.epoch) continue;
                return answer(read->answer, own_failure_ == Errc::ok ? Errc::io : own_failure_);
            }
            case Step::redirect: {
                ++host_.stats().redirects;
                wire::ChunkReplyT reply = ok_reply();
                reply.errc = static_cast<uint16_t>(Errc::not_member);
                reply.redirect = config_.primary().value;
                return read->answer(std::move(reply), {});
            }
            case Step::wait:
                if (waiting_.size() >= kWaitingMax) return answer(read->answer, Errc::busy);
                return wait_for_service(read->deadline, [self = shared_from_this(), read](bool late) {
                    if (late) return self->answer(read->answer, Errc::unavailable);
                    self->read(read);
                });
            case Step::serve: return serve_read(read);
            case Step::refuse:
            case Step::forward:
            case Step::done_already:
            case Step::join:
            case Step::accept: return answer(read->answer, plan.errc, plan.send_config);
        }
    }
    answer(read->answer, Errc::unavailable, true);
}

void ChunkReplica::serve_read(const std::shared_ptr<ClientRead>& read) {
    ++host_.stats().reads;
    wire::ChunkReplyT reply = ok_reply();
    if (read->extents) {
        if (has_) {
            auto extents = host_.store().extents(chunk_, read->offset, read->length);
            if (!extents.is_ok()) return answer(read->answer, extents.code());
            for (const store::Extent& one : *extents) reply.extents.emplace_back(one.offset, one.length);
        }
        return read->answer(std::move(reply), {});
    }
    if (read->length > kMaxIoBytes) return answer(read->answer, Errc::inval);
    if (!has_) {
        // Nobody has it: it was never written. (Only a serving primary comes here.)
        Buffer zeros = Buffer::allocate(static_cast<size_t>(read->length));
        std::memset(zeros.mutable_data(), 0, zeros.size());
        reply.checksums = piece_checksums(read->offset, zeros.view());
        return read->answer(std::move(reply), std::move(zeros));
    }
    const bool newest = role_ != Role::serving || planted_bug("chunkd.read_undecided");
    std::vector<uint32_t> bad;
    auto blocks = host_.store().read(chunk_,
                                     read->offset,
                                     read->length,
                                     newest ? store::ReadView::newest : store::ReadView::committed,
                                     &bad);
    if (!blocks.is_ok()) {
        // The client moves on to another member; we heal ourselves meanwhile.
        if (!bad.empty()) {
            host_.repair(chunk_, bad, [](const Status& status) { ignore(status, "read again"); });
        }
        return answer(read->answer, blocks.code());
    }
    Buffer payload;
    reply.checksums = slice_checksums(*blocks, read->offset, read->length, &payload);
    read->answer(std::move(reply), std::move(payload));
}

// ----------------------------------------------------------------------------- the table of repeats

bool ChunkReplica::is_void(SessionId session, uint64_t write_no) const {
    for (const Void& gone : voids_) {
        if (gone.session == session && write_no <= gone.up_to) {
            return !reapplied_.contains({session, write_no});
        }
    }
    return false;
}

// Too many: the session's whole table is forgotten, which errs on the side of applying again.
void ChunkReplica::add_void(SessionId session, uint64_t up_to) {
    std::erase_if(voids_, [this](const Void& gone) { return host_.session_fenced(gone.session); });
    for (Void& gone : voids_) {
        if (gone.session != session) continue;
        gone.up_to = std::max(gone.up_to, up_to);
        return;
    }
    if (voids_.size() == kMaxVoids) {
        host_.store().forget_session(voids_.front().session);
        voids_.erase(voids_.begin());
    }
    voids_.push_back({session, up_to});
}

void ChunkReplica::load_dedup() {
    dedup_.clear();
    auto table = host_.store().session_writes(chunk_);
    if (!table.is_ok()) return;
    for (const store::SessionWrites& one : *table) {
        Dedup& entry = dedup_[one.session];
        entry.lowest = one.lowest_outstanding;
        for (uint64_t number : one.done) {
            if (!is_void(one.session, number)) entry.done.insert(number);
        }
    }
}

}  // namespace lumeofs::replication
