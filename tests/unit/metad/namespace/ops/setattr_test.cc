// SPDX-License-Identifier: Apache-2.0
// Truncation with shrink marks [6] and growth tails [7, 17], and the small attributes.
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

namespace {

// What a member keeps that is at `epoch` with `length` bytes and adopts the grant: the smallest
// mark above its own epoch applies, once [6].
uint64_t adopt(const ChunkRow& row, Epoch* epoch, uint64_t length) {
    for (const ShrinkMark& mark : row.marks) {
        if (mark.epoch > *epoch) length = std::min(length, mark.truncate_to);
    }
    *epoch = row.epoch;
    return length;
}

struct OneChunk : Cluster {
    OneChunk() { ino = big_file(kRoot, "f", 100); }
    ChunkRow row() { return *sm->chunk_at(InodeId{ino}, 0); }
    uint64_t ino = 0;
};

}  // namespace

TEST_CASE("truncate: a member that skips epochs takes the smallest mark, not the newest [6a]") {
    OneChunk fs;
    Epoch member = fs.row().epoch;
    fs.truncate(fs.ino, 50);
    fs.truncate(fs.ino, 80);
    fs.truncate(fs.ino, 70);
    CHECK(fs.row().marks.size() == 2);
    CHECK(adopt(fs.row(), &member, 100) == 50);
}

TEST_CASE("truncate: a member that knows the older mark does not apply it again [6b]") {
    OneChunk fs;
    fs.truncate(fs.ino, 50);
    Epoch member = fs.row().epoch;  // adopted, then [50,80) was written
    fs.allocate(fs.ino, 0, 1);
    fs.commit(fs.ino, 80, true);
    fs.truncate(fs.ino, 70);
    CHECK(adopt(fs.row(), &member, 80) == 70);
}

TEST_CASE("truncate: marks stay for absent replicas until they are trimmed [6c]") {
    OneChunk fs;
    const Epoch old = fs.row().epoch;
    wire::ApplyConfigChangesT op;
    op.changes.push_back(std::make_unique<wire::ConfigChangeT>());
    op.changes[0]->chunk = fs.row().id.value;
    op.changes[0]->epoch = old.value;
    op.changes[0]->members = {11, 12};
    CHECK(fs.command(op).value == 1);
    CHECK(fs.row().absent == std::vector<NodeId>{NodeId{13}});
    fs.truncate(fs.ino, 50);
    Epoch absent = old;
    CHECK(adopt(fs.row(), &absent, 100) == 50);
    wire::ApplyTrimMarksT trim;
    trim.chunks = {fs.row().id.value};
    trim.epochs = {fs.row().epoch.value};
    CHECK(fs.command(trim).value == 0);
    CHECK(fs.row().marks.size() == 1);  // the newest tells whether it was cut after an epoch
    fs.truncate(fs.ino, 100);
    fs.truncate(fs.ino, 60);
    CHECK(fs.row().marks.size() == 2);
    CHECK(fs.command(trim).value == 1);
    CHECK(fs.row().marks.size() == 1);
    CHECK(fs.row().marks[0].truncate_to == 60);
}

TEST_CASE("truncate: a grant never comes without the marks [6d]") {
    OneChunk fs;
    fs.truncate(fs.ino, 50);
    auto grant = fs.sm->grant_for(InodeId{fs.ino}, 0, SessionId{fs.as}, true);
    REQUIRE(grant);
    CHECK(grant->epoch == fs.row().epoch.value);
    REQUIRE(grant->marks.size() == 1);
    CHECK(grant->marks[0].epoch() == grant->epoch);
    CHECK(grant->marks[0].truncate_to() == 50);
    CHECK(grant->write_limit == 50);
}

