// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

TEST_CASE("make: a new file has one link, is inline and empty, and can be found") {
    Cluster fs;
    const uint64_t ino = fs.file(kRoot, "f");
    const wire::AttrT attr = fs.attr(ino);
    CHECK(attr.nlink == 1);
    CHECK(attr.size == 0);
    CHECK(attr.is_inline);
    CHECK(attr.mode == (S_IFREG | 0644));
    CHECK(fs.lookup(kRoot, "f").attr->ino == ino);
    CHECK_ERRC(fs.lookup(kRoot, "g"), noent);
}

TEST_CASE("make: a directory counts in its parent and stamps it") {
    Cluster fs;
    const uint64_t d = fs.dir(kRoot, "d");
    CHECK(fs.attr(d).nlink == 2);
    CHECK(fs.attr(d).parent == kRoot);
    CHECK(fs.attr(kRoot).nlink == 3);
    CHECK(fs.attr(kRoot).mtime_ns == fs.clock);
    CHECK(fs.attr(kRoot).ctime_ns == fs.clock);
    CHECK(fs.lookup(d, "..").attr->ino == kRoot);
    CHECK(fs.lookup(d, ".").attr->ino == d);
}

TEST_CASE("make: what is refused") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    CHECK_ERRC(fs.make(kRoot, "f", S_IFREG | 0644), exist);
    CHECK_ERRC(fs.make(kRoot, "f", S_IFDIR | 0755), exist);
    CHECK_ERRC(fs.make(kRoot, ".", S_IFDIR | 0755), exist);
    CHECK_ERRC(fs.make(f, "x", S_IFREG), notdir);
    CHECK_ERRC(fs.make(999, "x", S_IFREG), noent);
    CHECK_ERRC(fs.make(kRoot, "", S_IFREG), noent);
    CHECK_ERRC(fs.make(kRoot, std::string(256, 'n'), S_IFREG), nametoolong);
    CHECK_ERRC(fs.make(kRoot, "a/b", S_IFREG), inval);
    CHECK_ERRC(fs.make(kRoot, std::string("a\0b", 3), S_IFREG), inval);
    CHECK_ERRC(fs.make(kRoot, "x", 0644), inval);
    CHECK_ERRC(fs.make(kRoot, "x", S_IFLNK | 0777), noent);
    CHECK_ERRC(fs.make(kRoot, "x", S_IFLNK | 0777, std::string(4096, 't')), nametoolong);
    CHECK(errc(fs.make(kRoot, std::string(255, 'n'), S_IFREG)) == Errc::ok);
}

TEST_CASE("make: not exclusive gives the old file, and says so") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    auto again = fs.make(kRoot, "f", S_IFREG | 0600, "", false);
    CHECK(again.errc == 0);
    CHECK(again.value == 1);
    CHECK(again.attr->ino == f);
    auto exclusive = fs.make(kRoot, "f", S_IFREG | 0600);
    CHECK_ERRC(exclusive, exist);
    CHECK(exclusive.attr->ino == f);
}

TEST_CASE("make: a symlink keeps its target and has its size; a device its number") {
    Cluster fs;
    const uint64_t s = Machine::made(fs.make(kRoot, "s", S_IFLNK | 0777, "to/there"));
    CHECK(fs.attr(s).size == 8);
    wire::ReadLinkT op;
    op.ino = s;
    auto reply = fs.query(op);
    CHECK(std::string(reply.data.begin(), reply.data.end()) == "to/there");
    wire::MakeT device;
    device.parent = kRoot;
    device.name = "null";
    device.mode = S_IFCHR | 0666;
    device.rdev = 259;
    CHECK(fs.mutate(device).attr->rdev == 259);
}

TEST_CASE("make: below a setgid directory the group is inherited, by directories the bit too") {
    Cluster fs;
    fs.caller.gid = 100;
    const uint64_t d = Machine::made(fs.make(kRoot, "d", S_IFDIR | S_ISGID | 0775));
    fs.caller.gid = 5;
    CHECK(fs.attr(fs.file(d, "f")).gid == 100);
    const wire::AttrT sub = fs.attr(fs.dir(d, "sub"));
    CHECK(sub.gid == 100);
    CHECK((sub.mode & S_ISGID) != 0);
    CHECK(fs.attr(fs.file(kRoot, "plain")).gid == 5);
}

TEST_CASE("make: a directory takes no more sub-directories than its links allow") {
    Cluster fs;
    for (uint32_t i = 2; i < kMaxLinks; ++i) fs.dir(kRoot, "d" + std::to_string(i));
    CHECK(fs.attr(kRoot).nlink == kMaxLinks);
    CHECK_ERRC(fs.make(kRoot, "more", S_IFDIR | 0755), mlink);
    CHECK(errc(fs.make(kRoot, "file", S_IFREG | 0644)) == Errc::ok);
    CHECK(errc(fs.rmdir(kRoot, "d2")) == Errc::ok);
    CHECK(errc(fs.make(kRoot, "more", S_IFDIR | 0755)) == Errc::ok);
}

TEST_CASE("make: nothing is made in a directory that is removed but open") {
    Cluster fs;
    const uint64_t d = fs.dir(kRoot, "d");
    fs.opened = {d};
    CHECK(errc(fs.rmdir(kRoot, "d")) == Errc::ok);
    CHECK_ERRC(fs.make(d, "x", S_IFREG | 0644), noent);
    CHECK(fs.attr(d).nlink == 0);
}

TEST_CASE("make: permission of the parent counts if the caller asks for checks") {
    Cluster fs;
    fs.caller.uid = 1000;
    CHECK(errc(fs.make(kRoot, "unchecked", S_IFREG | 0644)) == Errc::ok);
    fs.caller.check = true;
    CHECK_ERRC(fs.make(kRoot, "x", S_IFREG | 0644), acces);
}

}  // namespace lumeofs::metad
