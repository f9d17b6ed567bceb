// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

TEST_CASE("unlink: the last name takes the inode with it") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    auto reply = fs.unlink(kRoot, "f");
    CHECK(reply.errc == 0);
    CHECK(reply.attr->nlink == 0);
    CHECK(!fs.sm->inode(InodeId{f}));
    CHECK_ERRC(fs.lookup(kRoot, "f"), noent);
    CHECK(fs.attr(kRoot).mtime_ns == fs.clock);
}

TEST_CASE("unlink: errors") {
    Cluster fs;
    const uint64_t d = fs.dir(kRoot, "d");
    fs.file(d, "f");
    CHECK_ERRC(fs.unlink(kRoot, "d"), isdir);
    CHECK_ERRC(fs.rmdir(kRoot, "d"), notempty);
    CHECK_ERRC(fs.rmdir(d, "f"), notdir);
    CHECK_ERRC(fs.unlink(kRoot, "none"), noent);
    CHECK_ERRC(fs.rmdir(kRoot, "."), inval);
    CHECK_ERRC(fs.rmdir(kRoot, ".."), notempty);
    CHECK_ERRC(fs.unlink(kRoot, std::string(256, 'x')), nametoolong);
    CHECK_ERRC(fs.unlink(999, "f"), noent);
}

TEST_CASE("unlink: an open file stays as an orphan until nobody has it open") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    fs.write_inline(f, 0, "still here");
    fs.opened = {f};
    CHECK(errc(fs.unlink(kRoot, "f")) == Errc::ok);
    fs.opened = {};
    CHECK(fs.attr(f).nlink == 0);
    CHECK(fs.data(f) == "still here");
    CHECK(errc(fs.write_inline(f, 0, "S")) == Errc::ok);
    CHECK_ERRC(fs.link(f, kRoot, "again"), noent);
    CHECK(fs.sm->orphans(InodeId{}, 10) == std::vector<InodeId>{InodeId{f}});
    wire::ApplyFreeOrphansT op;
    op.inodes = {f, 12345, kRoot};
    CHECK(fs.command(op).value == 1);
    CHECK(!fs.sm->inode(InodeId{f}));
    CHECK(fs.sm->orphans(InodeId{}, 10).empty());
}

TEST_CASE("unlink: one of two names leaves the inode, with its ctime") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    CHECK(fs.link(f, kRoot, "g").attr->nlink == 2);
    CHECK(fs.unlink(kRoot, "f").attr->nlink == 1);
    CHECK(fs.attr(f).ctime_ns == fs.clock);
    CHECK(fs.lookup(kRoot, "g").attr->ino == f);
}

TEST_CASE("unlink: a name that leads to another inode than the leader saw has no effect [22]") {
    Cluster fs;
    fs.file(kRoot, "f");
    wire::UnlinkT op;
    op.parent = kRoot;
    op.name = "f";
    auto stale = fs.mutation(op);
    fs.slot = 1;
    fs.rename(kRoot, "f", kRoot, "old");
    const uint64_t other = fs.file(kRoot, "f");
    CHECK_ERRC(fs.command(stale), recall);
    CHECK(fs.sm->inode(InodeId{other}));
    // Not remembered either: the same slot and sequence may try again.
    stale.recalled = {other};
    CHECK(fs.command(stale).errc == 0);
}

TEST_CASE("unlink: sticky directories protect names of others") {
    Cluster fs;
    fs.make(kRoot, "tmp", S_IFDIR | S_ISVTX | 0777);
    const uint64_t tmp = fs.lookup(kRoot, "tmp").attr->ino;
    fs.caller.uid = 1000;
    fs.caller.check = true;
    fs.file(tmp, "mine");
    fs.caller.uid = 1001;
    CHECK_ERRC(fs.unlink(tmp, "mine"), perm);
    CHECK_ERRC(fs.rename(tmp, "mine", tmp, "yours"), perm);
    fs.caller.uid = 1000;
    CHECK(fs.unlink(tmp, "mine").errc == 0);
}

TEST_CASE("unlink: xattrs and chunks go too") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 3 * kChunkSize);
    wire::SetXattrT op;
    op.ino = f;
    op.name = "user.x";
    op.value = {1, 2, 3};
    CHECK(fs.mutate(op).errc == 0);
    CHECK(fs.unlink(kRoot, "f").errc == 0);
    CHECK(fs.sm->totals().chunks == 0);
    CHECK(fs.sm->totals().garbage == 9);
    CHECK(fs.sm->garbage_of_node(NodeId{12}, ChunkId{}, 10).size() == 3);
    wire::ApplyGarbageDoneT done;
    done.node = 12;
    for (const GarbageRow& row : fs.sm->garbage_of_node(NodeId{12}, ChunkId{}, 10)) {
        done.chunks.push_back(row.chunk.value);
    }
    CHECK(fs.command(done).value == 3);
    CHECK(fs.command(done).value == 0);
    CHECK(fs.sm->totals().garbage == 6);
}

}  // namespace lumeofs::metad
