// SPDX-License-Identifier: Apache-2.0
// ChunkReplica as a primary that does not serve yet: what each primaryship begins with. The lists of
// all members are gathered, what is in doubt anywhere is written again with our bytes, and copies that
// are missing are told of. See chunk_replica.h.
#include <algorithm>

#include "chunkd/replication/chunk_replica.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {
namespace {

constexpr Nanos kAskWrittenAgain = kSecond;

}  // namespace

// A primaryship begins: with a new epoch, a new start of this program, or a member whose history we
// do not know. What was under way keeps its waiters; its bytes are in our copy, which is the truth.
void ChunkReplica::start_recovery() {
    ++round_;
    role_ = Role::recovering;
    settling_ = false;
    settle_waits_ = false;
    written_ = Written::unknown;
    written_asked_at_ = 0;
    if (std::exchange(lost_, false)) host_.note_lost(chunk_, false);
    settle_.clear();
    for (Entry& one : window_) {
        if (!one.waiters.empty()) {
            completing_.push_back({one.session, one.write_no, std::move(one.waiters)});
        }
    }
    window_.clear();
    window_base_ = committed_count_ = window_bytes_ = 0;
    last_sequence_ = applied_.sequence;
    fill_.reset();
    joiner_.reset();
    members_.clear();
    for (NodeId node : config_.members) {
        if (node == host_.self()) continue;
        Member member;
        member.node = node;
        members_.push_back(std::move(member));
    }
    ++host_.stats().settlements;
    host_.wake(chunk_);
    if (planted_bug("chunkd.no_reconcile")) {
        for (Member& member : members_) member.gathered = true;
        return serve();
    }
    // ask() answers later, but may find that we are not the primary any more.
    const uint64_t round = round_;
    for (size_t i = 0; i < members_.size() && round == round_; ++i) ask(members_[i]);
    if (members_.empty()) settle();
}

// A new primaryship asks everybody; what is under way is settled with it. (To go by what is under way
// is not enough: who lacks a copy now may have acknowledged all of it before.) A joiner is filled to
// its end first. One that has begun begins anew: who has answered it may have lost the copy since.
void ChunkReplica::check_copies(StatusDone done) {
    if (config_.primary() != host_.self()) return done(Status(Errc::not_member));
    if (fill_) return done(Status(Errc::busy, "a joiner is being filled"));
    if (lost_) return done(Status());  // that nobody has a copy is what there is to find
    if (role_ == Role::serving || role_ == Role::recovering) start_recovery();
    if (role_ == Role::serving) return done(Status());
    wait_for_service(0, [weak = weak_from_this(), done = std::move(done)](bool) {
        auto self = weak.lock();
        const bool checked = self && (self->role_ == Role::serving || self->lost_);
        done(checked ? Status() : Status(Errc::canceled));
    });
}

void ChunkReplica::ask(Member& member) {
    member.asking = true;
    auto done = [weak = weak_from_this(), node = member.node, round = round_](
                    Result<wire::GatheredChunkT> result) {
        if (auto self = weak.lock()) self->gathered(node, round, result);
    };
    host_.gather(member.node, chunk_, config_, std::move(done));
}

void ChunkReplica::gathered(NodeId node,
                            uint64_t round,
                            const Result<wire::GatheredChunkT>& result) {
    if (round != round_ || role_ != Role::recovering) return;
    Member* member = find_member(node);
    if (member == nullptr) return;
    member->asking = false;
    if (!result.is_ok()) return member_failed(*member, result.code());
    const Errc errc = static_cast<Errc>(result->errc);
    if (errc != Errc::ok) {
        if (learn_from(result->config.get())) return;
        return member_failed(*member, errc);
    }
    member->gathered = true;
    member->trouble = Trouble::none;
    member->failing_since = 0;
    member->facts = *result;
    member->acked = member->last_sent = from_wire(result->applied.get());
    for (const Member& one : members_) {
        if (!one.gathered) return;
    }
    settle();
}

