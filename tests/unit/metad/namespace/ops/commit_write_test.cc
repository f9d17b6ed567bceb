// SPDX-License-Identifier: Apache-2.0
// Growth, its tails [7], late commits [17], move-outs [34].
#include "common/base/planted_bug.h"
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

namespace {
struct TwoSessions : Cluster {
    TwoSessions() {
        one = as;
        two = session(2);
        f = big_file(kRoot, "f", 100);
        slot = 1;
    }
    void be(uint64_t id) { as = id; }
    uint64_t one = 0, two = 0, f = 0;
};
}  // namespace

TEST_CASE("commit: only the grower may grow, and only after it has asked") {
    TwoSessions fs;
    CHECK_ERRC(fs.commit(fs.f, 200), conflict);
    auto grants = fs.allocate(fs.f, 0, 1);
    REQUIRE(grants.grants.size() == 1);
    CHECK(grants.grants[0]->write_limit == kChunkSize);
    CHECK(fs.sm->grower(InodeId{fs.f})->session == SessionId{fs.one});
    CHECK(fs.commit(fs.f, 200).attr->size == 200);
    CHECK(fs.commit(fs.f, 50).attr->size == 200);
    CHECK(fs.commit(fs.f, 300, true).attr->size == 300);
    CHECK(!fs.sm->grower(InodeId{fs.f}));
    CHECK(fs.commit(fs.f, 300).errc == 0);  // times only
    CHECK(fs.sm->grant_for(InodeId{fs.f}, 0, SessionId{fs.one}, true)->write_limit == 300);
}

TEST_CASE("commit: chunks that hold data are known from then on, those of other files are not touched [45]") {
    TwoSessions fs;
    const uint64_t other = fs.big_file(kRoot, "other", 100);
    const uint64_t foreign = fs.sm->chunk_at(InodeId{other}, 0)->id.value;
    const auto grants = fs.allocate(fs.f, 1, 2);
    REQUIRE(grants.grants.size() == 2);
    CHECK(!grants.grants[0]->written);
    wire::CommitWriteT op;
    op.ino = fs.f;
    op.size = 2 * kChunkSize;
    op.truncate_generation = fs.attr(fs.f).truncate_generation;
    op.written = {grants.grants[0]->chunk, foreign, 4711};
    CHECK(fs.mutate(op).errc == 0);
    const auto after = fs.allocate(fs.f, 1, 2);
    CHECK(after.grants[0]->written);
    CHECK(!after.grants[1]->written);
    CHECK(!fs.sm->chunk(ChunkId{foreign})->written);
}

TEST_CASE("commit: a late size commit does not revive a truncated file [17]") {
    TwoSessions fs;
    fs.allocate(fs.f, 0, 1);
    wire::CommitWriteT late;
    late.ino = fs.f;
    late.size = 200;
    late.truncate_generation = fs.attr(fs.f).truncate_generation;
    fs.be(fs.two);
    CHECK(fs.truncate(fs.f, 0).errc == 0);
    fs.be(fs.one);
    auto reply = fs.mutate(late);
    CHECK_ERRC(reply, conflict);
    CHECK(reply.attr->size == 0);
    CHECK(reply.attr->truncate_generation == 1);
    CHECK(fs.attr(fs.f).size == 0);
}

TEST_CASE("tail: growth that was never committed is cut before another session's grant [7]") {
    TwoSessions fs;
    const Epoch before = fs.sm->chunk_at(InodeId{fs.f}, 0)->epoch;
    fs.allocate(fs.f, 0, 6);  // wrote beyond 100 and into chunk 5, then lost its lease
    fs.be(fs.two);
    CHECK(fs.sm->missing_chunks(InodeId{fs.f}, 0, 6) == std::vector<uint32_t>{1, 2, 3, 4, 5});
    auto grants = fs.allocate(fs.f, 0, 2);
    REQUIRE(grants.errc == 0);
    const ChunkRow first = *fs.sm->chunk_at(InodeId{fs.f}, 0);
    CHECK(first.epoch > before);
    REQUIRE(first.marks.size() == 1);
    CHECK(first.marks[0].truncate_to == 100);
    CHECK(!fs.sm->chunk_at(InodeId{fs.f}, 5));
    CHECK(fs.sm->totals().garbage == 15);
    CHECK(fs.commit(fs.f, 2 * kChunkSize).errc == 0);
    fs.be(fs.one);
    CHECK_ERRC(fs.commit(fs.f, 3 * kChunkSize), conflict);
}

