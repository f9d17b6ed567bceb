// SPDX-License-Identifier: Apache-2.0
// Symbolic links.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

std::string target_of(const char* path) {
    std::string buffer(PATH_MAX, '\0');
    ssize_t length = readlink(path, buffer.data(), buffer.size());
    expect_ok(length, "readlink");
    buffer.resize(static_cast<size_t>(length));
    return buffer;
}

void plain() {
    expect_ok(symlink("some/where", "l"), "symlink");
    expect_text("some/where", target_of("l"), "target");
    struct stat status = lstat_of("l");
    expect(S_ISLNK(status.st_mode), "it is a link");
    expect_eq(0777, status.st_mode & 07777, "mode of a link");
    expect_eq(10, status.st_size, "size of a link");
    expect_eq(1, static_cast<long long>(status.st_nlink), "links of a link");
    expect_errno(ENOENT, open("l", O_RDONLY), "open of a dangling link");
    expect_errno(EEXIST, symlink("x", "l"), "symlink onto a taken name");
    expect_errno(ENOENT, symlink("", "m"), "symlink with an empty target");
    expect_errno(ENOENT, symlink("x", "d/m"), "symlink in a missing directory");
    char few[4];
    expect_eq(4, readlink("l", few, 4), "readlink into a small buffer");
    expect_text("some", std::string(few, 4), "cut target");
    write_file("f", "");
    expect_errno(EINVAL, readlink("f", few, 4), "readlink of a file");
}

void lengths() {
    for (size_t length : {1, 59, 60, 61, 255, 256, 1000, 4094, 4095}) {
        std::string target(length, 't');
        std::string name = "l" + std::to_string(length);
        expect_ok(symlink(target.c_str(), name.c_str()),
                  "symlink of " + std::to_string(length) + " bytes");
        expect_text(target, target_of(name.c_str()), "target");
        expect_eq(static_cast<long long>(length), lstat_of(name).st_size, "size");
    }
    std::string too_long(4096, 't');
    expect_errno(ENAMETOOLONG, symlink(too_long.c_str(), "x"), "target of 4096 bytes");
}

void follow() {
    write_file("f", "one");
    expect_ok(symlink("f", "l"), "symlink");
    expect_text("one", read_file("l"), "content through the link");
    write_file("l", "two");
    expect_text("two", read_file("f"), "content written through the link");
    expect_ok(chmod("l", 0600), "chmod through the link");
    expect_eq(0600, stat_of("f").st_mode & 07777, "mode of the target");
    expect_ok(truncate("l", 1), "truncate through the link");
    expect_eq(1, stat_of("f").st_size, "size of the target");
    expect_ok(unlink("l"), "unlink of the link");
    expect(exists("f"), "the target is still there");
}

void through_directories() {
    make_dir("d");
    make_dir("d/e");
    write_file("d/e/f", "x");
    expect_ok(symlink("d/e", "l"), "symlink");
    expect_text("x", read_file("l/f"), "file below a link");
    expect_ok(symlink("../..", "d/e/up"), "symlink");
    expect_text("x", read_file("l/up/l/up/d/e/f"), "path through several links");
    expect_ok(mkdir("l/new", 0755), "mkdir below a link");
    expect(exists("d/e/new"), "the directory is at the target");
    struct stat status {};
    expect_ok(lstat("l/", &status), "lstat with a slash");
    expect(S_ISDIR(status.st_mode), "a slash follows the link");
    int fd = open_or_fail("l", O_RDONLY | O_DIRECTORY);
    close(fd);
    char cwd[PATH_MAX];
    expect(getcwd(cwd, sizeof cwd) != nullptr, "getcwd");
    expect_ok(symlink((std::string(cwd) + "/d").c_str(), "absolute"), "symlink");
    expect_text("x", read_file("absolute/e/f"), "file through an absolute link");
}

void loops() {
    expect_ok(symlink("b", "a"), "symlink");
    expect_ok(symlink("a", "b"), "symlink");
    expect_errno(ELOOP, open("a", O_RDONLY), "open of a loop");
    expect_errno(ELOOP, open("a/x", O_RDONLY), "open below a loop");
    expect_errno(ELOOP, chmod("a", 0600), "chmod of a loop");
    write_file("0", "end");
    for (int i = 1; i <= 41; ++i) {
        expect_ok(symlink(std::to_string(i - 1).c_str(), std::to_string(i).c_str()), "symlink");
    }
    expect_text("end", read_file("40"), "content through 40 links");
    expect_errno(ELOOP, open("41", O_RDONLY), "open through 41 links");
}

void own_attributes() {
    need_root();
    write_file("f", "");
    expect_ok(symlink("f", "l"), "symlink");
    expect_ok(lchown("l", kUser, kGroup), "lchown");
    expect_eq(kUser, lstat_of("l").st_uid, "owner of the link");
    expect_eq(0, stat_of("f").st_uid, "owner of the target");
    timespec times[2] = {{1000, 1}, {2000, 2}};
    expect_ok(utimensat(AT_FDCWD, "l", times, AT_SYMLINK_NOFOLLOW), "utimensat of the link");
    expect_eq(2000, lstat_of("l").st_mtim.tv_sec, "mtime of the link");
    expect(stat_of("f").st_mtim.tv_sec > 1000000, "mtime of the target is untouched");
    expect_ok(chown("l", kOtherUser, kOtherGroup), "chown through the link");
    expect_eq(kOtherUser, stat_of("f").st_uid, "owner of the target after chown");
    expect_eq(kUser, lstat_of("l").st_uid, "owner of the link after chown");
}

void moves_itself() {
    write_file("f", "x");
    make_dir("d");
    expect_ok(symlink("f", "l"), "symlink");
    expect_ok(rename("l", "d/l"), "rename of a link");
    expect_text("f", target_of("d/l"), "target");
    expect_errno(ENOENT, open("d/l", O_RDONLY), "the relative target is looked up anew");
    expect_ok(symlink("../f", "d/m"), "symlink");
    expect_ok(rename("d/m", "d/l"), "rename over a link");
    expect_text("x", read_file("d/l"), "content through the new link");
}

void strange_targets() {
    std::string all;
    for (int byte = 1; byte < 256; ++byte) {
        all.push_back(static_cast<char>(byte));
    }
    expect_ok(symlink(all.c_str(), "l"), "symlink");
    expect_text(all, target_of("l"), "target of all bytes");
    expect_ok(symlink("//a///b/./../", "m"), "symlink");
    expect_text("//a///b/./../", target_of("m"), "a target is not tidied");
}

void target_replaced() {
    write_file("f", "one");
    expect_ok(symlink("f", "l"), "symlink");
    for (int i = 0; i < 50; ++i) {
        expect_ok(unlink("l"), "unlink");
        std::string name = "f" + std::to_string(i);
        write_file(name, name);
        expect_ok(symlink(name.c_str(), "l"), "symlink");
        expect_text(name, read_file("l"), "content through the new link");
        expect_text(name, target_of("l"), "target of the new link");
    }
}

}  // namespace

void add_symlink_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"symlink/plain", plain},
                     {"symlink/lengths", lengths},
                     {"symlink/follow", follow},
                     {"symlink/through_directories", through_directories},
                     {"symlink/loops", loops},
                     {"symlink/own_attributes", own_attributes},
                     {"symlink/moves_itself", moves_itself},
                     {"symlink/strange_targets", strange_targets},
                     {"symlink/target_replaced", target_replaced},
                 });
}

}  // namespace lumeofs::conformance
