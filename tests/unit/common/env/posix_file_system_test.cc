// SPDX-License-Identifier: Apache-2.0
#include "common/env/posix_file_system.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

using namespace lumeofs;

namespace {

struct Scratch {
    Scratch() {
        char name[] = "/tmp/lumeofs-fs-XXXXXX";
        dir = mkdtemp(name);
    }
    ~Scratch() { std::filesystem::remove_all(dir); }
    std::string path(const char* name) const { return dir + "/" + name; }

    std::string dir;
    PosixFileSystem fs;
};

Bytes bytes_of(std::string_view text) { return Bytes(text.begin(), text.end()); }

std::string content(FileSystem& fs, const std::string& path) {
    auto bytes = read_file(fs, path, 1 << 20);
    REQUIRE(bytes.is_ok());
    return std::string(as_text(*bytes));
}

}  // namespace

TEST_CASE_FIXTURE(Scratch, "write, read, size, truncate, sync") {
    auto file = fs.open(path("a"), {.create = true});
    REQUIRE(file.is_ok());
    CHECK((*file)->write_at(3, as_view("hello")).is_ok());
    CHECK((*file)->sync().is_ok());
    CHECK((*file)->size().value() == 8);
    Bytes into(100);
    CHECK((*file)->read_at(3, into).value() == 5);
    CHECK(as_text(View(into).first(5)) == "hello");
    CHECK((*file)->read_at(8, into).value() == 0);
    CHECK((*file)->truncate(4).is_ok());
    CHECK(content(fs, path("a")) == std::string("\0\0\0h", 4));
}

TEST_CASE_FIXTURE(Scratch, "several views are written in their order") {
    auto file = fs.open(path("a"), {.create = true});
    REQUIRE(file.is_ok());
    std::vector<View> parts;
    std::string expected;
    std::vector<std::string> texts;
    for (int i = 0; i < 3000; ++i) texts.push_back(std::to_string(i) + ";");  // more than IOV_MAX
    for (auto& text : texts) {
        parts.push_back(as_view(text));
        parts.emplace_back();
        expected += text;
    }
    CHECK((*file)->write_vector_at(0, parts).is_ok());
    CHECK(content(fs, path("a")) == expected);
}

TEST_CASE_FIXTURE(Scratch, "allocate extends the file with zeros") {
    auto file = fs.open(path("a"), {.create = true});
    REQUIRE(file.is_ok());
    CHECK((*file)->write_at(0, as_view("x")).is_ok());
    CHECK((*file)->allocate(0, 8192).is_ok());
    CHECK((*file)->size().value() == 8192);
    Bytes into(8192);
    CHECK((*file)->read_at(0, into).value() == 8192);
    CHECK(into[0] == 'x');
    CHECK(into[8191] == 0);
}

TEST_CASE_FIXTURE(Scratch, "errors name the call, the path and the errno") {
    auto file = fs.open(path("nothing"), {});
    CHECK(file.code() == Errc::noent);
    CHECK(std::string(file.status().text()).find("open " + path("nothing") + ": ENOENT") == 0);
    REQUIRE(fs.open(path("a"), {.create = true}).is_ok());
    CHECK(fs.open(path("a"), {.create = true, .exclusive = true}).code() == Errc::exist);
    CHECK(fs.open(path("a/b"), {.create = true}).code() == Errc::notdir);
    CHECK(fs.remove(path("b")).code() == Errc::noent);
    CHECK(fs.rename(path("b"), path("c")).code() == Errc::noent);
    CHECK(fs.list(path("b")).code() == Errc::noent);
    CHECK(fs.sync_dir(path("a")).code() == Errc::notdir);
    CHECK(fs.make_dirs(path("a")).code() == Errc::notdir);
    auto read_only = fs.open(path("a"), {.read_only = true});
    REQUIRE(read_only.is_ok());
    CHECK((*read_only)->write_at(0, as_view("x")).code() == Errc::badf);
}

