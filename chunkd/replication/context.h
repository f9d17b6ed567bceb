// SPDX-License-Identifier: Apache-2.0
// What the replication room needs from its surroundings, and what a chunk's state machine needs from
// the driver that owns it. Interfaces only, so that tests can stand in for both.
// single-thread: the chunkd loop.
#pragma once

#include <functional>
#include <vector>

#include "chunkd/replication/configuration.h"
#include "chunkd/store/chunk_store.h"
#include "common/base/ids.h"
#include "common/env/loop.h"
#include "common/rpc/peer.h"
#include "common/wire/messages.h"
#include "common/wire/method.h"

namespace lumeofs::replication {

// The rest of the program: the node lease, the links to other chunkds, metad.
class Outside {
public:
    virtual ~Outside() = default;
    // The node lease holds by our own clock: we may serve (I10).
    virtual bool lease_valid() const = 0;
    // `done` exactly once, never from inside; Errc::disconnected while there is no link to the node.
    virtual void call_node(
        NodeId node, Method method, Bytes body, Buffer payload, Nanos timeout, RpcDone done) = 0;
    virtual bool push_node(NodeId node, Method method, Bytes body) = 0;
    virtual bool node_up(NodeId node) const = 0;
    // Asks the metad leader; finds it, and repeats, within `timeout`.
    virtual void call_metad(wire::NodeOpUnion op,
                            Nanos timeout,
                            std::function<void(Result<wire::ConfigReplyT>)> done) = 0;
};

struct ReplicationStats {
    uint64_t writes = 0;
    uint64_t reads = 0;
    uint64_t forwards = 0;
    uint64_t redirects = 0;
    uint64_t stale_epochs = 0;
    uint64_t gaps = 0;
    uint64_t settlements = 0;        // a new primary asked all members
    uint64_t settled_records = 0;    // records that it had to write again
    uint64_t voided_writes = 0;      // writes of members that the primary did not have
    uint64_t reports = 0;
    uint64_t fills = 0;
    uint64_t filled_blocks = 0;
    uint64_t joins = 0;
    uint64_t corrupt_blocks = 0;
    uint64_t repaired_blocks = 0;
};

using GatherDone = std::function<void(Result<wire::GatheredChunkT>)>;
using StatusDone = std::function<void(const Status&)>;

class ChunkReplica;

// The driver, as a chunk's state machine sees it.
class ReplicaHost {
public:
    virtual ~ReplicaHost() = default;
    virtual Loop& loop() = 0;
    virtual store::ChunkStore& store() = 0;
    virtual Outside& outside() = 0;
    virtual NodeId self() const = 0;
    virtual Incarnation incarnation() const = 0;
    // Of the cluster: writes wait while the configuration has fewer members.
    virtual uint32_t min_write_replicas() const = 0;
    virtual bool session_fenced(SessionId session) const = 0;
    // The chunk was removed here by an order of this epoch or a later one: a late message of a primary
    // must not make it again.
    virtual bool was_removed(ChunkId chunk, Epoch epoch) const = 0;
    virtual uint64_t free_bytes() const = 0;
    virtual ReplicationStats& stats() = 0;
    // A number never given before in this incarnation.
    virtual uint64_t next_number() = 0;
    // Calls tick() of this chunk from now on, until it says that it is idle.
    virtual void wake(ChunkId chunk) = 0;
    // A place among the writes that wait until their chunk is served; while it is held the write takes none
    // of those under way. Null: there is none.
    virtual std::shared_ptr<void> waiting_place() = 0;
    // A pending write of a fenced session was decided: an acknowledgement may wait for it.
    virtual void write_decided() = 0;
    // Batched with those of other chunks to the same node.
    virtual void gather(NodeId node, ChunkId chunk, const Configuration& config, GatherDone done) = 0;
    virtual void send_commit_point(NodeId node, ChunkId chunk, const WriteName& name) = 0;
    virtual void report(ChunkId chunk, Epoch epoch, std::vector<NodeId> failed, Errc why) = 0;
    // Newer than this start of ours, and we have lost no disk since: nobody can have lost a copy here.
    virtual bool is_new(ChunkId chunk) const = 0;
    // Every copy of it is lost, or not any more.
    virtual void note_lost(ChunkId chunk, bool lost) = 0;
    // Asks metad for the chunk's configuration, to adopt it.
    virtual void ask_config(ChunkId chunk) = 0;
    // Fetches these blocks from other members and writes them back; `done` when nothing more is tried.
    virtual void repair(ChunkId chunk, const std::vector<uint32_t>& blocks, StatusDone done) = 0;
};

}  // namespace lumeofs::replication
