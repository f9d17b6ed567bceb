// SPDX-License-Identifier: Apache-2.0
// Several processes want the same name: exactly one may get it.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <new>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

constexpr int kProcesses = 4;
constexpr int kRounds = 150;

struct Shared {
    std::atomic<int> arrived[kRounds];
    std::atomic<int> winners[kRounds];
};

Shared* shared_memory() {
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    expect(memory != MAP_FAILED, "mmap");
    return new (memory) Shared{};
}

// All processes start each round together; `attempt` returns what the call returned.
void race(long (*attempt)(const std::string& name, int process), int refused, const char* what) {
    Shared* shared = shared_memory();
    std::vector<pid_t> pids;
    for (int process = 0; process < kProcesses; ++process) {
        pids.push_back(spawn([=] {
            for (int round = 0; round < kRounds; ++round) {
                ++shared->arrived[round];
                while (shared->arrived[round] < kProcesses) {
                    sched_yield();
                }
                long result = attempt("n" + std::to_string(round), process);
                if (result >= 0) {
                    ++shared->winners[round];
                } else {
                    expect_errno(refused, result, what);
                }
            }
        }));
    }
    join_all(pids);
    for (int round = 0; round < kRounds; ++round) {
        expect_eq(1, shared->winners[round], std::string("winners of ") + what);
    }
}

void exclusive_create() {
    race(
        [](const std::string& name, int) {
            int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644);
            return long{fd < 0 ? -1 : close(fd)};
        },
        EEXIST,
        "create with O_EXCL");
    expect_eq(kRounds, static_cast<long long>(list_dir(".").size()), "files");
}

void make_directory() {
    race([](const std::string& name, int) { return long{mkdir(name.c_str(), 0755)}; },
         EEXIST,
         "mkdir");
}

void make_symlink() {
    race([](const std::string& name, int) { return long{symlink("x", name.c_str())}; },
         EEXIST,
         "symlink");
}

void hard_link() {
    for (int process = 0; process < kProcesses; ++process) {
        write_file("own" + std::to_string(process), "");
    }
    race(
        [](const std::string& name, int process) {
            return long{link(("own" + std::to_string(process)).c_str(), name.c_str())};
        },
        EEXIST,
        "link");
    long long links = 0;
    for (int process = 0; process < kProcesses; ++process) {
        links += static_cast<long long>(stat_of("own" + std::to_string(process)).st_nlink) - 1;
    }
    expect_eq(kRounds, links, "links of all files together");
}

void rename_no_replace() {
    race(
        [](const std::string& name, int process) {
            std::string own = "own" + std::to_string(process);
            close(open_or_fail(own, O_WRONLY | O_CREAT));
            return long{renameat2(AT_FDCWD, own.c_str(), AT_FDCWD, name.c_str(), RENAME_NOREPLACE)};
        },
        EEXIST,
        "rename without replacement");
}

void remove_file() {
    for (int round = 0; round < kRounds; ++round) {
        write_file("n" + std::to_string(round), "");
    }
    race([](const std::string& name, int) { return long{unlink(name.c_str())}; }, ENOENT, "unlink");
    expect_eq(0, static_cast<long long>(list_dir(".").size()), "files left");
}

void remove_directory() {
    for (int round = 0; round < kRounds; ++round) {
        make_dir("n" + std::to_string(round));
    }
    race([](const std::string& name, int) { return long{rmdir(name.c_str())}; }, ENOENT, "rmdir");
}

void take_by_rename() {
    for (int round = 0; round < kRounds; ++round) {
        write_file("n" + std::to_string(round), "");
    }
    race(
        [](const std::string& name, int process) {
            return long{rename(name.c_str(), (name + "." + std::to_string(process)).c_str())};
        },
        ENOENT,
        "rename away");
    expect_eq(kRounds, static_cast<long long>(list_dir(".").size()), "files");
}

// rmdir against a create in the directory: never both.
void rmdir_against_create() {
    for (int round = 0; round < kRounds; ++round) {
        make_dir("d");
        pid_t creator = spawn([] {
            int fd = open("d/f", O_WRONLY | O_CREAT, 0644);
            _exit(fd >= 0 ? 0 : errno == ENOENT ? 0 : 1);
        });
        bool removed = rmdir("d") == 0;
        join(creator);
        expect(removed != exists("d/f"), "either the directory was removed or the file was made");
        if (!removed) {
            expect_ok(unlink("d/f"), "unlink");
            expect_ok(rmdir("d"), "rmdir");
        }
    }
}

void create_without_exclusive() {
    // All may succeed, and all must have the same file.
    for (int round = 0; round < 50; ++round) {
        std::vector<pid_t> pids;
        for (int process = 0; process < kProcesses; ++process) {
            pids.push_back(spawn([process] {
                int fd = open_or_fail("f", O_WRONLY | O_CREAT);
                pwrite_all(fd, std::string(1, static_cast<char>('a' + process)), process);
            }));
        }
        join_all(pids);
        expect_text("abcd", read_file("f"), "bytes of all processes");
        expect_ok(unlink("f"), "unlink");
    }
}

}  // namespace

void add_race_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"race/exclusive_create", exclusive_create},
                     {"race/make_directory", make_directory},
                     {"race/make_symlink", make_symlink},
                     {"race/hard_link", hard_link},
                     {"race/rename_no_replace", rename_no_replace},
                     {"race/remove_file", remove_file},
                     {"race/remove_directory", remove_directory},
                     {"race/take_by_rename", take_by_rename},
                     {"race/rmdir_against_create", rmdir_against_create},
                     {"race/create_without_exclusive", create_without_exclusive},
                 });
}

}  // namespace lumeofs::conformance
