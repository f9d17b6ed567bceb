// SPDX-License-Identifier: Apache-2.0
// In a build with planted bugs: each of this room's changes what the directed tests look at.
#include "common/base/planted_bug.h"

#if LUMEO_PLANTED_BUGS

#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

namespace {
struct Planted {
    explicit Planted(const char* name) { set_planted_bug(name); }
    ~Planted() { set_planted_bug(nullptr); }
};
}  // namespace

TEST_CASE("planted: ns.single_mark forgets the older, smaller mark [6]") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 100);
    const Planted bug("ns.single_mark");
    fs.truncate(f, 50);
    fs.truncate(f, 80);
    fs.truncate(f, 70);
    const ChunkRow row = *fs.sm->chunk_at(InodeId{f}, 0);
    REQUIRE(row.marks.size() == 1);
    CHECK(row.marks[0].truncate_to == 70);
}

TEST_CASE("planted: ns.tail_not_cut shows what was never committed [7]") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 100);
    fs.allocate(f, 0, 6);
    const Planted bug("ns.tail_not_cut");
    fs.as = fs.session(2);
    CHECK(fs.truncate(f, 10 * kChunkSize).errc == 0);
    CHECK(fs.sm->chunk_at(InodeId{f}, 0)->marks.empty());
    CHECK(fs.sm->chunk_at(InodeId{f}, 5));
}

TEST_CASE("planted: ns.slot_not_stored does it twice [21]") {
    Cluster fs;
    const Planted bug("ns.slot_not_stored");
    wire::MakeT op;
    op.parent = kRoot;
    op.name = "d";
    op.mode = S_IFDIR | 0755;
    op.exclusive = true;
    const auto request = fs.mutation(op);
    CHECK(fs.command(request).errc == 0);
    CHECK_ERRC(fs.command(request), exist);
}

TEST_CASE("planted: ns.late_size_commit revives a truncated file [17]") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 100);
    const Planted bug("ns.late_size_commit");
    wire::CommitWriteT late;
    late.ino = f;
    late.size = 200;
    fs.truncate(f, 0);
    CHECK(fs.mutate(late).attr->size == 200);
}

}  // namespace lumeofs::metad

#endif
