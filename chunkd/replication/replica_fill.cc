// SPDX-License-Identifier: Apache-2.0
// ChunkReplica as the primary of a chunk with a joiner [11].
//
// 1 start: the joiner says what it has and begins to watch which blocks newer writes touch. From its
//   answer on it gets every write that is not committed yet, in the chain, like a member; nobody
//   waits for its answers. (Those that were under way too: the blocks copied below hold their bytes,
//   and if we die a member without them is promoted, which learns of them only by the joiner's list.)
// 2 compare stored block checksums step by step, so that a returning copy catches up by difference;
//   differing blocks are read here and sent with the name of the newest write applied at that moment.
//   The joiner skips those that a newer write has touched.
// 3 finish: from BEFORE metad is asked to make it a member, a write counts as committed only when the
//   joiner has it too: the commit that makes it a member may happen at any time from then on, and
//   an acknowledged write must be on it then (I9). If the joiner fails now, metad is told to give it
//   up, and writes wait until metad has said which way it went: that is the only wait, of one round
//   trip. Only the answer to JoinDone ends this stage.
// The filling is numbered; a joiner that restarted does not know the number and it starts over.
#include <algorithm>

#include "chunkd/replication/chunk_replica.h"
#include "common/base/log.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {

namespace {

constexpr Nanos kFillRetry = kSecond;
constexpr Nanos kFillCallTimeout = 3 * kRpcTimeout;
constexpr Nanos kJoinTimeout = 5 * kSecond;

uint32_t blocks_of(uint64_t length) {
    return static_cast<uint32_t>(std::min<uint64_t>((length + kBlockSize - 1) / kBlockSize,
                                                    kBlocksPerChunk));
}

}  // namespace

void ChunkReplica::fill_joiner(NodeId joiner) {
    if (config_.is_member(joiner) || config_.primary() != host_.self()) return;
    if (fill_ && fill_->stage >= FillStage::finishing) return;
    if (config_.joiner == joiner && fill_ && fill_->node == joiner) return;
    config_.joiner = joiner;
    if (role_ == Role::serving) begin_fill(joiner);
}

void ChunkReplica::begin_fill(NodeId node) {
    joiner_.reset();
    fill_.emplace();
    fill_->node = node;
    fill_->number = host_.next_number();
    ++host_.stats().fills;
    host_.wake(chunk_);
    // The joiner is told under a configuration; a chunk that nobody wrote to has nothing to fill but
    // still needs its record there, so it is made here first.
    fill_compare(true);
}

// Drops the joiner's copy of the window and begins again later; gives the joiner up after too many.
void ChunkReplica::restart_fill(Errc why) {
    if (!fill_) return;
    LFS_LOG(info,
            "chunk {}: filling node {} broke off: {}",
            chunk_.value,
            fill_->node.value,
            errc_name(why));
    host_.wake(chunk_);
    if (fill_->stage >= FillStage::finishing) {
        fill_->stage = FillStage::giving_up;  // tick_fill asks metad, when no call is open
        return;
    }
    joiner_.reset();
    fill_->number = host_.next_number();  // late answers are not ours any more
    fill_->asking = false;
    fill_->copies = 0;
    fill_->runs.clear();
    fill_->next_block = 0;
    fill_->stage = FillStage::starting;
    fill_->retry_at = host_.loop().now() + kFillRetry;
    if (++fill_->failures >= kFillFailuresMax) fill_->stage = FillStage::giving_up;
    advance();
}

void ChunkReplica::fill_compare(bool start) {
    wire::CompareBlocksT message;
    message.config = std::make_unique<wire::ChunkGrantT>(to_wire(chunk_, config_));
    message.incarnation = host_.incarnation().value;
    message.fill = fill_->number;
    message.start = start;
    message.first = fill_->next_block;
    const auto left = static_cast<uint32_t>(kBlocksPerChunk - fill_->next_block);
    message.count = std::min(kCompareStep, left);
    fill_->asking = true;
    host_.outside().call_node(
        fill_->node,
        Method::compare_blocks,
        wire::encode<wire::CompareBlocks>(message),
        {},
        kFillCallTimeout,
        [weak = weak_from_this(), number = fill_->number, start](RpcReply reply) {
            if (auto self = weak.lock()) self->fill_compared(number, start, std::move(reply));
        });
}

