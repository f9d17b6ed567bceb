// SPDX-License-Identifier: Apache-2.0
// fcntl(2) byte-range locks, open file description locks and flock(2) between processes of one
// mount.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "tests/posix/conformance/framework.h"

namespace lumeofs::conformance {
namespace {

struct flock range(int type, off_t start, off_t length) {
    struct flock lock {};
    lock.l_type = static_cast<short>(type);
    lock.l_whence = SEEK_SET;
    lock.l_start = start;
    lock.l_len = length;
    return lock;
}

long set_lock(int fd, int type, off_t start = 0, off_t length = 0, int command = F_SETLK) {
    struct flock lock = range(type, start, length);
    return fcntl(fd, command, &lock);
}

void refused(long result, const char* what, Where where = Where::current()) {
    expect_errno_of({EAGAIN, EACCES}, result, what, where);
}

int open_file() { return open_or_fail("f", O_RDWR | O_CREAT); }

void exclusion() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK), "write lock");
    join(spawn([] {
        int other = open_file();
        refused(set_lock(other, F_WRLCK), "write lock against a write lock");
        refused(set_lock(other, F_RDLCK), "read lock against a write lock");
    }));
    expect_ok(set_lock(fd, F_RDLCK), "change to a read lock");
    join(spawn([] {
        int other = open_file();
        refused(set_lock(other, F_WRLCK), "write lock against a read lock");
        expect_ok(set_lock(other, F_RDLCK), "read lock beside a read lock");
    }));
    expect_ok(set_lock(fd, F_UNLCK), "unlock");
    join(spawn([] { expect_ok(set_lock(open_file(), F_WRLCK), "write lock after unlock"); }));
}

void ranges() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK, 100, 100), "lock of 100..200");
    expect_ok(set_lock(fd, F_UNLCK, 140, 20), "unlock in the middle");
    expect_ok(set_lock(fd, F_WRLCK, 1LL << 40, 0), "lock from 2^40 to the end");
    join(spawn([] {
        int other = open_file();
        expect_ok(set_lock(other, F_WRLCK, 0, 100), "lock before");
        expect_ok(set_lock(other, F_WRLCK, 140, 20), "lock in the gap");
        expect_ok(set_lock(other, F_WRLCK, 200, 1000), "lock behind");
        refused(set_lock(other, F_WRLCK, 0, 101), "lock that touches the first byte");
        refused(set_lock(other, F_WRLCK, 199, 1), "lock of the last byte");
        refused(set_lock(other, F_WRLCK, 139, 2), "lock over the edge of the gap");
        refused(set_lock(other, F_WRLCK, 1LL << 50, 1), "lock far behind the end of the file");
    }));
}

void who_holds() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK, 50, 10), "lock");
    pid_t holder = getpid();
    join(spawn([holder] {
        struct flock lock = range(F_WRLCK, 0, 0);
        expect_ok(fcntl(open_file(), F_GETLK, &lock), "F_GETLK");
        expect_eq(F_WRLCK, lock.l_type, "type of the lock in the way");
        expect_eq(50, lock.l_start, "its start");
        expect_eq(10, lock.l_len, "its length");
        expect_eq(holder, lock.l_pid, "its holder");
        lock = range(F_WRLCK, 0, 50);
        expect_ok(fcntl(open_file(), F_GETLK, &lock), "F_GETLK");
        expect_eq(F_UNLCK, lock.l_type, "no lock in the way");
    }));
}

void released_by_close() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK), "lock");
    close(open_file());  // any descriptor of the file
    join(spawn(
        [] { expect_ok(set_lock(open_file(), F_WRLCK), "lock after a close by the holder"); }));
}

void released_by_exit() {
    Signal locked;
    pid_t child = fork();
    if (child == 0) {
        expect_ok(set_lock(open_file(), F_WRLCK), "lock");
        locked.raise();
        pause();
    }
    locked.wait();
    int fd = open_file();
    refused(set_lock(fd, F_WRLCK), "lock while the other lives");
    kill(child, SIGKILL);
    expect_ok(set_lock(fd, F_WRLCK, 0, 0, F_SETLKW), "lock after the other was killed");
    waitpid(child, nullptr, 0);
}

void not_inherited() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK), "lock");
    join(spawn(
        [fd] { refused(set_lock(fd, F_WRLCK), "lock by a child through the same descriptor"); }));
}

void waits_and_wakes() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK), "lock");
    Signal about_to_wait;
    pid_t child = spawn([&] {
        int other = open_file();
        refused(set_lock(other, F_WRLCK), "lock that must wait");
        about_to_wait.raise();
        expect_ok(set_lock(other, F_WRLCK, 0, 0, F_SETLKW), "lock after waiting");
        expect_text("done", pread_some(other, 10, 0), "what the holder wrote before it unlocked");
    });
    about_to_wait.wait();
    pwrite_all(fd, "done", 0);
    expect_ok(set_lock(fd, F_UNLCK), "unlock");
    join(child);
}

void wait_is_interrupted() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK), "lock");
    join(spawn([] {
        struct sigaction action {};
        action.sa_handler = [](int) {};  // without SA_RESTART
        sigaction(SIGALRM, &action, nullptr);
        ualarm(200000, 200000);
        expect_errno(
            EINTR, set_lock(open_file(), F_WRLCK, 0, 0, F_SETLKW), "waiting lock with a signal");
        ualarm(0, 0);
    }));
}

