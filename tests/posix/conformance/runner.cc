// SPDX-License-Identifier: Apache-2.0
// Runs cases, several at once, each in a process group of its own and a fresh directory, with a
// deadline; removes the directory afterwards (a directory that cannot be removed is a failure).
// single-thread: main.
#include "tests/posix/conformance/runner.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace lumeofs::conformance {
namespace {

int g_report_fd = -1;
bool g_full = false;
std::string g_second;

struct Running {
    const Case* test = nullptr;
    pid_t pid = -1;
    int pid_fd = -1;
    int report_fd = -1;
    double deadline = 0;
    std::string dir;
};

double seconds_now() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Removes `name` below `parent`; returns "" or what could not be removed.
std::string remove_tree(int parent, const std::string& name) {
    if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) {
        return "";
    }
    int fd = openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return name + ": " + std::strerror(errno);
    }
    std::vector<std::string> names;
    DIR* dir = fdopendir(fd);
    while (dirent* entry = readdir(dir)) {
        std::string child = entry->d_name;
        if (child != "." && child != "..") {
            names.push_back(child);
        }
    }
    std::string problem;
    for (const std::string& child : names) {
        std::string one = remove_tree(fd, child);
        problem = problem.empty() ? one : problem;
    }
    closedir(dir);
    if (problem.empty() && unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) {
        problem = name + ": " + std::strerror(errno);
    }
    return problem;
}

std::string dir_name(std::string_view case_name) {
    std::string out(case_name);
    std::replace(out.begin(), out.end(), '/', '.');
    return out;
}

[[noreturn]] void run_child(const Case& test,
                            const std::string& name,
                            const RunOptions& options,
                            int report_fd) {
    setpgid(0, 0);
    g_report_fd = report_fd;
    g_full = options.full;
    g_second = options.second.empty() ? "" : options.second + "/" + name;
    umask(022);
    std::string dir = options.dir + "/" + name;
    expect_ok(mkdir(dir.c_str(), 0755), "mkdir of the case's directory");
    expect_ok(chmod(dir.c_str(), 0777), "chmod of the case's directory");
    expect_ok(chdir(dir.c_str()), "chdir to the case's directory");
    test.run();
    _exit(0);
}

Running start(const Case& test, const RunOptions& options) {
    Running running{.test = &test, .dir = dir_name(test.name)};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        std::perror("pipe");
        std::exit(2);
    }
    std::fflush(stdout);
    running.pid = fork();
    if (running.pid < 0) {
        std::perror("fork");
        std::exit(2);
    }
    if (running.pid == 0) {
        run_child(test, running.dir, options, ends[1]);
    }
    close(ends[1]);
    running.report_fd = ends[0];
    running.pid_fd = static_cast<int>(syscall(SYS_pidfd_open, running.pid, 0));
    running.deadline = seconds_now() + options.seconds * (test.slow ? 10 : 1);
    return running;
}

std::string outcome(const Running& running, int status, bool late, unsigned seconds) {
    char buffer[4096];
    ssize_t got = read(running.report_fd, buffer, sizeof buffer);
    std::string said(buffer, got > 0 ? static_cast<size_t>(got) : 0);
    said = said.substr(0, said.find('\n'));  // several processes may fail: the first line
    std::string name(running.test->name);
    if (late) {
        return "FAIL " + name + ": run time: expected at most " + std::to_string(seconds) +
               " s, found still running";
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return "ok " + name;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == kExitSkipped) {
        return "skip " + name + ": " + said;
    }
    if (WIFSIGNALED(status)) {
        said = "process: expected exit status 0, found signal " + std::to_string(WTERMSIG(status));
    }
    return "FAIL " + name + ": " + said;
}

void finish(Running& running, int base_fd, const RunOptions& options, Totals& totals) {
    bool late = seconds_now() >= running.deadline;
    // The whole group: what a case has started ends with it.
    int status = 0;
    if (late) {
        kill(-running.pid, SIGKILL);
    }
    waitpid(running.pid, &status, 0);
    kill(-running.pid, SIGKILL);
    std::string line =
        outcome(running, status, late, options.seconds * (running.test->slow ? 10 : 1));
    std::string problem = remove_tree(base_fd, running.dir);
    if (!problem.empty() && !line.starts_with("FAIL")) {
        line = "FAIL " + std::string(running.test->name) +
               ": cleaning up: expected success, found " + problem;
    }
    bool skipped = line.starts_with("skip");
    ++(line.starts_with("ok") ? totals.passed : skipped ? totals.skipped : totals.failed);
    if (!options.quiet || line.starts_with("FAIL")) {
        std::printf("%s\n", line.c_str());
        std::fflush(stdout);
    }
    close(running.pid_fd);
    close(running.report_fd);
}

}  // namespace

void report(const std::string& line) {
    std::string text = line + "\n";
    if (g_report_fd < 0 || write(g_report_fd, text.data(), text.size()) < 0) {
        std::fprintf(stderr, "%s", text.c_str());
    }
}

bool full_run() { return g_full; }

const std::string& second_dir() { return g_second; }

Totals run_cases(const std::vector<Case>& cases, const RunOptions& options) {
    Totals totals;
    std::vector<Running> running;
    int base_fd = open(options.dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t next = 0;
    while (next < cases.size() || !running.empty()) {
        while (next < cases.size() && running.size() < options.jobs) {
            running.push_back(start(cases[next++], options));
        }
        std::vector<pollfd> waiting;
        double deadline = running.front().deadline;
        for (const Running& one : running) {
            waiting.push_back(pollfd{.fd = one.pid_fd, .events = POLLIN, .revents = 0});
            deadline = std::min(deadline, one.deadline);
        }
        double left_ms = std::max(0.0, (deadline - seconds_now()) * 1000 + 1);
        poll(waiting.data(), waiting.size(), static_cast<int>(left_ms));
        for (size_t i = running.size(); i-- > 0;) {
            if (waiting[i].revents != 0 || seconds_now() >= running[i].deadline) {
                finish(running[i], base_fd, options, totals);
                running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
    }
    close(base_fd);
    return totals;
}

}  // namespace lumeofs::conformance
