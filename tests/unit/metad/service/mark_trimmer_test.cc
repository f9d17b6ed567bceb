// SPDX-License-Identifier: Apache-2.0
// Marks go when all copies have obeyed them; copies that are away do not hold them up for ever.
#include "metad/service/mark_trimmer.h"

#include "tests/unit/metad/service/leader_fixture.h"

namespace lumeofs::metad {
namespace {

struct Fixture : LeaderFixture {
    Fixture() { ino = fs.big_file(kRoot, "f", 100); }
    ChunkRow row() { return *fs.sm->chunk_at(InodeId{ino}, 0); }
    // The chunkds that are there do what they were ordered.
    void obey() {
        for (uint64_t id : fs.nodes) {
            if (!leader->usable(NodeId{id})) continue;
            auto orders = std::exchange(leader->nodes[NodeId{id}].orders, {});
            for (const auto& [number, order] : orders) {
                REQUIRE(order.kind == wire::OrderKind::adopt);
                ++obeyed;
                trimmer.adopted(
                    NodeId{id}, ChunkId{order.grant->chunk}, Epoch{order.grant->epoch});
            }
        }
        run();
    }
    // A shrink to an offset above the last one: its mark replaces no older one.
    Errc shrink() {
        fs.truncate(ino, 1000);
        const Errc errc = metad::errc(fs.truncate(ino, ++offset));
        trimmer.tick();
        run();
        return errc;
    }
    ConfigService configs{*leader};
    MarkTrimmer trimmer{*leader, configs};
    uint64_t ino = 0;
    uint64_t offset = 10;
    uint64_t obeyed = 0;
};

}  // namespace

TEST_CASE("forty shrinks of one chunk at rising offsets go on without waiting") {
    Fixture t;
    for (int i = 0; i < 40; ++i) {
        REQUIRE(t.shrink() == Errc::ok);
        t.obey();
        REQUIRE(t.row().marks.size() <= kMarksToTrim);
    }
    CHECK(t.obeyed >= 12);
    CHECK(t.row().marks.back().epoch == t.row().epoch);  // the newest stays
    CHECK(t.row().members.size() == 3);
}

TEST_CASE("a mark stays until the last copy has it, also an absent one") {
    Fixture t;
    wire::ApplyConfigChangesT op;
    op.changes.push_back(std::make_unique<wire::ConfigChangeT>(change_of(t.row())));
    op.changes[0]->members = {11, 12};
    REQUIRE(t.fs.command(op).value == 1);
    REQUIRE(t.row().absent.size() == 1);
    for (int i = 0; i < 6; ++i) REQUIRE(t.shrink() == Errc::ok);
    const ChunkRow row = t.row();
    REQUIRE(row.marks.size() == 6);
    t.trimmer.adopted(NodeId{11}, row.id, row.epoch);
    t.trimmer.adopted(NodeId{12}, row.id, row.epoch);
    t.run();
    CHECK(t.row().marks.size() == 6);
    t.trimmer.adopted(NodeId{13}, row.id, row.marks[1].epoch);
    t.run();
    CHECK(t.row().marks.size() == 4);
    t.trimmer.adopted(NodeId{13}, row.id, row.epoch);
    t.run();
    CHECK(t.row().marks.size() == 1);
}

TEST_CASE("a chunkd that is away is taken out and its copy written off when marks press") {
    Fixture t;
    t.kill(13);
    for (int i = 0; i < 40; ++i) {
        REQUIRE(t.shrink() == Errc::ok);
        t.obey();
    }
    CHECK(t.row().members == std::vector<NodeId>{NodeId{11}, NodeId{12}});
    CHECK(t.row().absent.empty());
    CHECK(t.leader->state.garbage_of_node(NodeId{13}, ChunkId{}, 9).size() == 1);
}

TEST_CASE("the tail of an ended session is cut when the marks that were in its way are gone") {
    Fixture t;
    for (uint64_t i = 0; i < kMaxShrinkMarks; ++i) {
        t.fs.truncate(t.ino, 1000);
        REQUIRE(errc(t.fs.truncate(t.ino, ++t.offset)) == Errc::ok);
    }
    const uint64_t owner = t.fs.as;
    REQUIRE(t.fs.truncate(t.ino, 500).errc == 0);
    REQUIRE(t.fs.allocate(t.ino, 0, 1).errc == 0);  // may have written beyond 500
    t.fs.fence(owner);
    t.fs.end(owner);
    CHECK(t.leader->state.cleanup_pending());
    t.fs.as = t.fs.session(2);
    for (int i = 0; i < 4; ++i) {
        t.trimmer.tick();
        t.run();
        t.obey();
    }
    t.fs.cleanup();
    CHECK(!t.leader->state.cleanup_pending());
    CHECK(t.row().marks.back().truncate_to == 500);
}

}  // namespace lumeofs::metad
