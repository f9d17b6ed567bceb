// SPDX-License-Identifier: Apache-2.0
// Random groups of 3 and 5 nodes: messages lost, repeated, late and reordered, one-way partitions,
// crashes that lose unsynced writes, restarts, membership changes, transfers, snapshots, reads that
// must be linearizable; then everything heals and the group must come together.
// One seed is one run, always the same. LUMEO_RAFT_SEEDS=n runs n seeds, LUMEO_RAFT_SEED=s only s.
#include <cstdlib>
#include <string>

#include <doctest/doctest.h>

#include "common/base/prng.h"
#include "tests/unit/metad/raft/group.h"

namespace lumeofs::raft::testing {
namespace {

constexpr uint32_t kElectionTicks = 10;

class Simulation {
public:
    explicit Simulation(uint64_t seed)
        : seed_(seed),
          prng_(seed),
          faults_(Prng(seed).fork("faults")),
          network_(Prng(seed).fork("network")) {
        size_ = prng_.chance(1, 2) ? 3 : 5;
        group_.options.seed = seed;
        group_.options.election_ticks = kElectionTicks;
        group_.options.heartbeat_ticks = 2;
        group_.options.start_pause_ticks = kElectionTicks;
        group_.options.append_entries_max = static_cast<uint32_t>(prng_.between(1, 6));
        group_.options.in_flight_messages_max = static_cast<uint32_t>(prng_.between(1, 5));
        group_.options.unapplied_bytes_max = prng_.between(1, 500);
        group_.options.tail_bytes_max = prng_.chance(1, 2) ? 100'000 : prng_.below(400);
        group_.options.read_rounds_max = static_cast<uint32_t>(prng_.between(1, 3));
        choose_shape();
        group_.on_update = [this](TestNode& node, const Update& update) { watch(node, update); };
        Membership initial;
        for (uint64_t id = 1; id <= size_; ++id) {
            initial.members.push_back({NodeId{id}, MemberRole::voter, ""});
        }
        for (uint64_t id = 1; id <= size_; ++id) group_.add_node(NodeId{id}, initial);
    }

    std::string run(uint64_t steps) {
        for (uint64_t i = 0; i < steps && ok(); ++i) {
            random_action();
            if (i % 64 == 0) group_.check_now();
        }
        if (ok()) heal();
        return ok() ? "" : "seed " + std::to_string(seed_) + ": " + group_.first_violation();
    }
    const std::map<std::string, uint64_t>& counts() const { return group_.counts; }

private:
    bool ok() const { return group_.first_violation().empty(); }

    NodeId any_node() {
        auto at = group_.nodes.begin();
        std::advance(at, static_cast<ptrdiff_t>(prng_.below(group_.nodes.size())));
        return at->first;
    }

    // The mix differs from seed to seed, so that rare orders of events are common in some of them.
    void choose_shape() {
        Prng shape = Prng(seed_).fork("shape");
        weights_ = {{&Simulation::deliver_one, shape.between(200, 700)},
                    {&Simulation::persist_any, shape.between(60, 300)},
                    {&Simulation::tick, shape.between(20, 120)},
                    {&Simulation::propose, shape.between(10, 80)},
                    {&Simulation::read, shape.between(10, 50)},
                    {&Simulation::fault, shape.between(2, 40)},
                    {&Simulation::administer, shape.between(1, 20)}};
        for (const auto& [action, weight] : weights_) weight_sum_ += weight;
        loss_ = shape.chance(1, 3) ? 0 : shape.below(20);
        reorder_ = shape.chance(1, 3) ? 0 : shape.below(50);
        bounce_ = shape.chance(1, 2) ? 0 : shape.below(20);
    }

    void random_action() {
        uint64_t die = prng_.below(weight_sum_);
        for (const auto& [action, weight] : weights_) {
            if (die < weight) return (this->*action)();
            die -= weight;
        }
    }

    void persist_any() {
        const NodeId id = any_node();
        if (paused_.count(id) == 0) group_.persist_one(id);
    }

    void deliver_one() {
        if (group_.wire.empty()) return;
        // Mostly the oldest, in some seeds any: late and reordered.
        const size_t at = network_.below(100) < reorder_ ? network_.below(group_.wire.size()) : 0;
        Envelope envelope = group_.wire[at];
        const bool again = envelope.message && network_.chance(1, 30);
        if (!again) group_.wire.erase(group_.wire.begin() + static_cast<ptrdiff_t>(at));
        if (network_.below(100) < loss_) {
            if (again) return;
            if (envelope.snapshot) {
                group_.step(envelope.from,
                            SnapshotSent{envelope.to, envelope.snapshot->snapshot.index, false});
            }
            return;
        }
        const auto paused = paused_.find(envelope.to);
        if (paused != paused_.end()) {
            paused->second.push_back(std::move(envelope));
            return;
        }
        // The worst moment to have forgotten whom it heard: just before it is asked for its vote.
        const bool asks =
            envelope.message && (envelope.message->type == MessageType::pre_vote_request ||
                                 envelope.message->type == MessageType::vote_request);
        if (asks && network_.below(100) < bounce_ && group_.nodes.at(envelope.to).raft) {
            crash(group_.nodes.at(envelope.to));
            group_.start(envelope.to);
        }
        group_.deliver(std::move(envelope));
        if (group_.wire.size() > 400) group_.wire.pop_front();
    }

