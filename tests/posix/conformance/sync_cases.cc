// SPDX-License-Identifier: Apache-2.0
// fsync(2) and its kin, O_SYNC, O_DSYNC, and O_DIRECT beside buffered access.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

constexpr size_t kPage = 4096;

char* aligned(size_t size) {
    void* memory = std::aligned_alloc(kPage, size);
    expect(memory != nullptr, "memory");
    return static_cast<char*>(memory);
}

int open_direct(const char* path, int flags) {
    int fd = open(path, flags | O_DIRECT | O_CREAT, 0644);
    if (fd < 0 && errno == EINVAL) {
        skip("no O_DIRECT here");
    }
    return static_cast<int>(expect_ok(fd, "open with O_DIRECT"));
}

void all_calls() {
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    write_all(fd, pattern(100000));
    expect_ok(fdatasync(fd), "fdatasync");
    expect_ok(fsync(fd), "fsync");
    expect_ok(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE), "sync_file_range");
    expect_ok(syncfs(fd), "syncfs");
    int reader = open_or_fail("f", O_RDONLY);
    expect_ok(fsync(reader), "fsync of a read-only descriptor");
    int dir = open_or_fail(".", O_RDONLY | O_DIRECTORY);
    expect_ok(fsync(dir), "fsync of a directory");
    expect_ok(fdatasync(dir), "fdatasync of a directory");
    int ends[2];
    expect_ok(pipe(ends), "pipe");
    expect_errno(EINVAL, fsync(ends[0]), "fsync of a pipe");
}

void synchronous_writes() {
    for (int flag : {O_SYNC, O_DSYNC}) {
        int fd = open_or_fail("f", O_RDWR | O_CREAT | O_TRUNC | flag);
        std::string all;
        for (unsigned i = 0; i < 20; ++i) {
            std::string part = pattern(777 + i, i);
            write_all(fd, part);
            all += part;
        }
        expect_text(all, read_file("f"), "content written synchronously");
        expect_ok(close(fd), "close");
    }
    int both = open_or_fail("f", O_WRONLY | O_APPEND | O_DSYNC);
    write_all(both, "end");
    expect(read_file("f").ends_with("end"), "O_APPEND with O_DSYNC");
}

void direct_write_and_read() {
    int fd = open_direct("f", O_RDWR);
    std::string data = pattern(16 * kPage);
    char* memory = aligned(data.size());
    std::memcpy(memory, data.data(), data.size());
    expect_eq(
        static_cast<long long>(data.size()), pwrite(fd, memory, data.size(), 0), "direct write");
    expect_text(data, read_file("f"), "buffered read of it");
    std::memset(memory, 0, data.size());
    expect_eq(
        static_cast<long long>(4 * kPage), pread(fd, memory, 4 * kPage, 2 * kPage), "direct read");
    expect_text(data.substr(2 * kPage, 4 * kPage), std::string(memory, 4 * kPage), "bytes of it");
    std::free(memory);
}

void direct_and_buffered() {
    int direct = open_direct("f", O_RDWR);
    int buffered = open_or_fail("f", O_RDWR);
    char* memory = aligned(kPage);
    for (unsigned i = 0; i < 100; ++i) {
        off_t place = static_cast<off_t>((i * 7 % 16) * kPage);
        std::string data = pattern(kPage, i);
        if (i % 2 == 0) {
            pwrite_all(buffered, data, place);
            expect_eq(
                static_cast<long long>(kPage), pread(direct, memory, kPage, place), "direct read");
            expect_text(data, std::string(memory, kPage), "direct read after a buffered write");
        } else {
            std::memcpy(memory, data.data(), kPage);
            expect_eq(static_cast<long long>(kPage),
                      pwrite(direct, memory, kPage, place),
                      "direct write");
            expect_text(
                data, pread_some(buffered, kPage, place), "buffered read after a direct write");
        }
    }
    std::free(memory);
}