TEST_CASE("truncate: marks behind a newer one are dropped; too many that are not make it wait") {
    OneChunk fs;
    for (int i = 0; i < 40; ++i) {
        CHECK(fs.truncate(fs.ino, 10).errc == 0);
        CHECK(fs.truncate(fs.ino, 1000).errc == 0);
    }
    CHECK(fs.row().marks.size() == 1);
    for (uint64_t i = 1; i < kMaxShrinkMarks; ++i) {
        fs.truncate(fs.ino, 1000);
        CHECK(fs.truncate(fs.ino, 10 + i).errc == 0);
    }
    CHECK(fs.row().marks.size() == kMaxShrinkMarks);
    fs.truncate(fs.ino, 1000);
    const uint64_t version = fs.attr(fs.ino).version;
    CHECK_ERRC(fs.truncate(fs.ino, 500), busy);
    CHECK(fs.attr(fs.ino).version == version);
    CHECK(fs.sm->chunks_with_marks(ChunkId{}, 9).size() == 1);
    --fs.sequence;  // busy is not remembered: the same request again
    wire::ApplyTrimMarksT trim;
    trim.chunks = {fs.row().id.value};
    trim.epochs = {fs.row().marks[3].epoch.value};
    CHECK(fs.command(trim).value == 1);
    CHECK(fs.truncate(fs.ino, 500).errc == 0);
    CHECK(fs.row().marks.size() == kMaxShrinkMarks - 3);
}

TEST_CASE("truncate: whole chunks behind the cut become garbage, growth changes the size only") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 5 * kChunkSize);
    CHECK(fs.truncate(f, 2 * kChunkSize).errc == 0);
    CHECK(fs.sm->totals().chunks == 2);
    CHECK(fs.sm->totals().garbage == 9);
    CHECK(fs.sm->chunk_at(InodeId{f}, 1)->marks.empty());
    CHECK(fs.truncate(f, kMaxFileSize).errc == 0);
    CHECK(fs.attr(f).size == kMaxFileSize);
    CHECK(fs.sm->totals().chunks == 2);
    CHECK_ERRC(fs.truncate(f, kMaxFileSize + 1), fbig);
    CHECK(fs.truncate(f, 0).errc == 0);
    CHECK(fs.sm->totals().chunks == 0);
    CHECK(fs.attr(f).is_inline == false);  // never back
}

TEST_CASE("truncate: inline data is cut, and reads as zeros behind the cut") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    fs.write_inline(f, 0, "0123456789");
    fs.truncate(f, 4);
    CHECK(fs.data(f) == "0123");
    fs.truncate(f, 6);
    CHECK(fs.data(f) == std::string("0123\0\0", 6));
    CHECK(fs.attr(f).truncate_generation == 1);
    fs.truncate(f, kChunkSize);
    CHECK(fs.attr(f).is_inline);
    CHECK(fs.data(f).size() == kInlineMax);
    const uint64_t empty = fs.file(kRoot, "empty");
    fs.truncate(empty, kChunkSize);
    CHECK(!fs.attr(empty).is_inline);
}

TEST_CASE("truncate: a huge map is hidden at once and cleaned up in steps [40]") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 400 * kChunkSize);
    CHECK(fs.truncate(f, kChunkSize / 2).errc == 0);
    CHECK(fs.sm->cleanup_pending());
    CHECK(!fs.sm->chunk_at(InodeId{f}, 1));
    CHECK(fs.sm->missing_chunks(InodeId{f}, 0, 3) == std::vector<uint32_t>{1, 2});
    // New chunks in the hidden range are alive, before and after the clean-up.
    CHECK(fs.allocate(f, 100, 2).errc == 0);
    CHECK(fs.commit(f, 102 * kChunkSize, true).errc == 0);
    CHECK(fs.sm->chunk_at(InodeId{f}, 100));
    CHECK(!fs.sm->chunk_at(InodeId{f}, 102));
    auto layout = fs.sm->layout(InodeId{f}, 0, 1000, SessionId{fs.as}, false);
    CHECK(layout.grants.size() == 3);
    fs.check();
    int steps = 1;
    while (fs.cleanup().value == 1) ++steps;
    CHECK(steps >= 3);
    CHECK(!fs.sm->cleanup_pending());
    CHECK(fs.sm->totals().chunks == 3);
    CHECK(fs.sm->chunk_at(InodeId{f}, 100));
    CHECK(fs.sm->totals().garbage == 399 * 3);
}