    void tick() {
        ++group_.time;
        for (auto& [id, node] : group_.nodes) {
            if (paused_.count(id) == 0) group_.step(id, Tick{});
        }
    }

    // A process that is stopped and goes on later: no ticks, and its sockets fill up.
    void pause(NodeId id) {
        if (!group_.nodes.at(id).raft || paused_.size() > 1) return;
        paused_[id];
        ++group_.counts["pause"];
    }
    void resume_all() {
        for (auto& [id, waiting] : paused_) {
            group_.wire.insert(group_.wire.begin(),
                               std::make_move_iterator(waiting.begin()),
                               std::make_move_iterator(waiting.end()));
            // A request that was already in the process comes before what is in its sockets.
            if (faults_.chance(1, 2)) read_at(id);
        }
        paused_.clear();
    }

    void propose() {
        const NodeId id = prng_.chance(4, 5) ? group_.leader() : any_node();
        if (!id || paused_.count(id) != 0) return;
        Proposed batch;
        const uint64_t count = prng_.between(1, 3);
        for (uint64_t i = 0; i < count; ++i) {
            batch.payloads.push_back(payload("w" + std::to_string(++writes_)));
        }
        group_.step(id, batch);
    }

    void read() {
        const NodeId id = prng_.chance(1, 2) ? group_.leader() : any_node();
        if (id && paused_.count(id) == 0) read_at(id);
    }

    void read_at(NodeId id) {
        const uint64_t context = ++contexts_;
        reads_[context] = answered_;  // what anybody may know by now
        if (!group_.nodes.at(id).raft) return;
        group_.step(id, ReadRequested{{context}});
    }

    // Everything a client may learn: what a leader commits, and what a read returns.
    void watch(TestNode& node, const Update& update) {
        for (const ReadState& read : update.reads) {
            const auto found = reads_.find(read.context);
            if (found == reads_.end()) {
                group_.violations.push_back("a read was answered twice");
                continue;
            }
            if (read.index < found->second) {
                group_.violations.push_back(
                    "stale read: at " + read.index.to_string() +
                    ", known before it began: " + found->second.to_string());
            }
            reads_.erase(found);
            answered_ = std::max(answered_, read.index);
            ++group_.counts["read"];
        }
        for (uint64_t context : update.reads_failed) reads_.erase(context);
        if (update.commit.empty() || look(*node.raft).role != Role::leader) return;
        answered_ = std::max(answered_, update.commit.back().index);
        group_.counts["commit"] += update.commit.size();
    }

    void fault() {
        const NodeId leader = group_.leader();
        const NodeId id = leader && faults_.chance(1, 3) ? leader : any_node();
        TestNode& node = group_.nodes.at(id);
        if (paused_.count(id) != 0) return resume_all();
        switch (faults_.below(12)) {
            case 0:
                crash(node);
                return;
            case 1:  // and back at once: it has forgotten whom it heard
                if (!node.raft) return;
                crash(node);
                group_.start(id);
                return;
            case 2:
            case 3:
                for (auto& [other, down] : group_.nodes) {
                    if (!down.raft) group_.start(other);
                }
                return;
            case 4:
                group_.blocked.insert({id, any_node()});
                return;
            case 5:
                cut_pair(id, any_node());
                return;
            case 6:
                for (const auto& [other, unused] : group_.nodes) cut_pair(id, other);
                return;
            case 7:
            case 8:
                group_.blocked.clear();
                return;
            case 9:
                if (node.raft) group_.step(id, PeerUnreachable{any_node()});
                return;
            case 10:
                pause(id);
                return;
            case 11:
                resume_all();
                return;
        }
    }

    void crash(TestNode& node) {
        if (!node.raft) return;
        group_.crash(node.id, faults_.below(node.disk.writes.size() + 1));
        ++group_.counts["crash"];
    }

    void cut_pair(NodeId a, NodeId b) {
        group_.blocked.insert({a, b});
        group_.blocked.insert({b, a});
    }

    void administer() {
        const NodeId id = group_.leader();
        if (paused_.count(id) != 0) return;
        switch (faults_.below(6)) {
            case 0:
            case 1:
                compact_some();
                return;
            case 2:
                if (id)
                    group_.step(id,
                                TransferLeadership{faults_.chance(1, 3) ? NodeId{} : any_node()});
                return;
            case 3:
            case 4:
                change_membership(id);
                return;
            case 5:
                if (faults_.chance(1, 4) && id) group_.step(id, StepDown{});
                return;
        }
    }