void ChunkReplica::fill_compared(uint64_t number, bool start, RpcReply rpc) {
    if (!fill_ || fill_->number != number || role_ != Role::serving) return;
    fill_->asking = false;
    if (!rpc.status.is_ok()) return restart_fill(rpc.status.code());
    auto reply = wire::decode<wire::CompareReply>(rpc.body);
    if (!reply.is_ok()) return restart_fill(Errc::protocol);
    if (learn_from(reply->config.get())) return;
    if (reply->errc != 0) return restart_fill(static_cast<Errc>(reply->errc));
    const uint64_t own_length = [this]() -> uint64_t {
        auto meta = host_.store().meta(chunk_);
        return meta.is_ok() ? meta->length : 0;
    }();
    if (start) {
        joiner_.emplace();
        joiner_->node = fill_->node;
        joiner_->acked = joiner_->last_sent = from_wire(reply->applied.get());
        joiner_->next = joiner_->acked_count = committed_count_;
        fill_->stage = FillStage::comparing;
        const VersionVector theirs = VersionVector::decode(reply->version_vector);
        LFS_LOG(info,
                "chunk {}: filling node {}, whose copy is {} to ours",
                chunk_.value,
                fill_->node.value,
                vector_order_name(theirs.compare(versions_)));
    }
    fill_->copied_to = window_end();
    fill_->end_block = std::max(fill_->end_block, blocks_of(std::max(own_length, reply->length)));
    const uint32_t first = fill_->next_block;
    const uint32_t count = static_cast<uint32_t>(
        std::min<size_t>(reply->checksums.size(), kBlocksPerChunk - first));
    auto own = host_.store().block_checksums(chunk_, first, count);
    if (!own.is_ok() || own->size() < count || (count == 0 && first < fill_->end_block)) {
        return restart_fill(own.is_ok() ? Errc::protocol : own.code());
    }
    for (uint32_t i = 0; i < count; ++i) {
        if ((*own)[i] == reply->checksums[i]) continue;
        auto& runs = fill_->runs;
        if (!runs.empty() && runs.back().first + runs.back().second == first + i &&
            runs.back().second < kCopyRun) {
            ++runs.back().second;
        } else {
            runs.emplace_back(first + i, 1);
        }
    }
    fill_->next_block = first + count;
    fill_copy();
}

void ChunkReplica::fill_copy() {
    while (!fill_->runs.empty() && fill_->copies < kCopiesInFlight) {
        const auto run = fill_->runs.front();
        std::vector<uint32_t> bad;
        auto blocks = host_.store().read(chunk_,
                                         uint64_t{run.first} * kBlockSize,
                                         uint64_t{run.second} * kBlockSize,
                                         store::ReadView::newest,
                                         &bad);
        if (!blocks.is_ok()) {
            if (!bad.empty()) {
                host_.repair(chunk_, bad, [](const Status& status) { ignore(status, "tried again"); });
            }
            return restart_fill(blocks.code());
        }
        fill_->runs.pop_front();
        fill_->copied_to = window_end();
        wire::CopyBlocksT message;
        message.config = std::make_unique<wire::ChunkGrantT>(to_wire(chunk_, config_));
        message.incarnation = host_.incarnation().value;
        message.fill = fill_->number;
        message.as_of = to_wire_ptr(applied_);
        message.first = run.first;
        message.checksums = std::move(blocks->plain);
        for (bool hole : blocks->hole) message.holes.push_back(hole);
        if (auto meta = host_.store().meta(chunk_); meta.is_ok()) message.length = meta->length;
        ++fill_->copies;
        host_.stats().filled_blocks += run.second;
        host_.outside().call_node(
            fill_->node,
            Method::copy_blocks,
            wire::encode<wire::CopyBlocks>(message),
            blocks->data,
            kFillCallTimeout,
            [weak = weak_from_this(), number = fill_->number, run](RpcReply reply) {
                if (auto self = weak.lock()) self->fill_copied(number, run, std::move(reply));
            });
    }
    if (!fill_->runs.empty() || fill_->copies != 0 || fill_->asking) return;
    if (fill_->stage != FillStage::comparing) return;
    if (fill_->next_block < fill_->end_block) return fill_compare(false);
    fill_finish();
}

