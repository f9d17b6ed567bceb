// SPDX-License-Identifier: Apache-2.0
// fallocate(2): allocate, keep size, punch hole, zero range.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

constexpr int kKeep = FALLOC_FL_KEEP_SIZE;
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZero = FALLOC_FL_ZERO_RANGE;

int open_with(const std::string& data) {
    write_file("f", data);
    return open_or_fail("f", O_RDWR);
}

void allocate() {
    std::string data = pattern(1000);
    int fd = open_with(data);
    ok_or_skip(fallocate(fd, 0, 500, 100000), "fallocate");
    expect_eq(100500, fstat_of(fd).st_size, "size");
    expect_text(data, pread_some(fd, 1000, 0), "content is kept");
    expect(all_zero(pread_some(fd, 99500, 1000)), "new part is zero");
    ok_or_skip(fallocate(fd, 0, 0, 10), "fallocate inside the file");
    expect_eq(100500, fstat_of(fd).st_size, "size does not shrink");
    expect_ok(posix_fallocate(fd, 0, 200000) == 0 ? 0 : -1, "posix_fallocate");
    expect_eq(200000, fstat_of(fd).st_size, "size after posix_fallocate");
}

void keep_size() {
    std::string data = pattern(1000);
    int fd = open_with(data);
    ok_or_skip(fallocate(fd, kKeep, 0, 1 << 20), "fallocate with KEEP_SIZE");
    expect_eq(1000, fstat_of(fd).st_size, "size");
    expect_text(data, pread_some(fd, 5000, 0), "content");
    pwrite_all(fd, "x", 500000);
    expect(all_zero(pread_some(fd, 499000, 1000)), "gap of zeros");
}

void punch() {
    std::string data = pattern(300000);
    int fd = open_with(data);
    struct Hole {
        off_t offset;
        off_t length;
    };
    for (Hole hole : {Hole{4096, 4096},
                      Hole{10, 5},
                      Hole{8190, 10},
                      Hole{65536, 131072},
                      Hole{100, 20000},
                      Hole{299000, 5000},
                      Hole{0, 1}}) {
        ok_or_skip(fallocate(fd, kPunch, hole.offset, hole.length), "fallocate with PUNCH_HOLE");
        for (off_t i = hole.offset; i < hole.offset + hole.length && i < 300000; ++i) {
            data[static_cast<size_t>(i)] = '\0';
        }
        expect_eq(300000, fstat_of(fd).st_size, "size");
        expect_text(data, pread_some(fd, 300001, 0), "content");
    }
    close(fd);
    expect_text(data, read_file("f"), "content after reopening");
}

void punch_frees() {
    int fd = open_with(pattern(4 << 20));
    expect_ok(fsync(fd), "fsync");
    auto before = fstat_of(fd).st_blocks;
    ok_or_skip(fallocate(fd, kPunch, 1 << 20, 2 << 20), "fallocate with PUNCH_HOLE");
    expect_ok(fsync(fd), "fsync");
    expect(fstat_of(fd).st_blocks < before, "blocks are fewer after a punch");
    off_t hole = lseek(fd, 0, SEEK_HOLE);
    expect(hole >= (1 << 20) && hole <= (4 << 20), "SEEK_HOLE after a punch");
    off_t data = lseek(fd, 2 << 20, SEEK_DATA);
    expect(data >= (2 << 20) && data <= (3 << 20), "SEEK_DATA after a punch");
}

void punch_behind_end() {
    int fd = open_with(pattern(1000));
    ok_or_skip(fallocate(fd, kPunch, 2000, 5000), "punch behind the end");
    expect_eq(1000, fstat_of(fd).st_size, "size");
    ok_or_skip(fallocate(fd, kPunch, 0, 1 << 30), "punch of more than the file");
    expect_eq(1000, fstat_of(fd).st_size, "size");
    expect(all_zero(pread_some(fd, 1000, 0)), "all zero");
}

void zero_range() {
    std::string data = pattern(100000);
    int fd = open_with(data);
    ok_or_skip(fallocate(fd, kZero, 1000, 50000), "fallocate with ZERO_RANGE");
    data.replace(1000, 50000, 50000, '\0');
    expect_text(data, pread_some(fd, 100001, 0), "content");
    ok_or_skip(fallocate(fd, kZero | kKeep, 99000, 5000), "ZERO_RANGE with KEEP_SIZE");
    data.replace(99000, 1000, 1000, '\0');
    expect_eq(100000, fstat_of(fd).st_size, "size with KEEP_SIZE");
    expect_text(data, pread_some(fd, 100001, 0), "content");
    ok_or_skip(fallocate(fd, kZero, 90000, 30000), "ZERO_RANGE over the end");
    data.resize(90000);
    data.resize(120000);
    expect_eq(120000, fstat_of(fd).st_size, "size without KEEP_SIZE");
    expect_text(data, pread_some(fd, 120001, 0), "content");
}