    void compact_some() {
        const NodeId id = any_node();
        const TestNode& node = group_.nodes.at(id);
        if (!node.raft || node.state.applied <= node.disk.floor.index) return;
        group_.checkpoint(id);
        const uint64_t room = node.state.applied - node.disk.floor.index;
        group_.compact(id, node.disk.floor.index + faults_.between(1, room));
    }

    void change_membership(NodeId leader) {
        if (!leader || paused_.count(leader) != 0) return;
        using Kind = MembershipProposed::Kind;
        const uint64_t target = faults_.between(1, size_ + 2);
        const Kind kind = static_cast<Kind>(faults_.below(4));
        const bool adds = kind == Kind::add_voter || kind == Kind::add_learner;
        if (adds && group_.nodes.count(NodeId{target}) == 0) {
            group_.add_node(NodeId{target}, Membership{});
        }
        const Membership now = group_.nodes.at(leader).raft->status().membership;
        // Keep a group that can live through one failure.
        if (kind == Kind::remove && now.voters().size() <= 3 && now.is_voter(NodeId{target}))
            return;
        const Update update = group_.step(
            leader, MembershipProposed{kind, Member{NodeId{target}, MemberRole::voter, ""}});
        if (update.proposal && update.proposal->code == Errc::ok) {
            ++group_.counts["membership change"];
        }
    }

    // Liveness: faults end, and everyone in the group gets to the same place.
    void heal() {
        group_.blocked.clear();
        resume_all();
        loss_ = bounce_ = 0;
        for (auto& [id, node] : group_.nodes) {
            if (!node.raft) group_.start(id);
        }
        bool proposed = false;
        for (int round = 0; round < 600 && ok(); ++round) {
            tick();
            for (int i = 0; i < 60; ++i) {
                bool busy = false;
                for (auto& [id, node] : group_.nodes) busy |= group_.persist_one(id);
                for (size_t n = group_.wire.size(); n > 0 && !group_.wire.empty(); --n) {
                    Envelope envelope = std::move(group_.wire.front());
                    group_.wire.pop_front();
                    group_.deliver(std::move(envelope));
                    busy = true;
                }
                if (!busy) break;
            }
            const NodeId id = group_.leader();
            if (round > 100 && id && !proposed) {
                const Update update = group_.step(id, Proposed{{payload("last")}});
                proposed = update.proposal && update.proposal->code == Errc::ok;
            } else if (proposed && id && together(id)) {
                group_.check_now();
                return;
            }
        }
        if (ok()) group_.violations.push_back("did not come together after the faults ended");
    }

    bool together(NodeId leader) const {
        const NodeStatus status = group_.nodes.at(leader).raft->status();
        if (status.applied != status.last) return false;
        for (const Member& member : status.membership.members) {
            if (group_.nodes.at(member.id).state.applied != status.applied) return false;
        }
        return true;
    }

    uint64_t seed_;
    Prng prng_, faults_, network_;
    Group group_;
    uint64_t size_ = 3;
    uint64_t loss_ = 0;
    uint64_t reorder_ = 0;
    uint64_t bounce_ = 0;
    std::map<NodeId, std::deque<Envelope>> paused_;  // with what waits in its sockets
    std::vector<std::pair<void (Simulation::*)(), uint64_t>> weights_;
    uint64_t weight_sum_ = 0;
    uint64_t writes_ = 0;
    uint64_t contexts_ = 0;
    std::map<uint64_t, LogIndex> reads_;  // context -> what was known before it began
    LogIndex answered_;
};

uint64_t from_environment(const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST_CASE("random groups keep every invariant and come together again") {
    const uint64_t only = from_environment("LUMEO_RAFT_SEED", 0);
    const uint64_t first = only != 0 ? only : 1;
    const uint64_t last = only != 0 ? only : from_environment("LUMEO_RAFT_SEEDS", 300);
    std::map<std::string, uint64_t> counts;
    std::string failures;
    int failed = 0;
    for (uint64_t seed = first; seed <= last && failed < 5; ++seed) {
        Simulation simulation(seed);
        const std::string problem = simulation.run(15000);
        if (!problem.empty()) {
            ++failed;
            failures += problem + "\n";
        }
        for (const auto& [name, count] : simulation.counts()) counts[name] += count;
    }
    std::string summary;
    for (const auto& [name, count] : counts) summary += name + " " + std::to_string(count) + "  ";
    MESSAGE(summary);
    CHECK_MESSAGE(failed == 0, failures);
    if (only != 0) return;
    // A simulation in which these never happen proves nothing.
    for (const char* name : {"election",
                             "truncation",
                             "snapshot installed",
                             "compaction",
                             "crash",
                             "pause",
                             "membership change",
                             "read",
                             "commit"}) {
        CAPTURE(name);
        CHECK(counts[name] > 0);
    }
}

}  // namespace
}  // namespace lumeofs::raft::testing
