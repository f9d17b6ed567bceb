// SPDX-License-Identifier: Apache-2.0
// Two mounts of one file system (--second DIR): what one has completed, the other sees.
// On a local file system a bind mount, or the same directory by another path, is the reference.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

std::string there(const std::string& path) {
    if (second_dir().empty()) {
        skip("no second mount was given");
    }
    return second_dir() + "/" + path;
}

void created_is_seen() {
    for (int i = 0; i < 50; ++i) {
        std::string name = "f" + std::to_string(i);
        expect(!exists(there(name)), "the file is not there yet");  // may be remembered as missing
        write_file(name, name);
        expect_text(name, read_file(there(name)), "content through the other mount");
        expect_eq(i + 1, static_cast<long long>(list_dir(there(".")).size()), "entries through it");
    }
}

void removed_is_gone() {
    for (int i = 0; i < 50; ++i) {
        write_file("f", "x");
        expect(exists(there("f")), "the file is there");
        expect_ok(unlink("f"), "unlink");
        expect_errno(ENOENT, open(there("f").c_str(), O_RDONLY), "open through the other mount");
        make_dir("d");
        expect_ok(rmdir(there("d").c_str()), "rmdir through the other mount");
        expect(!exists("d"), "the directory is gone here");
    }
}

void written_is_read() {
    int here = open_or_fail("f", O_RDWR | O_CREAT);
    int other = open_or_fail(there("f"), O_RDWR);
    for (unsigned i = 0; i < 100; ++i) {
        std::string data = pattern(1000 + i * 13, i);
        pwrite_all(i % 2 == 0 ? here : other, data, i * 100);
        expect_text(
            data, pread_some(i % 2 == 0 ? other : here, data.size(), i * 100), "read elsewhere");
        expect_eq(fstat_of(here).st_size, fstat_of(other).st_size, "size by both");
    }
}

void close_to_open() {
    for (unsigned i = 0; i < 50; ++i) {
        std::string data = pattern(100 + i * 1777, i);
        write_file(i % 2 == 0 ? "f" : there("f"), data);
        expect_text(data, read_file(i % 2 == 0 ? there("f") : "f"), "content after close and open");
    }
}

void rename_is_seen() {
    write_file("a", "one");
    for (int i = 0; i < 50; ++i) {
        expect_ok(rename("a", "b"), "rename");
        expect(!exists(there("a")), "the old name is gone there");
        expect_text("one", read_file(there("b")), "content by the new name there");
        expect_ok(rename(there("b").c_str(), there("a").c_str()), "rename there");
        expect(!exists("b"), "the old name is gone here");
        expect_text("one", read_file("a"), "content by the new name here");
    }
}

void attributes_are_seen() {
    write_file("f", "x");
    for (mode_t mode : {0600U, 0644U, 0755U, 0400U}) {
        expect_ok(chmod("f", mode), "chmod");
        expect_eq(mode, stat_of(there("f")).st_mode & 07777, "mode there");
    }
    timespec times[2] = {{1000, 1}, {2000, 2}};
    expect_ok(utimensat(AT_FDCWD, there("f").c_str(), times, 0), "utimensat there");
    expect_eq(2000, stat_of("f").st_mtim.tv_sec, "mtime here");
    expect_ok(truncate(there("f").c_str(), 5000), "truncate there");
    expect_eq(5000, stat_of("f").st_size, "size here");
    expect_eq(static_cast<long long>(stat_of("f").st_ino),
              static_cast<long long>(stat_of(there("f")).st_ino),
              "inode number by both");
}

