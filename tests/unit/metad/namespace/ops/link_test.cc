// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

TEST_CASE("link: a second name, also of a symlink; the new parent is stamped") {
    Cluster fs;
    const uint64_t d = fs.dir(kRoot, "d");
    const uint64_t f = fs.file(kRoot, "f");
    const uint64_t s = Machine::made(fs.make(kRoot, "s", S_IFLNK | 0777, "f"));
    CHECK(fs.link(f, d, "g").attr->nlink == 2);
    CHECK(fs.attr(f).ctime_ns == fs.clock);
    CHECK(fs.attr(d).mtime_ns == fs.clock);
    CHECK(fs.link(s, d, "t").attr->nlink == 2);
    CHECK(fs.lookup(d, "t").attr->ino == s);
}

TEST_CASE("link: errors") {
    Cluster fs;
    const uint64_t d = fs.dir(kRoot, "d");
    const uint64_t f = fs.file(kRoot, "f");
    CHECK_ERRC(fs.link(d, kRoot, "x"), perm);
    CHECK_ERRC(fs.link(f, kRoot, "f"), exist);
    CHECK_ERRC(fs.link(f, f, "x"), notdir);
    CHECK_ERRC(fs.link(999, kRoot, "x"), noent);
    CHECK_ERRC(fs.link(f, 999, "x"), noent);
    CHECK_ERRC(fs.link(f, kRoot, std::string(256, 'x')), nametoolong);
    for (uint32_t i = 1; i < kMaxLinks; ++i) fs.link(f, d, std::to_string(i));
    CHECK(fs.attr(f).nlink == kMaxLinks);
    CHECK_ERRC(fs.link(f, d, "more"), mlink);
}

}  // namespace lumeofs::metad
