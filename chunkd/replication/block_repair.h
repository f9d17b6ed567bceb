// SPDX-License-Identifier: Apache-2.0
// BlockRepair: heals blocks of our own copies that do not verify, from other members.
//
// The block is fetched from a member that has everything we had when the repair began and about
// which nothing is undecided there; from that moment on the store watches which blocks are written
// here, and leaves those alone when the fetched bytes arrive. So a repair never puts older bytes over
// newer ones. Members are asked in turn, a bounded number of times.
// single-thread: the chunkd loop. Owned by the driver.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "chunkd/replication/context.h"

namespace lumeofs::replication {

class BlockRepair {
public:
    // What the repair must know of a chunk at each try.
    struct Copy {
        std::vector<NodeId> members;  // of its configuration
        Configuration config;
        WriteName applied;
        bool tracking_elsewhere = false;  // a filling watches the writes already
    };
    using Look = std::function<Result<Copy>(ChunkId)>;

    BlockRepair(ReplicaHost& host, Look look);
    ~BlockRepair();

    void repair(ChunkId chunk, const std::vector<uint32_t>& blocks, StatusDone done);
    size_t under_way() const { return jobs_.size(); }

private:
    struct Job {
        std::set<uint32_t> blocks;
        std::vector<StatusDone> waiters;
        WriteName from;        // what we had applied when watching began
        bool asking = false;
        uint32_t tries = 0;
    };
    void next_try(ChunkId chunk);
    void later(ChunkId chunk);
    void fetched(ChunkId chunk, uint32_t first, uint32_t count, RpcReply reply);
    void rewritten(ChunkId chunk, uint32_t first, uint32_t count, const Status& status);
    void finish(ChunkId chunk, const Status& status);

    ReplicaHost& host_;
    Look look_;
    std::map<ChunkId, Job> jobs_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace lumeofs::replication