TEST_CASE_FIXTURE(Scratch, "directories, names, exists, rename, remove") {
    CHECK(fs.make_dirs(path("x/y/z")).is_ok());
    CHECK(fs.make_dirs(path("x/y/z")).is_ok());
    for (const char* name : {"c", "a", "b"}) {
        REQUIRE(fs.open(path("x") + "/" + name, {.create = true}).is_ok());
    }
    CHECK(fs.list(path("x")).value() == std::vector<std::string>{"a", "b", "c", "y"});
    CHECK(fs.rename(path("x/a"), path("x/d")).is_ok());
    CHECK(fs.remove(path("x/b")).is_ok());
    CHECK(fs.sync_dir(path("x")).is_ok());
    CHECK(fs.list(path("x")).value() == std::vector<std::string>{"c", "d", "y"});
    CHECK(fs.exists(path("x/d")).value());
    CHECK_FALSE(fs.exists(path("x/a")).value());
    CHECK_FALSE(fs.exists(path("x/d/e")).value());
    auto space = fs.space(dir);
    REQUIRE(space.is_ok());
    CHECK(space->total_bytes >= space->free_bytes);
    CHECK(space->total_bytes > 0);
}

TEST_CASE_FIXTURE(Scratch, "replace_file leaves the new content and no temporary") {
    CHECK(replace_file(fs, path("a"), bytes_of("one")).is_ok());
    CHECK(replace_file(fs, path("a"), bytes_of("two")).is_ok());
    CHECK(content(fs, path("a")) == "two");
    CHECK(fs.list(dir).value() == std::vector<std::string>{"a"});
}

TEST_CASE("direct files work with whole blocks, also where the file system knows no O_DIRECT") {
    PosixFileSystem fs;
    for (const char* root : {"/tmp", "/dev/shm", "/var/tmp"}) {
        if (access(root, W_OK) != 0) continue;
        CAPTURE(root);
        std::string name = std::string(root) + "/lumeofs-direct-XXXXXX";
        REQUIRE(mkdtemp(name.data()) != nullptr);
        {
            auto file = fs.open(name + "/f", {.create = true, .exclusive = true, .direct = true});
            REQUIRE(file.is_ok());
            Buffer out = Buffer::allocate(8192);
            std::memset(out.mutable_data(), 0x5A, out.size());
            CHECK((*file)->allocate(0, 16384).is_ok());
            CHECK((*file)->write_at(4096, out.view()).is_ok());
            CHECK((*file)->sync().is_ok());
            Buffer in = Buffer::allocate(16384);
            CHECK((*file)->read_at(0, in.mutable_view()).value() == 16384);
            CHECK(in.data()[4095] == 0);
            CHECK(std::memcmp(in.data() + 4096, out.data(), 8192) == 0);
            CHECK((*file)->read_at(12288, in.mutable_view()).value() == 4096);
        }
        std::filesystem::remove_all(name);
    }
}

TEST_CASE_FIXTURE(Scratch, "a lock is held until its object goes") {
    auto lock = fs.lock(path("lock"));
    REQUIRE(lock.is_ok());
    CHECK(fs.lock(path("lock")).code() == Errc::busy);
    *lock = nullptr;
    CHECK(fs.lock(path("lock")).is_ok());
}

TEST_CASE_FIXTURE(Scratch, "a lock dies with its process") {
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
        auto lock = fs.lock(path("lock"));
        char ok = lock.is_ok() ? 1 : 0;
        if (write(ready[1], &ok, 1) != 1) _exit(2);
        pause();
        _exit(0);
    }
    char ok = 0;
    REQUIRE(read(ready[0], &ok, 1) == 1);
    CHECK(ok == 1);
    CHECK(fs.lock(path("lock")).code() == Errc::busy);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    CHECK(fs.lock(path("lock")).is_ok());
    close(ready[0]);
    close(ready[1]);
}
