// SPDX-License-Identifier: Apache-2.0
// rename(2) of directories: what may replace what, loops, parents and link counts.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

long long links(const char* path) { return static_cast<long long>(stat_of(path).st_nlink); }

void onto_empty() {
    make_dir("a");
    write_file("a/f", "x");
    make_dir("b");
    ino_t ino = stat_of("a").st_ino;
    expect_ok(rename("a", "b"), "rename onto an empty directory");
    expect_eq(static_cast<long long>(ino), static_cast<long long>(stat_of("b").st_ino), "inode");
    expect_text("x", read_file("b/f"), "content");
    expect(!exists("a"), "the old name is gone");
    expect_eq(3, links("."), "links of the parent");
}

void onto_full() {
    make_dir("a");
    make_dir("b");
    write_file("b/f", "");
    expect_errno_of({ENOTEMPTY, EEXIST}, rename("a", "b"), "rename onto a directory with entries");
    expect(exists("a") && exists("b/f"), "both are still there");
}

void kinds() {
    make_dir("d");
    write_file("f", "x");
    expect_errno(ENOTDIR, rename("d", "f"), "rename of a directory onto a file");
    expect_errno(EISDIR, rename("f", "d"), "rename of a file onto a directory");
    expect_ok(symlink("d", "l"), "symlink");
    expect_errno(ENOTDIR, rename("d", "l"), "rename of a directory onto a link");
    expect_errno(EISDIR, rename("l", "d"), "rename of a link onto a directory");
}

void into_itself() {
    make_dir("a");
    make_dir("a/b");
    make_dir("a/b/c");
    expect_errno(EINVAL, rename("a", "a/x"), "rename into itself");
    expect_errno(EINVAL, rename("a", "a/b/c/x"), "rename into a directory far below");
    expect_errno(EINVAL, rename("a", "a/b/c"), "rename onto a directory below");
    expect_errno_of({ENOTEMPTY, EEXIST}, rename("a/b/c", "a"), "rename onto an ancestor");
    expect_eq(3, links("a"), "links afterwards");
}

void dots() {
    make_dir("d");
    make_dir("d/e");
    expect_errno_of({EBUSY, EINVAL}, rename("d/.", "x"), "rename of d/.");
    expect_errno_of({EBUSY, EINVAL, ENOTEMPTY}, rename("d/e/..", "x"), "rename of d/e/..");
    expect_errno_of({EBUSY, EINVAL, EEXIST}, rename("d/e", "d/."), "rename onto d/.");
}

void trailing_slash() {
    make_dir("d");
    write_file("f", "");
    expect_ok(rename("d/", "e/"), "rename of a directory with slashes");
    expect_errno(ENOTDIR, rename("f", "g/"), "rename of a file to a name with a slash");
    expect_errno(ENOTDIR, rename("f/", "g"), "rename of a file named with a slash");
}

void parents() {
    make_dir("p");
    make_dir("q");
    make_dir("p/d");
    make_dir("p/d/e");
    expect_eq(3, links("p"), "links of p before");
    expect_ok(rename("p/d", "q/d"), "rename to another parent");
    expect_eq(2, links("p"), "links of p");
    expect_eq(3, links("q"), "links of q");
    expect_eq(static_cast<long long>(stat_of("q").st_ino),
              static_cast<long long>(stat_of("q/d/..").st_ino),
              "inode of q/d/..");
    make_dir("q/empty");
    expect_eq(4, links("q"), "links of q with two directories");
    expect_ok(rename("q/d", "q/empty"), "rename onto an empty directory of the same parent");
    expect_eq(3, links("q"), "links of q after the replacement");
}

void replaced_directory_is_dead() {
    make_dir("a");
    make_dir("b");
    int dead = open_or_fail("b", O_RDONLY | O_DIRECTORY);
    expect_ok(rename("a", "b"), "rename");
    expect_errno(
        ENOENT, openat(dead, "f", O_RDWR | O_CREAT, 0644), "create in the replaced directory");
    expect_eq(
        0, static_cast<long long>(fstat_of(dead).st_nlink), "links of the replaced directory");
}

void needs_write_on_moved_directory() {
    need_root();
    make_dir("p");
    make_dir("q");
    expect_ok(chmod("p", 0777) | chmod("q", 0777), "chmod");
    make_dir("p/d", 0755);
    become(kUser, kGroup);
    expect_ok(rename("p/d", "p/e"), "rename of a foreign directory within its parent");
    expect_errno(EACCES, rename("p/e", "q/e"), "rename of a foreign directory to another parent");
}

void working_directory_follows() {
    make_dir("a");
    make_dir("a/b");
    make_dir("z");
    int base = open_or_fail(".", O_RDONLY | O_DIRECTORY);
    expect_ok(chdir("a/b"), "chdir");
    expect_ok(renameat(base, "a", base, "z/c"), "rename of the parent directory");
    write_file("f", "x");
    char buffer[4096];
    expect(getcwd(buffer, sizeof buffer) != nullptr, "getcwd");
    expect(std::string(buffer).ends_with("/z/c/b"), "the working directory has its new name");
    expect_ok(fchdir(base), "fchdir");
    expect_text("x", read_file("z/c/b/f"), "file made after the rename");
}

void descriptor_and_deep_tree() {
    std::string path = "t";
    make_dir(path);
    for (int i = 0; i < 20; ++i) {
        path += "/d";
        make_dir(path);
    }
    write_file(path + "/f", "deep");
    int fd = open_or_fail(path, O_RDONLY | O_DIRECTORY);
    expect_ok(rename("t", "u"), "rename of the top");
    path[0] = 'u';
    expect_text("deep", read_file(path + "/f"), "file by its new path");
    int file = openat(fd, "f", O_RDONLY);
    expect_ok(file, "openat through an old descriptor");
}

// Two processes move two directories into each other; never may both succeed (a loop).
void no_loop_between_processes() {
    for (int round = 0; round < 30; ++round) {
        make_dir("a");
        make_dir("b");
        std::vector<pid_t> pids;
        pids.push_back(spawn([] { (void)rename("a", "b/a"); }));
        pids.push_back(spawn([] { (void)rename("b", "a/b"); }));
        join_all(pids);
        expect(exists("a") != exists("b"), "exactly one directory has moved");
        expect_ok(rmdir(exists("a") ? "a/b" : "b/a"), "rmdir of the inner one");
        expect_ok(rmdir(exists("a") ? "a" : "b"), "rmdir of the outer one");
    }
}

}  // namespace

void add_rename_dir_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"rename_dir/onto_empty", onto_empty},
                     {"rename_dir/onto_full", onto_full},
                     {"rename_dir/kinds", kinds},
                     {"rename_dir/into_itself", into_itself},
                     {"rename_dir/dots", dots},
                     {"rename_dir/trailing_slash", trailing_slash},
                     {"rename_dir/parents", parents},
                     {"rename_dir/replaced_directory_is_dead", replaced_directory_is_dead},
                     {"rename_dir/needs_write_on_moved_directory", needs_write_on_moved_directory},
                     {"rename_dir/working_directory_follows", working_directory_follows},
                     {"rename_dir/descriptor_and_deep_tree", descriptor_and_deep_tree},
                     {"rename_dir/no_loop_between_processes", no_loop_between_processes},
                 });
}

}  // namespace lumeofs::conformance
