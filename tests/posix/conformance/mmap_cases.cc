// SPDX-License-Identifier: Apache-2.0
// mmap(2), shared and private, and programs run from the file system.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

constexpr size_t kPage = 4096;

char* map_file(int fd, size_t length, int protection, int flags, off_t offset = 0) {
    void* map = mmap(nullptr, length, protection, flags, fd, offset);
    expect_ok(map == MAP_FAILED ? -1 : 0, "mmap");
    return static_cast<char*>(map);
}

constexpr int kBoth = PROT_READ | PROT_WRITE;

void shared_is_the_file() {
    std::string data = pattern(5 * kPage);
    write_file("f", data);
    int fd = open_or_fail("f", O_RDWR);
    char* map = map_file(fd, data.size(), kBoth, MAP_SHARED);
    expect_text(data, std::string(map, data.size()), "content of the mapping");
    map[100] = 'A';
    expect_text("A", pread_some(fd, 1, 100), "read of a mapped write");
    pwrite_all(fd, "B", 3 * kPage + 5);
    expect_eq('B', map[3 * kPage + 5], "mapped read of a write");
    expect_ok(munmap(map, data.size()), "munmap");
    close(fd);
    data[100] = 'A';
    data[3 * kPage + 5] = 'B';
    expect_text(data, read_file("f"), "content after reopening");
}

void private_is_not() {
    std::string data = pattern(2 * kPage);
    write_file("f", data);
    int fd = open_or_fail("f", O_RDONLY);
    char* map = map_file(fd, data.size(), kBoth, MAP_PRIVATE);
    map[10] = 'X';
    expect_eq('X', map[10], "own write to a private mapping");
    expect_ok(munmap(map, data.size()), "munmap");
    expect_text(data, read_file("f"), "content of the file");
}

void protection() {
    write_file("f", pattern(kPage));
    int reader = open_or_fail("f", O_RDONLY);
    void* map = mmap(nullptr, kPage, kBoth, MAP_SHARED, reader, 0);
    expect_errno(
        EACCES, map == MAP_FAILED ? -1 : 0, "shared writable mapping of a read-only descriptor");
    int writer = open_or_fail("f", O_WRONLY);
    map = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, writer, 0);
    expect_errno(EACCES, map == MAP_FAILED ? -1 : 0, "mapping of a write-only descriptor");
}

void outlives_descriptor() {
    write_file("f", pattern(2 * kPage));
    int fd = open_or_fail("f", O_RDWR);
    char* map = map_file(fd, 2 * kPage, kBoth, MAP_SHARED);
    expect_ok(close(fd), "close");
    map[kPage] = 'L';
    expect_ok(msync(map, 2 * kPage, MS_SYNC), "msync after close");
    map[kPage + 1] = 'M';
    expect_ok(munmap(map, 2 * kPage), "munmap");
    expect_text("LM", read_file("f").substr(kPage, 2), "bytes written after close");
}

void behind_the_end() {
    write_file("f", pattern(100));
    int fd = open_or_fail("f", O_RDWR);
    char* map = map_file(fd, 2 * kPage, kBoth, MAP_SHARED);
    expect(all_zero(std::string_view(map + 100, kPage - 100)), "the rest of the last page is zero");
    pid_t child = fork();
    if (child == 0) {
        std::signal(SIGBUS, SIG_DFL);
        map[kPage + 1] = 'x';
        _exit(0);
    }
    int status = 0;
    expect_ok(waitpid(child, &status, 0), "waitpid");
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "a page behind the end gives SIGBUS");
    expect_ok(ftruncate(fd, 2 * kPage), "ftruncate");
    map[kPage + 1] = 'y';
    expect_text("y", pread_some(fd, 1, kPage + 1), "the page works once the file has grown");
}

void truncated_mapping() {
    write_file("f", pattern(3 * kPage));
    int fd = open_or_fail("f", O_RDWR);
    char* map = map_file(fd, 3 * kPage, kBoth, MAP_SHARED);
    expect_ok(ftruncate(fd, kPage + 10), "ftruncate");
    expect_eq(0, map[kPage + 10], "byte behind the cut");
    expect(all_zero(std::string_view(map + kPage + 10, kPage - 10)),
           "the rest of the page is zero");
    expect_ok(ftruncate(fd, 3 * kPage), "ftruncate up");
    expect(all_zero(std::string_view(map + kPage + 10, 2 * kPage - 10)),
           "all behind the cut is zero");
}

void between_processes() {
    write_file("f", std::string(2 * kPage, '\0'));
    int fd = open_or_fail("f", O_RDWR);
    char* map = map_file(fd, 2 * kPage, kBoth, MAP_SHARED);
    Signal there;
    Signal back;
    pid_t child = spawn([&] {
        int mine = open_or_fail("f", O_RDWR);
        char* own = map_file(mine, 2 * kPage, kBoth, MAP_SHARED);
        there.wait();
        expect_eq('P', own[5000], "the parent's byte");
        own[5001] = 'C';
        back.raise();
    });
    map[5000] = 'P';
    there.raise();
    back.wait();
    expect_eq('C', map[5001], "the child's byte");
    join(child);
}

