// SPDX-License-Identifier: Apache-2.0
// Copies that a node should have and did not report: the chunk's primary is told to ask.
#include "metad/service/copy_checks.h"

#include <algorithm>

#include "metad/service/config_service.h"
#include "tests/unit/metad/service/leader_fixture.h"

namespace lumeofs::metad {
namespace {

struct Fixture : LeaderFixture {
    Fixture() {
        for (int i = 0; i < 3; ++i) {
            const uint64_t ino = fs.big_file(kRoot, "f" + std::to_string(i), 100);
            rows.push_back(*fs.sm->chunk_at(InodeId{ino}, 0));
        }
    }
    void another_chunk() {
        std::rotate(fs.nodes.begin(), fs.nodes.begin() + 1, fs.nodes.end());  // another primary
        fs.big_file(kRoot, "g" + std::to_string(++files), 100);
    }
    // The node reports the chunks of these rows, which it has after `first`.
    void report(uint64_t node, const std::vector<size_t>& held, ChunkId first = {}, bool last = true) {
        wire::ChunkReportT report;
        report.node = node;
        report.first = first.value;
        report.last = last;
        for (size_t i : held) {
            auto one = std::make_unique<wire::HeldChunkT>();
            one->chunk = rows[i].id.value;
            one->epoch = rows[i].epoch.value;
            report.chunks.push_back(std::move(one));
        }
        checks.reported(report);
    }
    // Chunks that the primaries were ordered to check.
    std::set<ChunkId> ordered() {
        std::set<ChunkId> chunks;
        for (const auto& [id, node] : leader->nodes) {
            for (const auto& [number, order] : node.orders) {
                REQUIRE(order.kind == wire::OrderKind::check_copies);
                chunks.insert(ChunkId{order.grant->chunk});
                CHECK(order.grant->members[0] == id.value);
            }
        }
        return chunks;
    }
    std::vector<ChunkRow> rows;  // by rising number
    ConfigService configs{*leader};
    CopyChecks checks{*leader, configs};
    int files = 0;
};

using Chunks = std::set<ChunkId>;

}  // namespace

TEST_CASE("who holds all that it should is not looked into") {
    Fixture t;
    t.report(11, {0, 1, 2});
    CHECK(t.ordered().empty());
    CHECK(t.checks.pending() == 0);
}

TEST_CASE("what is missing between the first and the last of a page is checked, the rest is not yet") {
    Fixture t;
    t.report(11, {1}, ChunkId{}, false);
    CHECK(t.ordered() == Chunks{t.rows[0].id});
    t.report(11, {}, t.rows[1].id, true);  // nothing more: an empty last page
    CHECK(t.ordered() == Chunks{t.rows[0].id, t.rows[2].id});
    t.report(12, {});
    CHECK(t.ordered().size() == 3);
}

TEST_CASE("a check stays until a primary has done it, or the node is no member any more") {
    Fixture t;
    const ChunkRow& row = t.rows[0];
    t.report(row.members[2].value, {1, 2});
    LiveNode& primary = *t.leader->node(row.members[0]);
    REQUIRE(primary.orders.size() == 1);
    t.checks.tick();
    CHECK(primary.orders.size() == 1);  // once
    primary.orders.clear();             // it has started anew, and knows nothing of it
    t.checks.tick();
    CHECK(primary.orders.size() == 1);

    wire::ApplyConfigChangesT op;  // another one takes over
    op.changes.push_back(std::make_unique<wire::ConfigChangeT>(change_of(row)));
    op.changes[0]->members = {row.members[1].value, row.members[2].value};
    REQUIRE(t.fs.command(op).value == 1);
    t.checks.tick();
    CHECK(t.leader->node(row.members[1])->orders.size() == 1);
    CHECK(t.checks.pending() == 1);
    const uint64_t order = t.leader->node(row.members[1])->orders.begin()->first;
    t.checks.done(row.members[0], row.id, order);  // by whom it was asked before
    CHECK(t.checks.pending() == 1);
    t.report(row.members[1].value, {1, 2});  // after the members were asked
    t.checks.done(row.members[1], row.id, order);
    CHECK(t.checks.pending() == 1);
    t.leader->node(row.members[1])->orders.clear();
    t.checks.tick();
    const uint64_t again = t.leader->node(row.members[1])->orders.begin()->first;
    t.checks.done(row.members[1], row.id, again);
    CHECK(t.checks.pending() == 0);

    t.report(row.members[2].value, {1, 2});
    op.changes[0] = std::make_unique<wire::ConfigChangeT>(change_of(*t.fs.sm->chunk(row.id)));
    op.changes[0]->members = {row.members[1].value};
    REQUIRE(t.fs.command(op).value == 1);
    t.checks.tick();
    CHECK(t.checks.pending() == 0);
}

TEST_CASE("a chunk whose primary is down gets another one, which is asked") {
    Fixture t;
    const ChunkRow row = t.rows[0];
    t.kill(row.members[0].value);
    t.report(row.members[2].value, {1, 2});
    t.run();
    CHECK(t.fs.sm->chunk(row.id)->members[0] == row.members[1]);
    t.checks.tick();
    CHECK(t.ordered() == Chunks{row.id});
}

TEST_CASE("checks that a primary does not come to do not hold up those of others") {
    Fixture t;
    size_t of_others = 0;
    for (int i = 0; i < 6000; ++i) t.another_chunk();
    for (const ChunkRow& row : t.fs.sm->chunks(ChunkId{}, 10'000)) {
        of_others += row.members[0] != NodeId{11} ? 1 : 0;
    }
    t.report(12, {});
    std::set<ChunkId> seen;
    for (int i = 0; i < 100; ++i) {
        for (const NodeId id : {NodeId{12}, NodeId{13}}) {
            for (auto& [number, order] : std::exchange(t.leader->node(id)->orders, {})) {
                seen.insert(ChunkId{order.grant->chunk});
                t.checks.done(id, ChunkId{order.grant->chunk}, number);
            }
        }
        t.checks.tick();
    }
    CHECK(of_others >= 4000);
    CHECK(seen.size() == of_others);
    CHECK(t.leader->node(NodeId{11})->orders.size() < 1000);  // nor is it given all at once
}

}  // namespace lumeofs::metad
