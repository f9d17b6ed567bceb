// SPDX-License-Identifier: Apache-2.0
// Who goes on when a primary says that it lost members.
#include "metad/service/config_service.h"

#include "tests/unit/metad/service/leader_fixture.h"

namespace lumeofs::metad {
namespace {

struct Fixture : LeaderFixture {
    Fixture() {
        ino = fs.big_file(kRoot, "f", 100);
        const ChunkRow now = row();
        primary = now.members[0];
        others = {now.members[1], now.members[2]};
    }
    ChunkRow row() { return *fs.sm->chunk_at(InodeId{ino}, 0); }
    void set_members(const std::vector<NodeId>& members) {
        wire::ApplyConfigChangesT op;
        op.changes.push_back(std::make_unique<wire::ConfigChangeT>(change_of(row())));
        op.changes[0]->members.clear();
        for (NodeId node : members) op.changes[0]->members.push_back(node.value);
        REQUIRE(fs.command(op).value == 1);
    }
    // The members after the primary's report.
    std::vector<NodeId> report(const std::vector<NodeId>& failed, Errc why) {
        wire::ReportMembersT report;
        report.node = row().members[0].value;
        auto failure = std::make_unique<wire::MemberFailureT>();
        failure->chunk = row().id.value;
        failure->epoch = row().epoch.value;
        for (NodeId node : failed) failure->failed.push_back(node.value);
        failure->errc = static_cast<uint16_t>(why);
        report.failures.push_back(std::move(failure));
        configs.report_members(report, [](const wire::ConfigReplyT&) {});
        run();
        return row().members;
    }
    void beat(NodeId id) { leader->nodes[id].last_beat = loop.now(); }

    ConfigService configs{*leader};
    uint64_t ino = 0;
    NodeId primary;
    std::vector<NodeId> others;
};

using Nodes = std::vector<NodeId>;

}  // namespace

TEST_CASE("a primary that reaches nobody hands over to members that are heard, not to leases [37]") {
    Fixture t;
    t.loop.run_for(2500 * kMillisecond);  // both died at once; their leases run
    t.beat(t.primary);
    REQUIRE(t.leader->usable(t.others[0]));
    CHECK(t.report(t.others, Errc::disconnected) == Nodes{t.primary, t.others[0], t.others[1]});
    t.beat(t.others[0]);
    CHECK(t.report(t.others, Errc::disconnected) == Nodes{t.primary, t.others[0], t.others[1]});
    t.beat(t.others[0]);
    t.beat(t.others[1]);
    CHECK(t.report(t.others, Errc::disconnected) == t.others);
}

TEST_CASE("below min_write_replicas nobody is removed that has a copy") {
    Fixture t;
    t.set_members({t.primary, t.others[0]});
    CHECK(t.report({t.others[0]}, Errc::disconnected) == Nodes{t.primary, t.others[0]});
    CHECK(t.report({t.others[0]}, Errc::io) == Nodes{t.primary, t.others[0]});
    CHECK(t.report({t.others[0]}, Errc::not_found) == Nodes{t.primary});
}

TEST_CASE("a primary without a copy is removed, and one that is there leads") {
    Fixture t;
    t.kill(t.others[0].value);
    CHECK(t.report({t.primary}, Errc::not_found) == Nodes{t.others[1], t.others[0]});
}

}  // namespace lumeofs::metad
