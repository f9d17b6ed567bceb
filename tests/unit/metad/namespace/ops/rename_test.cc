// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

TEST_CASE("rename: inside a directory and to another one") {
    Cluster fs;
    const uint64_t a = fs.dir(kRoot, "a");
    const uint64_t b = fs.dir(kRoot, "b");
    const uint64_t f = fs.file(a, "f");
    CHECK(fs.rename(a, "f", a, "g").attr->ino == f);
    CHECK_ERRC(fs.lookup(a, "f"), noent);
    CHECK(fs.rename(a, "g", b, "h").attr->ctime_ns == fs.clock);
    CHECK(fs.lookup(b, "h").attr->ino == f);
    CHECK(fs.attr(a).mtime_ns == fs.clock);
    CHECK(fs.attr(b).mtime_ns == fs.clock);
}

TEST_CASE("rename: a directory takes its link and its parent along") {
    Cluster fs;
    const uint64_t a = fs.dir(kRoot, "a");
    const uint64_t b = fs.dir(kRoot, "b");
    const uint64_t d = fs.dir(a, "d");
    CHECK(fs.rename(a, "d", b, "d").errc == 0);
    CHECK(fs.attr(a).nlink == 2);
    CHECK(fs.attr(b).nlink == 3);
    CHECK(fs.attr(d).parent == b);
    CHECK(fs.lookup(d, "..").attr->ino == b);
}

TEST_CASE("rename: errors") {
    Cluster fs;
    const uint64_t a = fs.dir(kRoot, "a");
    const uint64_t b = fs.dir(a, "b");
    const uint64_t c = fs.dir(b, "c");
    fs.file(kRoot, "f");
    fs.file(b, "x");
    CHECK_ERRC(fs.rename(kRoot, "a", c, "in"), inval);
    CHECK_ERRC(fs.rename(kRoot, "a", a, "in"), inval);
    CHECK_ERRC(fs.rename(b, "c", kRoot, "a"), notempty);
    CHECK_ERRC(fs.rename(kRoot, "a", kRoot, "f"), notdir);
    CHECK_ERRC(fs.rename(kRoot, "f", kRoot, "a"), isdir);
    CHECK_ERRC(fs.rename(kRoot, "none", kRoot, "f"), noent);
    CHECK_ERRC(fs.rename(kRoot, "f", 999, "f"), noent);
    CHECK_ERRC(fs.rename(kRoot, "f", kRoot, std::string(256, 'x')), nametoolong);
    CHECK_ERRC(fs.rename(kRoot, "f", kRoot, "a", 1), exist);
    CHECK_ERRC(fs.rename(kRoot, "f", kRoot, "none", 2), noent);
    CHECK_ERRC(fs.rename(kRoot, "f", kRoot, "g", 3), inval);
    CHECK_ERRC(fs.rename(kRoot, "f", kRoot, "g", 4), inval);
    CHECK_ERRC(fs.rename(kRoot, "a", c, "deep", 1), inval);
    fs.file(c, "y");
    CHECK_ERRC(fs.rename(kRoot, "a", c, "y", 2), inval);
    CHECK_ERRC(fs.rename(c, "y", kRoot, "a", 2), inval);
}

TEST_CASE("rename: over a file drops one of its names, or frees or orphans it") {
    Cluster fs;
    const uint64_t one = fs.file(kRoot, "one");
    const uint64_t two = fs.file(kRoot, "two");
    fs.link(two, kRoot, "two-b");
    CHECK(fs.rename(kRoot, "one", kRoot, "two").attr->ino == one);
    CHECK(fs.attr(two).nlink == 1);
    fs.opened = {two};
    CHECK(fs.rename(kRoot, "two", kRoot, "two-b").errc == 0);
    CHECK(fs.attr(two).nlink == 0);
    CHECK(fs.sm->orphans(InodeId{}, 9).size() == 1);
    const uint64_t three = fs.file(kRoot, "three");
    CHECK(fs.rename(kRoot, "two-b", kRoot, "three").errc == 0);
    CHECK(!fs.sm->inode(InodeId{three}));
}

TEST_CASE("rename: over an empty directory") {
    Cluster fs;
    const uint64_t a = fs.dir(kRoot, "a");
    const uint64_t b = fs.dir(kRoot, "b");
    const uint64_t d = fs.dir(a, "d");
    fs.dir(b, "e");
    CHECK(fs.rename(a, "d", b, "e").errc == 0);
    CHECK(fs.attr(a).nlink == 2);
    CHECK(fs.attr(b).nlink == 3);
    CHECK(fs.attr(d).nlink == 2);
    CHECK(fs.rename(kRoot, "a", kRoot, "b").errc == static_cast<uint16_t>(Errc::notempty));
}

TEST_CASE("rename: two names of one inode stay both") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    fs.link(f, kRoot, "g");
    CHECK(fs.rename(kRoot, "f", kRoot, "g").errc == 0);
    CHECK(fs.attr(f).nlink == 2);
    CHECK(fs.lookup(kRoot, "f").errc == 0);
}

TEST_CASE("rename: exchange of a directory and a file across parents fixes links and parents") {
    Cluster fs;
    const uint64_t a = fs.dir(kRoot, "a");
    const uint64_t b = fs.dir(kRoot, "b");
    const uint64_t d = fs.dir(a, "d");
    const uint64_t f = fs.file(b, "f");
    CHECK(fs.rename(a, "d", b, "f", 2).errc == 0);
    CHECK(fs.lookup(a, "d").attr->ino == f);
    CHECK(fs.lookup(b, "f").attr->ino == d);
    CHECK(fs.attr(a).nlink == 2);
    CHECK(fs.attr(b).nlink == 3);
    CHECK(fs.attr(d).parent == b);
    CHECK(fs.rename(a, "d", b, "f", 2).errc == 0);
    CHECK(fs.attr(d).parent == a);
    CHECK(fs.attr(b).nlink == 2);
    CHECK(fs.attr(f).nlink == 1);
}

TEST_CASE("rename: a directory that is renamed while it is listed shows up once") {
    Cluster fs;
    for (int i = 0; i < 5; ++i) fs.file(kRoot, "f" + std::to_string(i));
    wire::ReadDirT op;
    op.ino = kRoot;
    op.cookie = 2;  // f0 and f1 were seen
    CHECK(fs.rename(kRoot, "f0", kRoot, "new").errc == 0);
    CHECK(fs.rename(kRoot, "f1", kRoot, "f4").errc == 0);
    auto reply = fs.query(op);
    REQUIRE(reply.entries.size() == 3);
    CHECK(reply.entries[0]->name == "f2");
    CHECK(reply.entries[1]->name == "f3");
    CHECK(reply.entries[2]->name == "f4");
}

TEST_CASE("rename: write permission on a directory that changes its parent") {
    Cluster fs;
    const uint64_t a = Machine::made(fs.make(kRoot, "a", S_IFDIR | 0777));
    const uint64_t b = Machine::made(fs.make(kRoot, "b", S_IFDIR | 0777));
    fs.dir(a, "d");
    fs.caller.uid = 1000;
    fs.caller.check = true;
    CHECK_ERRC(fs.rename(a, "d", b, "d"), acces);
    CHECK(fs.rename(a, "d", a, "e").errc == 0);
}

}  // namespace lumeofs::metad
