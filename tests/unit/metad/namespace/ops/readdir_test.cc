// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

TEST_CASE("readdir: pages go on where they stopped, also when names come and go") {
    Cluster fs;
    for (int i = 0; i < 1000; ++i) fs.file(kRoot, "file" + std::to_string(i));
    CHECK(fs.names(kRoot, 1).size() == 1000);
    CHECK(fs.names(kRoot).size() == 1000);
    wire::ReadDirT op;
    op.ino = kRoot;
    op.max_bytes = 4096;
    auto first = fs.query(op);
    CHECK(first.value == 0);
    REQUIRE(!first.entries.empty());
    op.cookie = first.entries.back()->cookie;
    fs.unlink(kRoot, first.entries.back()->name);
    fs.file(kRoot, "new");
    size_t seen = first.entries.size();
    for (bool end = false; !end;) {
        auto page = fs.query(op);
        seen += page.entries.size();
        if (!page.entries.empty()) op.cookie = page.entries.back()->cookie;
        end = page.value == 1;
    }
    CHECK(seen == 1001);
}

TEST_CASE("readdir: types, attributes, errors, names that are no text") {
    Cluster fs;
    const std::string odd("\xff\xfe\n\x01", 4);
    const uint64_t d = fs.dir(kRoot, odd);
    const uint64_t f = fs.file(kRoot, "f");
    wire::ReadDirT op;
    op.ino = kRoot;
    op.plus = true;
    auto reply = fs.query(op);
    REQUIRE(reply.entries.size() == 2);
    CHECK(reply.value == 1);
    CHECK(reply.entries[0]->name == odd);
    CHECK(reply.entries[0]->type == 4);
    CHECK(reply.entries[0]->attr->ino == d);
    CHECK(reply.entries[1]->type == 8);
    op.ino = f;
    CHECK_ERRC(fs.query(op), notdir);
    op.ino = 999;
    CHECK_ERRC(fs.query(op), noent);
}

TEST_CASE("path: from the root down; lost for a name that was left") {
    Cluster fs;
    const uint64_t d = fs.dir(fs.dir(kRoot, "a"), "b");
    const uint64_t f = fs.file(d, "f");
    auto path = [&](uint64_t ino) {
        wire::GetPathT op;
        op.ino = ino;
        auto reply = fs.query(op);
        return std::string(reply.data.begin(), reply.data.end());
    };
    CHECK(path(f) == "/a/b/f");
    CHECK(path(kRoot) == "/");
    fs.rename(d, "f", kRoot, "g");
    CHECK(path(f) == "/g");
    CHECK(path(999).empty());
}

TEST_CASE("inline: writes beyond the end leave zeros, limits hold") {
    Cluster fs;
    const uint64_t f = fs.file(kRoot, "f");
    CHECK(fs.write_inline(f, 3, "abc").attr->size == 6);
    CHECK(fs.data(f) == std::string("\0\0\0abc", 6));
    CHECK(fs.write_inline(f, 4, "X").attr->size == 6);
    CHECK(fs.data(f) == std::string("\0\0\0aXc", 6));
    CHECK(fs.write_inline(f, 0, std::string(kInlineMax, 'z')).errc == 0);
    CHECK_ERRC(fs.write_inline(f, 1, std::string(kInlineMax, 'z')), inval);
    CHECK_ERRC(fs.write_inline(f, kInlineMax + 1, ""), inval);
    CHECK_ERRC(fs.write_inline(kRoot, 0, "x"), isdir);
    wire::WriteInlineT stale;
    stale.ino = f;
    stale.data = {1};
    fs.truncate(f, 10);
    auto reply = fs.mutate(stale);
    CHECK_ERRC(reply, conflict);
    CHECK(reply.attr->size == 10);
}

}  // namespace lumeofs::metad
