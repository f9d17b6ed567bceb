// SPDX-License-Identifier: Apache-2.0
// Driver: all chunk copies of one chunkd. Finds the state machine of a chunk (loading it from the
// store at first use), carries messages to and from other chunkds and metad, and batches what many
// chunks have to say to one node: gathers, commit points, reports.
//
// Every start() is a new incarnation: whatever was known in memory is forgotten, and each chunk whose
// primary we are is settled with its members before it is served [5]: at once for those in anybody's
// in-doubt list, at first use for the rest.
// Fences: a session's number in the set refuses it from now on; pending_fenced() says whether a write
// of such a session is still undecided here, and until then the fence is not acknowledged [9].
// single-thread: the chunkd loop.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "chunkd/replication/block_repair.h"
#include "chunkd/replication/chunk_replica.h"
#include "chunkd/replication/removed_chunks.h"

namespace lumeofs::replication {

inline constexpr size_t kGathersPerMessage = 256;

struct DriverOptions {
    NodeId self;
    uint32_t max_concurrent_writes = 100;  // more are answered busy; as many again may wait for service
    size_t replicas_max = 64 * 1024;       // idle state machines beyond this are forgotten
};

class Driver final : public ReplicaHost {
public:
    Driver(Loop& loop, store::ChunkStore& store, Outside& outside, DriverOptions options);
    ~Driver() override;

    // Serves from now on under this incarnation. Again: as if the program had restarted.
    // Chunks up to `last_chunk` were there before.
    void start(Incarnation incarnation, uint32_t min_write_replicas, ChunkId last_chunk);
    // Answers everything that waits with shutting_down; nothing is served any more.
    void stop();
    bool started() const { return started_; }
    uint64_t lost_chunks() const { return lost_.size(); }

    // --- clients (ChunkReply); `forwarded`: it came through another chunkd
    void write(wire::WriteChunkT request,
               Buffer payload,
               bool forwarded,
               Nanos deadline,
               ChunkAnswer answer);
    void read(const wire::ReadChunkT& request, Nanos deadline, ChunkAnswer answer);
    void extents(const wire::ChunkExtentsT& request, Nanos deadline, ChunkAnswer answer);

    // --- other chunkds
    void on_peer_request(NodeId sender, RpcRequest request);
    void on_peer_push(NodeId sender, const RpcPush& push);
    void peer_up(NodeId node);
    void peer_down(NodeId node);

    // --- metad
    void fence(const std::vector<uint64_t>& sessions);
    bool pending_fenced() const;
    void on_write_decided(std::function<void()> hook) { write_decided_ = std::move(hook); }
    // A configuration from metad, authoritative also about the joiner. `done` when durable.
    void adopt(const wire::ChunkGrantT& grant, StatusDone done);
    void fill_joiner(const wire::ChunkGrantT& grant, NodeId joiner, StatusDone done);
    // We are the primary: ask the members whether they have their copies. `done` when that is known.
    void check_copies(const wire::ChunkGrantT& grant, StatusDone done);
    // To the store's trash, if our copy is not newer than `epoch` (conflict if it is).
    void remove_chunk(ChunkId chunk, Epoch epoch, StatusDone done);

    // A disk was taken out: what it held is not held any more.
    void disk_failed();

    // Blocks until done: nothing under way (for a clean stop and tests).
    bool quiet() const;
    ChunkReplica* find(ChunkId chunk);  // null if not loaded
    size_t loaded() const { return replicas_.size(); }
    const ReplicationStats& statistics() const { return stats_; }

