// SPDX-License-Identifier: Apache-2.0
// Who may do what: owner, group and others, search permission, sticky directories, root.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

// A file or directory of the given owner and mode, made by root.
void make_owned(const char* path, uid_t uid, gid_t gid, mode_t mode, bool dir = false) {
    if (dir) {
        make_dir(path);
    } else {
        write_file(path, "content");
    }
    expect_ok(chown(path, uid, gid), "chown");
    expect_ok(chmod(path, mode), "chmod");
}

long try_open(const char* path, int flags) {
    int fd = open(path, flags, 0644);
    if (fd >= 0) {
        close(fd);
    }
    return fd;
}

void classes() {
    need_root();
    struct Row {
        mode_t mode;
        uid_t uid;
        gid_t gid;
        bool read;
        bool write;
    };
    // The file is kUser's and kGroup's; the first class that fits decides, even if a later allows
    // more.
    for (Row row : {Row{0400, kUser, kGroup, true, false},
                    Row{0200, kUser, kGroup, false, true},
                    Row{0066, kUser, kGroup, false, false},
                    Row{0040, kOtherUser, kGroup, true, false},
                    Row{0606, kOtherUser, kGroup, false, false},
                    Row{0004, kOtherUser, kOtherGroup, true, false},
                    Row{0002, kOtherUser, kOtherGroup, false, true},
                    Row{0770, kOtherUser, kOtherGroup, false, false}}) {
        make_owned("f", kUser, kGroup, row.mode);
        join(spawn([row] {
            become(row.uid, row.gid);
            std::string who =
                " of mode " + std::to_string(row.mode) + " by user " + std::to_string(row.uid);
            expect_eq(row.read ? 1 : 0, try_open("f", O_RDONLY) >= 0 ? 1 : 0, "read" + who);
            expect_eq(row.write ? 1 : 0, try_open("f", O_WRONLY) >= 0 ? 1 : 0, "write" + who);
            expect_eq(
                row.read && row.write ? 1 : 0, try_open("f", O_RDWR) >= 0 ? 1 : 0, "both" + who);
        }));
        expect_ok(unlink("f"), "unlink");
    }
}

void other_groups() {
    need_root();
    make_owned("f", 0, kOtherGroup, 0040);
    join(spawn([] {
        become(kUser, kGroup, {5, kOtherGroup, 7});
        expect_ok(try_open("f", O_RDONLY), "read by a member through a further group");
    }));
    become(kUser, kGroup, {5, 7});
    expect_errno(EACCES, try_open("f", O_RDONLY), "read without membership");
}

void root_may_all() {
    need_root();
    make_owned("f", kUser, kGroup, 0);
    make_owned("d", kUser, kGroup, 0, true);
    expect_ok(try_open("f", O_RDWR), "open by root");
    write_file("d/x", "y");
    expect_eq(1, static_cast<long long>(list_dir("d").size()), "entries seen by root");
    expect_errno(EACCES, access("f", X_OK), "root may not execute a file without any x");
    expect_ok(access("f", R_OK | W_OK), "access by root");
}

void directories() {
    need_root();
    make_owned("d", 0, 0, 0755, true);
    write_file("d/f", "x");
    make_dir("d/e");
    struct Row {
        mode_t mode;
        int list;
        int look;
        int create;
    };
    for (Row row : {Row{0704, 0, EACCES, EACCES},
                    Row{0701, EACCES, 0, EACCES},
                    Row{0705, 0, 0, EACCES},
                    Row{0703, EACCES, 0, 0},
                    Row{0702, EACCES, EACCES, EACCES},
                    Row{0707, 0, 0, 0},
                    Row{0706, 0, EACCES, EACCES},
                    Row{0770, EACCES, EACCES, EACCES}}) {
        expect_ok(chmod("d", row.mode), "chmod");
        join(spawn([row] {
            become(kUser, kGroup);
            auto check = [&](int expected, long result, const char* what) {
                std::string text =
                    std::string(what) + " in a directory of mode " + std::to_string(row.mode);
                if (expected == 0) {
                    expect_ok(result, text);
                } else {
                    expect_errno(expected, result, text);
                }
            };
            check(row.list, try_open("d", O_RDONLY | O_DIRECTORY), "list");
            check(row.look, try_open("d/f", O_RDONLY), "open");
            check(row.create, try_open("d/n", O_RDONLY | O_CREAT) < 0 ? -1 : 0, "create");
            check(row.create, mkdir("d/m", 0755), "mkdir");
            check(row.create, unlink(row.create == 0 ? "d/n" : "d/f"), "unlink");
            check(row.create, rmdir(row.create == 0 ? "d/m" : "d/e"), "rmdir");
        }));
        expect_eq(2, static_cast<long long>(list_dir("d").size()), "entries left");
    }
}

