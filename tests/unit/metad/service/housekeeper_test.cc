// SPDX-License-Identifier: Apache-2.0
// Repair: as many copies at a time as a node may be filled with, the next when one is done, and chunks
// that have to wait do not hold up the others.
#include "metad/service/housekeeper.h"

#include "tests/unit/metad/service/leader_fixture.h"

namespace lumeofs::metad {
namespace {

struct Fixture : LeaderFixture {
    // A chunk whose members are these.
    ChunkId chunk(const std::vector<uint64_t>& members) {
        const uint64_t ino = fs.big_file(kRoot, "f" + std::to_string(++files), 100);
        const ChunkRow row = *fs.sm->chunk_at(InodeId{ino}, 0);
        wire::ApplyConfigChangesT op;
        op.changes.push_back(std::make_unique<wire::ConfigChangeT>(change_of(row)));
        op.changes[0]->members = members;
        REQUIRE(fs.command(op).value == 1);
        return row.id;
    }
    size_t joiners() {
        size_t count = 0;
        for (const ChunkRow& row : fs.sm->chunks(ChunkId{}, 10'000)) count += row.joiner ? 1 : 0;
        return count;
    }
    void joined() {
        housekeeper.joined();
        run();
    }
    void finish_one() {
        for (const ChunkRow& row : fs.sm->chunks(ChunkId{}, 10'000)) {
            if (!row.joiner) continue;
            wire::JoinDoneT done;
            done.node = row.members[0].value;
            done.chunk = row.id.value;
            done.epoch = row.epoch.value;
            done.joiner = row.joiner.value;
            done.ok = true;
            configs.join_done(done, [](const wire::ConfigReplyT&) {});
            run();
            return;
        }
    }
    ConfigService configs{*leader};
    SessionService sessions{*leader, configs};
    Housekeeper housekeeper{*leader, configs, sessions};
    int files = 0;
};

}  // namespace

TEST_CASE("a node is filled with a few chunks at a time, and with the next when one is done") {
    Fixture t;
    for (int i = 0; i < 40; ++i) t.chunk({11, 12});
    t.joined();
    const size_t most = t.leader->settings.joins_per_node;
    CHECK(t.joiners() == most);
    CHECK(t.leader->node(NodeId{11})->orders.size() == most);
    t.joined();
    CHECK(t.joiners() == most);
    t.finish_one();
    CHECK(t.joiners() == most - 1);
    t.joined();
    CHECK(t.joiners() == most);
}

TEST_CASE("chunks that nothing can be done for do not hold up the others") {
    Fixture t;
    for (int i = 0; i < 150; ++i) t.chunk({11});
    const ChunkId last = t.chunk({12});
    t.kill(11);
    for (int i = 0; i < 3; ++i) t.joined();
    CHECK(t.fs.sm->chunk(last)->joiner == NodeId{13});
}

}  // namespace lumeofs::metad
