// SPDX-License-Identifier: Apache-2.0
// A small framework for black-box file system cases. A case is a function with a name
// "topic/what". Each case runs in a process of its own, whose working directory is a fresh, empty
// directory of the file system under test: so it may change its umask, its user or its limits,
// hold locks, hang or crash without harm to another. A check that does not hold prints
// `FAIL NAME: WHAT: expected X, found Y` and ends the process; nothing is thrown.
// single-thread: main of each process.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <functional>
#include <initializer_list>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace lumeofs::conformance {

struct Case {
    std::string_view name;
    void (*run)();
    bool slow = false;  // only with --full
};

using Cases = std::vector<Case>;
using Where = std::source_location;

// The topics; main.cc lists them.
void add_open_cases(Cases& cases);
void add_rename_cases(Cases& cases);
void add_rename_dir_cases(Cases& cases);
void add_link_cases(Cases& cases);
void add_dir_cases(Cases& cases);
void add_readdir_cases(Cases& cases);
void add_symlink_cases(Cases& cases);
void add_attr_cases(Cases& cases);
void add_time_cases(Cases& cases);
void add_special_cases(Cases& cases);
void add_sparse_cases(Cases& cases);
void add_append_cases(Cases& cases);
void add_race_cases(Cases& cases);
void add_sync_cases(Cases& cases);
void add_mmap_cases(Cases& cases);
void add_fallocate_cases(Cases& cases);
void add_copy_cases(Cases& cases);
void add_xattr_cases(Cases& cases);
void add_name_cases(Cases& cases);
void add_statfs_cases(Cases& cases);
void add_permission_cases(Cases& cases);
void add_umask_cases(Cases& cases);
void add_lock_cases(Cases& cases);
void add_sqlite_like_cases(Cases& cases);
void add_two_mount_cases(Cases& cases);

// What a case was given on the command line.
bool full_run();
const std::string& second_dir();  // the case's directory seen through another mount, or ""

[[noreturn]] void fail(std::string_view what,
                       const std::string& expected,
                       const std::string& found,
                       Where where = Where::current());
[[noreturn]] void skip(std::string_view why);

void expect(bool holds, std::string_view what, Where where = Where::current());
void expect_eq(long long expected,
               long long found,
               std::string_view what,
               Where where = Where::current());
void expect_text(std::string_view expected,
                 std::string_view found,
                 std::string_view what,
                 Where where = Where::current());
// `result` is what the call returned; errno is read if it is negative.
long expect_ok(long result, std::string_view what, Where where = Where::current());
void expect_errno(int expected, long result, std::string_view what, Where where = Where::current());
void expect_errno_of(std::initializer_list<int> allowed,
                     long result,
                     std::string_view what,
                     Where where = Where::current());
// Like expect_ok, but the case ends as skipped if the file system says EOPNOTSUPP.
long ok_or_skip(long result, std::string_view what, Where where = Where::current());

int open_or_fail(const std::string& path,
                 int flags,
                 mode_t mode = 0644,
                 Where where = Where::current());
void write_file(const std::string& path, std::string_view content, Where where = Where::current());
std::string read_file(const std::string& path, Where where = Where::current());
void write_all(int fd, std::string_view content, Where where = Where::current());
void pwrite_all(int fd, std::string_view content, off_t offset, Where where = Where::current());
std::string pread_some(int fd, size_t length, off_t offset, Where where = Where::current());
struct stat stat_of(const std::string& path, Where where = Where::current());
struct stat lstat_of(const std::string& path, Where where = Where::current());
struct stat fstat_of(int fd, Where where = Where::current());
void make_dir(const std::string& path, mode_t mode = 0755, Where where = Where::current());
bool exists(const std::string& path);  // lstat
std::vector<std::string> list_dir(const std::string& path, Where where = Where::current());
std::string pattern(size_t length, unsigned seed = 1);  // bytes that repeat at no block size
bool all_zero(std::string_view bytes);

// A child process that runs `body`; a failed check in it fails the case at join().
pid_t spawn(const std::function<void()>& body);
void join(pid_t pid, Where where = Where::current());
void join_all(const std::vector<pid_t>& pids, Where where = Where::current());

// A pair of pipes' worth of "go on now" between two processes.
class Signal {
public:
    Signal();
    void raise() const;
    void wait() const;

private:
    int ends_[2] = {-1, -1};
};

constexpr uid_t kUser = 65534;  // nobody: owns nothing
constexpr uid_t kOtherUser = 65533;
constexpr gid_t kGroup = 65534;
constexpr gid_t kOtherGroup = 65533;

void need_root();  // skips the case without it
void become(uid_t uid,
            gid_t gid,
            const std::vector<gid_t>& groups = {},
            Where where = Where::current());  // effective ids only
void become_root(Where where = Where::current());

// Waits until a change made now gets a time later than `moment`.
void wait_clock_past(const timespec& moment);
bool earlier(const timespec& a, const timespec& b);
bool same_time(const timespec& a, const timespec& b);

}  // namespace lumeofs::conformance
