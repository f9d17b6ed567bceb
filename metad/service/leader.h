// SPDX-License-Identifier: Apache-2.0
// Leader: everything that a metad knows only while it leads: who is connected, when they last
// renewed, who has what open, which nodes may serve until when. It is made when the first entry of
// the term is applied and destroyed when leadership ends; a new leader starts empty and counts every
// lease as renewed at its own start [26, 32].
//
// Nothing in here is needed for safety after a crash of this node: what must survive is in the
// replicated state. Callbacks that outlive the leader are cut off by guarded().
// single-thread: the metad loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "common/env/loop.h"
#include "common/rpc/peer.h"
#include "common/wire/method.h"
#include "common/wire/messages.h"
#include "metad/consensus/consensus.h"
#include "metad/namespace/state_machine.h"
#include "metad/placement/allocator.h"
#include "metad/service/lease_table.h"
#include "metad/service/read_leases.h"

namespace lumeofs::metad {

struct ServiceSettings {
    NodeId self;
    uint32_t default_replicas = 3;      // until the cluster's own are in the state
    uint32_t min_write_replicas = 2;
    Nanos node_timeout = 30 * kSecond;  // offline for this long: repair moves its replicas elsewhere
    Nanos node_lease = kNodeLease;
    Nanos client_lease = kClientLease;
    uint32_t joins_per_node = 8;        // replicas that one node is being filled with at a time
};

// A client session as the leader sees it. Live in the replicated state; this is what is volatile.
struct LiveSession {
    SessionId id;
    std::shared_ptr<RpcPeer> peer;      // null: not connected
    bool attached = false;              // has declared its opens to this leader
    uint64_t last_attach = 0;           // number of that declaration
    bool renewable = true;              // false: it owes us an acknowledgement for too long [28]
    bool ending = false;                // being fenced or closed: refused
    Nanos last_renewed = 0;             // its leases end client_lease after that, at the latest
    uint64_t grants = 0;                // number of the last grant [27]

    struct InFlight {                   // a mutation that is being carried out
        uint64_t sequence = 0;
        std::vector<Responder> waiting;
    };
    struct Answered {                   // reply with the volatile parts (lease) that was given
        uint64_t sequence = 0;
        Bytes reply;
    };
    std::map<uint32_t, InFlight> in_flight;
    std::map<uint32_t, Answered> answered;
};

// A chunkd as the leader sees it.
struct LiveNode {
    NodeId node;
    std::shared_ptr<RpcPeer> peer;
    Incarnation incarnation;
    Nanos lease_until = 0;              // by our clock; it may serve until then at the latest
    Nanos last_beat = 0;                // 0: not heard in this term of leadership
    bool goodbye = false;               // stopped cleanly: serves nothing
    uint64_t acked_fence = 0;
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;
    uint64_t chunks = 0;
    uint64_t writes = 0, reads = 0, corrupt_blocks = 0, dirty_log_bytes = 0, lost_chunks = 0;
    std::vector<wire::DiskInfoT> disks;
    std::map<ChunkId, Epoch> removals;  // configurations without it that it must acknowledge
    std::map<uint64_t, wire::OrderT> orders;
    size_t orders_of(wire::OrderKind kind) const;
    bool called = false;                // will be asked, at the end of this turn, to fetch its orders
};

class Leader : public std::enable_shared_from_this<Leader> {
public:
    Leader(Loop& loop_in,
           Consensus& consensus_in,
           StateMachine& state_in,
           const ServiceSettings& settings_in,
           Prng prng_in);

    Loop& loop;
    Consensus& consensus;
    StateMachine& state;
    const ServiceSettings settings;
    Prng prng;
    const Nanos since;  // when this leadership began
    const Term term;

    std::map<SessionId, LiveSession> sessions;
    std::map<NodeId, LiveNode> nodes;
    LeaseTable leases;
    ReadLeases readers;

    // Proposes with a fresh time stamp. `done` is not called any more once leadership is lost.
    void propose(wire::CommandOpUnion op, std::function<void(Result<wire::MetaReplyT>)> done);
    // The same, for a reply that is passed on as it is.
    void propose_raw(wire::CommandOpUnion op, std::function<void(Result<Bytes>)> done);

    // Wraps a callback so that it does nothing once this leadership is over.
    template <typename F>
    auto guarded(F callback) {
        return [weak = weak_from_this(), callback = std::move(callback)](auto&&... args) mutable {
            if (auto alive = weak.lock()) callback(std::forward<decltype(args)>(args)...);
        };
    }

    // Gives the node an order: it comes with its heartbeats, of which the next is soon, until it is
    // reported done. The number.
    uint64_t order(LiveNode& node,
                   wire::OrderKind kind,
                   std::unique_ptr<wire::ChunkGrantT> grant,
                   NodeId about = {});

    // nullptr if there is no such session, or it is ending.
    LiveSession* session(SessionId id);
    LiveNode* node(NodeId id);
    // Its lease runs and it has not said goodbye: it may be given work.
    bool usable(NodeId id) const;
    // Usable, and not only by a lease that its death did not end: its last beat has come.
    bool heard(NodeId id) const;
    // It may still be serving what it was told to.
    bool may_serve(NodeId id) const;
    wire::NodeState state_of(NodeId id) const;
    std::vector<Candidate> candidates() const;
    // Cluster time: what the replicated state was stamped with, or our wall clock if that is ahead.
    int64_t cluster_time();

private:
    void send_recall(const PendingRecall& recall);
    void call(NodeId id);

    int64_t last_time_ = 0;
    uint64_t last_order_ = 0;
};

// An encoded MetaReply that says what went wrong.
Bytes error_reply(Errc code, std::string_view text);
Bytes encoded(const wire::MetaReplyT& reply);

}  // namespace lumeofs::metad
