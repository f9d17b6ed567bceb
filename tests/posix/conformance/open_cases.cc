// SPDX-License-Identifier: Apache-2.0
// open(2) and its flags; what a descriptor may do; what it survives.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

void missing() {
    expect_errno(ENOENT, open("f", O_RDONLY), "open of a missing file");
    expect_errno(ENOENT, open("d/f", O_RDWR | O_CREAT, 0644), "create in a missing directory");
    expect_errno(ENOENT, open("", O_RDONLY), "open of an empty path");
    write_file("f", "x");
    expect_errno(ENOTDIR, open("f/x", O_RDONLY), "open below a file");
    expect_errno(ENOTDIR, open("f/", O_RDONLY), "open of a file with a trailing slash");
}

void create_mode() {
    umask(027);
    close(open_or_fail("f", O_RDWR | O_CREAT, 0666));
    expect_eq(0640, stat_of("f").st_mode & 07777, "mode of a created file");
    close(open_or_fail("f", O_RDWR | O_CREAT, 0777));
    expect_eq(0640, stat_of("f").st_mode & 07777, "mode after O_CREAT of an existing file");
    expect_eq(0, stat_of("f").st_size, "size of a created file");
    expect_eq(1, static_cast<long long>(stat_of("f").st_nlink), "links of a created file");
}

void exclusive() {
    close(open_or_fail("f", O_WRONLY | O_CREAT | O_EXCL));
    expect_errno(
        EEXIST, open("f", O_WRONLY | O_CREAT | O_EXCL, 0644), "O_EXCL of an existing file");
    expect_ok(symlink("nowhere", "l"), "symlink");
    expect_errno(EEXIST, open("l", O_WRONLY | O_CREAT | O_EXCL, 0644), "O_EXCL of a dangling link");
    expect(!exists("nowhere"), "O_EXCL did not create the link's target");
    close(open_or_fail("l", O_WRONLY | O_CREAT));
    expect(exists("nowhere"), "O_CREAT created the link's target");
    make_dir("d");
    expect_errno(EEXIST, open("d", O_RDONLY | O_CREAT | O_EXCL, 0644), "O_EXCL of a directory");
}

void truncating() {
    write_file("f", pattern(10000));
    int other = open_or_fail("f", O_RDONLY);
    timespec before = stat_of("f").st_mtim;
    wait_clock_past(before);
    int fd = open_or_fail("f", O_WRONLY | O_TRUNC);
    expect_eq(0, fstat_of(fd).st_size, "size after O_TRUNC");
    expect_eq(0, fstat_of(other).st_size, "size through another descriptor after O_TRUNC");
    expect_text("", pread_some(other, 100, 0), "read through another descriptor after O_TRUNC");
    expect(earlier(before, stat_of("f").st_mtim), "mtime is later after O_TRUNC");
    write_all(fd, "new");
    close(fd);
    expect_text("new", read_file("f"), "content after O_TRUNC and write");
}

void append_position() {
    write_file("f", "12345");
    int fd = open_or_fail("f", O_RDWR | O_APPEND);
    expect_ok(lseek(fd, 1, SEEK_SET), "lseek");
    write_all(fd, "678");
    expect_eq(8, lseek(fd, 0, SEEK_CUR), "offset after an append");
    pwrite_all(fd, "9", 0);  // Linux: pwrite obeys O_APPEND too
    expect_text("123456789", read_file("f"), "content after appends");
    expect_ok(fcntl(fd, F_SETFL, 0), "clearing O_APPEND");
    pwrite_all(fd, "x", 0);
    expect_text("x23456789", read_file("f"), "content after O_APPEND was cleared");
    expect_ok(ftruncate(fd, 2), "ftruncate");
    int again = open_or_fail("f", O_WRONLY | O_APPEND);
    write_all(again, "yz");
    expect_text("x2yz", read_file("f"), "append after a truncate");
}

