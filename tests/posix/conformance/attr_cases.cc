// SPDX-License-Identifier: Apache-2.0
// chmod(2), chown(2), what clears setuid and setgid, and what stat(2) says.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

mode_t mode_of(const char* path) { return stat_of(path).st_mode & 07777; }

void modes() {
    write_file("f", "");
    make_dir("d");
    for (mode_t mode : {0U, 0777U, 04755U, 02755U, 01644U, 07777U, 0600U}) {
        expect_ok(chmod("f", mode), "chmod of a file");
        expect_eq(mode, mode_of("f"), "mode of the file");
        expect_ok(chmod("d", mode), "chmod of a directory");
        expect_eq(mode, mode_of("d"), "mode of the directory");
    }
    expect(S_ISREG(stat_of("f").st_mode), "the kind stays");
    int fd = open_or_fail("f", O_RDONLY);
    expect_ok(fchmod(fd, 0640), "fchmod through a read-only descriptor");
    expect_eq(0640, mode_of("f"), "mode after fchmod");
    expect_errno(ENOENT, chmod("x", 0600), "chmod of a missing file");
}

void not_the_owner() {
    need_root();
    write_file("f", "");
    expect_ok(chmod("f", 0666), "chmod");
    become(kUser, kGroup);
    expect_errno(EPERM, chmod("f", 0777), "chmod by another user");
    expect_errno(EPERM, chown("f", kUser, kGroup), "chown by another user");
    expect_errno(EPERM, chown("f", static_cast<uid_t>(-1), kGroup), "chgrp by another user");
}

// While the file is written, and after what was written before and after it.
void set_while_written() {
    for (int i = 0; i < 4; ++i) {
        const std::string name = "f" + std::to_string(i);
        int fd = open_or_fail(name, O_RDWR | O_CREAT, 0600);
        if ((i & 1) != 0) write_all(fd, "before");
        expect_ok(fchmod(fd, 0640), "fchmod");
        expect_eq(0640, fstat_of(fd).st_mode & 07777, "mode by the descriptor");
        expect_eq(0640, stat_of(name).st_mode & 07777, "mode by name");
        if ((i & 2) != 0) write_all(fd, "after");
        expect_ok(chmod(name.c_str(), 0604), "chmod by name");
        expect_eq(0604, fstat_of(fd).st_mode & 07777, "the later mode");
        expect_ok(close(fd), "close");
        expect_eq(0604, stat_of(name).st_mode & 07777, "mode after the close");
        expect_eq(((i & 1) != 0 ? 6 : 0) + ((i & 2) != 0 ? 5 : 0), stat_of(name).st_size, "size");
    }
}

void owners() {
    need_root();
    write_file("f", "");
    expect_ok(chown("f", 123456, 234567), "chown");
    expect_eq(123456, stat_of("f").st_uid, "owner");
    expect_eq(234567, stat_of("f").st_gid, "group");
    expect_ok(chown("f", static_cast<uid_t>(-1), 5), "chown of the group");
    expect_eq(123456, stat_of("f").st_uid, "owner after chgrp");
    expect_eq(5, stat_of("f").st_gid, "group after chgrp");
    expect_ok(chown("f", 0xfffffffeU, static_cast<gid_t>(-1)), "chown to the largest user id");
    expect_eq(0xfffffffeLL, stat_of("f").st_uid, "largest owner");
    int fd = open_or_fail("f", O_RDONLY);
    expect_ok(fchown(fd, 7, 8), "fchown");
    expect_eq(7, stat_of("f").st_uid, "owner after fchown");
}

void owner_changes_group() {
    need_root();
    write_file("f", "");
    expect_ok(chown("f", kUser, kGroup), "chown");
    become(kUser, kGroup, {kOtherGroup});
    expect_ok(chown("f", static_cast<uid_t>(-1), kOtherGroup), "chgrp to an own group");
    expect_errno(EPERM, chown("f", static_cast<uid_t>(-1), 77), "chgrp to a foreign group");
    expect_errno(EPERM, chown("f", kOtherUser, static_cast<gid_t>(-1)), "giving a file away");
    expect_ok(chown("f", kUser, kOtherGroup), "chown to what it is already");
}

void chown_clears_set_id() {
    need_root();
    write_file("f", "");
    expect_ok(chmod("f", 06755), "chmod");
    expect_ok(chown("f", kUser, kGroup), "chown by root");
    expect_eq(0755, mode_of("f"), "mode after chown by root");
    expect_ok(chmod("f", 06755), "chmod");
    become(kUser, kGroup, {kOtherGroup});
    expect_ok(chown("f", static_cast<uid_t>(-1), kOtherGroup), "chgrp by the owner");
    expect_eq(0755, mode_of("f"), "mode after chgrp by the owner");
    become_root();
    make_dir("d");
    expect_ok(chmod("d", 02755), "chmod");
    expect_ok(chown("d", kUser, kGroup), "chown of a directory");
    expect_eq(02755, mode_of("d"), "a directory keeps its setgid bit");
}