void ChunkReplica::fill_copied(uint64_t number, std::pair<uint32_t, uint32_t> run, RpcReply rpc) {
    if (!fill_ || fill_->number != number || role_ != Role::serving) return;
    --fill_->copies;
    Errc errc = rpc.status.code();
    if (errc == Errc::ok) {
        auto reply = wire::decode<wire::ReplicaReply>(rpc.body);
        errc = reply.is_ok() ? static_cast<Errc>(reply->errc) : Errc::protocol;
        if (reply.is_ok() && learn_from(reply->config.get())) return;
    }
    if (errc == Errc::busy) {
        fill_->runs.push_back(run);
        return;  // tick_fill goes on
    }
    if (errc != Errc::ok) return restart_fill(errc);
    fill_copy();
}

// All blocks are there, and every write whose bytes they may hold is there as a record too; what was
// written meanwhile is on its way in the chain. tick_fill asks again.
void ChunkReplica::fill_finish() {
    if (!joiner_) return;
    if (joiner_->acked_count < std::max(committed_count_, fill_->copied_to)) return;
    fill_->stage = FillStage::finishing;
    join_done(true);
}

void ChunkReplica::join_done(bool ok) {
    fill_->asking = true;
    wire::JoinDoneT done;
    done.node = host_.self().value;
    done.incarnation = host_.incarnation().value;
    done.chunk = chunk_.value;
    done.epoch = config_.epoch.value;
    done.joiner = fill_->node.value;
    done.sequence = applied_.sequence;
    done.ok = ok;
    wire::NodeOpUnion op;
    op.Set(std::move(done));
    host_.outside().call_metad(
        std::move(op),
        kJoinTimeout,
        [weak = weak_from_this(), ok, round = round_, number = fill_->number](
            Result<wire::ConfigReplyT> result) {
            auto self = weak.lock();
            if (!self || self->round_ != round || !self->fill_) return;
            if (self->fill_->number != number) return;
            Fill& fill = *self->fill_;
            fill.asking = false;
            fill.retry_at = self->host_.loop().now() + kFillRetry / 2;
            if (!result.is_ok()) return;  // unknown which way it went: tick_fill asks again
            for (const auto& grant : result->grants) {
                if (!grant || grant->chunk != self->chunk_.value) continue;
                if (self->learn_from(grant.get())) {
                    if (ok) ++self->host_.stats().joins;
                    return;  // a new primaryship began
                }
                // The same epoch and another joiner, or none: ours was given up.
                if (grant->epoch == self->config_.epoch.value && grant->joiner != fill.node.value) {
                    self->config_.joiner = NodeId{grant->joiner};
                    self->fill_.reset();
                    self->joiner_.reset();
                    if (self->config_.joiner) self->begin_fill(self->config_.joiner);
                    return self->advance();
                }
            }
        });
}

void ChunkReplica::tick_fill(Nanos now) {
    if (role_ != Role::serving || !fill_) return;
    const bool due = !fill_->asking && now >= fill_->retry_at;
    switch (fill_->stage) {
        case FillStage::starting:
            if (due) fill_compare(true);
            break;
        case FillStage::comparing:
            fill_copy();
            break;
        case FillStage::finishing:
            if (due) join_done(true);
            break;
        case FillStage::giving_up:
            if (due) join_done(false);
            break;
    }
}

}  // namespace lumeofs::replication