TEST_CASE("tail: a plain truncate upwards cuts it too [7]") {
    TwoSessions fs;
    fs.allocate(fs.f, 0, 6);
    fs.be(fs.two);
    CHECK(fs.truncate(fs.f, 10 * kChunkSize).errc == 0);
    CHECK(fs.sm->chunk_at(InodeId{fs.f}, 0)->marks.size() == 1);
    CHECK(!fs.sm->chunk_at(InodeId{fs.f}, 5));
    CHECK(!fs.sm->grower(InodeId{fs.f}));
}

TEST_CASE("tail: a session's own truncate keeps its growth") {
    TwoSessions fs;
    fs.allocate(fs.f, 0, 2);
    CHECK(fs.truncate(fs.f, 3 * kChunkSize).errc == 0);
    CHECK(fs.sm->chunk_at(InodeId{fs.f}, 1));
    CHECK(fs.sm->grower(InodeId{fs.f}));
}

TEST_CASE("move-out: compare and swap on the version, the row stays until the commit [34]") {
    TwoSessions fs;
    const uint64_t s = fs.file(kRoot, "s");
    fs.write_inline(s, 0, "inline");
    wire::AllocateT op;
    op.ino = s;
    op.count = 1;
    op.move_out_version = fs.attr(s).version;
    fs.be(fs.two);
    fs.write_inline(s, 6, "!");
    fs.be(fs.one);
    auto late = fs.mutate(op);
    CHECK_ERRC(late, conflict);
    CHECK(std::string(late.data.begin(), late.data.end()) == "inline!");
    op.move_out_version = late.attr->version;
    auto grants = fs.mutate(op);
    REQUIRE(grants.grants.size() == 1);
    CHECK(fs.attr(s).is_inline);
    CHECK(fs.data(s) == "inline!");
    CHECK_ERRC(fs.write_inline(s, 0, "I"), conflict);  // by the mover itself
    CHECK_ERRC(fs.commit(s, 5000), conflict);          // not moved out yet
    CHECK(fs.commit(s, 5000, false, true).attr->size == 5000);
    CHECK(!fs.attr(s).is_inline);
    CHECK(fs.data(s).empty());
    fs.be(fs.two);
    auto refused = fs.write_inline(s, 0, "I");
    CHECK_ERRC(refused, not_inline);
    CHECK(refused.grants.size() == 1);
}

TEST_CASE("move-out: another session's write ends it, the mover's commit is refused [34]") {
    TwoSessions fs;
    const uint64_t s = fs.file(kRoot, "s");
    fs.write_inline(s, 0, "inline");
    CHECK(fs.allocate(s, 0, 1).errc == 0);
    const uint64_t generation = fs.attr(s).truncate_generation;
    fs.be(fs.two);
    CHECK(fs.write_inline(s, 0, "INLINE").errc == 0);
    CHECK(fs.sm->totals().chunks == 1);  // f's
    fs.be(fs.one);
    wire::CommitWriteT op;
    op.ino = s;
    op.size = 6;
    op.moved_out = true;
    op.truncate_generation = generation;
    CHECK_ERRC(fs.mutate(op), conflict);
    op.truncate_generation = fs.attr(s).truncate_generation;
    CHECK_ERRC(fs.mutate(op), conflict);
    CHECK(fs.data(s) == "INLINE");
}

