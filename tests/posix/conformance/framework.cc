// SPDX-License-Identifier: Apache-2.0
// The checks and small file operations that the cases share.
// single-thread: main of each process.
#include "tests/posix/conformance/framework.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "tests/posix/conformance/runner.h"

namespace lumeofs::conformance {
namespace {

std::string errno_name(int code) {
    const char* name = strerrorname_np(code);
    return name != nullptr ? name : std::to_string(code);
}

std::string result_name(long result) {
    return result < 0 ? errno_name(errno) : "success (" + std::to_string(result) + ")";
}

std::string printable(std::string_view text) {
    std::string out = "\"";
    for (char c : text.substr(0, 60)) {
        auto byte = static_cast<unsigned char>(c);
        char hex[8];
        std::snprintf(hex, sizeof hex, byte >= 32 && byte < 127 ? "%c" : "\\x%02x", byte);
        out += hex;
    }
    return out + (text.size() > 60 ? "...\" (" + std::to_string(text.size()) + " bytes)" : "\"");
}

std::string file_and_line(const Where& where) {
    std::string_view path = where.file_name();
    path.remove_prefix(std::min(path.rfind('/') + 1, path.size()));
    return std::string(path) + ":" + std::to_string(where.line());
}

}  // namespace

void fail(std::string_view what,
          const std::string& expected,
          const std::string& found,
          Where where) {
    report(std::string(what) + ": expected " + expected + ", found " + found + " (" +
           file_and_line(where) + ")");
    _exit(kExitFailed);
}

void skip(std::string_view why) {
    report(std::string(why));
    _exit(kExitSkipped);
}

void expect(bool holds, std::string_view what, Where where) {
    if (!holds) {
        fail(what, "true", "false", where);
    }
}

void expect_eq(long long expected, long long found, std::string_view what, Where where) {
    if (expected != found) {
        fail(what, std::to_string(expected), std::to_string(found), where);
    }
}

void expect_text(std::string_view expected,
                 std::string_view found,
                 std::string_view what,
                 Where where) {
    if (expected == found) {
        return;
    }
    size_t at = 0;
    while (at < expected.size() && at < found.size() && expected[at] == found[at]) {
        ++at;
    }
    std::string place = at > 40 ? " from byte " + std::to_string(at) : "";
    at = at > 40 ? at : 0;
    fail(what, printable(expected.substr(at)) + place, printable(found.substr(at)), where);
}

long expect_ok(long result, std::string_view what, Where where) {
    if (result < 0) {
        fail(what, "success", errno_name(errno), where);
    }
    return result;
}

long ok_or_skip(long result, std::string_view what, Where where) {
    if (result < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        skip(std::string(what) + " is not supported here");
    }
    return expect_ok(result, what, where);
}

void expect_errno(int expected, long result, std::string_view what, Where where) {
    expect_errno_of({expected}, result, what, where);
}

void expect_errno_of(std::initializer_list<int> allowed,
                     long result,
                     std::string_view what,
                     Where where) {
    if (result < 0 && std::find(allowed.begin(), allowed.end(), errno) != allowed.end()) {
        return;
    }
    std::string found = result_name(result);
    std::string expected;
    for (int code : allowed) {
        expected += (expected.empty() ? "" : " or ") + errno_name(code);
    }
    fail(what, expected, found, where);
}

int open_or_fail(const std::string& path, int flags, mode_t mode, Where where) {
    int fd = open(path.c_str(), flags | O_CLOEXEC, mode);
    expect_ok(fd, "open " + path.substr(0, 60), where);
    return fd;
}

void write_all(int fd, std::string_view content, Where where) {
    while (!content.empty()) {
        ssize_t put = write(fd, content.data(), content.size());
        expect_ok(put, "write", where);
        content.remove_prefix(static_cast<size_t>(put));
    }
}

void pwrite_all(int fd, std::string_view content, off_t offset, Where where) {
    while (!content.empty()) {
        ssize_t put = pwrite(fd, content.data(), content.size(), offset);
        expect_ok(put, "pwrite", where);
        content.remove_prefix(static_cast<size_t>(put));
        offset += put;
    }
}

std::string pread_some(int fd, size_t length, off_t offset, Where where) {
    std::string out(length, '?');
    size_t have = 0;
    while (have < length) {
        ssize_t got =
            pread(fd, out.data() + have, length - have, offset + static_cast<off_t>(have));
        expect_ok(got, "pread", where);
        if (got == 0) {
            break;
        }
        have += static_cast<size_t>(got);
    }
    out.resize(have);
    return out;
}

void write_file(const std::string& path, std::string_view content, Where where) {
    int fd = open_or_fail(path, O_WRONLY | O_CREAT | O_TRUNC, 0644, where);
    write_all(fd, content, where);
    expect_ok(close(fd), "close " + path, where);
}

std::string read_file(const std::string& path, Where where) {
    int fd = open_or_fail(path, O_RDONLY, 0, where);
    std::string out;
    char buffer[65536];
    ssize_t got = 0;
    while ((got = expect_ok(read(fd, buffer, sizeof buffer), "read " + path, where)) > 0) {
        out.append(buffer, static_cast<size_t>(got));
    }
    close(fd);
    return out;
}

struct stat stat_of(const std::string& path, Where where) {
    struct stat out {};
    expect_ok(stat(path.c_str(), &out), "stat " + path.substr(0, 60), where);
    return out;
}

struct stat lstat_of(const std::string& path, Where where) {
    struct stat out {};
    expect_ok(lstat(path.c_str(), &out), "lstat " + path.substr(0, 60), where);
    return out;
}

struct stat fstat_of(int fd, Where where) {
    struct stat out {};
    expect_ok(fstat(fd, &out), "fstat", where);
    return out;
}

void make_dir(const std::string& path, mode_t mode, Where where) {
    expect_ok(mkdir(path.c_str(), mode), "mkdir " + path.substr(0, 60), where);
}

bool exists(const std::string& path) {
    struct stat out {};
    return lstat(path.c_str(), &out) == 0;
}

std::vector<std::string> list_dir(const std::string& path, Where where) {
    DIR* dir = opendir(path.c_str());
    expect_ok(dir != nullptr ? 0 : -1, "opendir " + path, where);
    std::vector<std::string> names;
    errno = 0;
    while (dirent* entry = readdir(dir)) {
        std::string name = entry->d_name;
        if (name != "." && name != "..") {
            names.push_back(name);
        }
        errno = 0;
    }
    expect_eq(0, errno, "errno after the last readdir of " + path, where);
    closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
}

std::string pattern(size_t length, unsigned seed) {
    std::string out(length, '\0');
    for (size_t i = 0; i < length; ++i) {
        out[i] = static_cast<char>(1 + (i * 7 + seed * 31 + i / 251) % 255);
    }
    return out;
}

bool all_zero(std::string_view bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == '\0'; });
}

