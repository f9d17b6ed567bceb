// SPDX-License-Identifier: Apache-2.0
// What a small database does to its files: a journal made, synced and deleted around each change,
// guarded by shared, reserved, pending and exclusive locks at 1 GiB. Written from SQLite's
// documented protocol, so that a failure shows which step is wrong; the real program is tested by
// programs/sqlite.sh.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

constexpr off_t kPending = 0x40000000;
constexpr off_t kReserved = kPending + 1;
constexpr off_t kSharedFirst = kPending + 2;
constexpr off_t kSharedSize = 510;
constexpr size_t kPageSize = 4096;
constexpr int kPages = 8;

bool try_lock(int fd, int type, off_t start, off_t length) {
    struct flock lock {};
    lock.l_type = static_cast<short>(type);
    lock.l_start = start;
    lock.l_len = length;
    if (fcntl(fd, F_SETLK, &lock) == 0) {
        return true;
    }
    expect(errno == EAGAIN || errno == EACCES, "a lock is granted or busy");
    return false;
}

void unlock_all(int fd) {
    struct flock lock {};
    lock.l_type = F_UNLCK;
    expect_ok(fcntl(fd, F_SETLK, &lock), "unlock");
}

bool lock_shared(int fd) {
    if (!try_lock(fd, F_RDLCK, kPending, 1)) {
        return false;
    }
    bool have = try_lock(fd, F_RDLCK, kSharedFirst, kSharedSize);
    expect(try_lock(fd, F_UNLCK, kPending, 1), "unlock of the pending byte");
    return have;
}

// Every page holds the same number in every transaction; a page with another number is a torn one.
long read_number(int fd) {
    std::string all = pread_some(fd, kPageSize * kPages, 0);
    expect_eq(kPageSize * kPages, static_cast<long long>(all.size()), "size of the database");
    for (size_t page = 1; page < kPages; ++page) {
        expect_text(all.substr(0, kPageSize),
                    all.substr(page * kPageSize, kPageSize),
                    "page of the database");
    }
    return std::atol(all.c_str());
}

std::string page_of(long number) {
    std::string page = std::to_string(number);
    page.resize(kPageSize, '\0');
    return page;
}

bool transaction(int fd) {
    if (!lock_shared(fd)) {
        return false;
    }
    if (!try_lock(fd, F_WRLCK, kReserved, 1)) {
        unlock_all(fd);
        return false;
    }
    expect(!exists("journal"), "no journal while nobody else has the reserved lock");
    long number = read_number(fd);
    int journal = open_or_fail("journal", O_RDWR | O_CREAT | O_EXCL);
    write_all(journal, page_of(number));
    expect_ok(fsync(journal), "fsync of the journal");
    bool exclusive = try_lock(fd, F_WRLCK, kPending, 1);
    while (exclusive && !try_lock(fd, F_WRLCK, kSharedFirst, kSharedSize)) {
        sched_yield();  // readers leave; no new ones come while the pending byte is held
    }
    if (exclusive) {
        for (off_t page = 0; page < kPages; ++page) {
            pwrite_all(fd, page_of(number + 1), page * static_cast<off_t>(kPageSize));
        }
        expect_ok(fdatasync(fd), "fdatasync of the database");
    }
    close(journal);
    expect_ok(unlink("journal"), "unlink of the journal");
    unlock_all(fd);
    return exclusive;
}

void run_processes(int processes, int rounds) {
    int setup = open_or_fail("db", O_RDWR | O_CREAT);
    for (int page = 0; page < kPages; ++page) {
        write_all(setup, page_of(0));
    }
    close(setup);
    std::vector<pid_t> pids;
    for (int process = 0; process < processes; ++process) {
        pids.push_back(spawn([rounds] {
            int fd = open_or_fail("db", O_RDWR);
            for (int done = 0; done < rounds;) {
                if (transaction(fd)) {
                    ++done;
                } else {
                    sched_yield();
                }
            }
        }));
    }
    pids.push_back(spawn([processes, rounds] {  // a reader: never a torn state, never back in time
        int fd = open_or_fail("db", O_RDONLY);
        long last = 0;
        while (last < long{processes} * rounds) {
            if (!lock_shared(fd)) {
                sched_yield();
                continue;
            }
            long now = read_number(fd);
            expect(now >= last, "the number never goes back");
            last = now;
            unlock_all(fd);
        }
    }));
    join_all(pids);
    expect_eq(long{processes} * rounds,
              read_number(open_or_fail("db", O_RDONLY)),
              "transactions in the file");
    expect(!exists("journal"), "the journal is gone");
}

void two_writers_and_a_reader() { run_processes(2, 40); }

void four_writers_and_a_reader() { run_processes(4, 100); }

}  // namespace

void add_sqlite_like_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"sqlite_like/two_writers_and_a_reader", two_writers_and_a_reader},
                     {"sqlite_like/four_writers_and_a_reader", four_writers_and_a_reader, true},
                 });
}

}  // namespace lumeofs::conformance
