// SPDX-License-Identifier: Apache-2.0
// MetadDuties: what this chunkd owes metad beside data: heartbeat contents, fences, removals, orders,
// reports of what it holds.
//
// A fence is acknowledged when nothing of the session is undecided here any more: from then on none of
// its writes can become visible through us [9]. A removal is acknowledged when the configuration
// without us is durable [3]. Chunks are removed only by an order of the highest term seen and only if
// our copy is not newer than the order, and go to the store's trash [19].
// single-thread: the chunkd loop.
#pragma once

#include <functional>
#include <set>
#include <vector>

#include "chunkd/replication/driver.h"
#include "common/env/loop.h"
#include "common/wire/messages.h"

namespace lumeofs::chunkd {

class MetadDuties {
public:
    struct Needs {
        std::function<void()> beat_soon;
        std::function<void(wire::NodeOpUnion, Nanos, std::function<void(Result<wire::ConfigReplyT>)>)>
            call;
        std::function<void(const std::vector<std::unique_ptr<wire::NodeAddressT>>&)> learn_nodes;
    };
    MetadDuties(Loop& loop,
                store::ChunkStore& store,
                replication::Driver& driver,
                NodeId self,
                Needs needs);
    ~MetadDuties();

    // A new incarnation: fences first, before anything is served.
    void start(const wire::RegisterReplyT& reply);
    void stop();
    void fill_heartbeat(wire::HeartbeatT* beat);
    void on_beat(const wire::HeartbeatReplyT& reply);
    void on_beat_lost();
    // Tells metad, page by page, which chunks are here: at each start, to each new leader, every hour,
    // and when a disk fails.
    void report_holdings();

    Nanos cluster_time() const;

private:
    void acknowledge_fence();
    void obey(const wire::OrderT& order, uint64_t term);
    void order_done(uint64_t number);
    void report_page();

    Loop& loop_;
    store::ChunkStore& store_;
    replication::Driver& driver_;
    const NodeId self_;
    Needs needs_;
    uint64_t incarnation_ = 0;
    uint64_t term_ = 0;
    uint64_t fence_wanted_ = 0;
    uint64_t fence_acked_ = 0;
    uint64_t nodes_version_ = 0;
    Nanos cluster_offset_ = 0;
    std::set<uint64_t> removals_;       // to acknowledge
    std::set<uint64_t> removals_sent_;  // in the heartbeat under way
    std::set<uint64_t> orders_done_;
    std::set<uint64_t> orders_sent_;
    std::set<uint64_t> orders_open_;    // being carried out
    uint64_t report_number_ = 0;  // rises when it begins anew
    bool reporting_ = false;
    Nanos reported_at_ = 0;
    ChunkId report_after_;
    Timer report_timer_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace lumeofs::chunkd
