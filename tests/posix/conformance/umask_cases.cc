// SPDX-License-Identifier: Apache-2.0
// What a new file gets: mode through umask, owner, and the group of a setgid directory.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

mode_t mode_of(const char* path) { return lstat_of(path).st_mode & 07777; }

void every_call() {
    for (mode_t mask : {0U, 022U, 077U, 0137U, 0777U}) {
        umask(mask);
        close(open_or_fail("f", O_WRONLY | O_CREAT, 0666));
        make_dir("d", 0777);
        expect_ok(mkfifo("p", 0666), "mkfifo");
        expect_ok(mknod("n", S_IFREG | 0666, 0), "mknod");
        expect_ok(symlink("x", "l"), "symlink");
        expect_eq(0666 & ~mask, mode_of("f"), "mode of a file");
        expect_eq(0777 & ~mask, mode_of("d"), "mode of a directory");
        expect_eq(0666 & ~mask, mode_of("p"), "mode of a FIFO");
        expect_eq(0666 & ~mask, mode_of("n"), "mode of a node");
        expect_eq(0777, mode_of("l"), "mode of a link");
        expect_ok(unlink("f") | rmdir("d") | unlink("p") | unlink("n") | unlink("l"), "removal");
    }
}

void special_bits() {
    umask(0);
    close(open_or_fail("f", O_WRONLY | O_CREAT, 06755));
    expect_eq(06755, mode_of("f"), "setuid and setgid at creation");
    make_dir("d", 01777);
    expect_eq(01777, mode_of("d"), "sticky at creation");
}

void owner_of_new() {
    need_root();
    become(kUser, kOtherGroup);
    write_file("f", "");
    make_dir("d");
    expect_ok(symlink("x", "l"), "symlink");
    for (const char* path : {"f", "d", "l"}) {
        expect_eq(kUser, lstat_of(path).st_uid, std::string("owner of ") + path);
        expect_eq(kOtherGroup, lstat_of(path).st_gid, std::string("group of ") + path);
    }
}

void inherited_group() {
    need_root();
    umask(022);
    make_dir("d");
    expect_ok(chown("d", 0, kOtherGroup), "chown");
    expect_ok(chmod("d", 02777), "chmod");
    become(kUser, kGroup);
    write_file("d/f", "");
    make_dir("d/sub");
    expect_ok(symlink("x", "d/l"), "symlink");
    expect_ok(mkfifo("d/p", 0644), "mkfifo");
    for (const char* path : {"d/f", "d/sub", "d/l", "d/p"}) {
        expect_eq(kOtherGroup, lstat_of(path).st_gid, std::string("group of ") + path);
    }
    expect_eq(02755, mode_of("d/sub"), "mode of a directory below");
    expect_eq(0644, mode_of("d/f"), "mode of a file below");
    write_file("d/sub/f", "");
    expect_eq(kOtherGroup, lstat_of("d/sub/f").st_gid, "group two levels below");
}

void no_foreign_setgid_file() {
    need_root();
    umask(0);
    make_dir("d");
    expect_ok(chown("d", 0, kOtherGroup), "chown");
    expect_ok(chmod("d", 02777), "chmod");
    join(spawn([] {
        become(kUser, kGroup);
        close(open_or_fail("d/f", O_WRONLY | O_CREAT, 02775));
    }));
    expect_eq(0775, mode_of("d/f"), "setgid is dropped for who is not in the group");
    join(spawn([] {
        become(kUser, kGroup, {kOtherGroup});
        close(open_or_fail("d/g", O_WRONLY | O_CREAT, 02775));
    }));
    expect_eq(02775, mode_of("d/g"), "setgid is kept for a member of the group");
}

void moved_keeps_group() {
    need_root();
    make_dir("d");
    expect_ok(chown("d", 0, kOtherGroup), "chown");
    expect_ok(chmod("d", 02777), "chmod");
    write_file("f", "");
    expect_ok(rename("f", "d/f"), "rename");
    expect_eq(0, stat_of("d/f").st_gid, "a file moved there keeps its group");
    write_file("g", "");
    expect_ok(link("g", "d/g"), "link");
    expect_eq(0, stat_of("d/g").st_gid, "a file linked there keeps its group");
}

}  // namespace

void add_umask_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"umask/every_call", every_call},
                     {"umask/special_bits", special_bits},
                     {"umask/owner_of_new", owner_of_new},
                     {"umask/inherited_group", inherited_group},
                     {"umask/no_foreign_setgid_file", no_foreign_setgid_file},
                     {"umask/moved_keeps_group", moved_keeps_group},
                 });
}

}  // namespace lumeofs::conformance