void write_clears_set_id() {
    need_root();
    write_file("f", "abc");
    expect_ok(chmod("f", 06777), "chmod");
    int fd = open_or_fail("f", O_RDWR);
    write_all(fd, "x");
    expect_eq(06777, mode_of("f"), "mode after a write by root");
    become(kUser, kGroup);
    int mine = open_or_fail("f", O_WRONLY);
    write_all(mine, "y");
    expect_eq(0777, mode_of("f"), "mode after a write by another user");
}

void truncate_clears_set_id() {
    need_root();
    for (int way = 0; way < 3; ++way) {
        write_file("f", "abc");
        expect_ok(chmod("f", 06777), "chmod");
        join(spawn([way] {
            become(kUser, kGroup);
            if (way == 0) {
                expect_ok(truncate("f", 1), "truncate");
            } else if (way == 1) {
                expect_ok(ftruncate(open_or_fail("f", O_WRONLY), 1), "ftruncate");
            } else {
                close(open_or_fail("f", O_WRONLY | O_TRUNC));
            }
        }));
        expect_eq(0777, mode_of("f"), "mode after truncate, ftruncate or O_TRUNC by another user");
    }
}

// Without membership in the file's group the setgid bit is not given.
void chmod_drops_foreign_setgid() {
    need_root();
    write_file("f", "");
    expect_ok(chown("f", kUser, kOtherGroup), "chown");
    become(kUser, kGroup);
    expect_ok(chmod("f", 02755), "chmod");
    expect_eq(0755, mode_of("f"), "mode without membership in the group");
    become_root();
    become(kUser, kGroup, {kOtherGroup});
    expect_ok(chmod("f", 02755), "chmod");
    expect_eq(02755, mode_of("f"), "mode with membership in the group");
}

void sizes_and_blocks() {
    write_file("f", pattern(1000000));
    struct stat status = stat_of("f");
    expect_eq(1000000, status.st_size, "size");
    int fd = open_or_fail("f", O_RDWR);
    expect_ok(fsync(fd), "fsync");
    status = fstat_of(fd);
    expect(status.st_blocks * 512 >= 1000000, "blocks cover the data");
    expect(status.st_blocks * 512 < 1000000 * 8, "blocks are not many times the data");
    expect(status.st_blksize >= 512, "block size");
    expect_ok(ftruncate(fd, 0), "ftruncate");
    expect_ok(fsync(fd), "fsync");
    expect(fstat_of(fd).st_blocks <= 16, "blocks of an empty file");
}

void same_by_every_way() {
    write_file("f", "abc");
    int fd = open_or_fail("f", O_RDWR);
    write_all(fd, pattern(5000));
    struct stat a = stat_of("f");
    struct stat b = fstat_of(fd);
    struct stat c = lstat_of("f");
    struct statx x {};
    expect_ok(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x), "statx");
    expect_eq(5000, a.st_size, "size by stat");
    expect_eq(5000, b.st_size, "size by fstat");
    expect_eq(5000, c.st_size, "size by lstat");
    expect_eq(5000, static_cast<long long>(x.stx_size), "size by statx");
    expect_eq(static_cast<long long>(a.st_ino), static_cast<long long>(b.st_ino), "inode by fstat");
    expect_eq(
        static_cast<long long>(a.st_ino), static_cast<long long>(x.stx_ino), "inode by statx");
    expect(same_time(a.st_mtim, b.st_mtim), "mtime by stat and fstat");
}

void birth_time() {
    write_file("f", "");
    struct statx x {};
    expect_ok(statx(AT_FDCWD, "f", 0, STATX_BTIME, &x), "statx");
    if ((x.stx_mask & STATX_BTIME) == 0) {
        skip("no birth time here");
    }
    auto born = x.stx_btime;
    timespec change = stat_of("f").st_ctim;
    wait_clock_past(change);
    write_file("f", "new");
    expect_ok(chmod("f", 0600), "chmod");
    expect_ok(statx(AT_FDCWD, "f", 0, STATX_BTIME, &x), "statx");
    expect_eq(born.tv_sec, x.stx_btime.tv_sec, "birth time, seconds");
    expect_eq(born.tv_nsec, x.stx_btime.tv_nsec, "birth time, nanoseconds");
}

}  // namespace

void add_attr_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"attr/modes", modes},
                     {"attr/set_while_written", set_while_written},
                     {"attr/not_the_owner", not_the_owner},
                     {"attr/owners", owners},
                     {"attr/owner_changes_group", owner_changes_group},
                     {"attr/chown_clears_set_id", chown_clears_set_id},
                     {"attr/write_clears_set_id", write_clears_set_id},
                     {"attr/truncate_clears_set_id", truncate_clears_set_id},
                     {"attr/chmod_drops_foreign_setgid", chmod_drops_foreign_setgid},
                     {"attr/sizes_and_blocks", sizes_and_blocks},
                     {"attr/same_by_every_way", same_by_every_way},
                     {"attr/birth_time", birth_time},
                 });
}

}  // namespace lumeofs::conformance
