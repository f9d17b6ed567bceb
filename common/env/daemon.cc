// SPDX-License-Identifier: Apache-2.0
#include "common/env/daemon.h"

#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <thread>

#include "common/base/assert.h"
#include "common/base/log.h"

namespace lumeofs {
namespace {

sigset_t daemon_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&set, number);
    return set;
}

}  // namespace

DaemonArgs parse_daemon_args(const char* program, int argc, char** argv) {
    DaemonArgs args;
    for (int i = 1; i < argc; ++i) {
        const char* arg = argv[i];
        if (std::strcmp(arg, "-config") == 0 && i + 1 < argc) {
            args.config_file = argv[++i];
        } else if (std::strcmp(arg, "-check-config") == 0) {
            args.check_only = true;
        } else if (std::strcmp(arg, "--version") == 0) {
            std::printf("%s %s\n", program, LUMEO_VERSION);
            args.exit_status = kExitOk;
        } else if (std::strcmp(arg, "--help") == 0 || std::strcmp(arg, "-h") == 0) {
            std::printf("usage: %s -config FILE.json [-check-config]\n", program);
            args.exit_status = kExitOk;
        } else {
            std::fprintf(stderr,
                         "%s: unknown argument '%s'; usage: %s -config FILE.json [-check-config]\n",
                         program,
                         arg,
                         program);
            args.exit_status = kExitUsage;
        }
    }
    if (args.exit_status < 0 && args.config_file.empty()) {
        std::fprintf(stderr, "usage: %s -config FILE.json [-check-config]\n", program);
        args.exit_status = kExitUsage;
    }
    return args;
}

void block_daemon_signals() {
    const sigset_t set = daemon_signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
}

void run_daemon(RealLoop& loop, const DaemonSignals& signals) {
    std::thread watcher([&loop, &signals] {
        const sigset_t set = daemon_signals();
        bool stopping = false;
        for (;;) {
            int number = 0;
            if (sigwait(&set, &number) != 0) continue;
            if (number == SIGUSR1) {
                reopen_log();
            } else if (number == SIGHUP) {
                loop.post(signals.reload);
            } else if (stopping) {
                _exit(kExitFailure);
            } else {
                stopping = true;
                loop.post(signals.stop);
            }
        }
    });
    watcher.detach();  // waits for signals until the process ends; touches nothing else
    loop.run_until_stopped();
}

uint64_t system_random() {
    uint64_t value = 0;
    LFS_ASSERT(getrandom(&value, sizeof value, 0) == sizeof value);
    return value;
}

void raise_file_limit() {
    rlimit limit = {};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace lumeofs