pid_t spawn(const std::function<void()>& body) {
    pid_t pid = fork();
    expect_ok(pid, "fork");
    if (pid == 0) {
        body();
        _exit(0);
    }
    return pid;
}

void join(pid_t pid, Where where) {
    int status = 0;
    expect_ok(waitpid(pid, &status, 0), "waitpid", where);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kExitFailed) {
        _exit(kExitFailed);  // the child has said why
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == kExitSkipped) {
        _exit(kExitSkipped);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail("child process", "exit status 0", "wait status " + std::to_string(status), where);
    }
}

void join_all(const std::vector<pid_t>& pids, Where where) {
    for (pid_t pid : pids) {
        join(pid, where);
    }
}

Signal::Signal() { expect_ok(pipe2(ends_, O_CLOEXEC), "pipe"); }

void Signal::raise() const { expect_eq(1, write(ends_[1], "!", 1), "write to a pipe"); }

void Signal::wait() const {
    char byte = 0;
    expect_eq(1, read(ends_[0], &byte, 1), "read from a pipe");
}

void need_root() {
    if (geteuid() != 0) {
        skip("needs root");
    }
}

void become(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, Where where) {
    need_root();
    expect_ok(setgroups(groups.size(), groups.data()), "setgroups", where);
    expect_ok(setegid(gid), "setegid", where);
    expect_ok(seteuid(uid), "seteuid", where);
}

void become_root(Where where) {
    expect_ok(seteuid(0), "seteuid(0)", where);
    expect_ok(setegid(0), "setegid(0)", where);
    expect_ok(setgroups(0, nullptr), "setgroups", where);
}

bool earlier(const timespec& a, const timespec& b) {
    return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

bool same_time(const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

void wait_clock_past(const timespec& moment) {
    // File systems stamp with the coarse clock, so that is the one to watch.
    timespec now{};
    do {
        poll(nullptr, 0, 1);
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while (!earlier(moment, now));
}

}  // namespace lumeofs::conformance