    // --- ReplicaHost
    Loop& loop() override { return loop_; }
    store::ChunkStore& store() override { return store_; }
    Outside& outside() override { return outside_; }
    NodeId self() const override { return options_.self; }
    Incarnation incarnation() const override { return incarnation_; }
    uint32_t min_write_replicas() const override { return min_write_replicas_; }
    bool session_fenced(SessionId session) const override { return fenced_.contains(session); }
    bool was_removed(ChunkId chunk, Epoch epoch) const override {
        return removed_.covers(chunk, epoch);
    }
    uint64_t free_bytes() const override;
    ReplicationStats& stats() override { return stats_; }
    uint64_t next_number() override { return ++last_number_; }
    void wake(ChunkId chunk) override;
    std::shared_ptr<void> waiting_place() override;
    void write_decided() override;
    void note_lost(ChunkId chunk, bool lost) override;
    bool is_new(ChunkId chunk) const override { return !disk_lost_ && chunk > last_chunk_; }
    void gather(NodeId node, ChunkId chunk, const Configuration& config, GatherDone done) override;
    void send_commit_point(NodeId node, ChunkId chunk, const WriteName& name) override;
    void report(ChunkId chunk, Epoch epoch, std::vector<NodeId> failed, Errc why) override;
    void ask_config(ChunkId chunk) override;
    void repair(ChunkId chunk, const std::vector<uint32_t>& blocks, StatusDone done) override;

private:
    struct AskedGather {
        ChunkId chunk;
        Configuration config;
        GatherDone done;
    };
    using ReplicaPtr = std::shared_ptr<ChunkReplica>;

    Result<ReplicaPtr> replica(ChunkId chunk);
    void adopt(const wire::ChunkGrantT& grant, bool from_metad, StatusDone done);
    void forget(ChunkId chunk, Errc why);
    void sweep();
    void tick();
    void at_end(bool* asked, void (Driver::*run)());
    void send_gathers();
    void send_gather(NodeId node, std::vector<AskedGather> asked);
    void send_commit_points();
    void send_reports();
    void send_config_requests();
    void tell_metad(wire::NodeOpUnion op);
    void not_told(NodeId node);
    void list_in_doubt(NodeId node);
    void list_again(NodeId node);
    void settle_in_background();
    void answer_gather(NodeId sender, const wire::GatherT& message, Responder to);
    std::vector<uint64_t> in_doubt_of(NodeId primary);
    bool sender_is_current(NodeId sender, uint64_t incarnation);
    void adopt_all(const wire::ConfigReplyT& reply);

    Loop& loop_;
    store::ChunkStore& store_;
    Outside& outside_;
    const DriverOptions options_;
    Incarnation incarnation_;
    uint32_t min_write_replicas_ = 1;
    bool started_ = false;
    ReplicationStats stats_;
    uint64_t last_number_ = 0;
    ChunkId last_chunk_;      // when this start was registered
    bool disk_lost_ = false;  // since then
    std::set<ChunkId> lost_;  // we are the primary, and nobody has a copy
    std::unordered_map<ChunkId, ReplicaPtr> replicas_;  // looked up only; never walked in its order
    std::set<ChunkId> loaded_;                          // its keys, in an order that repeats
    std::set<ChunkId> active_;                          // get tick()
    std::set<ChunkId> background_;                      // to be loaded and settled
    std::set<SessionId> fenced_;
    RemovedChunks removed_;
    std::map<NodeId, Incarnation> seen_;                // newest start of other chunkds
    std::set<NodeId> linked_;                           // their links are up
    std::set<NodeId> listed_;                           // asked for their in-doubt chunks
    std::map<NodeId, std::vector<AskedGather>> gathers_;
    std::map<NodeId, std::vector<wire::CommitPoint>> commit_points_;
    std::vector<wire::MemberFailureT> reports_;
    std::vector<uint64_t> configs_wanted_;
    bool gathers_asked_ = false;
    bool points_asked_ = false;
    bool reports_asked_ = false;
    bool configs_asked_ = false;
    std::shared_ptr<uint32_t> writes_ = std::make_shared<uint32_t>(0);  // clients' and not answered
    std::shared_ptr<uint32_t> waiting_writes_ = std::make_shared<uint32_t>(0);  // those with a waiting_place()
    Nanos swept_at_ = 0;
    std::function<void()> write_decided_;
    BlockRepair repair_;
    Timer timer_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace lumeofs::replication
