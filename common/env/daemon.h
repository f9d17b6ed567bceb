// SPDX-License-Identifier: Apache-2.0
// Daemon: what the main() of every daemon does besides its own wiring: the command line
// (-config FILE, -check-config, --version), signals, the exit status.
// single-thread: main.
#pragma once

#include <functional>
#include <string>

#include "common/base/status.h"
#include "common/env/real_loop.h"

namespace lumeofs {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 64;  // EX_USAGE

struct DaemonArgs {
    std::string config_file;
    bool check_only = false;
    int exit_status = -1;  // >= 0: there is nothing to run (help, version, wrong arguments)
};

// Prints usage, version or the error itself.
DaemonArgs parse_daemon_args(const char* program, int argc, char** argv);

struct DaemonSignals {
    std::function<void()> reload;   // SIGHUP, on the loop
    std::function<void()> stop;     // SIGTERM or SIGINT, on the loop
};

// Blocks the signals for all threads: call it before any thread is started.
void block_daemon_signals();
// Runs the loop until it is stopped, handling signals meanwhile (SIGUSR1 reopens the log). The first
// SIGTERM or SIGINT calls stop(), a second one ends the process at once.
void run_daemon(RealLoop& loop, const DaemonSignals& signals);

// 64 bits from the kernel's random source.
uint64_t system_random();
// Opens files up to the hard limit: one connection per client, one file per segment.
void raise_file_limit();

}  // namespace lumeofs
