// SPDX-License-Identifier: Apache-2.0
// Holes, SEEK_DATA and SEEK_HOLE, truncate both ways, far offsets and size limits.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <limits>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

constexpr off_t kMiB = 1 << 20;
constexpr off_t kGiB = 1 << 30;

void hole_reads_zero() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    pwrite_all(fd, "end", 10 * kMiB);
    expect_eq(10 * kMiB + 3, fstat_of(fd).st_size, "size");
    expect(all_zero(pread_some(fd, 2 * kMiB, 5 * kMiB)), "the hole reads as zeros");
    std::string tail = pread_some(fd, 100, 10 * kMiB - 10);
    expect_text(std::string(10, '\0') + "end", tail, "bytes around the end of the hole");
    expect_ok(fsync(fd), "fsync");
    expect(fstat_of(fd).st_blocks * 512 < 5 * kMiB, "a hole takes no space");
}

void seek_data_and_hole() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    pwrite_all(fd, pattern(kMiB), 4 * kMiB);
    expect_ok(ftruncate(fd, 16 * kMiB), "ftruncate");
    expect_ok(fsync(fd), "fsync");
    off_t data = lseek(fd, 0, SEEK_DATA);
    expect(data >= 0 && data <= 4 * kMiB, "SEEK_DATA is not behind the first data");
    off_t hole = lseek(fd, 4 * kMiB, SEEK_HOLE);
    expect(hole >= 5 * kMiB && hole <= 16 * kMiB, "SEEK_HOLE is not inside the data");
    expect_eq(4 * kMiB + 7, lseek(fd, 4 * kMiB + 7, SEEK_DATA), "SEEK_DATA inside the data");
    off_t past = lseek(fd, 15 * kMiB, SEEK_DATA);
    expect(past >= 15 * kMiB || (past < 0 && errno == ENXIO), "SEEK_DATA in the last hole");
    expect_errno(ENXIO, lseek(fd, 16 * kMiB, SEEK_DATA), "SEEK_DATA at the end");
    expect_errno(ENXIO, lseek(fd, 16 * kMiB, SEEK_HOLE), "SEEK_HOLE at the end");
    expect_errno(ENXIO, lseek(fd, -1, SEEK_DATA), "SEEK_DATA at a negative offset");
}

void seek_finds_holes() {
    // A file system may call everything data; ours and ext4 must not.
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    pwrite_all(fd, pattern(kMiB), 64 * kMiB);
    expect_ok(ftruncate(fd, 200 * kMiB), "ftruncate");
    expect_ok(fsync(fd), "fsync");
    expect_eq(0, lseek(fd, 0, SEEK_HOLE), "the file starts with a hole");
    expect_eq(64 * kMiB, lseek(fd, 0, SEEK_DATA), "first data");
    expect_eq(65 * kMiB, lseek(fd, 64 * kMiB, SEEK_HOLE), "hole after the data");
    expect_errno(ENXIO, lseek(fd, 65 * kMiB, SEEK_DATA), "no data after it");
}

void seek_in_full_file() {
    write_file("f", pattern(100000));
    int fd = open_or_fail("f", O_RDWR);
    expect_eq(0, lseek(fd, 0, SEEK_DATA), "SEEK_DATA in a full file");
    expect_eq(100000, lseek(fd, 0, SEEK_HOLE), "SEEK_HOLE in a full file");
    expect_eq(99999, lseek(fd, 99999, SEEK_DATA), "SEEK_DATA of the last byte");
    write_file("e", "");
    int empty = open_or_fail("e", O_RDWR);
    expect_errno(ENXIO, lseek(empty, 0, SEEK_DATA), "SEEK_DATA in an empty file");
    expect_errno(ENXIO, lseek(empty, 0, SEEK_HOLE), "SEEK_HOLE in an empty file");
}

