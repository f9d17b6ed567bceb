// SPDX-License-Identifier: Apache-2.0
// rename(2) and renameat2(2) of files: replacement, flags, rights, times.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

long rename_with(const char* from, const char* to, unsigned flags) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

void plain() {
    write_file("a", "one");
    ino_t ino = stat_of("a").st_ino;
    expect_ok(rename("a", "b"), "rename");
    expect(!exists("a"), "the old name is gone");
    expect_eq(static_cast<long long>(ino), static_cast<long long>(stat_of("b").st_ino), "inode");
    expect_text("one", read_file("b"), "content");
    make_dir("d");
    expect_ok(rename("b", "d/c"), "rename into a directory");
    expect_text("one", read_file("d/c"), "content in the directory");
    expect_eq(1, static_cast<long long>(list_dir(".").size()), "entries left");
    expect_errno(ENOENT, rename("x", "y"), "rename of a missing file");
    expect_errno(ENOENT, rename("d/c", "e/c"), "rename into a missing directory");
    expect_errno(ENOENT, rename("d/c", ""), "rename to an empty path");
    expect_errno(ENOTDIR, rename("d/c/x", "y"), "rename of a path through a file");
}

void replaces_file() {
    write_file("a", "new");
    write_file("b", "old");
    int old = open_or_fail("b", O_RDWR);
    expect_ok(rename("a", "b"), "rename over a file");
    expect_text("new", read_file("b"), "content of the target");
    expect_text(
        "old", pread_some(old, 10, 0), "content of the replaced file through its descriptor");
    expect_eq(0, static_cast<long long>(fstat_of(old).st_nlink), "links of the replaced file");
    pwrite_all(old, "still", 0);
    expect_text("still", pread_some(old, 10, 0), "write to the replaced file");
    expect_text("new", read_file("b"), "content of the target after that write");
}

void replaced_file_with_links() {
    write_file("a", "new");
    write_file("b", "old");
    expect_ok(link("b", "c"), "link");
    expect_ok(rename("a", "b"), "rename");
    expect_eq(1, static_cast<long long>(stat_of("c").st_nlink), "links left of the replaced file");
    expect_text("old", read_file("c"), "content under the other name");
}

void same_inode() {
    write_file("a", "x");
    expect_ok(rename("a", "a"), "rename onto itself");
    expect_ok(link("a", "b"), "link");
    expect_ok(rename("a", "b"), "rename onto another name of the same file");
    expect(exists("a") && exists("b"), "both names stay");
    expect_eq(2, static_cast<long long>(stat_of("a").st_nlink), "links");
}

void no_replace() {
    write_file("a", "one");
    write_file("b", "two");
    expect_errno(EEXIST, rename_with("a", "b", RENAME_NOREPLACE), "NOREPLACE onto a file");
    expect_errno(EEXIST, rename_with("a", "a", RENAME_NOREPLACE), "NOREPLACE onto itself");
    expect_text("two", read_file("b"), "target after the refusal");
    expect_ok(rename_with("a", "c", RENAME_NOREPLACE), "NOREPLACE to a free name");
    expect_text("one", read_file("c"), "content");
    make_dir("d");
    expect_errno(EEXIST, rename_with("c", "d", RENAME_NOREPLACE), "NOREPLACE onto a directory");
    expect_ok(symlink("gone", "l"), "symlink");
    expect_errno(EEXIST, rename_with("c", "l", RENAME_NOREPLACE), "NOREPLACE onto a dangling link");
}

void exchange_files() {
    write_file("a", "one");
    write_file("b", "two");
    ino_t a = stat_of("a").st_ino;
    ino_t b = stat_of("b").st_ino;
    expect_ok(rename_with("a", "b", RENAME_EXCHANGE), "exchange");
    expect_text("two", read_file("a"), "content of a");
    expect_text("one", read_file("b"), "content of b");
    expect_eq(static_cast<long long>(b), static_cast<long long>(stat_of("a").st_ino), "inode of a");
    expect_eq(static_cast<long long>(a), static_cast<long long>(stat_of("b").st_ino), "inode of b");
    expect_errno(ENOENT, rename_with("a", "c", RENAME_EXCHANGE), "exchange with a missing file");
    expect_errno(ENOENT, rename_with("c", "a", RENAME_EXCHANGE), "exchange of a missing file");
}

void exchange_kinds() {
    make_dir("d");
    make_dir("d/sub");
    make_dir("p");
    write_file("p/f", "x");
    expect_ok(rename_with("d", "p/f", RENAME_EXCHANGE), "exchange of a directory and a file");
    expect_text("x", read_file("d"), "the file");
    expect(S_ISDIR(stat_of("p/f/sub").st_mode), "the directory kept its entries");
    expect_eq(
        3, static_cast<long long>(stat_of("p").st_nlink), "links of the directory's new parent");
    expect_eq(static_cast<long long>(stat_of("p").st_ino),
              static_cast<long long>(stat_of("p/f/..").st_ino),
              "parent of the moved directory");
    expect_errno(EINVAL, rename_with("p", "p/f", RENAME_EXCHANGE), "exchange with an own entry");
    expect_ok(symlink("p", "l"), "symlink");
    expect_ok(rename_with("l", "d", RENAME_EXCHANGE), "exchange of a link and a file");
    expect(S_ISLNK(lstat_of("d").st_mode), "the link moved itself");
}