// As tar and cp -p do it: all attributes between the last write and the close.
void set_before_close_is_seen() {
    for (unsigned i = 0; i < 30; ++i) {
        const std::string name = "f" + std::to_string(i);
        const mode_t mode = i % 2 == 0 ? 0640 : 0444;
        int fd = open_or_fail(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        write_all(fd, pattern(i * 700, i));
        const timespec times[2] = {{1'000'000 + i, 1}, {2'000'000 + i, 2}};
        expect_ok(futimens(fd, times), "futimens");
        expect_ok(fchmod(fd, mode), "fchmod");
        const bool open_still = i % 3 == 0;
        if (!open_still) expect_ok(close(fd), "close");
        struct stat seen = stat_of(there(name));
        expect_eq(mode, seen.st_mode & 07777, "mode through the other mount");
        expect_eq(2'000'000 + i, seen.st_mtim.tv_sec, "mtime through the other mount");
        expect_eq(1'000'000 + i, seen.st_atim.tv_sec, "atime through the other mount");
        expect_eq(i * 700, seen.st_size, "size through the other mount");
        if (open_still) expect_ok(close(fd), "close");
        seen = stat_of(name);
        expect_eq(mode, seen.st_mode & 07777, "mode here");
        expect_eq(2'000'000 + i, seen.st_mtim.tv_sec, "mtime here");
    }
}

void truncated_is_seen() {
    std::string data = pattern(100000);
    int here = open_or_fail("f", O_RDWR | O_CREAT);
    write_all(here, data);
    int other = open_or_fail(there("f"), O_RDWR);
    expect_text(data, pread_some(other, data.size(), 0), "content there");
    expect_ok(ftruncate(here, 5000), "ftruncate");
    expect_text(
        data.substr(0, 5000), pread_some(other, data.size(), 0), "content there after the cut");
    expect_ok(ftruncate(other, 20000), "ftruncate there");
    expect(all_zero(pread_some(here, 15000, 5000)), "zeros here");
    expect_eq(20000, fstat_of(here).st_size, "size here");
}

void unlinked_there_open_here() {
    int here = open_or_fail("f", O_RDWR | O_CREAT);
    std::string data = pattern(200000);
    write_all(here, data);
    expect_ok(unlink(there("f").c_str()), "unlink there");
    expect(!exists("f"), "the name is gone here");
    expect_text(data, pread_some(here, data.size(), 0), "content through the open descriptor");
    pwrite_all(here, "still", 0);
    expect_ok(fsync(here), "fsync");
    expect_text("still", pread_some(here, 5, 0), "write after the unlink");
}

void appends_from_both() {
    close(open_or_fail("f", O_RDWR | O_CREAT));
    constexpr int kEach = 200;
    std::vector<pid_t> pids;
    for (int side = 0; side < 2; ++side) {
        pids.push_back(spawn([side] {
            int fd = open_or_fail(side == 0 ? "f" : there("f"), O_WRONLY | O_APPEND);
            for (int i = 0; i < kEach; ++i) {
                char text[16];
                std::snprintf(text, sizeof text, "%c%06d\n", 'a' + side, i);
                write_all(fd, text);
            }
        }));
    }
    join_all(pids);
    std::string all = read_file("f");
    expect_eq(2 * kEach * 8, static_cast<long long>(all.size()), "bytes of all records");
    int next[2] = {0, 0};
    for (size_t at = 0; at < all.size(); at += 8) {
        int side = all[at] - 'a';
        expect(side == 0 || side == 1, "a record starts at byte " + std::to_string(at));
        expect_eq(next[side]++, std::atoi(all.c_str() + at + 1), "number of a record");
    }
    expect_text(all, read_file(there("f")), "content there");
}

void exclusive_create_from_both() {
    for (int round = 0; round < 100; ++round) {
        std::string name = "n" + std::to_string(round);
        pid_t child = spawn([&] {
            if (open(there(name).c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644) >= 0) {
                write_file("won" + name, "there");
            } else {
                expect_eq(EEXIST, errno, "errno of the loser there");
            }
        });
        bool won = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644) >= 0;
        expect(won || errno == EEXIST, "errno of the loser here is EEXIST");
        join(child);
        expect(won != exists("won" + name), "exactly one side has created " + name);
    }
}

}  // namespace

void add_two_mount_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"two_mounts/created_is_seen", created_is_seen},
                     {"two_mounts/removed_is_gone", removed_is_gone},
                     {"two_mounts/written_is_read", written_is_read},
                     {"two_mounts/close_to_open", close_to_open},
                     {"two_mounts/rename_is_seen", rename_is_seen},
                     {"two_mounts/attributes_are_seen", attributes_are_seen},
                     {"two_mounts/set_before_close_is_seen", set_before_close_is_seen},
                     {"two_mounts/truncated_is_seen", truncated_is_seen},
                     {"two_mounts/unlinked_there_open_here", unlinked_there_open_here},
                     {"two_mounts/appends_from_both", appends_from_both},
                     {"two_mounts/exclusive_create_from_both", exclusive_create_from_both},
                 });
}

}  // namespace lumeofs::conformance
