// SPDX-License-Identifier: Apache-2.0
#include "cli/dev_mount.h"

#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "cli/process.h"

namespace lumeofs::cli {
namespace {

constexpr Nanos kUnmountPatience = 30 * kSecond;
constexpr Nanos kWriteBackPatience = 70 * kSecond;

std::string pid_file(const std::string& dir) { return dir + "/mount.pid"; }
std::string log_file(const std::string& dir) { return dir + "/mount.log"; }

// Off the tree at once, busy or not.
void detach(const std::string& directory) {
    if (umount2(directory.c_str(), MNT_DETACH) == 0) return;
    ignore(run_program({{"fusermount3", "-u", "-z", directory}, ""}, 5 * kSecond),
           "is_mounted() shows whether it worked");
}

std::string joined(const std::vector<std::string>& parts) {
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
    return text;
}

std::vector<std::string> mount_command(const std::string& dir, const DevShape& shape) {
    std::vector<std::string> command = {own_directory() + "/lumeofs-fuse"};
    if (shape.embedded) {
        command[0] = own_directory() + "/lumeofs-embedded";
        for (const DevDaemon& daemon : daemons_of(dir, shape)) {
            command.push_back(daemon.config_file);
        }
        command.push_back("--mount");
    }
    const std::string options = geteuid() == 0 ? "allow_other,dev,suid,exec," : "";
    for (const std::string& argument : {joined(metads_of(shape)),
                                        shape.mount,
                                        std::string("-f"),
                                        std::string("-o"),
                                        options + "status_file=" + dir + "/mount.status"}) {
        command.push_back(argument);
    }
    return command;
}

// As /proc/self/mountinfo shows a path: space, tab, newline and backslash in octal.
std::string escaped(const std::string& path) {
    std::string out;
    for (const char c : path) {
        if (c == ' ') {
            out += "\\040";
        } else if (c == '\t') {
            out += "\\011";
        } else if (c == '\n') {
            out += "\\012";
        } else if (c == '\\') {
            out += "\\134";
        } else {
            out += c;
        }
    }
    return out;
}

}  // namespace

bool is_mounted(const std::string& directory) {
    auto table = read_whole_file("/proc/self/mountinfo");
    if (!table) return false;
    // "36 35 98:0 /root /mount/point options …": the fifth field
    const std::string wanted = " " + escaped(directory) + " ";
    for (size_t at = 0; at < table->size();) {
        const size_t end = std::min(table->find('\n', at), table->size());
        size_t field = at;
        for (int i = 0; i < 4 && field < end; ++i) field = table->find(' ', field + (i > 0));
        if (field < end && table->compare(field, wanted.size(), wanted) == 0) return true;
        at = end + 1;
    }
    return false;
}

pid_t mount_pid(const std::string& dir, const DevShape& shape) {
    return running_pid(
        pid_file(dir), shape.embedded ? "lumeofs-embedded" : "lumeofs-fuse", shape.mount);
}

Status mount_cluster(const std::string& dir, const DevShape& shape, Nanos patience) {
    const Nanos deadline = time_now() + patience;
    if (is_mounted(shape.mount) && mount_pid(dir, shape) == 0) detach(shape.mount);
    LFS_TRY(make_directories(shape.mount));
    pid_t pid = mount_pid(dir, shape);
    if (pid == 0) {
        LFS_ASSIGN(pid, start_program({mount_command(dir, shape), log_file(dir)}));
        if (!write_whole_file(pid_file(dir), std::to_string(pid) + "\n")) {
            end_process(pid, kSecond);
            return Status(Errc::io, "cannot write " + pid_file(dir));
        }
    }
    Status status;
    while (status.is_ok() && !is_mounted(shape.mount)) {
        if (wait_for_end(pid, 20 * kMillisecond)) {
            status = Status(Errc::io,
                            "the mounting process ended; the end of " + log_file(dir) + ":\n" +
                                tail_of(log_file(dir), 10));
        } else if (time_now() > deadline) {
            status = Status(Errc::timedout,
                            "not mounted in time; the end of " + log_file(dir) + ":\n" +
                                tail_of(log_file(dir), 10));
        }
    }
    if (status.is_ok()) {
        auto looked = run_program({{"stat", shape.mount + "/."}, ""}, 20 * kSecond);
        if (looked && *looked == 0) return ok_status();
        status = Status(Errc::io,
                        "the mount does not answer; the end of " + log_file(dir) + ":\n" +
                            tail_of(log_file(dir), 10));
    }
    ignore(unmount_cluster(dir, shape, false), "the first error is the one that counts");
    return status;
}

Status unmount_cluster(const std::string& dir, const DevShape& shape, bool cluster_runs) {
    const pid_t pid = mount_pid(dir, shape);
    if (is_mounted(shape.mount) && cluster_runs && pid != 0) {
        // A program, because umount(2) itself may hang and must not take us with it.
        const bool root = geteuid() == 0;
        const Program program = {root ? std::vector<std::string>{"umount", shape.mount}
                                      : std::vector<std::string>{"fusermount3", "-u", shape.mount},
                                 dir + "/umount.log"};
        auto ended = run_program(program, kUnmountPatience);
        if (ended && *ended != 0 && is_mounted(shape.mount)) {
            return Status(Errc::io,
                          "cannot unmount " + shape.mount + ": " + tail_of(dir + "/umount.log", 1));
        }
    }
    Status status;
    if (pid != 0 && !wait_for_end(pid, cluster_runs ? kWriteBackPatience : 0)) {
        if (cluster_runs) {
            status = Status(Errc::io, "the mounting process did not end by itself and was killed");
        }
        kill(pid, SIGKILL);
        wait_for_end(pid, 10 * kSecond);
    }
    if (is_mounted(shape.mount)) detach(shape.mount);
    if (is_mounted(shape.mount)) return Status(Errc::io, "cannot unmount " + shape.mount);
    unlink(pid_file(dir).c_str());
    unlink((dir + "/umount.log").c_str());
    return status;
}

}  // namespace lumeofs::cli