void times() {
    write_file("f", pattern(kPage));
    timespec before = stat_of("f").st_mtim;
    wait_clock_past(stat_of("f").st_ctim);
    int fd = open_or_fail("f", O_RDWR);
    char* map = map_file(fd, kPage, kBoth, MAP_SHARED);
    map[1] = 'x';
    expect_ok(msync(map, kPage, MS_SYNC), "msync");
    expect_ok(munmap(map, kPage), "munmap");
    expect_ok(close(fd), "close");
    expect(earlier(before, stat_of("f").st_mtim), "mtime is later after a mapped write");
}

void large_and_random() {
    constexpr size_t kSize = 16 << 20;
    int fd = open_or_fail("f", O_RDWR | O_CREAT);
    expect_ok(ftruncate(fd, kSize), "ftruncate");
    char* map = map_file(fd, kSize, kBoth, MAP_SHARED);
    std::string model(kSize, '\0');
    uint64_t state = 12345;
    for (int i = 0; i < 2000; ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        size_t at = static_cast<size_t>(state >> 33) % (kSize - 100);
        std::memset(map + at, 'a' + i % 26, 100);
        std::memset(model.data() + at, 'a' + i % 26, 100);
    }
    expect_ok(msync(map, kSize, MS_SYNC), "msync");
    expect_ok(munmap(map, kSize), "munmap");
    expect_ok(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "posix_fadvise");
    close(fd);
    expect_text(model, read_file("f"), "content after reopening");
}

void offset_mapping() {
    std::string data = pattern(10 * kPage);
    write_file("f", data);
    int fd = open_or_fail("f", O_RDWR);
    char* map = map_file(fd, 3 * kPage, PROT_READ, MAP_SHARED, 4 * kPage);
    expect_text(
        data.substr(4 * kPage, 3 * kPage), std::string(map, 3 * kPage), "mapping at an offset");
    make_dir("d");
    int dir = open_or_fail("d", O_RDONLY | O_DIRECTORY);
    void* bad = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, dir, 0);
    expect_errno(ENODEV, bad == MAP_FAILED ? -1 : 0, "mapping of a directory");
}

void program_runs() {
    struct statvfs fs {};
    expect_ok(statvfs(".", &fs), "statvfs");
    if ((fs.f_flag & ST_NOEXEC) != 0) {
        skip("mounted with noexec");
    }
    write_file("program", read_file("/bin/cat"));
    expect_ok(chmod("program", 0755), "chmod");
    write_file("script", "#!/bin/sh\nexit 7\n");
    expect_ok(chmod("script", 0755), "chmod");
    int ends[2];
    expect_ok(pipe(ends), "pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[0], 0);
        close(ends[1]);
        execl("./program", "program", static_cast<char*>(nullptr));
        _exit(99);
    }
    // The child blocks on its input, so the program runs while this looks at it.
    std::string link = "/proc/" + std::to_string(child) + "/exe";
    char target[4096];
    ssize_t length = 0;
    do {
        length = readlink(link.c_str(), target, sizeof target);
    } while (length > 0 &&
             !std::string_view(target, static_cast<size_t>(length)).ends_with("/program"));
    expect_errno(ETXTBSY, open("program", O_WRONLY), "open of a running program for writing");
    close(ends[0]);
    close(ends[1]);
    int status = 0;
    expect_ok(waitpid(child, &status, 0), "waitpid");
    expect_eq(0, status, "wait status of the program");
    join(spawn([] {
        pid_t pid = fork();
        if (pid == 0) {
            execl("./script", "script", static_cast<char*>(nullptr));
            _exit(99);
        }
        int code = 0;
        waitpid(pid, &code, 0);
        expect_eq(7, WEXITSTATUS(code), "exit status of a script");
    }));
    expect_ok(chmod("program", 0644), "chmod");
    expect_errno(
        EACCES, execl("./program", "program", static_cast<char*>(nullptr)), "exec without x");
}

}  // namespace

void add_mmap_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"mmap/shared_is_the_file", shared_is_the_file},
                     {"mmap/private_is_not", private_is_not},
                     {"mmap/protection", protection},
                     {"mmap/outlives_descriptor", outlives_descriptor},
                     {"mmap/behind_the_end", behind_the_end},
                     {"mmap/truncated_mapping", truncated_mapping},
                     {"mmap/between_processes", between_processes},
                     {"mmap/times", times},
                     {"mmap/large_and_random", large_and_random},
                     {"mmap/offset_mapping", offset_mapping},
                     {"mmap/program_runs", program_runs},
                 });
}

}  // namespace lumeofs::conformance
