// SPDX-License-Identifier: Apache-2.0
// The simulated network: Transport between simulated processes, with latency, bandwidth and faults.
//
// A link behaves as TCP does: in order, or it ends. Where a direction is blocked (a partition, or a
// clog) frames wait and arrive late; a link whose frames waited for longer than kStall ends, at the
// blocked side at once, at the other one when the way is free again (half-open meanwhile). A dead
// machine's links end late or when it is back, a dead process' at once. Frames that were "dropped"
// end their link. Raft pushes between metads may besides be lost, repeated and reordered one by one
// (adversarial mode): Raft promises to bear that.
// single-thread: the simulation.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/env/transport.h"
#include "tests/sim/sim_loop.h"

namespace lumeofs::sim {

using ProcessId = uint64_t;

struct NetworkFaults {
    Nanos latency_min = 50 * kMicrosecond;
    Nanos latency_max = 300 * kMicrosecond;
    uint32_t spike_per_10k = 0;   // a frame that takes up to spike_max longer (with all behind it)
    Nanos spike_max = 0;
    uint32_t reset_per_100k = 0;  // a frame that ends its link instead of arriving
    uint32_t raft_lost_per_1k = 0;
    uint32_t raft_repeated_per_1k = 0;
    uint32_t raft_reordered_per_1k = 0;
};

class SimNetwork {
public:
    struct Side;
    struct Port;

    explicit SimNetwork(World& world) : world_(world), random_(world.random.fork("network")) {}
    ~SimNetwork();

    std::unique_ptr<Transport> transport(ProcessId process, Loop& loop);

    NetworkFaults faults;
    void block(ProcessId from, ProcessId to) { blocked_.insert({from, to}); }
    void unblock(ProcessId from, ProcessId to);
    void heal();
    // Ends all links between two processes, or all of one.
    void reset_links(ProcessId a, ProcessId b);
    // The process is gone. `silently`: its machine lost power, the others learn late.
    void process_died(ProcessId process, bool silently);
    uint64_t faults_fired() const { return fired_; }
    uint64_t frames() const { return frames_; }

private:
    friend class SimTransport;
    friend class SimLink;
    friend class SimListener;
    using SidePtr = std::shared_ptr<Side>;

    bool is_blocked(ProcessId from, ProcessId to) const { return blocked_.contains({from, to}); }
    Nanos latency();
    void send(const SidePtr& from, const SidePtr& to, Frame frame, uint64_t bytes);
    void arrive(const SidePtr& to, Frame frame, uint64_t bytes);
    void hand_over(const SidePtr& to, Frame frame, uint64_t bytes);
    void close_side(const SidePtr& side, std::string why);
    void close_both(const SidePtr& side, const std::string& why);
    void remember(const SidePtr& a, const SidePtr& b);
    void dial(ProcessId from,
              Loop& loop,
              const std::string& address,
              const Hello& hello,
              Nanos deadline,
              std::function<void(Result<std::shared_ptr<Link>>)> done);

    World& world_;
    Prng random_;
    std::set<std::pair<ProcessId, ProcessId>> blocked_;
    std::map<std::string, std::shared_ptr<Port>> ports_;
    std::vector<std::weak_ptr<Side>> sides_;  // in order of making
    uint64_t fired_ = 0;
    uint64_t frames_ = 0;
};

}  // namespace lumeofs::sim
