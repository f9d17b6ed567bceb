// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

namespace {
struct WithFile : Cluster {
    WithFile() { f = file(kRoot, "f"); }
    wire::MetaReplyT set(const std::string& name, size_t bytes = 3, uint32_t flags = 0) {
        wire::SetXattrT op;
        op.ino = f;
        op.name = name;
        op.value.assign(bytes, 7);
        op.flags = flags;
        return mutate(op);
    }
    wire::MetaReplyT get(const std::string& name) {
        wire::GetXattrT op;
        op.ino = f;
        op.name = name;
        return query(op);
    }
    wire::MetaReplyT remove(const std::string& name) {
        wire::RemoveXattrT op;
        op.ino = f;
        op.name = name;
        return mutate(op);
    }
    std::string list() {
        wire::ListXattrT op;
        op.ino = f;
        auto reply = query(op);
        return std::string(reply.data.begin(), reply.data.end());
    }
    uint64_t f = 0;
};
}  // namespace

TEST_CASE("xattr: set, get, list, replace, remove") {
    WithFile fs;
    CHECK(fs.set("user.b").attr->ctime_ns == fs.clock);
    CHECK(fs.set("user.a", 0).errc == 0);
    CHECK(fs.get("user.b").data == std::vector<uint8_t>(3, 7));
    CHECK(fs.get("user.a").errc == 0);
    CHECK(fs.list() == std::string("user.a\0user.b\0", 14));
    CHECK_ERRC(fs.set("user.b", 4, 1), exist);
    CHECK_ERRC(fs.set("user.c", 4, 2), nodata);
    CHECK(fs.set("user.b", 4, 2).errc == 0);
    CHECK(fs.remove("user.b").errc == 0);
    CHECK_ERRC(fs.remove("user.b"), nodata);
    CHECK_ERRC(fs.get("user.b"), nodata);
}

TEST_CASE("xattr: names, sizes and namespaces that are refused") {
    WithFile fs;
    CHECK_ERRC(fs.set(""), range);
    CHECK_ERRC(fs.set("user." + std::string(251, 'x')), range);
    CHECK_ERRC(fs.set("user."), inval);
    CHECK_ERRC(fs.set("system.posix_acl_access"), opnotsupp);
    CHECK_ERRC(fs.set("user.x", kMaxXattrValueBytes + 1), toobig);
    CHECK_ERRC(fs.set("user.x", 1, 4), inval);
    CHECK(fs.set("user.x", kMaxXattrValueBytes).errc == 0);
    CHECK_ERRC(fs.set("user.y", 1000), nospc);
    CHECK(fs.set("user.x", 10).errc == 0);
    CHECK(fs.set("user.y", 1000).errc == 0);
    CHECK(fs.set("trusted.t").errc == 0);
    fs.caller.check = true;
    fs.caller.uid = 9;
    CHECK_ERRC(fs.set("trusted.t"), perm);
    CHECK_ERRC(fs.get("trusted.t"), nodata);
    CHECK_ERRC(fs.set("user.z"), acces);
}

TEST_CASE("xattr: very many of a freed file go in steps [40]") {
    WithFile fs;
    for (int i = 0; i < 900; ++i) CHECK(fs.set("user." + std::to_string(i), 1).errc == 0);
    CHECK(fs.unlink(kRoot, "f").errc == 0);
    CHECK(fs.sm->cleanup_pending());
    fs.check();
    int steps = 1;
    while (fs.cleanup().value == 1) ++steps;
    CHECK(steps == 2);
    CHECK(!fs.sm->cleanup_pending());
}

}  // namespace lumeofs::metad
