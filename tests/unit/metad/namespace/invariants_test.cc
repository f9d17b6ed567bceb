// SPDX-License-Identifier: Apache-2.0
// The checks must be able to fail: each kind of damage, done behind the state machine's back, is
// named. And a power cut, at any byte of SQLite's WAL, leaves a state that the log leads on from
// [12].
#include "metad/namespace/invariants.h"

#include <sqlite3.h>

#include <cstdlib>
#include <filesystem>

#include "common/base/prng.h"
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

namespace {

struct OnFile {
    OnFile() {
        char name[] = "/tmp/lumeofs-invariants-XXXXXX";
        folder = mkdtemp(name);
        options.path = folder + "/meta.db";
    }
    ~OnFile() {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
    }
    void run(const std::string& sql) {
        sqlite3* db = nullptr;
        REQUIRE(sqlite3_open(options.path.c_str(), &db) == SQLITE_OK);
        char* error = nullptr;
        const int code = sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error);
        REQUIRE_MESSAGE(code == SQLITE_OK, sql);
        sqlite3_close(db);
    }
    std::string folder;
    StateMachineOptions options;
};

void fill(Machine& fs) {
    fs.boot();
    fs.as = fs.session();
    const uint64_t d = fs.dir(kRoot, "d");
    const uint64_t f = fs.file(d, "f");
    fs.link(f, kRoot, "g");
    fs.write_inline(fs.file(d, "small"), 0, "data");
    fs.big_file(kRoot, "big", 2 * kChunkSize);
    fs.opened = {fs.file(kRoot, "open")};
    fs.unlink(kRoot, "open");
    fs.big_file(kRoot, "gone", 10);
    fs.unlink(kRoot, "gone");
    fs.allocate(fs.file(d, "grows"), 0, 1);
}

}  // namespace

TEST_CASE("invariants: every kind of damage is named") {
    const char* damages[] = {
        "DELETE FROM dentry WHERE name=x'66'",
        "UPDATE dentry SET ino=999 WHERE name=x'66'",
        "UPDATE dentry SET type=4 WHERE name=x'66'",
        "UPDATE dentry SET cookie=999 WHERE name=x'66'",
        "UPDATE inode SET nlink=7 WHERE ino=3",
        "UPDATE inode SET nlink=9 WHERE ino=1",
        "UPDATE inode SET parent=3 WHERE ino=2",
        "DELETE FROM inode WHERE ino=2",
        "DELETE FROM orphan",
        "INSERT INTO orphan VALUES(3)",
        "DELETE FROM inline_data",
        "UPDATE inline_data SET data=zeroblob(5000)",
        "INSERT INTO xattr VALUES(999, x'61', x'62')",
        "DELETE FROM map",
        "INSERT INTO map VALUES(999, 0, 1, 0, 0)",
        "DELETE FROM chunk WHERE id=1",
        "UPDATE chunk SET refs=2 WHERE id=1",
        "DELETE FROM chunk_node WHERE node=12",
        "UPDATE chunk SET member_count=2 WHERE id=1",
        "INSERT INTO garbage VALUES(11, 1, 1)",
        "DELETE FROM garbage",
        "UPDATE grower SET session=999",
        "UPDATE grower SET ino=2",
        "DELETE FROM session",
        "UPDATE state SET inodes=99",
        "UPDATE inode SET dead_ranges=1 WHERE ino=5",
    };
    for (const char* damage : damages) {
        CAPTURE(damage);
        OnFile file;
        Machine fs(file.options);
        fill(fs);
        fs.check();
        fs.sm.reset();
        file.run(damage);
        fs.open();
        CHECK(!fs.sm->check_invariants().empty());
    }
}

TEST_CASE("power cut: at any length of the WAL the database is old, whole, and the log leads on") {
    OnFile file;
    Machine fs(file.options);
    fs.boot();
    fs.as = fs.session();
    for (int i = 0; i < 60; ++i) {
        fs.write_inline(fs.file(kRoot, "f" + std::to_string(i)), 0, "data");
        if (i == 20) REQUIRE(fs.sm->checkpoint().is_ok());
    }
    const uint64_t digest = fs.digest();
    const uint64_t last = fs.sm->applied().value;
    fs.sm.reset();
    const std::string wal = file.options.path + "-wal";
    const std::string saved = file.folder + "/saved";
    std::filesystem::copy(file.options.path, saved + ".db");
    std::filesystem::copy(wal, saved + ".wal");
    const uint64_t full = std::filesystem::file_size(wal);
    Prng prng(3);
    for (int round = 0; round < 30; ++round) {
        const auto replace = std::filesystem::copy_options::overwrite_existing;
        std::filesystem::copy_file(saved + ".db", file.options.path, replace);
        std::filesystem::copy_file(saved + ".wal", wal, replace);
        std::filesystem::resize_file(wal, prng.below(full + 1));
        Machine after(file.options);
        const uint64_t applied = after.sm->applied().value;
        CHECK(applied <= last);
        after.check();
        for (uint64_t i = applied; i < last; ++i) after.raw(fs.log[i]);
        CHECK(after.digest() == digest);
    }
}

}  // namespace lumeofs::metad