void seek_sees_unsynced_data() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    expect_ok(ftruncate(fd, 32 * kMiB), "ftruncate");
    pwrite_all(fd, pattern(5000), 8 * kMiB);
    off_t data = lseek(fd, 0, SEEK_DATA);
    expect(data >= 0 && data <= 8 * kMiB, "SEEK_DATA finds data that was just written");
    expect(lseek(fd, 8 * kMiB, SEEK_HOLE) >= 8 * kMiB + 5000, "SEEK_HOLE is behind that data");
}

// What was cut off never comes back, whatever the alignment.
void truncate_down_and_up() {
    for (off_t cut : {0, 1, 100, 4095, 4096, 4097, 65535, 65536, 99999}) {
        std::string data = pattern(100000, 4);
        write_file("f", data);
        int fd = open_or_fail("f", O_RDWR);
        expect_ok(ftruncate(fd, cut), "ftruncate down");
        expect_eq(cut, fstat_of(fd).st_size, "size after the cut");
        expect_ok(ftruncate(fd, 100000), "ftruncate up");
        std::string expected = data.substr(0, static_cast<size_t>(cut));
        expected.resize(100000);
        expect_text(expected, pread_some(fd, 100001, 0), "content after down and up");
        close(fd);
        expect_text(expected, read_file("f"), "content after reopening");
    }
}

void write_behind_cut() {
    std::string data = pattern(50000);
    write_file("f", data);
    int fd = open_or_fail("f", O_RDWR);
    expect_ok(ftruncate(fd, 10), "ftruncate");
    pwrite_all(fd, "tail", 60000);
    std::string expected = data.substr(0, 10);
    expected.resize(60000);
    expect_text(
        expected + "tail", pread_some(fd, 70000, 0), "zeros between the cut and the new data");
}

void truncate_errors() {
    write_file("f", "abc");
    make_dir("d");
    expect_errno(EINVAL, truncate("f", -1), "truncate to a negative size");
    expect_errno(EISDIR, truncate("d", 0), "truncate of a directory");
    expect_errno(ENOENT, truncate("x", 0), "truncate of a missing file");
    expect_errno(ENOTDIR, truncate("f/x", 0), "truncate below a file");
    expect_ok(truncate("f", 3), "truncate to the same size");
    expect_text("abc", read_file("f"), "content");
}

void cut_seen_by_other_descriptor() {
    write_file("f", pattern(10000));
    int reader = open_or_fail("f", O_RDONLY);
    (void)pread_some(reader, 10000, 0);
    expect_ok(truncate("f", 5000), "truncate");
    expect_eq(
        5000, static_cast<long long>(pread_some(reader, 10000, 0).size()), "bytes left to read");
    expect_text("", pread_some(reader, 100, 5000), "read behind the cut");
}

void across_chunk_boundaries() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    std::string data = pattern(300000);
    for (off_t boundary : {64 * kMiB, 128 * kMiB, 192 * kMiB}) {
        pwrite_all(fd, data, boundary - 150000);
    }
    expect_ok(fsync(fd), "fsync");
    for (off_t boundary : {64 * kMiB, 128 * kMiB, 192 * kMiB}) {
        expect_text(
            data, pread_some(fd, data.size(), boundary - 150000), "bytes across a boundary");
        expect(all_zero(pread_some(fd, 100000, boundary - 300000)), "zeros before them");
    }
    expect_ok(ftruncate(fd, 64 * kMiB + 10), "ftruncate into the second chunk");
    expect_text(
        data.substr(0, 150010), pread_some(fd, 300000, 64 * kMiB - 150000), "bytes after the cut");
    expect_ok(ftruncate(fd, 64 * kMiB), "ftruncate to the boundary");
    expect_ok(ftruncate(fd, 65 * kMiB), "ftruncate up again");
    expect(all_zero(pread_some(fd, kMiB, 64 * kMiB)), "zeros where the data was cut off");
}