void bad_arguments() {
    int fd = open_with("abc");
    expect_errno(EINVAL, fallocate(fd, 0, 0, 0), "length 0");
    expect_errno(EINVAL, fallocate(fd, 0, -1, 10), "negative offset");
    expect_errno(EINVAL, fallocate(fd, 0, 0, -1), "negative length");
    expect_errno(
        EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), "PUNCH_HOLE without KEEP_SIZE");
    expect_errno(EFBIG,
                 fallocate(fd, 0, std::numeric_limits<off_t>::max() - 5, 10),
                 "past the largest offset");
    int reader = open_or_fail("f", O_RDONLY);
    expect_errno(EBADF, fallocate(reader, 0, 0, 10), "read-only descriptor");
    int ends[2];
    expect_ok(pipe(ends), "pipe");
    expect_errno_of({ESPIPE, ENODEV}, fallocate(ends[1], 0, 0, 10), "pipe");
    expect_text("abc", read_file("f"), "content");
}

void times() {
    int fd = open_with(pattern(10000));
    timespec before = fstat_of(fd).st_mtim;
    wait_clock_past(before);
    ok_or_skip(fallocate(fd, kPunch, 0, 5000), "fallocate with PUNCH_HOLE");
    expect(earlier(before, fstat_of(fd).st_mtim), "mtime is later after a punch");
    expect(earlier(before, fstat_of(fd).st_ctim), "ctime is later after a punch");
}

void seen_by_others() {
    std::string data = pattern(50000);
    int fd = open_with(data);
    int other = open_or_fail("f", O_RDONLY);
    (void)pread_some(other, 50000, 0);
    ok_or_skip(fallocate(fd, kPunch, 10000, 10000), "fallocate with PUNCH_HOLE");
    expect(all_zero(pread_some(other, 10000, 10000)), "another descriptor reads zeros");
    pwrite_all(fd, "back", 15000);
    expect_text(
        "back", pread_some(other, 4, 15000), "another descriptor reads new data in the hole");
    ok_or_skip(fallocate(fd, kZero, 0, 60000), "fallocate with ZERO_RANGE");
    expect_eq(60000, fstat_of(other).st_size, "size by another descriptor");
    expect(all_zero(pread_some(other, 60000, 0)), "another descriptor reads zeros");
}

void unsynced_data() {
    // Data written a moment ago must not come back over the hole.
    for (int i = 0; i < 30; ++i) {
        int fd = open_with(pattern(200000, static_cast<unsigned>(i)));
        pwrite_all(fd, pattern(100000, 99), 50000);
        ok_or_skip(fallocate(fd, kPunch, 60000, 50000), "fallocate with PUNCH_HOLE");
        expect_ok(fsync(fd), "fsync");
        close(fd);
        expect(all_zero(read_file("f").substr(60000, 50000)), "the hole is still zero after fsync");
    }
}

void across_chunks() {
    constexpr off_t kBoundary = 64 << 20;
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    std::string data = pattern(200000);
    pwrite_all(fd, data, kBoundary - 100000);
    ok_or_skip(fallocate(fd, kPunch, kBoundary - 1000, 2000), "punch across a chunk boundary");
    data.replace(99000, 2000, 2000, '\0');
    expect_text(data, pread_some(fd, 200000, kBoundary - 100000), "content");
    ok_or_skip(fallocate(fd, 0, 2 * kBoundary - 10, 20), "allocate across a chunk boundary");
    expect_eq(2 * kBoundary + 10, fstat_of(fd).st_size, "size");
}

}  // namespace

void add_fallocate_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"fallocate/allocate", allocate},
                     {"fallocate/keep_size", keep_size},
                     {"fallocate/punch", punch},
                     {"fallocate/punch_frees", punch_frees},
                     {"fallocate/punch_behind_end", punch_behind_end},
                     {"fallocate/zero_range", zero_range},
                     {"fallocate/bad_arguments", bad_arguments},
                     {"fallocate/times", times},
                     {"fallocate/seen_by_others", seen_by_others},
                     {"fallocate/unsynced_data", unsynced_data},
                     {"fallocate/across_chunks", across_chunks},
                 });
}

}  // namespace lumeofs::conformance
