// SPDX-License-Identifier: Apache-2.0
// File times: utimensat(2), and which call changes which time.
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

long set_times(const char* path, timespec access, timespec modify) {
    timespec times[2] = {access, modify};
    return utimensat(AT_FDCWD, path, times, 0);
}

constexpr timespec kNow{0, UTIME_NOW};
constexpr timespec kOmit{0, UTIME_OMIT};

void nanoseconds() {
    write_file("f", "");
    make_dir("d");
    for (const char* path : {"f", "d"}) {
        expect_ok(set_times(path, {1234567890, 123456789}, {1400000000, 999999999}), "utimensat");
        struct stat status = stat_of(path);
        expect_eq(1234567890, status.st_atim.tv_sec, "atime, seconds");
        expect_eq(123456789, status.st_atim.tv_nsec, "atime, nanoseconds");
        expect_eq(1400000000, status.st_mtim.tv_sec, "mtime, seconds");
        expect_eq(999999999, status.st_mtim.tv_nsec, "mtime, nanoseconds");
    }
}

void range() {
    write_file("f", "");
    for (time_t second : {time_t{0},
                          time_t{1},
                          time_t{-1},
                          time_t{-2000000000},
                          time_t{2147483647},
                          time_t{2147483648},
                          time_t{4294967296},
                          time_t{10000000000}}) {
        expect_ok(set_times("f", {second, 1}, {second, 2}), "utimensat");
        expect_eq(second, stat_of("f").st_mtim.tv_sec, "mtime, seconds");
        expect_eq(2, stat_of("f").st_mtim.tv_nsec, "mtime, nanoseconds");
        expect_eq(second, stat_of("f").st_atim.tv_sec, "atime, seconds");
    }
}

void now_and_omit() {
    write_file("f", "");
    expect_ok(set_times("f", {1000, 0}, {2000, 0}), "utimensat");
    expect_ok(set_times("f", kOmit, {3000, 5}), "utimensat with atime left alone");
    expect_eq(1000, stat_of("f").st_atim.tv_sec, "atime");
    expect_eq(3000, stat_of("f").st_mtim.tv_sec, "mtime");
    expect_ok(set_times("f", {4000, 0}, kOmit), "utimensat with mtime left alone");
    expect_eq(4000, stat_of("f").st_atim.tv_sec, "atime after it was set");
    expect_eq(3000, stat_of("f").st_mtim.tv_sec, "mtime left alone");
    timespec change = stat_of("f").st_ctim;
    wait_clock_past(change);
    expect_ok(set_times("f", kOmit, kOmit), "utimensat with both left alone");
    expect(same_time(change, stat_of("f").st_ctim), "ctime stays if both are left alone");
    expect_ok(set_times("f", kNow, kOmit), "utimensat with atime now");
    expect(stat_of("f").st_atim.tv_sec > 1600000000, "atime is now");
    expect_eq(3000, stat_of("f").st_mtim.tv_sec, "mtime is still left alone");
    expect_ok(utimensat(AT_FDCWD, "f", nullptr, 0), "utimensat without times");
    expect(!earlier(stat_of("f").st_mtim, change), "mtime is now");
    expect_errno(
        EINVAL, set_times("f", {0, 1000000000}, {0, 0}), "utimensat with 10^9 nanoseconds");
    expect_errno(EINVAL, set_times("f", {0, 0}, {0, -5}), "utimensat with negative nanoseconds");
}

void rights() {
    need_root();
    write_file("f", "");
    expect_ok(chmod("f", 0666), "chmod");
    write_file("g", "");
    become(kUser, kGroup);
    expect_ok(utimensat(AT_FDCWD, "f", nullptr, 0), "times now with write permission");
    expect_ok(set_times("f", kNow, kNow), "both UTIME_NOW with write permission");
    expect_errno(EPERM, set_times("f", {1, 0}, {1, 0}), "given times by another user");
    expect_errno(EPERM, set_times("f", kNow, kOmit), "one time by another user");
    expect_errno(
        EACCES, utimensat(AT_FDCWD, "g", nullptr, 0), "times now without write permission");
}