void far_offsets() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    std::vector<off_t> places{
        2 * kGiB - 5, 4 * kGiB - 5, 5 * kGiB, 1024 * kGiB + 123, 10000 * kGiB};
    for (off_t place : places) {
        pwrite_all(fd, "island" + std::to_string(place), place);
    }
    close(fd);
    fd = open_or_fail("f", O_RDONLY);
    for (off_t place : places) {
        std::string text = "island" + std::to_string(place);
        expect_text(text, pread_some(fd, text.size(), place), "bytes at a far offset");
        expect(all_zero(pread_some(fd, 1000, place - 1000)), "zeros before them");
    }
    expect_eq(10000 * kGiB + 6 + 14, fstat_of(fd).st_size, "size");
    expect(fstat_of(fd).st_blocks * 512 < 64 * kMiB, "space of a sparse file");
}

void islands_by_seek() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    for (int i = 1; i <= 20; ++i) {
        pwrite_all(fd, pattern(1000, static_cast<unsigned>(i)), i * kGiB);
    }
    expect_ok(fsync(fd), "fsync");
    off_t at = 0;
    int found = 0;
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
        expect(++found <= 40, "no more pieces of data than were written");
        at = lseek(fd, at, SEEK_HOLE);
        expect_ok(at, "SEEK_HOLE");
    }
    expect_eq(ENXIO, errno, "errno at the end");
    expect_eq(20, found, "pieces of data");
    for (int i = 1; i <= 20; ++i) {
        expect_text(
            pattern(1000, static_cast<unsigned>(i)), pread_some(fd, 1000, i * kGiB), "island");
    }
}

// The largest offsets either work or say EFBIG; nothing in between.
void size_limit() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    constexpr off_t kLast = std::numeric_limits<off_t>::max();
    long put = pwrite(fd, "x", 1, kLast - 1);
    if (put == 1) {
        expect_eq(kLast, fstat_of(fd).st_size, "size after a write of the last byte");
        expect_text("x", pread_some(fd, 1, kLast - 1), "the last byte");
    } else {
        expect_errno(EFBIG, put, "write of the last byte");
        expect_eq(0, fstat_of(fd).st_size, "size after the refusal");
    }
    long cut = ftruncate(fd, kLast);
    if (cut == 0) {
        expect_eq(kLast, fstat_of(fd).st_size, "size after ftruncate to the limit");
    } else {
        expect_errno(EFBIG, cut, "ftruncate to the limit");
    }
    expect_ok(ftruncate(fd, 0), "ftruncate to nothing");
    expect_errno(EINVAL, pwrite(fd, "xy", 2, kLast), "write that passes the largest offset");
}

void process_limit() {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{.rlim_cur = 10000, .rlim_max = RLIM_INFINITY};
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    expect_ok(setrlimit(RLIMIT_FSIZE, &limit), "setrlimit");
    std::string data = pattern(20000);
    expect_eq(10000, write(fd, data.data(), data.size()), "write up to the limit");
    expect_errno(EFBIG, write(fd, "x", 1), "write behind the limit");
    expect_errno(EFBIG, ftruncate(fd, 10001), "ftruncate behind the limit");
    expect_ok(ftruncate(fd, 100), "ftruncate below the limit");
    expect_eq(100, fstat_of(fd).st_size, "size");
}

}  // namespace

void add_sparse_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"sparse/hole_reads_zero", hole_reads_zero},
                     {"sparse/seek_data_and_hole", seek_data_and_hole},
                     {"sparse/seek_finds_holes", seek_finds_holes},
                     {"sparse/seek_in_full_file", seek_in_full_file},
                     {"sparse/seek_sees_unsynced_data", seek_sees_unsynced_data},
                     {"sparse/truncate_down_and_up", truncate_down_and_up},
                     {"sparse/write_behind_cut", write_behind_cut},
                     {"sparse/truncate_errors", truncate_errors},
                     {"sparse/cut_seen_by_other_descriptor", cut_seen_by_other_descriptor},
                     {"sparse/across_chunk_boundaries", across_chunk_boundaries},
                     {"sparse/far_offsets", far_offsets},
                     {"sparse/islands_by_seek", islands_by_seek},
                     {"sparse/size_limit", size_limit},
                     {"sparse/process_limit", process_limit},
                 });
}

}  // namespace lumeofs::conformance