TEST_CASE("attributes that were gathered under the lease are set by the commit of the data") {
    TwoSessions fs;
    wire::SetAttrT attrs;
    using Bits = wire::SetAttrBits;
    attrs.valid = static_cast<uint32_t>(Bits::mode | Bits::uid | Bits::gid | Bits::atime | Bits::mtime);
    attrs.mode = 0640;
    attrs.uid = 11;
    attrs.gid = 12;
    attrs.atime_ns = 13;
    attrs.mtime_ns = 14;
    const auto check = [&](uint64_t ino, uint64_t size) {
        CHECK((fs.attr(ino).mode & 07777) == 0640);
        CHECK(fs.attr(ino).uid == 11);
        CHECK(fs.attr(ino).gid == 12);
        CHECK(fs.attr(ino).atime_ns == 13);
        CHECK(fs.attr(ino).mtime_ns == 14);
        CHECK(fs.attr(ino).size == size);
    };
    const uint64_t small = fs.file(kRoot, "small");
    wire::WriteInlineT inline_op;
    inline_op.ino = small;
    inline_op.data = {'a'};
    inline_op.mtime_ns = 99;
    inline_op.attrs = std::make_unique<wire::SetAttrT>(attrs);
    CHECK(fs.mutate(inline_op).errc == 0);
    check(small, 1);

    const uint64_t large = fs.file(kRoot, "large");
    CHECK(fs.allocate(large, 0, 1).errc == 0);
    wire::CommitWriteT op;
    op.ino = large;
    op.size = 5'000;
    op.mtime_ns = 99;
    op.attrs = std::make_unique<wire::SetAttrT>(attrs);
    CHECK(fs.mutate(op).errc == 0);
    check(large, 5'000);

    // A size is no attribute that can be gathered; nothing of such a commit happens.
    op.size = 6'000;
    op.attrs->valid |= static_cast<uint32_t>(Bits::size);
    CHECK_ERRC(fs.mutate(op), inval);
    inline_op.attrs->valid |= static_cast<uint32_t>(Bits::mtime_now);
    CHECK_ERRC(fs.mutate(inline_op), inval);
    check(large, 5'000);
}

TEST_CASE("allocate: an empty file has nothing to move; errors") {
    TwoSessions fs;
    const uint64_t s = fs.file(kRoot, "s");
    wire::AllocateT op;
    op.ino = s;
    op.count = 1;
    CHECK(fs.mutate(op).errc == 0);
    CHECK(!fs.attr(s).is_inline);
    op.count = 0;
    CHECK_ERRC(fs.mutate(op), inval);
    op.count = kMaxChunksPerAllocate + 1;
    CHECK_ERRC(fs.mutate(op), inval);
    op.first = UINT32_MAX;
    op.count = 2;
    CHECK_ERRC(fs.mutate(op), fbig);
    op.first = 5;
    auto without_placement = fs.mutation(op);
    without_placement.placements.clear();
    CHECK_ERRC(fs.command(without_placement), recall);
    op.ino = kRoot;
    CHECK_ERRC(fs.mutate(op), isdir);
}

TEST_CASE("punch: whole chunks become garbage and holes") {
    TwoSessions fs;
    const uint64_t big = fs.big_file(kRoot, "big", 4 * kChunkSize);
    wire::PunchChunksT op;
    op.ino = big;
    op.first = 1;
    op.count = 2;
    CHECK(fs.mutate(op).errc == 0);
    CHECK(fs.attr(big).size == 4 * kChunkSize);
    CHECK(fs.attr(big).allocated == 2 * kChunkSize);
    CHECK(fs.sm->missing_chunks(InodeId{big}, 0, 4) == std::vector<uint32_t>{1, 2});
}

TEST_CASE("session end: the tails of what it grew are cut, in steps if they are many [7, 9]") {
    TwoSessions fs;
    std::vector<uint64_t> files;
    for (int i = 0; i < 120; ++i) {
        files.push_back(fs.big_file(kRoot, "g" + std::to_string(i), 100));
        fs.allocate(files.back(), 0, 3);
    }
    const uint64_t number = fs.fence(fs.one).value;
    CHECK(number == fs.sm->applied().value);
    CHECK(fs.sm->session_state(SessionId{fs.one}) == SessionState::fenced);
    CHECK(fs.fence(fs.one).value == number);
    CHECK(fs.sm->fences_since(0, 9).size() == 1);
    CHECK(fs.sm->last_fence() == number);
    CHECK_ERRC(fs.commit(files[0], 500), fenced);
    CHECK(fs.end(fs.one).errc == 0);
    CHECK(fs.sm->session_state(SessionId{fs.one}) == SessionState::none);
    CHECK(fs.sm->cleanup_pending());
    CHECK(fs.sm->tail_uncut(InodeId{files.back()}));
    CHECK_ERRC(fs.sm->layout(InodeId{files.back()}, 0, 3, SessionId{fs.two}, false), unavailable);
    fs.check();
    while (fs.cleanup().value == 1) {
    }
    CHECK(!fs.sm->cleanup_pending());
    CHECK(fs.sm->growers(InodeId{}, 9).empty());
    for (uint64_t ino : files) CHECK(fs.sm->chunk_at(InodeId{ino}, 0)->marks.size() == 1);
    CHECK(fs.sm->layout(InodeId{files.back()}, 0, 3, SessionId{fs.two}, false).grants.size() == 1);
    CHECK_ERRC(fs.end(fs.one), no_session);
    CHECK(fs.sm->fences_since(0, 9).size() == 1);  // chunkds go on refusing it
    fs.be(fs.one);
    CHECK_ERRC(fs.commit(files[0], 500), no_session);
}

}  // namespace lumeofs::metad
