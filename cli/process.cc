// SPDX-License-Identifier: Apache-2.0
#include "cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace lumeofs::cli {
namespace {

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

Status failed(const std::string& what, int error) {
    return Status(Errc::io, what + ": " + std::strerror(error));
}

// The call above returns when the child has let go of our memory, which is a moment before the
// kernel shows the new program's arguments: `running_pid` must not take it for a stranger then.
void await_arguments(pid_t pid) {
    const std::string file = "/proc/" + std::to_string(pid) + "/cmdline";
    for (const Nanos end = time_now() + kSecond; time_now() < end;) {
        auto text = read_whole_file(file);
        if (!text || !text->empty()) return;
        sched_yield();
    }
}

// Reaps a child; true if `pid` was ours and has ended.
bool reap(pid_t pid, int* status) { return waitpid(pid, status, WNOHANG) == pid; }

}  // namespace

Result<pid_t> start_program(const Program& program) {
    std::vector<char*> arguments;
    for (const std::string& argument : program.arguments) {
        arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    const std::string log = program.log_file.empty() ? "/dev/null" : program.log_file;

    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    const int error =
        posix_spawnp(&pid, arguments[0], &files, &attributes, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) return failed("cannot start " + program.arguments[0], error);
    await_arguments(pid);
    return pid;
}

Result<int> run_program(const Program& program, Nanos patience) {
    LFS_ASSIGN(const pid_t pid, start_program(program));
    const Nanos deadline = time_now() + patience;
    const int fd = open_pidfd(pid);
    int status = 0;
    while (!reap(pid, &status)) {
        const Nanos left = deadline - time_now();
        if (left <= 0) {
            kill(pid, SIGKILL);  // not waited for: it may hang in the kernel
            if (fd >= 0) close(fd);
            return Status(Errc::timeout, program.arguments[0] + " did not end in time");
        }
        pollfd wait = {fd, POLLIN, 0};
        poll(&wait, 1, static_cast<int>(std::min<Nanos>(left / kMillisecond + 1, 1000)));
    }
    if (fd >= 0) close(fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool is_alive(pid_t pid) {
    if (pid <= 1) return false;
    auto text = read_whole_file("/proc/" + std::to_string(pid) + "/stat");
    if (!text) return false;
    const size_t close_paren = text->rfind(')');
    if (close_paren == std::string::npos || close_paren + 2 >= text->size()) return false;
    const char state = (*text)[close_paren + 2];
    return state != 'Z' && state != 'X';
}

pid_t running_pid(const std::string& pid_file,
                  const std::string& program_name,
                  const std::string& argument) {
    auto text = read_whole_file(pid_file);
    if (!text) return 0;
    const auto pid = static_cast<pid_t>(std::strtol(text->c_str(), nullptr, 10));
    if (!is_alive(pid)) return 0;
    const std::string proc = "/proc/" + std::to_string(pid);
    char target[4096];
    const ssize_t length = readlink((proc + "/exe").c_str(), target, sizeof target);
    if (length <= 0) return 0;
    std::string exe(target, static_cast<size_t>(length));
    auto arguments = read_whole_file(proc + "/cmdline");
    if (!arguments) return 0;
    // Rebuilt since it was started: a linker may have renamed the old file before it was deleted.
    if (exe.ends_with(" (deleted)")) exe = arguments->substr(0, arguments->find('\0'));
    if (base_name(exe) != program_name) return 0;
    const std::string wanted = argument + '\0';
    return arguments->find(wanted) == std::string::npos ? 0 : pid;
}

void wait_for_dying(const std::string& pid_file, Nanos patience) {
    auto text = read_whole_file(pid_file);
    if (!text) return;
    const auto pid = static_cast<pid_t>(std::strtol(text->c_str(), nullptr, 10));
    const std::string proc = "/proc/" + std::to_string(pid);
    char target[16];
    if (pid <= 1 || access(proc.c_str(), F_OK) != 0) return;
    if (readlink((proc + "/exe").c_str(), target, sizeof target) >= 0 || errno != ENOENT) return;
    const int fd = open_pidfd(pid);
    if (fd < 0) return;
    pollfd wait = {fd, POLLIN, 0};
    poll(&wait, 1, static_cast<int>(patience / kMillisecond));
    close(fd);
}

bool wait_for_end(pid_t pid, Nanos patience) {
    const Nanos deadline = time_now() + patience;
    const int fd = open_pidfd(pid);
    bool ended = false;
    for (;;) {
        int status = 0;
        ended = reap(pid, &status) || !is_alive(pid);
        const Nanos left = deadline - time_now();
        if (ended || left <= 0) break;
        const auto wait_ms = static_cast<int>(std::min<Nanos>(left / kMillisecond + 1, 500));
        pollfd wait = {fd, POLLIN, 0};
        poll(&wait, fd >= 0 ? 1 : 0, fd >= 0 ? wait_ms : std::min(wait_ms, 20));
    }
    if (fd >= 0) close(fd);
    return ended;
}

bool end_process(pid_t pid, Nanos patience) {
    if (kill(pid, SIGTERM) != 0 && errno == ESRCH) return true;
    kill(pid, SIGCONT);  // a stopped one would never see it
    if (wait_for_end(pid, patience)) return true;
    kill(pid, SIGKILL);
    return wait_for_end(pid, 10 * kSecond);
}

Nanos time_now() {
    timespec now = {};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return static_cast<Nanos>(now.tv_sec) * kSecond + now.tv_nsec;
}

void look_again_later(Nanos pause) {
    timespec time = {pause / kSecond, pause % kSecond};
    nanosleep(&time, nullptr);
}

std::string own_path() {
    char target[4096];
    const ssize_t length = readlink("/proc/self/exe", target, sizeof target);
    return length <= 0 ? "" : std::string(target, static_cast<size_t>(length));
}

std::string own_directory() {
    const std::string path = own_path();
    return path.substr(0, path.rfind('/'));
}

bool write_whole_file(const std::string& path, const std::string& text) {
    const std::string fresh = path + ".new";
    FILE* file = std::fopen(fresh.c_str(), "we");
    if (!file) return false;
    bool good = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    good = std::fclose(file) == 0 && good;
    return good && std::rename(fresh.c_str(), path.c_str()) == 0;
}

Result<std::string> read_whole_file(const std::string& path) {
    FILE* file = std::fopen(path.c_str(), "re");
    if (!file) return failed(path, errno);
    std::string text;
    char piece[65'536];
    size_t count = 0;
    while ((count = std::fread(piece, 1, sizeof piece, file)) > 0) text.append(piece, count);
    const bool bad = std::ferror(file) != 0;
    std::fclose(file);
    if (bad) return Status(Errc::io, "cannot read " + path);
    return text;
}

Status make_directories(const std::string& path) {
    for (size_t at = 1; at <= path.size(); ++at) {
        if (at != path.size() && path[at] != '/') continue;
        const std::string part = path.substr(0, at);
        if (mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) {
            return failed("cannot make the directory " + part, errno);
        }
    }
    return ok_status();
}

bool port_is_listened_on(uint16_t port) {
    char wanted[16];
    std::snprintf(wanted, sizeof wanted, ":%04X", port);
    for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        auto text = read_whole_file(table);
        if (!text) continue;
        // "  0: 0100007F:4A39 00000000:0000 0A …": local address, remote address, state
        for (size_t at = text->find('\n'); at != std::string::npos; at = text->find('\n', at + 1)) {
            char local[64], remote[64], state[8];
            if (std::sscanf(text->c_str() + at, " %*d: %63s %63s %7s", local, remote, state) != 3) {
                continue;
            }
            if (std::string(local).ends_with(wanted) && std::string(state) == "0A") return true;
        }
    }
    return false;
}

std::string tail_of(const std::string& path, size_t lines) {
    auto text = read_whole_file(path);
    if (!text) return "";
    size_t at = text->size();
    for (size_t seen = 0; at > 0; --at) {
        if ((*text)[at - 1] == '\n' && at != text->size() && ++seen == lines) break;
    }
    return text->substr(at);
}

std::string shell_quoted(const std::string& text) {
    std::string out = "'";
    for (const char c : text) {
        if (c == '\'') {
            out += "'\\''";
        } else {
            out += c;
        }
    }
    return out + "'";
}

}  // namespace lumeofs::cli
