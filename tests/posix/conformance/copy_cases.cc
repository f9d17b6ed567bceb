// SPDX-License-Identifier: Apache-2.0
// copy_file_range(2), and sendfile(2) between files.
#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <cerrno>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

// The call may copy less than asked; this copies all.
void copy_all(int from, off_t from_offset, int to, off_t to_offset, size_t length) {
    while (length > 0) {
        ssize_t put = copy_file_range(from, &from_offset, to, &to_offset, length, 0);
        ok_or_skip(put, "copy_file_range");
        expect(put > 0, "copy_file_range copies something");
        length -= static_cast<size_t>(put);
    }
}

void plain() {
    std::string data = pattern(1000000);
    write_file("a", data);
    int from = open_or_fail("a", O_RDONLY);
    int to = open_or_fail("b", O_RDWR | O_CREAT);
    copy_all(from, 0, to, 0, data.size());
    expect_text(data, read_file("b"), "copy");
    expect_eq(0, lseek(from, 0, SEEK_CUR), "offset of the source when offsets are given");
    pwrite_all(to, "X", 500000);
    expect_text(data, read_file("a"), "source after the copy was changed");
    int source = open_or_fail("a", O_RDWR);
    pwrite_all(source, "Y", 400000);
    data[500000] = 'X';
    expect_text(data, read_file("b"), "copy after the source was changed");
}

void with_offsets() {
    std::string data = pattern(200000);
    write_file("a", data);
    int from = open_or_fail("a", O_RDONLY);
    std::string target = pattern(100000, 7);
    write_file("b", target);
    int to = open_or_fail("b", O_RDWR);
    copy_all(from, 12345, to, 54321, 10001);
    target.replace(54321, 10001, data.substr(12345, 10001));
    expect_text(target, read_file("b"), "copy into the middle");
    copy_all(from, 100, to, 150000, 333);
    target.resize(150000);
    target += data.substr(100, 333);
    expect_text(target, read_file("b"), "copy behind the end");
}

void file_offsets() {
    write_file("a", pattern(1000));
    int from = open_or_fail("a", O_RDONLY);
    int to = open_or_fail("b", O_WRONLY | O_CREAT);
    expect_ok(lseek(from, 100, SEEK_SET), "lseek");
    ssize_t put = copy_file_range(from, nullptr, to, nullptr, 200, 0);
    ok_or_skip(put, "copy_file_range");
    expect_eq(100 + put, lseek(from, 0, SEEK_CUR), "offset of the source");
    expect_eq(put, lseek(to, 0, SEEK_CUR), "offset of the target");
    expect_text(pattern(1000).substr(100, static_cast<size_t>(put)), read_file("b"), "copy");
}

void short_source() {
    write_file("a", pattern(1000));
    int from = open_or_fail("a", O_RDONLY);
    int to = open_or_fail("b", O_WRONLY | O_CREAT);
    off_t offset = 900;
    expect_eq(100,
              ok_or_skip(copy_file_range(from, &offset, to, nullptr, 5000, 0), "copy_file_range"),
              "bytes copied over the end");
    expect_eq(0,
              expect_ok(copy_file_range(from, &offset, to, nullptr, 5000, 0), "copy at the end"),
              "bytes copied at the end");
    offset = 100000;
    expect_eq(0,
              expect_ok(copy_file_range(from, &offset, to, nullptr, 10, 0), "copy behind the end"),
              "bytes copied behind the end");
    expect_eq(100, stat_of("b").st_size, "size of the target");
}

void same_file() {
    std::string data = pattern(100000);
    write_file("a", data);
    int fd = open_or_fail("a", O_RDWR);
    copy_all(fd, 0, fd, 50000, 40000);
    data.replace(50000, 40000, data.substr(0, 40000));
    expect_text(data, read_file("a"), "copy inside one file");
    off_t from = 0;
    off_t to = 100;
    expect_errno(EINVAL, copy_file_range(fd, &from, fd, &to, 1000, 0), "overlapping ranges");
    expect_text(data, read_file("a"), "content after the refusal");
}

