// SPDX-License-Identifier: Apache-2.0
// Processes of a local cluster: started in sessions of their own without any descriptor of ours,
// named by pid files, ended by pid. A pid from a file is believed only when /proc says that it is
// the program that was started with that argument: pids are used again. Waiting is poll(2) on a
// pidfd with a deadline, never a pause of fixed length. single-thread: main.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/result.h"

namespace lumeofs::cli {

struct Program {
    std::vector<std::string> arguments;  // [0] is the path of the program
    std::string log_file;                // stdout and stderr are appended; "" = /dev/null
};

// Starts it in the background (own session, stdin from /dev/null).
Result<pid_t> start_program(const Program& program);
// Runs it and waits for its end, at most `patience` (then it is killed, Errc::timeout). The result
// is its exit status.
Result<int> run_program(const Program& program, Nanos patience);

// The pid in the file if that process runs `program_name` with `argument` among its arguments; 0
// else.
pid_t running_pid(const std::string& pid_file,
                  const std::string& program_name,
                  const std::string& argument);
// A killed program may still be on its way out, with its ports and locks, when it has no memory any
// more and looks like a zombie: a thread of it sits in a sync. Waits for such a one to be gone.
void wait_for_dying(const std::string& pid_file, Nanos patience);
bool is_alive(pid_t pid);  // zombies are not
// True when the process has ended by then. Reaps it if it is our child.
bool wait_for_end(pid_t pid, Nanos patience);
// SIGTERM, wait, SIGKILL, wait. False if it lives on.
bool end_process(pid_t pid, Nanos patience);

// CLOCK_BOOTTIME: for deadlines of commands.
Nanos time_now();
// A breath between two looks at a condition.
void look_again_later(Nanos pause = 20 * kMillisecond);

// Directory of the running executable, "" if unknown.
std::string own_directory();
std::string own_path();
bool write_whole_file(const std::string& path, const std::string& text);  // by rename
Result<std::string> read_whole_file(const std::string& path);
Status make_directories(const std::string& path);
// True if something on this machine listens on that TCP port (any address).
bool port_is_listened_on(uint16_t port);
// The last lines of a text file, for people.
std::string tail_of(const std::string& path, size_t lines);
// For sh: '…' with care for quotes.
std::string shell_quoted(const std::string& text);

}  // namespace lumeofs::cli
