// SPDX-License-Identifier: Apache-2.0
// mkdir(2), rmdir(2) and what a directory says about itself.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

long long links(const std::string& path) { return static_cast<long long>(stat_of(path).st_nlink); }

void make() {
    umask(022);
    make_dir("d", 0777);
    expect_eq(0755, stat_of("d").st_mode & 07777, "mode");
    expect(S_ISDIR(stat_of("d").st_mode), "it is a directory");
    expect_eq(2, links("d"), "links of an empty directory");
    expect_errno(EEXIST, mkdir("d", 0755), "mkdir of an existing directory");
    write_file("f", "");
    expect_errno(EEXIST, mkdir("f", 0755), "mkdir of an existing file");
    expect_ok(symlink("gone", "l"), "symlink");
    expect_errno(EEXIST, mkdir("l", 0755), "mkdir of a dangling link");
    expect_errno(ENOENT, mkdir("x/y", 0755), "mkdir in a missing directory");
    expect_errno(ENOTDIR, mkdir("f/y", 0755), "mkdir below a file");
    expect_ok(mkdir("e/", 0755), "mkdir with a trailing slash");
    expect_errno(EEXIST, mkdir(".", 0755), "mkdir of .");
}

void link_counts() {
    make_dir("d");
    for (int i = 0; i < 20; ++i) {
        make_dir("d/" + std::to_string(i));
        write_file("d/f" + std::to_string(i), "");
    }
    expect_eq(22, links("d"), "links with 20 directories and 20 files");
    for (int i = 0; i < 10; ++i) {
        expect_ok(rmdir(("d/" + std::to_string(i)).c_str()), "rmdir");
    }
    expect_eq(12, links("d"), "links after removing ten");
}

void remove() {
    make_dir("d");
    write_file("d/f", "");
    expect_errno_of({ENOTEMPTY, EEXIST}, rmdir("d"), "rmdir of a directory with a file");
    expect_ok(unlink("d/f"), "unlink");
    make_dir("d/e");
    expect_errno_of({ENOTEMPTY, EEXIST}, rmdir("d"), "rmdir of a directory with a directory");
    expect_errno(EINVAL, rmdir("d/."), "rmdir of d/.");
    expect_errno_of({ENOTEMPTY, EEXIST, EINVAL}, rmdir("d/e/.."), "rmdir of d/e/..");
    expect_ok(rmdir("d/e/"), "rmdir with a slash");
    expect_ok(rmdir("d"), "rmdir");
    expect_errno(ENOENT, rmdir("d"), "rmdir of a removed directory");
    make_dir("t");
    expect_ok(symlink("t", "l"), "symlink");
    expect_errno(ENOTDIR, rmdir("l"), "rmdir of a link to a directory");
}

// The unlinked open file leaves nothing behind in the directory.
void remove_with_open_unlinked_file() {
    make_dir("d");
    int fd = open_or_fail("d/f", O_RDWR | O_CREAT);
    write_all(fd, "abc");
    expect_ok(unlink("d/f"), "unlink");
    expect_ok(rmdir("d"), "rmdir");
    expect_text("abc", pread_some(fd, 10, 0), "content of the file");
}

void removed_working_directory() {
    make_dir("d");
    int base = open_or_fail(".", O_RDONLY | O_DIRECTORY);
    expect_ok(chdir("d"), "chdir");
    expect_ok(unlinkat(base, "d", AT_REMOVEDIR), "rmdir of the working directory");
    expect_errno(ENOENT, open("f", O_RDWR | O_CREAT, 0644), "create in a removed directory");
    expect_errno(ENOENT, mkdir("e", 0755), "mkdir in a removed directory");
    struct stat status {};
    expect_ok(stat(".", &status), "stat of a removed directory");
    expect_eq(0, static_cast<long long>(status.st_nlink), "links of a removed directory");
    char buffer[4096];
    expect_errno(ENOENT, getcwd(buffer, sizeof buffer) == nullptr ? -1 : 0, "getcwd");
    expect_ok(fchdir(base), "fchdir");
    make_dir("d");
    expect_eq(0, static_cast<long long>(list_dir("d").size()), "entries of a new one of that name");
}