void bad_flags() {
    write_file("a", "");
    write_file("b", "");
    expect_errno(EINVAL, rename_with("a", "b", RENAME_NOREPLACE | RENAME_EXCHANGE), "both flags");
    expect_errno(EINVAL, rename_with("a", "b", 1U << 10), "an unknown flag");
}

void times() {
    make_dir("p");
    make_dir("q");
    write_file("p/a", "x");
    timespec p = stat_of("p").st_mtim;
    timespec q = stat_of("q").st_mtim;
    timespec change = stat_of("p/a").st_ctim;
    timespec modify = stat_of("p/a").st_mtim;
    wait_clock_past(change);
    expect_ok(rename("p/a", "q/a"), "rename");
    expect(earlier(p, stat_of("p").st_mtim), "mtime of the old parent is later");
    expect(earlier(q, stat_of("q").st_mtim), "mtime of the new parent is later");
    expect(earlier(q, stat_of("q").st_ctim), "ctime of the new parent is later");
    expect(earlier(change, stat_of("q/a").st_ctim), "ctime of the file is later");
    expect(same_time(modify, stat_of("q/a").st_mtim), "mtime of the file is the same");
}

void sticky() {
    need_root();
    make_dir("s");
    expect_ok(chmod("s", 01777), "chmod");
    write_file("s/roots", "x");
    become(kUser, kGroup);
    write_file("s/own", "y");
    expect_errno_of({EPERM, EACCES}, rename("s/roots", "s/x"), "rename of another's file");
    expect_errno_of({EPERM, EACCES}, rename("s/own", "s/roots"), "rename over another's file");
    expect_errno_of({EPERM, EACCES}, rename_with("s/own", "s/roots", RENAME_EXCHANGE), "exchange");
    expect_ok(rename("s/own", "s/mine"), "rename of an own file");
    become_root();
    expect_text("x", read_file("s/roots"), "the other's file");
}

void no_rights() {
    need_root();
    make_dir("closed", 0755);
    make_dir("open");
    expect_ok(chmod("open", 0777), "chmod");
    write_file("closed/a", "x");
    become(kUser, kGroup);
    write_file("open/b", "y");
    expect_errno(EACCES, rename("closed/a", "open/a"), "rename out of a closed directory");
    expect_errno(EACCES, rename("open/b", "closed/b"), "rename into a closed directory");
    expect_errno(EACCES, rename("open/b", "closed/a"), "rename over a file in a closed directory");
    expect(exists("open/b"), "the file is still there");
}

void descriptor_follows() {
    make_dir("d");
    int fd = open_or_fail("a", O_RDWR | O_CREAT);
    write_all(fd, "1");
    expect_ok(rename("a", "d/b"), "rename");
    write_all(fd, "2");
    close(open_or_fail("a", O_RDWR | O_CREAT));
    write_all(fd, "3");
    expect_text("123", read_file("d/b"), "content under the new name");
    expect_text("", read_file("a"), "content of the new file of the old name");
}

// A reader always finds the target, old or new and whole.
void atomic_replacement() {
    std::string first = pattern(3000, 1);
    std::string second = pattern(3000, 2);
    write_file("t", first);
    pid_t reader = spawn([&] {
        for (int i = 0; i < 1000; ++i) {
            std::string now = read_file("t");
            expect(now == first || now == second, "the target is one of the two files, whole");
        }
    });
    for (int i = 0; i < 300; ++i) {
        write_file("n", i % 2 == 0 ? second : first);
        expect_ok(rename("n", "t"), "rename");
    }
    join(reader);
}

void chain() {
    write_file("0", "x");
    for (int i = 0; i < 300; ++i) {
        expect_ok(rename(std::to_string(i).c_str(), std::to_string(i + 1).c_str()), "rename");
    }
    expect_eq(1, static_cast<long long>(list_dir(".").size()), "entries");
    expect_text("x", read_file("300"), "content");
}

void dirty_data() {
    std::string data = pattern(200000, 3);
    int fd = open_or_fail("tmp", O_WRONLY | O_CREAT);
    write_all(fd, data);
    expect_ok(rename("tmp", "final"), "rename before close");
    expect_text(data, read_file("final"), "content before close");
    close(fd);
    expect_text(data, read_file("final"), "content after close");
}

}  // namespace

void add_rename_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"rename/plain", plain},
                     {"rename/replaces_file", replaces_file},
                     {"rename/replaced_file_with_links", replaced_file_with_links},
                     {"rename/same_inode", same_inode},
                     {"rename/no_replace", no_replace},
                     {"rename/exchange_files", exchange_files},
                     {"rename/exchange_kinds", exchange_kinds},
                     {"rename/bad_flags", bad_flags},
                     {"rename/times", times},
                     {"rename/sticky", sticky},
                     {"rename/no_rights", no_rights},
                     {"rename/descriptor_follows", descriptor_follows},
                     {"rename/atomic_replacement", atomic_replacement},
                     {"rename/chain", chain},
                     {"rename/dirty_data", dirty_data},
                 });
}

}  // namespace lumeofs::conformance
