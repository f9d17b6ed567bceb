// SPDX-License-Identifier: Apache-2.0
// A leader of a group of one, on a real state machine and virtual time: what is proposed is applied
// a task later. single-thread.
#pragma once

#include <memory>
#include <utility>

#include "metad/service/leader.h"
#include "tests/unit/client/fake_loop.h"
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

class SoloConsensus final : public Consensus {
public:
    SoloConsensus(Loop& loop, Machine& machine) : loop_(loop), machine_(machine) {}
    void propose(Bytes command, std::function<void(Result<Bytes>)> done) override {
        ++proposed;
        loop_.post([this, command = std::move(command), done = std::move(done)] {
            done(wire::encode<wire::MetaReply>(machine_.raw(command)));
        });
    }
    void read_barrier(std::function<void(Status)> done) override { done(Status()); }
    bool is_ready_leader() const override { return true; }
    Term term() const override { return Term{1}; }
    NodeId leader() const override { return NodeId{1}; }
    std::string leader_address() const override { return "solo:1"; }
    Nanos quorum_contact() const override { return loop_.now(); }
    ConsensusStatus status() const override { return {}; }
    void on_leadership(std::function<void(bool)> changed) override { (void)changed; }

    uint64_t proposed = 0;

private:
    Loop& loop_;
    Machine& machine_;
};

// The cluster of the namespace tests with its chunkds 11, 12 and 13 registered, well, and with room; its
// sessions are attached.
struct LeaderFixture {
    LeaderFixture() : consensus(loop, fs) {
        for (uint64_t id : fs.nodes) register_node(id);
        leader = std::make_shared<Leader>(loop, consensus, *fs.sm, ServiceSettings{}, Prng(1));
        for (uint64_t id : fs.nodes) revive(id);
        for (auto& [id, session] : leader->sessions) session.attached = true;
    }
    void register_node(uint64_t id) {
        wire::ApplyNodeT op;
        op.node = id;
        op.role = static_cast<uint8_t>(Role::chunkd);
        op.uuid_low = id;
        op.new_incarnation = true;
        op.attempt = id;
        REQUIRE(fs.command(op).errc == 0);
    }
    void revive(uint64_t id) {
        LiveNode& node = leader->nodes[NodeId{id}];
        node.node = NodeId{id};
        node.last_beat = loop.now();
        node.lease_until = loop.now() + 1000 * kSecond;
        node.total_bytes = node.free_bytes = uint64_t{1} << 40;
    }
    void kill(uint64_t id) { leader->nodes[NodeId{id}].lease_until = loop.now(); }
    void run() { loop.run_for(kMillisecond); }

    client_test::FakeLoop loop;
    Cluster fs;
    SoloConsensus consensus;
    std::shared_ptr<Leader> leader;
};

}  // namespace lumeofs::metad