void path_search() {
    need_root();
    make_owned("a", 0, 0, 0755, true);
    make_owned("a/b", 0, 0, 0700, true);
    make_owned("a/b/c", 0, 0, 0777, true);
    write_file("a/b/c/f", "x");
    int inside = open_or_fail("a/b/c", O_RDONLY | O_DIRECTORY);
    become(kUser, kGroup);
    expect_errno(EACCES, try_open("a/b/c/f", O_RDONLY), "path through a closed directory");
    struct stat status {};
    expect_errno(EACCES, stat("a/b/c", &status), "stat through a closed directory");
    expect_errno(EACCES, chdir("a/b"), "chdir to a closed directory");
    expect_ok(fstatat(inside, "f", &status, 0), "fstatat through a descriptor inside");
    become_root();
    expect_ok(chmod("a/b", 0711), "chmod");
    become(kUser, kGroup);
    expect_ok(try_open("a/b/c/f", O_RDONLY), "path after the directory was opened");
    become_root();
    expect_ok(chmod("a/b", 0700), "chmod");
    become(kUser, kGroup);
    expect_errno(
        EACCES, try_open("a/b/c/f", O_RDONLY), "path after the directory was closed again");
}

void sticky() {
    need_root();
    make_owned("s", 0, 0, 01777, true);
    make_owned("s/foreign", kOtherUser, kOtherGroup, 0666);
    make_owned("s/foreign_dir", kOtherUser, kOtherGroup, 0777, true);
    become(kUser, kGroup);
    expect_errno_of({EPERM, EACCES}, unlink("s/foreign"), "unlink of another's file");
    expect_errno_of({EPERM, EACCES}, rmdir("s/foreign_dir"), "rmdir of another's directory");
    write_file("s/own", "x");
    expect_ok(unlink("s/own"), "unlink of an own file");
    become_root();
    expect_ok(chown("s", kUser, kGroup), "chown");
    become(kUser, kGroup);
    expect_ok(unlink("s/foreign"), "unlink by the owner of the directory");
}

void access_call() {
    need_root();
    make_owned("f", kUser, kGroup, 0540);
    become(kUser, kGroup);
    expect_ok(faccessat(AT_FDCWD, "f", R_OK | X_OK, AT_EACCESS), "read and execute by the owner");
    expect_errno(EACCES, faccessat(AT_FDCWD, "f", W_OK, AT_EACCESS), "write by the owner");
    expect_ok(faccessat(AT_FDCWD, "f", F_OK, AT_EACCESS), "existence");
    expect_errno(ENOENT, faccessat(AT_FDCWD, "x", F_OK, AT_EACCESS), "existence of a missing file");
}

void truncate_needs_write() {
    need_root();
    make_owned("f", 0, 0, 0644);
    become(kUser, kGroup);
    expect_errno(EACCES, truncate("f", 0), "truncate");
    expect_errno(EACCES, try_open("f", O_RDONLY | O_TRUNC), "O_TRUNC");
    expect_errno(EACCES, try_open("f", O_WRONLY | O_APPEND), "O_APPEND");
    expect_text("content", read_file("f"), "content");
}

void descriptor_keeps_rights() {
    need_root();
    make_owned("f", kUser, kGroup, 0600);
    become(kUser, kGroup);
    int fd = open_or_fail("f", O_RDWR);
    become_root();
    expect_ok(chown("f", 0, 0), "chown");
    become(kUser, kGroup);
    pwrite_all(fd, "still", 0);
    expect_ok(ftruncate(fd, 5), "ftruncate");
    expect_text("still", pread_some(fd, 100, 0), "read through the old descriptor");
    expect_errno(EACCES, try_open("f", O_RDONLY), "a new open");
    expect_errno(EPERM, fchmod(fd, 0666), "fchmod by the former owner");
}

void foreign_parent() {
    need_root();
    make_owned("d", 0, 0, 0755, true);
    make_owned("d/f", kUser, kGroup, 0644);
    become(kUser, kGroup);
    expect_errno(EACCES, unlink("d/f"), "unlink of an own file in a foreign directory");
    expect_errno(EACCES, rename("d/f", "d/g"), "rename of it");
    expect_errno(EACCES, link("d/f", "d/g"), "link of it");
    expect_errno(EACCES, symlink("x", "d/l"), "symlink there");
    expect_errno(EACCES, mkfifo("d/p", 0644), "mkfifo there");
    write_file("d/f", "mine");
    expect_text("mine", read_file("d/f"), "content written by the owner");
}

// A create that finds the file needs only rights on the file.
void create_of_existing() {
    need_root();
    make_owned("d", 0, 0, 0755, true);
    make_owned("d/f", kUser, kGroup, 0600);
    become(kUser, kGroup);
    expect_ok(try_open("d/f", O_RDWR | O_CREAT),
              "O_CREAT of an existing own file in a closed directory");
    expect_errno(EEXIST, try_open("d/f", O_RDWR | O_CREAT | O_EXCL), "O_EXCL of it");
    expect_errno(EEXIST, mkdir("d/f", 0755), "mkdir of it");
}

}  // namespace

void add_permission_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"permission/classes", classes},
                     {"permission/other_groups", other_groups},
                     {"permission/root_may_all", root_may_all},
                     {"permission/directories", directories},
                     {"permission/path_search", path_search},
                     {"permission/sticky", sticky},
                     {"permission/access_call", access_call},
                     {"permission/truncate_needs_write", truncate_needs_write},
                     {"permission/descriptor_keeps_rights", descriptor_keeps_rights},
                     {"permission/foreign_parent", foreign_parent},
                     {"permission/create_of_existing", create_of_existing},
                 });
}

}  // namespace lumeofs::conformance