void deadlock_is_seen() {
    int fd = open_file();
    expect_ok(set_lock(fd, F_WRLCK, 0, 1), "lock of byte 0");
    Signal second_locked;
    pid_t child = spawn([&] {
        int other = open_file();
        expect_ok(set_lock(other, F_WRLCK, 1, 1), "lock of byte 1");
        second_locked.raise();
        long result = set_lock(other, F_WRLCK, 0, 1, F_SETLKW);
        if (result < 0) {
            expect_errno(EDEADLK, result, "waiting lock of byte 0");
        }
    });
    second_locked.wait();
    // One of the two gets EDEADLK; then it lets go, and the other goes on.
    long result = set_lock(fd, F_WRLCK, 1, 1, F_SETLKW);
    if (result < 0) {
        expect_errno(EDEADLK, result, "waiting lock of byte 1");
        expect_ok(set_lock(fd, F_UNLCK), "unlock");
    }
    join(child);
}

void needs_open_mode() {
    close(open_file());
    expect_errno(EBADF, set_lock(open_or_fail("f", O_RDONLY), F_WRLCK), "write lock, read-only");
    expect_errno(EBADF, set_lock(open_or_fail("f", O_WRONLY), F_RDLCK), "read lock, write-only");
}

void description_locks() {
    int a = open_file();
    int b = open_file();
    expect_ok(set_lock(a, F_WRLCK, 0, 10, F_OFD_SETLK), "lock of one description");
    refused(set_lock(b, F_WRLCK, 5, 10, F_OFD_SETLK), "lock of another in the same process");
    int copy = dup(a);
    close(b);
    close(copy);
    b = open_file();
    refused(set_lock(b, F_WRLCK, 5, 10, F_OFD_SETLK), "lock after closes of other descriptors");
    close(a);
    expect_ok(set_lock(b, F_WRLCK, 5, 10, F_OFD_SETLK), "lock after the last close");
}

void whole_file_locks() {
    int a = open_file();
    int b = open_file();
    expect_ok(flock(a, LOCK_EX | LOCK_NB), "exclusive flock");
    expect_errno(EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB), "second exclusive flock");
    expect_errno(EWOULDBLOCK, flock(b, LOCK_SH | LOCK_NB), "shared flock against an exclusive one");
    expect_ok(flock(a, LOCK_SH | LOCK_NB), "change to shared");
    expect_ok(flock(b, LOCK_SH | LOCK_NB), "second shared flock");
    expect_errno(
        EWOULDBLOCK, flock(b, LOCK_EX | LOCK_NB), "change to exclusive beside a shared one");
    close(a);
    expect_ok(flock(b, LOCK_EX | LOCK_NB), "exclusive flock after the other was closed");
    int copy = dup(b);
    close(b);
    int c = open_file();
    expect_errno(EWOULDBLOCK, flock(c, LOCK_EX | LOCK_NB), "flock while a duplicate is open");
    expect_ok(flock(copy, LOCK_UN), "unlock through the duplicate");
    expect_ok(flock(c, LOCK_EX | LOCK_NB), "flock after unlock");
    pid_t child = spawn([c] {
        close(c);  // a copy of the parent's descriptor would keep the parent's lock
        expect_ok(flock(open_file(), LOCK_EX), "waiting flock in a child");
    });
    close(c);
    join(child);
}

// Processes that add one under a lock lose nothing.
void counter_under_lock() {
    write_file("f", std::string(8, '0'));
    constexpr int kProcesses = 4;
    constexpr int kRounds = 100;
    std::vector<pid_t> pids;
    for (int process = 0; process < kProcesses; ++process) {
        pids.push_back(spawn([] {
            int fd = open_file();
            for (int i = 0; i < kRounds; ++i) {
                expect_ok(set_lock(fd, F_WRLCK, 0, 0, F_SETLKW), "lock");
                int value = std::stoi(pread_some(fd, 8, 0));
                char text[16];
                std::snprintf(text, sizeof text, "%08d", value + 1);
                pwrite_all(fd, text, 0);
                expect_ok(set_lock(fd, F_UNLCK), "unlock");
            }
        }));
    }
    join_all(pids);
    expect_text("00000400", read_file("f"), "sum");
}

}  // namespace

void add_lock_cases(Cases& cases) {
    cases.insert(cases.end(),
                 {
                     {"lock/exclusion", exclusion},
                     {"lock/ranges", ranges},
                     {"lock/who_holds", who_holds},
                     {"lock/released_by_close", released_by_close},
                     {"lock/released_by_exit", released_by_exit},
                     {"lock/not_inherited", not_inherited},
                     {"lock/waits_and_wakes", waits_and_wakes},
                     {"lock/wait_is_interrupted", wait_is_interrupted},
                     {"lock/deadlock_is_seen", deadlock_is_seen},
                     {"lock/needs_open_mode", needs_open_mode},
                     {"lock/description_locks", description_locks},
                     {"lock/whole_file_locks", whole_file_locks},
                     {"lock/counter_under_lock", counter_under_lock},
                 });
}

}  // namespace lumeofs::conformance