// Everybody has answered. Decides what must be written again before we serve.
void ChunkReplica::settle() {
    if (settling_ || role_ != Role::recovering) return;
    for (const Member& one : members_) {
        if (!one.gathered) return;
    }
    // "All have it" includes our own disk; the answer of the disk calls us again.
    if (has_ && durable_ < applied_) return;
    if (!settle_missing_copies()) return;
    settling_ = true;
    bool equal = true;
    for (const Member& one : members_) equal = equal && one.acked == applied_;
    if (equal) {
        // Same last write, hence the same writes: everything in doubt is on every member.
        if (has_ && applied_.sequence != 0) {
            commit_point_ = applied_;
            host_.store().note_commit(chunk_, applied_);
        }
        return serve();
    }
    build_settlement();
    pump_settlement();
}

// Nobody has a copy: either nothing was ever written, or every copy is lost. Only metad knows which, and
// only of what may have been here before: a new chunk costs no question [45].
bool ChunkReplica::may_begin() {
    if (written_ == Written::no || host_.is_new(chunk_)) return true;
    const Nanos now = host_.loop().now();
    if (written_ == Written::unknown &&
        (written_asked_at_ == 0 || now - written_asked_at_ >= kAskWrittenAgain)) {
        written_asked_at_ = now;
        host_.ask_config(chunk_);
    }
    host_.wake(chunk_);
    return false;
}

// "No" counts only as the answer to a question of this round: an earlier one may be out of date.
void ChunkReplica::told_written(bool written) {
    if (role_ != Role::recovering || written_ != Written::unknown || written_asked_at_ == 0) return;
    written_ = written ? Written::yes : Written::no;
    settle();
}

bool ChunkReplica::has_data(const Member& member) const {
    return member.facts.has && member.facts.complete &&
           (member.acked.sequence != 0 || member.facts.length != 0);
}

// Whoever lacks a copy of what was written gives up no other member, which may have the last one; and
// leaves it to one that is known to have a copy.
bool ChunkReplica::may_judge() {
    if (role_ != Role::recovering || (has_ && complete_)) return true;
    for (const Member& one : members_) {
        if (!one.gathered || !has_data(one)) continue;
        if (own_failure_ == Errc::ok) own_failure_ = Errc::not_found;
        return false;
    }
    return may_begin();
}

// False if recovery cannot go on: a whole copy is missing where there should be one.
bool ChunkReplica::settle_missing_copies() {
    bool others_have = false;
    for (const Member& one : members_) others_have = others_have || has_data(one);
    if (!has_ || !complete_) {
        if (others_have) {
            // Our disk lost it, or we were never filled. Another member's copy is the truth.
            if (own_failure_ == Errc::ok) own_failure_ = Errc::not_found;
            host_.wake(chunk_);
            return false;
        }
        if (!may_begin()) {
            if (written_ == Written::yes && !lost_) {
                lost_ = true;
                host_.note_lost(chunk_, true);
                LFS_LOG(error,
                        "chunk {}: it held data, and none of its {} members has a copy: it answers with an "
                        "error until one comes back with its disk",
                        chunk_.value,
                        config_.members.size());
                run_waiting();
            }
            return false;
        }
        if (has_) {
            complete_ = true;
        } else if (Status status = create(true, {}); !status.is_ok()) {
            own_failure_ = status.code();
            host_.wake(chunk_);
            return false;
        }
    }
    // A member without a copy is fine only while all that was ever written is in doubt (and so will
    // be sent again): otherwise it has lost what it had acknowledged.
    const bool all_in_doubt =
        from_start_ && (applied_.sequence == 0 || commit_point_.sequence == 0);
    // Nor can it lack anything of a chunk that was never written.
    const auto own = host_.store().meta(chunk_);
    const bool empty = applied_.sequence == 0 && own.is_ok() && own->length == 0;
    for (Member& one : members_) {
        if (one.facts.has && one.facts.complete) continue;
        if ((all_in_doubt || empty) && !one.facts.has) continue;
        one.gathered = false;
        member_failed(one, Errc::not_found);
        return false;
    }
    return true;
}