// What tar, rsync and cp -p do: times set before close must survive it.
void set_while_open() {
    int fd = open_or_fail("f", O_WRONLY | O_CREAT);
    write_all(fd, pattern(300000));
    timespec times[2] = {{1111, 1}, {2222, 2}};
    expect_ok(futimens(fd, times), "futimens");
    expect_eq(2222, fstat_of(fd).st_mtim.tv_sec, "mtime before close");
    expect_ok(close(fd), "close");
    expect_eq(2222, stat_of("f").st_mtim.tv_sec, "mtime after close");
    expect_eq(2, stat_of("f").st_mtim.tv_nsec, "mtime after close, nanoseconds");
    fd = open_or_fail("f", O_WRONLY);
    write_all(fd, "x");
    expect_ok(set_times("f", {3333, 3}, {4444, 4}), "utimensat by path while the file is open");
    expect_ok(fsync(fd), "fsync");
    expect_eq(4444, stat_of("f").st_mtim.tv_sec, "mtime after fsync");
    expect_ok(close(fd), "close");
    expect_eq(4444, stat_of("f").st_mtim.tv_sec, "mtime after the second close");
    wait_clock_past(stat_of("f").st_ctim);
    expect_eq(4444, stat_of("f").st_mtim.tv_sec, "mtime a little later");
}

void write_changes() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    struct stat before = fstat_of(fd);
    wait_clock_past(before.st_ctim);
    write_all(fd, "abc");
    struct stat after = stat_of("f");
    expect(earlier(before.st_mtim, after.st_mtim), "mtime is later after a write");
    expect(earlier(before.st_ctim, after.st_ctim), "ctime is later after a write");
    wait_clock_past(after.st_ctim);
    expect_ok(fsync(fd), "fsync");
    expect_ok(close(fd), "close");
    expect(same_time(after.st_mtim, stat_of("f").st_mtim), "mtime stays through fsync and close");
    (void)read_file("f");
    expect(same_time(after.st_mtim, stat_of("f").st_mtim), "mtime stays through a read");
}

void later_after(const char* what, long (*action)(), bool modify) {
    struct stat before = stat_of("f");
    wait_clock_past(before.st_ctim);
    ok_or_skip(action(), what);
    struct stat after = stat_of("f");
    expect(earlier(before.st_ctim, after.st_ctim), std::string("ctime is later after ") + what);
    expect_eq(modify ? 1 : 0,
              earlier(before.st_mtim, after.st_mtim) ? 1 : 0,
              std::string("mtime is later after ") + what);
}

void change_time() {
    write_file("f", "abcdef");
    later_after(
        "chmod", [] { return long{chmod("f", 0600)}; }, false);
    later_after(
        "link", [] { return long{link("f", "g")}; }, false);
    later_after(
        "unlink of another name", [] { return long{unlink("g")}; }, false);
    later_after(
        "rename", [] { return long{rename("f", "g") | rename("g", "f")}; }, false);
    later_after(
        "truncate down", [] { return long{truncate("f", 3)}; }, true);
    later_after(
        "truncate up", [] { return long{truncate("f", 10)}; }, true);
    later_after(
        "truncate to the same size", [] { return long{truncate("f", 10)}; }, true);
    later_after(
        "ftruncate to the same size",
        [] { return long{ftruncate(open_or_fail("f", O_WRONLY), 10)}; },
        true);
    later_after(
        "utimensat of atime",
        [] {
            return set_times("f", {5, 0}, kOmit);
        },
        false);
    later_after(
        "O_TRUNC", [] { return long{close(open_or_fail("f", O_WRONLY | O_TRUNC))}; }, true);
    if (geteuid() == 0) {
        later_after(
            "chown", [] { return long{chown("f", kUser, kGroup)}; }, false);
    }
}

void change_time_of_xattr() {
    write_file("f", "");
    later_after(
        "setxattr", [] { return long{setxattr("f", "user.a", "b", 1, 0)}; }, false);
    later_after(
        "removexattr", [] { return long{removexattr("f", "user.a")}; }, false);
}

void empty_write_changes_nothing() {
    write_file("f", "abc");
    struct stat before = stat_of("f");
    wait_clock_past(before.st_ctim);
    int fd = open_or_fail("f", O_WRONLY);
    expect_eq(0, write(fd, "", 0), "write of nothing");
    close(fd);
    expect(same_time(before.st_mtim, stat_of("f").st_mtim), "mtime stays after a write of nothing");
}

void order_between_files() {
    // make(1) needs it: what is made later is not older.
    timespec last{};
    for (int i = 0; i < 50; ++i) {
        std::string name = "f" + std::to_string(i);
        write_file(name, name);
        timespec now = stat_of(name).st_mtim;
        expect(!earlier(now, last), "a file written later is not older");
        last = now;
    }
}

}  // namespace

void add_time_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"time/nanoseconds", nanoseconds},
                     {"time/range", range},
                     {"time/now_and_omit", now_and_omit},
                     {"time/rights", rights},
                     {"time/set_while_open", set_while_open},
                     {"time/write_changes", write_changes},
                     {"time/change_time", change_time},
                     {"time/change_time_of_xattr", change_time_of_xattr},
                     {"time/empty_write_changes_nothing", empty_write_changes_nothing},
                     {"time/order_between_files", order_between_files},
                 });
}

}  // namespace lumeofs::conformance