TEST_CASE("truncate: a 100 TB sparse file, up, down and gone, is one row each time [40]") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", kChunkSize);
    const uint64_t size = uint64_t{100} << 40;
    CHECK(fs.truncate(f, size).errc == 0);
    CHECK(fs.allocate(f, static_cast<uint32_t>(size / kChunkSize) - 1, 1).errc == 0);
    CHECK(fs.commit(f, size, true).errc == 0);
    CHECK(fs.attr(f).allocated == 2 * kChunkSize);
    CHECK(fs.truncate(f, size / 2 + 5).errc == 0);
    CHECK(fs.sm->totals().chunks == 1);
    CHECK(fs.unlink(kRoot, "f").errc == 0);
    CHECK(fs.sm->totals().chunks == 0);
    CHECK(fs.sm->totals().bytes == 0);
}

TEST_CASE("truncate: with eight copies of everything no command grows too big [40]") {
    // The bound itself is asserted for every command that is applied.
    Machine fs;
    fs.boot(8);
    fs.as = fs.session();
    fs.nodes = {11, 12, 13, 14, 15, 16, 17, 18};
    const uint64_t f = fs.big_file(kRoot, "f", 64 * kChunkSize);
    CHECK(fs.truncate(f, 1).errc == 0);
    fs.nodes = {21, 22, 23, 24, 25, 26, 27, 28};
    CHECK(fs.allocate(f, 10, 16).errc == 0);  // each takes the place of a hidden row
    fs.as = fs.session(2);
    fs.slot = 1;
    CHECK(fs.allocate(f, 0, 16).errc == 0);  // cuts the tail of the first session on the way
    CHECK(fs.unlink(kRoot, "f").errc == 0);
    fs.check();
    while (fs.cleanup().value == 1) {
    }
    CHECK(fs.sm->totals().chunks == 0);
    CHECK(fs.sm->totals().garbage == 8 * (64 + 16 + 15));
    fs.check();
}

TEST_CASE("setattr: mode, owner, times; set-id bits go where they must") {
    Cluster fs;
    const uint64_t f = Machine::made(fs.make(kRoot, "f", S_IFREG | 06755));
    using Bits = wire::SetAttrBits;
    auto set = [&](Bits bits) {
        wire::SetAttrT op;
        op.ino = f;
        op.valid = static_cast<uint32_t>(bits);
        op.mode = 0600;
        op.uid = 5;
        op.gid = 6;
        op.atime_ns = -1;
        op.mtime_ns = 77;
        return fs.mutate(op);
    };
    CHECK(set(Bits::uid).attr->mode == (S_IFREG | 06755));  // root keeps them
    fs.caller.uid = 5;
    CHECK(set(Bits::gid).attr->mode == (S_IFREG | 0755));
    auto times = set(Bits::atime | Bits::mtime);
    CHECK(times.attr->atime_ns == -1);
    CHECK(times.attr->mtime_ns == 77);
    CHECK(times.attr->ctime_ns == fs.clock);
    CHECK(set(Bits::mtime_now).attr->mtime_ns == fs.clock);
    CHECK(set(Bits::mode).attr->mode == (S_IFREG | 0600));
    fs.caller.check = true;
    fs.caller.uid = 9;
    CHECK_ERRC(set(Bits::mode), perm);
    CHECK_ERRC(set(Bits::uid), perm);
    CHECK_ERRC(set(Bits::mtime), perm);
    CHECK_ERRC(set(Bits::mtime_now), acces);
    CHECK_ERRC(fs.truncate(f, 0), acces);
    CHECK_ERRC(fs.truncate(kRoot, 0), isdir);
}

TEST_CASE("setattr: a truncate by another than root clears set-id bits") {
    Cluster fs;
    const uint64_t f = Machine::made(fs.make(kRoot, "f", S_IFREG | 06755));
    CHECK(fs.truncate(f, 10).attr->mode == (S_IFREG | 06755));
    fs.caller.uid = 1;
    CHECK(fs.truncate(f, 5).attr->mode == (S_IFREG | 0755));
}

}  // namespace lumeofs::metad