// Ranges in doubt anywhere: ours carry their (session, number) on, so that the repeat finds them done;
// those that only others have are undone there.
void ChunkReplica::build_settlement() {
    auto own = host_.store().in_doubt(chunk_);
    if (!own.is_ok()) {
        own_failure_ = own.code();
        return;
    }
    std::set<WriteName> seen;
    for (const store::InDoubt& one : *own) {
        seen.insert(one.name);
        SettleItem item;
        item.offset = one.offset;
        item.length = one.kind == store::RecordKind::truncate ? 0 : one.length;
        item.session = one.session;
        item.write_no = one.write_no;
        item.lowest_outstanding = one.lowest_outstanding;
        if (item.length != 0) settle_.push_back(item);
    }
    for (const Member& member : members_) {
        for (const wire::DoubtfulWrite& one : member.facts.in_doubt) {
            if (one.length() == 0 || !seen.insert(from_wire(&one.name())).second) continue;
            SettleItem item;
            item.offset = std::min(one.offset(), kChunkSize);
            item.length = std::min(one.length(), kChunkSize - item.offset);
            item.void_session = SessionId{one.session()};
            item.void_write_no = one.write_no();
            if (item.length != 0) settle_.push_back(item);
            if (item.void_session) ++host_.stats().voided_writes;
        }
    }
}

void ChunkReplica::pump_settlement() {
    const uint64_t round = round_;
    while (!settle_.empty() && !settle_waits_ && window_.size() < kWindowRecords &&
           window_bytes_ < kWindowBytes) {
        SettleItem& item = settle_.front();
        const uint64_t piece = std::min(item.length, kSettlePiece);
        const bool last = piece == item.length;
        const Status status = settle_piece(item, item.offset, piece, last);
        if (!status.is_ok()) {
            if (settle_waits_) break;
            own_failure_ = status.code();
            LFS_LOG(error, "chunk {}: cannot settle: {}", chunk_.value, status.to_string());
            host_.wake(chunk_);
            return;
        }
        item.offset += piece;
        item.length -= piece;
        if (item.length == 0) settle_.pop_front();
    }
    pump();
    if (round != round_ || role_ != Role::recovering || !settling_) return;
    if (settle_.empty() && committed_count_ == window_end()) serve();
}

// Our bytes of a range, as one more named write.
Status ChunkReplica::settle_piece(const SettleItem& item,
                                  uint64_t offset,
                                  uint64_t length,
                                  bool last) {
    Entry entry;
    entry.offset = offset;
    entry.length = length;
    entry.kind = wire::WriteKind::zero;
    if (last) {
        entry.session = item.session;
        entry.write_no = item.write_no;
        entry.lowest_outstanding = item.lowest_outstanding;
        entry.void_session = item.void_session;
        entry.void_write_no = item.void_write_no;
    }
    std::vector<uint32_t> bad;
    auto blocks =
        host_.store().read(chunk_, offset, length, store::ReadView::newest, &bad);
    Status status = blocks.status();
    if (status.is_ok()) {
        bool holes = true;
        for (bool hole : blocks->hole) holes = holes && hole;
        if (!holes) {
            entry.kind = wire::WriteKind::data;
            entry.checksums = slice_checksums(*blocks, offset, length, &entry.data);
        }
        status = submit(std::move(entry), &bad);
        if (status.is_ok()) ++host_.stats().settled_records;
    }
    if (status.code() == Errc::corrupt && !bad.empty()) {
        settle_waits_ = true;
        host_.repair(chunk_, bad, [weak = weak_from_this(), round = round_](const Status& repaired) {
            auto self = weak.lock();
            if (!self || self->round_ != round) return;
            self->settle_waits_ = false;
            // Not repaired: ours is not a whole copy; another member must take over.
            if (!repaired.is_ok()) self->own_failure_ = Errc::corrupt;
            self->host_.wake(self->chunk_);
            if (repaired.is_ok()) self->pump_settlement();
        });
    }
    return status;
}

void ChunkReplica::serve() {
    role_ = Role::serving;
    settling_ = false;
    load_dedup();
    LFS_LOG(debug, "chunk {} epoch {}: serving", chunk_.value, config_.epoch.value);
    auto completing = std::exchange(completing_, {});
    for (Completing& one : completing) answer_waiters(&one.waiters);
    if (!completing.empty()) host_.write_decided();
    host_.wake(chunk_);
    const uint64_t round = round_;
    run_waiting();
    if (round == round_ && role_ == Role::serving && config_.joiner && !fill_) {
        begin_fill(config_.joiner);
    }
}

}  // namespace lumeofs::replication
