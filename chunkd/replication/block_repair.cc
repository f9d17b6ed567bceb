// SPDX-License-Identifier: Apache-2.0
#include "chunkd/replication/block_repair.h"

#include "common/base/log.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {

namespace {

constexpr uint32_t kTriesMax = 30;
constexpr uint32_t kRunMax = 256;
constexpr Nanos kTryAgain = 100 * kMillisecond;

}  // namespace

BlockRepair::BlockRepair(ReplicaHost& host, Look look) : host_(host), look_(std::move(look)) {}
BlockRepair::~BlockRepair() = default;

void BlockRepair::repair(ChunkId chunk, const std::vector<uint32_t>& blocks, StatusDone done) {
    auto [it, fresh] = jobs_.try_emplace(chunk);
    Job& job = it->second;
    job.blocks.insert(blocks.begin(), blocks.end());
    job.waiters.push_back(std::move(done));
    if (!fresh) return;
    host_.stats().corrupt_blocks += blocks.size();
    host_.loop().post([this, chunk, alive = std::weak_ptr<char>(alive_)] {
        if (alive.expired()) return;
        auto copy = look_(chunk);
        if (!copy.is_ok()) return finish(chunk, copy.status());
        if (!copy->tracking_elsewhere) host_.store().track_writes(chunk, true);
        jobs_[chunk].from = copy->applied;
        next_try(chunk);
    });
}

void BlockRepair::later(ChunkId chunk) {
    host_.loop().after(kTryAgain, [this, chunk, alive = std::weak_ptr<char>(alive_)] {
        if (!alive.expired()) next_try(chunk);
    });
}

void BlockRepair::next_try(ChunkId chunk) {
    auto it = jobs_.find(chunk);
    if (it == jobs_.end()) return;
    Job& job = it->second;
    if (job.blocks.empty()) return finish(chunk, Status());
    auto copy = look_(chunk);
    if (!copy.is_ok()) return finish(chunk, copy.status());
    if (job.tries++ >= kTriesMax) {
        return finish(chunk, Status(Errc::corrupt, "no member could repair a bad block"));
    }
    std::vector<NodeId> others;
    for (NodeId node : copy->members) {
        if (node != host_.self()) others.push_back(node);
    }
    if (others.empty()) return finish(chunk, Status(Errc::corrupt, "a bad block has no other copy"));
    const NodeId node = others[(job.tries - 1) % others.size()];
    const uint32_t first = *job.blocks.begin();
    uint32_t count = 0;
    for (uint32_t block : job.blocks) {
        if (block != first + count || count == kRunMax) break;
        ++count;
    }
    wire::CompareBlocksT message;
    message.config = std::make_unique<wire::ChunkGrantT>(to_wire(chunk, copy->config));
    message.incarnation = host_.incarnation().value;
    message.first = first;
    message.count = count;
    message.want_data = true;
    host_.outside().call_node(node,
                              Method::compare_blocks,
                              wire::encode<wire::CompareBlocks>(message),
                              {},
                              kRpcTimeout,
                              [this, chunk, first, count, alive = std::weak_ptr<char>(alive_)](
                                  RpcReply reply) {
                                  if (alive.expired()) return;
                                  fetched(chunk, first, count, std::move(reply));
                              });
}

void BlockRepair::fetched(ChunkId chunk, uint32_t first, uint32_t count, RpcReply rpc) {
    auto it = jobs_.find(chunk);
    if (it == jobs_.end()) return;
    auto reply = rpc.status.is_ok() ? wire::decode<wire::CompareReply>(rpc.body)
                                    : Result<wire::CompareReplyT>(rpc.status);
    const bool good = reply.is_ok() && reply->errc == 0 && reply->checksums.size() == count &&
                      reply->holes.size() == count && rpc.payload.size() == count * kBlockSize;
    // A member behind us may lack a write to this very block.
    if (!good || from_wire(reply->applied.get()) < it->second.from) return later(chunk);
    store::BlockData blocks;
    blocks.first_block = first;
    blocks.data = std::move(rpc.payload);
    blocks.plain = std::move(reply->checksums);
    for (uint32_t i = 0; i < count; ++i) blocks.hole.push_back(reply->holes[i] != 0);
    const Status status = host_.store().rewrite_blocks(
        chunk,
        blocks,
        from_wire(reply->applied.get()),
        0,
        [this, chunk, first, count, alive = std::weak_ptr<char>(alive_)](const Status& result) {
            if (!alive.expired()) rewritten(chunk, first, count, result);
        });
    if (!status.is_ok()) later(chunk);
}

void BlockRepair::rewritten(ChunkId chunk, uint32_t first, uint32_t count, const Status& status) {
    auto it = jobs_.find(chunk);
    if (it == jobs_.end()) return;
    if (!status.is_ok()) return finish(chunk, status);
    for (uint32_t i = 0; i < count; ++i) it->second.blocks.erase(first + i);
    host_.stats().repaired_blocks += count;
    LFS_LOG(warn, "chunk {}: repaired {} bad block(s) from block {}", chunk.value, count, first);
    it->second.tries = 0;
    next_try(chunk);
}

void BlockRepair::finish(ChunkId chunk, const Status& status) {
    auto node = jobs_.extract(chunk);
    if (node.empty()) return;
    auto copy = look_(chunk);
    if (copy.is_ok() && !copy->tracking_elsewhere) host_.store().track_writes(chunk, false);
    if (!status.is_ok()) {
        LFS_LOG(error, "chunk {}: not repaired: {}", chunk.value, status.to_string());
    }
    for (StatusDone& done : node.mapped().waiters) done(status);
}

}  // namespace lumeofs::replication