void directory_flags() {
    make_dir("d");
    write_file("f", "");
    expect_errno(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY), "O_DIRECTORY of a file");
    expect_errno(EISDIR, open("d", O_WRONLY), "open of a directory for writing");
    expect_errno(EISDIR, open("d", O_RDWR), "open of a directory for reading and writing");
    expect_errno(EISDIR, open("d", O_RDONLY | O_CREAT, 0644), "O_CREAT of a directory");
    expect_errno(EISDIR, open("d", O_RDONLY | O_TRUNC | O_WRONLY), "O_TRUNC of a directory");
    int fd = open_or_fail("d", O_RDONLY | O_DIRECTORY);
    char byte = 0;
    expect_errno(EISDIR, read(fd, &byte, 1), "read of a directory");
    expect_errno(EBADF, write(fd, &byte, 1), "write to a directory");
    expect_ok(fsync(fd), "fsync of a directory");
}

void no_follow() {
    write_file("f", "x");
    expect_ok(symlink("f", "l"), "symlink");
    expect_errno(ELOOP, open("l", O_RDONLY | O_NOFOLLOW), "O_NOFOLLOW of a link");
    int fd = open_or_fail("l", O_PATH | O_NOFOLLOW);
    expect(S_ISLNK(fstat_of(fd).st_mode), "O_PATH|O_NOFOLLOW names the link itself");
    char byte = 0;
    expect_errno(EBADF, read(fd, &byte, 1), "read of an O_PATH descriptor");
}

void access_modes() {
    write_file("f", "abc");
    int reader = open_or_fail("f", O_RDONLY);
    int writer = open_or_fail("f", O_WRONLY);
    char byte = 'z';
    expect_errno(EBADF, write(reader, &byte, 1), "write to a read-only descriptor");
    expect_errno(EBADF, read(writer, &byte, 1), "read from a write-only descriptor");
    expect_errno_of({EINVAL, EBADF}, ftruncate(reader, 0), "ftruncate of a read-only descriptor");
    expect_errno(EINVAL, pread(reader, &byte, 1, -1), "pread at a negative offset");
    expect_errno(EINVAL, pwrite(writer, &byte, 1, -1), "pwrite at a negative offset");
    expect_errno(EINVAL, lseek(reader, -1, SEEK_SET), "lseek to a negative offset");
    expect_eq(0, pread(reader, &byte, 1, 3), "read at the end of the file");
    expect_eq(0, pread(reader, &byte, 1, 1 << 20), "read behind the end of the file");
    expect_eq(3, lseek(reader, 0, SEEK_END), "SEEK_END");
}

// The mode given at creation does not limit the descriptor that creates.
void create_without_rights() {
    become(kUser, kGroup);
    int fd = open_or_fail("f", O_RDWR | O_CREAT, 0);
    write_all(fd, "abc");
    expect_text("abc", pread_some(fd, 3, 0), "read through the creating descriptor");
    expect_errno(EACCES, open("f", O_RDONLY), "open of a file of mode 0");
    close(fd);
    become_root();
    expect_text("abc", read_file("f"), "content as root");
}

void survives_rename_and_chmod() {
    become(kUser, kGroup);
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    write_all(fd, "one");
    expect_ok(rename("f", "g"), "rename");
    expect_ok(chmod("g", 0), "chmod");
    write_all(fd, "two");
    expect_text("onetwo", pread_some(fd, 100, 0), "read after rename and chmod");
    expect_ok(fsync(fd), "fsync after rename and chmod");
    close(fd);
    become_root();
    expect_text("onetwo", read_file("g"), "content under the new name");
}

void offsets() {
    write_file("f", "abcdef");
    int fd = open_or_fail("f", O_RDONLY);
    int copy = dup(fd);
    int other = open_or_fail("f", O_RDONLY);
    char bytes[3];
    expect_eq(3, read(fd, bytes, 3), "read");
    expect_eq(3, lseek(copy, 0, SEEK_CUR), "offset of a duplicate");
    expect_eq(0, lseek(other, 0, SEEK_CUR), "offset of another open");
    (void)pread_some(fd, 2, 4);
    expect_eq(3, lseek(fd, 0, SEEK_CUR), "offset after pread");
}