void times() {
    make_dir("d");
    auto changes = [](const char* what, long result) {
        expect_ok(result, what);
        return stat_of("d").st_mtim;
    };
    timespec last = stat_of("d").st_mtim;
    auto later = [&](const char* what, auto&& action) {
        wait_clock_past(last);
        timespec now = changes(what, action());
        expect(earlier(last, now), std::string("mtime is later after ") + what);
        expect(same_time(now, stat_of("d").st_ctim),
               std::string("ctime equals mtime after ") + what);
        last = now;
    };
    later("create", [] { return close(open_or_fail("d/f", O_RDWR | O_CREAT)); });
    later("mkdir", [] { return mkdir("d/e", 0755); });
    later("symlink", [] { return symlink("x", "d/l"); });
    later("mkfifo", [] { return mkfifo("d/p", 0644); });
    later("rename", [] { return rename("d/f", "d/g"); });
    later("unlink", [] { return unlink("d/g"); });
    later("rmdir", [] { return rmdir("d/e"); });
    wait_clock_past(last);
    int fd = open_or_fail("d/l2", O_RDWR | O_CREAT);
    last = stat_of("d").st_mtim;
    wait_clock_past(last);
    write_all(fd, "data");
    expect_ok(fchmod(fd, 0600), "fchmod");
    expect(same_time(last, stat_of("d").st_mtim), "mtime stays when only a file in it changes");
}

void deep() {
    int base = open_or_fail(".", O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 200; ++i) {
        make_dir("d" + std::to_string(i));
        expect_ok(chdir(("d" + std::to_string(i)).c_str()), "chdir");
    }
    write_file("f", "x");
    char buffer[8192];
    expect(getcwd(buffer, sizeof buffer) != nullptr, "getcwd at depth 200");
    expect_text("x", read_file(std::string(buffer) + "/f"), "file by its absolute path");
    for (int i = 0; i < 200; ++i) {
        expect_ok(chdir(".."), "chdir ..");
    }
    struct stat here = stat_of(".");
    expect_eq(static_cast<long long>(fstat_of(base).st_ino),
              static_cast<long long>(here.st_ino),
              "inode after 200 times ..");
}

void inode_numbers_are_stable() {
    make_dir("d");
    ino_t before = stat_of("d").st_ino;
    for (int i = 0; i < 50; ++i) {
        write_file("d/f" + std::to_string(i), "");
    }
    expect_eq(static_cast<long long>(before), static_cast<long long>(stat_of("d").st_ino), "inode");
    expect_eq(static_cast<long long>(before),
              static_cast<long long>(stat_of("d/.").st_ino),
              "inode of d/.");
    expect_eq(static_cast<long long>(stat_of(".").st_ino),
              static_cast<long long>(stat_of("d/..").st_ino),
              "inode of d/..");
    expect_eq(static_cast<long long>(stat_of(".").st_dev),
              static_cast<long long>(stat_of("d").st_dev),
              "device number");
}

void at_calls() {
    make_dir("d");
    int dir = open_or_fail("d", O_RDONLY | O_DIRECTORY);
    expect_ok(rename("d", "e"), "rename");
    int fd = openat(dir, "f", O_RDWR | O_CREAT, 0644);
    expect_ok(fd, "openat");
    write_all(fd, "x");
    expect_ok(mkdirat(dir, "sub", 0755), "mkdirat");
    expect_ok(symlinkat("f", dir, "l"), "symlinkat");
    expect_ok(linkat(dir, "f", dir, "g", 0), "linkat");
    expect_ok(renameat(dir, "g", dir, "h"), "renameat");
    expect_ok(fchmodat(dir, "h", 0600, 0), "fchmodat");
    expect_ok(faccessat(dir, "h", R_OK, 0), "faccessat");
    struct stat status {};
    expect_ok(fstatat(dir, "", &status, AT_EMPTY_PATH), "fstatat with an empty path");
    expect_eq(static_cast<long long>(stat_of("e").st_ino),
              static_cast<long long>(status.st_ino),
              "inode");
    expect_ok(unlinkat(dir, "h", 0), "unlinkat");
    expect_ok(unlinkat(dir, "sub", AT_REMOVEDIR), "unlinkat of a directory");
    expect_text("x", read_file("e/l"), "content through the link");
    expect_eq(2, static_cast<long long>(list_dir("e").size()), "entries");
}

void create_and_remove_again_and_again() {
    for (int i = 0; i < 300; ++i) {
        make_dir("d");
        write_file("d/f", std::to_string(i));
        expect_text(std::to_string(i), read_file("d/f"), "content");
        expect_ok(unlink("d/f"), "unlink");
        expect_errno(ENOENT, open("d/f", O_RDONLY), "open of a removed file");
        expect_ok(rmdir("d"), "rmdir");
        expect(!exists("d"), "the directory is gone");
    }
}

}  // namespace

void add_dir_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"dir/make", make},
                     {"dir/link_counts", link_counts},
                     {"dir/remove", remove},
                     {"dir/remove_with_open_unlinked_file", remove_with_open_unlinked_file},
                     {"dir/removed_working_directory", removed_working_directory},
                     {"dir/times", times},
                     {"dir/deep", deep},
                     {"dir/inode_numbers_are_stable", inode_numbers_are_stable},
                     {"dir/at_calls", at_calls},
                     {"dir/create_and_remove_again_and_again", create_and_remove_again_and_again},
                 });
}

}  // namespace lumeofs::conformance