void errors() {
    write_file("a", "abc");
    write_file("b", "");
    make_dir("d");
    int reader = open_or_fail("a", O_RDONLY);
    int writer = open_or_fail("b", O_WRONLY);
    int appender = open_or_fail("b", O_WRONLY | O_APPEND);
    int dir = open_or_fail("d", O_RDONLY | O_DIRECTORY);
    expect_errno(
        EBADF, copy_file_range(writer, nullptr, writer, nullptr, 1, 0), "write-only source");
    expect_errno(
        EBADF, copy_file_range(reader, nullptr, reader, nullptr, 1, 0), "read-only target");
    expect_errno(
        EBADF, copy_file_range(reader, nullptr, appender, nullptr, 1, 0), "O_APPEND target");
    expect_errno(
        EISDIR, copy_file_range(dir, nullptr, writer, nullptr, 1, 0), "directory as source");
    expect_errno(EINVAL, copy_file_range(reader, nullptr, writer, nullptr, 1, 1), "unknown flag");
    expect_ok(mkfifo("p", 0644), "mkfifo");
    int fifo = open_or_fail("p", O_RDWR | O_NONBLOCK);
    expect_errno(EINVAL, copy_file_range(fifo, nullptr, writer, nullptr, 1, 0), "FIFO as source");
}

void unsynced_source() {
    int from = open_or_fail("a", O_RDWR | O_CREAT);
    int to = open_or_fail("b", O_RDWR | O_CREAT);
    for (unsigned i = 0; i < 20; ++i) {
        std::string data = pattern(70000, i);
        pwrite_all(from, data, 0);
        pwrite_all(to, pattern(70000, 99), 0);
        copy_all(from, 0, to, 0, data.size());
        expect_text(data, pread_some(to, data.size(), 0), "copy of data just written");
    }
}

void holes() {
    int from = open_or_fail("a", O_RDWR | O_CREAT);
    pwrite_all(from, "start", 0);
    pwrite_all(from, "end", 3 << 20);
    int to = open_or_fail("b", O_RDWR | O_CREAT);
    pwrite_all(to, pattern(4 << 20), 0);
    copy_all(from, 0, to, 0, (3 << 20) + 3);
    expect_text("start", pread_some(to, 5, 0), "start of the copy");
    expect(all_zero(pread_some(to, (3 << 20) - 5, 5)), "holes overwrite with zeros");
    expect_text("end", pread_some(to, 3, 3 << 20), "end of the copy");
}

void times() {
    write_file("a", pattern(1000));
    write_file("b", "");
    timespec before = stat_of("b").st_mtim;
    wait_clock_past(before);
    copy_all(open_or_fail("a", O_RDONLY), 0, open_or_fail("b", O_WRONLY), 0, 1000);
    expect(earlier(before, stat_of("b").st_mtim), "mtime of the target is later");
    expect(earlier(before, stat_of("b").st_ctim), "ctime of the target is later");
}

void across_chunks() {
    constexpr size_t kSize = 70 << 20;
    int from = open_or_fail("a", O_RDWR | O_CREAT);
    std::string piece = pattern(1 << 20);
    for (size_t at = 0; at < kSize; at += piece.size()) {
        piece[0] = static_cast<char>(at >> 20);
        pwrite_all(from, piece, static_cast<off_t>(at));
    }
    int to = open_or_fail("b", O_RDWR | O_CREAT);
    copy_all(from, 0, to, 12345, kSize);
    for (size_t at = 0; at < kSize; at += piece.size()) {
        piece[0] = static_cast<char>(at >> 20);
        expect_text(piece,
                    pread_some(to, piece.size(), static_cast<off_t>(at) + 12345),
                    "piece of the copy");
    }
}

void send_file() {
    std::string data = pattern(300000);
    write_file("a", data);
    int from = open_or_fail("a", O_RDONLY);
    int to = open_or_fail("b", O_WRONLY | O_CREAT);
    off_t offset = 0;
    while (offset < 300000) {
        expect(expect_ok(sendfile(to, from, &offset, 300000), "sendfile") > 0,
               "sendfile sends something");
    }
    expect_text(data, read_file("b"), "copy by sendfile");
}

}  // namespace

void add_copy_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"copy/plain", plain},
                     {"copy/with_offsets", with_offsets},
                     {"copy/file_offsets", file_offsets},
                     {"copy/short_source", short_source},
                     {"copy/same_file", same_file},
                     {"copy/errors", errors},
                     {"copy/unsynced_source", unsynced_source},
                     {"copy/holes", holes},
                     {"copy/times", times},
                     {"copy/across_chunks", across_chunks, true},
                     {"copy/send_file", send_file},
                 });
}

}  // namespace lumeofs::conformance