void direct_at_the_end() {
    write_file("f", pattern(kPage + 100));
    int fd = open_direct("f", O_RDWR);
    char* memory = aligned(4 * kPage);
    expect_eq(
        static_cast<long long>(kPage) + 100, pread(fd, memory, 4 * kPage, 0), "read over the end");
    expect_text(pattern(kPage + 100), std::string(memory, kPage + 100), "bytes read");
    expect_eq(100, pread(fd, memory, kPage, kPage), "read of the last part");
    expect_eq(0, pread(fd, memory, kPage, 8 * kPage), "read behind the end");
    std::memset(memory, 'x', kPage);
    expect_eq(static_cast<long long>(kPage),
              pwrite(fd, memory, kPage, 4 * kPage),
              "write behind the end");
    expect_eq(static_cast<long long>(5 * kPage), fstat_of(fd).st_size, "size");
    expect(all_zero(pread_some(open_or_fail("f", O_RDONLY), 3 * kPage - 100, kPage + 100)),
           "gap of zeros");
    std::free(memory);
}

// Unaligned direct I/O is either refused whole or right.
void direct_unaligned() {
    std::string data = pattern(3 * kPage);
    write_file("f", data);
    int fd = open_direct("f", O_RDWR);
    char* memory = aligned(2 * kPage);
    ssize_t got = pread(fd, memory, 1000, 17);
    if (got < 0) {
        expect_errno(EINVAL, got, "unaligned direct read");
    } else {
        expect_text(
            data.substr(17, 1000), std::string(memory, static_cast<size_t>(got)), "bytes read");
    }
    std::memset(memory, 'y', 1000);
    ssize_t put = pwrite(fd, memory, 1000, 33);
    if (put < 0) {
        expect_errno(EINVAL, put, "unaligned direct write");
    } else {
        data.replace(33, static_cast<size_t>(put), static_cast<size_t>(put), 'y');
    }
    expect_text(data, read_file("f"), "content");
    std::free(memory);
}

void direct_append() {
    int fd = open_direct("f", O_WRONLY | O_APPEND);
    char* memory = aligned(kPage);
    std::string all;
    for (unsigned i = 0; i < 20; ++i) {
        std::string data = pattern(kPage, i);
        std::memcpy(memory, data.data(), kPage);
        expect_eq(static_cast<long long>(kPage), write(fd, memory, kPage), "direct append");
        all += data;
    }
    expect_text(all, read_file("f"), "content");
    std::free(memory);
}

void direct_and_mapping() {
    write_file("f", pattern(8 * kPage));
    int fd = open_direct("f", O_RDWR);
    int buffered = open_or_fail("f", O_RDWR);
    void* map = mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, buffered, 0);
    expect(map != MAP_FAILED, "mmap");
    char* bytes = static_cast<char*>(map);
    bytes[kPage] = 'M';
    char* memory = aligned(kPage);
    expect_ok(msync(map, 8 * kPage, MS_SYNC), "msync");
    expect_eq(static_cast<long long>(kPage), pread(fd, memory, kPage, kPage), "direct read");
    expect_eq('M', memory[0], "byte written through the mapping");
    std::memset(memory, 'D', kPage);
    expect_eq(static_cast<long long>(kPage), pwrite(fd, memory, kPage, kPage), "direct write");
    expect_eq('D', bytes[kPage + 5], "mapping after a direct write");
    std::free(memory);
}

void fsync_after_other_descriptors() {
    // fsync covers what other descriptors wrote.
    int writer = open_or_fail("f", O_WRONLY | O_CREAT);
    int other = open_or_fail("f", O_RDONLY);
    std::string data = pattern(500000);
    write_all(writer, data);
    expect_ok(fsync(other), "fsync through another descriptor");
    expect_ok(posix_fadvise(other, 0, 0, POSIX_FADV_DONTNEED), "posix_fadvise");
    expect_text(data, pread_some(other, data.size(), 0), "content read back");
}

}  // namespace

void add_sync_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"sync/all_calls", all_calls},
                     {"sync/synchronous_writes", synchronous_writes},
                     {"sync/fsync_after_other_descriptors", fsync_after_other_descriptors},
                     {"direct/write_and_read", direct_write_and_read},
                     {"direct/and_buffered", direct_and_buffered},
                     {"direct/at_the_end", direct_at_the_end},
                     {"direct/unaligned", direct_unaligned},
                     {"direct/append", direct_append},
                     {"direct/and_mapping", direct_and_mapping},
                 });
}

}  // namespace lumeofs::conformance