void vectors() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    std::string a = pattern(5000, 1);
    std::string b = pattern(70000, 2);
    iovec out[2] = {{a.data(), a.size()}, {b.data(), b.size()}};
    expect_eq(75000, writev(fd, out, 2), "writev");
    expect_eq(75000, pwritev(fd, out, 2, 100), "pwritev");
    std::string x(5000, '\0');
    std::string y(70000, '\0');
    iovec in[2] = {{x.data(), x.size()}, {y.data(), y.size()}};
    expect_eq(75000, preadv(fd, in, 2, 100), "preadv");
    expect_text(a, x, "first vector");
    expect_text(b, y, "second vector");
    expect_eq(75100, fstat_of(fd).st_size, "size after pwritev");
}

void temporary_file() {
    int fd = static_cast<int>(ok_or_skip(open(".", O_RDWR | O_TMPFILE, 0600), "O_TMPFILE"));
    expect_eq(0, static_cast<long long>(fstat_of(fd).st_nlink), "links of an O_TMPFILE");
    write_all(fd, "tmp");
    expect_eq(0, static_cast<long long>(list_dir(".").size()), "entries after O_TMPFILE");
    std::string self = "/proc/self/fd/" + std::to_string(fd);
    expect_ok(linkat(AT_FDCWD, self.c_str(), AT_FDCWD, "f", AT_SYMLINK_FOLLOW), "linkat");
    expect_text("tmp", read_file("f"), "content of the linked temporary file");
    expect_eq(1, static_cast<long long>(fstat_of(fd).st_nlink), "links after linkat");
}

// Data written through one descriptor is there for every other at once, without fsync.
void write_then_read_elsewhere() {
    int writer = open_or_fail("f", O_WRONLY | O_CREAT);
    int reader = open_or_fail("f", O_RDONLY);
    std::string all;
    for (unsigned i = 0; i < 50; ++i) {
        std::string part = pattern(1000 + i * 37, i);
        write_all(writer, part);
        all += part;
        expect_text(part,
                    pread_some(reader, part.size(), static_cast<off_t>(all.size() - part.size())),
                    "read of what was just written");
        expect_eq(static_cast<long long>(all.size()), stat_of("f").st_size, "size by path");
    }
    join(spawn([&] { expect_text(all, read_file("f"), "content in another process"); }));
}

void many_open_files() {
    std::vector<int> fds;
    for (int i = 0; i < 300; ++i) {
        fds.push_back(open_or_fail("f" + std::to_string(i), O_RDWR | O_CREAT));
        write_all(fds.back(), std::to_string(i));
    }
    for (int i = 0; i < 300; ++i) {
        expect_text(std::to_string(i), pread_some(fds[static_cast<size_t>(i)], 10, 0), "content");
    }
}

void reopen_through_proc() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    write_all(fd, "abc");
    expect_ok(unlink("f"), "unlink");
    std::string self = "/proc/self/fd/" + std::to_string(fd);
    int again = open_or_fail(self, O_RDONLY);
    expect_text("abc", pread_some(again, 10, 0), "unlinked file opened again through /proc");
}

}  // namespace

void add_open_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"open/missing", missing},
                     {"open/create_mode", create_mode},
                     {"open/exclusive", exclusive},
                     {"open/truncating", truncating},
                     {"open/append_position", append_position},
                     {"open/directory_flags", directory_flags},
                     {"open/no_follow", no_follow},
                     {"open/access_modes", access_modes},
                     {"open/create_without_rights", create_without_rights},
                     {"open/survives_rename_and_chmod", survives_rename_and_chmod},
                     {"open/offsets", offsets},
                     {"open/vectors", vectors},
                     {"open/temporary_file", temporary_file},
                     {"open/write_then_read_elsewhere", write_then_read_elsewhere},
                     {"open/many_open_files", many_open_files},
                     {"open/reopen_through_proc", reopen_through_proc},
                 });
}

}  // namespace lumeofs::conformance
