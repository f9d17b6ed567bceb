// SPDX-License-Identifier: Apache-2.0
// lumeofs-fuse: mounts LumeoFS. Goes into the background once the file system is mounted (unless -f),
// so that mount(8) returns when it can be used, with the error of a failed mount as its own.
//
// Order: parse, fork (NNG must not be started before), connect to the cluster, mount, tell the
// parent, serve; then write back, close the session, exit.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "client/vfs.h"
#include "common/env/real_loop.h"
#include "common/rpc/nng_transport.h"
#include "fuse/mount_options.h"
#include "fuse/session.h"

namespace lumeofs::fusefs {
namespace {

constexpr int kExitUsage = 1;     // as mount(8): incorrect invocation
constexpr int kExitFailed = 32;   // as mount(8): mount failure
constexpr Nanos kStopPatience = 60 * kSecond;

constexpr const char* kUsage =
    "usage: lumeofs-fuse HOST[:PORT][,HOST...][:/PATH] DIR [-f] [-o OPTION[,OPTION...]]\n"
    "options: ro soft timeo=SECONDS subdir=/PATH read_ahead_mb=N dirty_mb=N cache_mb=N\n"
    "         kernel_cache_ms=N log_level=LEVEL log_file=FILE status_file=FILE allow_other and those of mount(8)\n";

// The write end of the pipe on which the parent waits for one byte: the exit status.
int g_parent = -1;

void tell_parent(int exit_status) {
    if (g_parent < 0) return;
    const auto byte = static_cast<unsigned char>(exit_status);
    if (write(g_parent, &byte, 1) != 1) LFS_LOG(warn, "the mounting process has gone");
    close(g_parent);
    g_parent = -1;
}

// In the parent: exits with what the child says. In the child: returns.
bool go_to_background() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    const pid_t child = fork();
    if (child < 0) return false;
    if (child > 0) {
        close(ends[1]);
        unsigned char status = kExitFailed;
        if (read(ends[0], &status, 1) != 1) status = kExitFailed;
        _exit(status);
    }
    close(ends[0]);
    g_parent = ends[1];
    setsid();
    if (chdir("/") != 0) return false;
    return true;
}

void close_standard_files() {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return;
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    if (null > 2) close(null);
}

int fail(const Status& status) {
    std::fprintf(stderr, "lumeofs-fuse: %s\n", std::string(status.text()).c_str());
    tell_parent(kExitFailed);
    return kExitFailed;
}

std::string host_name() {
    char name[256] = "";
    if (gethostname(name, sizeof name - 1) != 0) return "unknown";
    return name;
}

void write_status(RealLoop& loop, client::Vfs& vfs, const std::string& path) {
    client::ClientStatus status;
    if (path.empty() || !loop.run_and_wait([&] { status = vfs.status(); })) return;
    FILE* file = std::fopen(path.c_str(), "we");
    if (!file) return;
    std::fprintf(file,
                 "session %llu leader %s lease %s open %llu dirty_bytes %llu cached_bytes %llu "
                 "meta_requests %llu chunk_requests %llu retries %llu corrupt_reads %llu\n",
                 static_cast<unsigned long long>(status.session),
                 status.leader.c_str(),
                 status.lease_valid ? "valid" : "lost",
                 static_cast<unsigned long long>(status.open_handles),
                 static_cast<unsigned long long>(status.dirty_bytes),
                 static_cast<unsigned long long>(status.cached_bytes),
                 static_cast<unsigned long long>(status.meta_requests),
                 static_cast<unsigned long long>(status.chunk_requests),
                 static_cast<unsigned long long>(status.retries),
                 static_cast<unsigned long long>(status.corrupt_reads));
    for (const auto& op : status.waiting) {
        std::fprintf(file,
                     "waiting %s inode %llu pid %d for %lld ms: %s\n",
                     op.name.c_str(),
                     static_cast<unsigned long long>(op.ino.value),
                     op.pid,
                     static_cast<long long>(op.waited / kMillisecond),
                     op.waits_for.c_str());
    }
    std::fclose(file);
}

// One thread takes the signals, so that no handler runs anywhere.
void signal_thread(const sigset_t& signals,
                   Session& session,
                   RealLoop& loop,
                   client::Vfs& vfs,
                   const MountOptions& options) {
    for (;;) {
        int number = 0;
        if (sigwait(&signals, &number) != 0) continue;
        if (number == SIGUSR1) {
            reopen_log();
        } else if (number == SIGUSR2) {
            write_status(loop, vfs, options.status_file);
        } else {
            session.stop();
            return;
        }
    }
}

// Somebody asked us to end, or the mounting process has gone (its end of the pipe is closed).
bool wait_is_over(const sigset_t& signals) {
    const timespec none = {};
    for (int number = 0; (number = sigtimedwait(&signals, nullptr, &none)) > 0;) {
        if (number == SIGTERM || number == SIGINT || number == SIGHUP) return true;
    }
    pollfd parent = {g_parent, 0, 0};
    return g_parent >= 0 && poll(&parent, 1, 0) == 1 && (parent.revents & POLLERR) != 0;
}

// For whoever looks at the terminal of mount(8) or at the log: what is being waited for.
void say_waiting(const MountOptions& options, std::chrono::milliseconds waited) {
    const std::string line = fmt::format(
        "waiting for the cluster at {}: no metad there has answered as leader for {} s{}",
        options.source,
        waited.count() / 1'000,
        options.client.soft ? "" : "; interrupt to give up");
    if (!options.log.file.empty()) std::fprintf(stderr, "lumeofs-fuse: %s\n", line.c_str());
    LFS_LOG(warn, "{}", line);
}

// Starts the client and waits for the cluster, for as long as that takes or somebody wants to wait.
Status start_client(RealLoop& loop,
                    client::Vfs& vfs,
                    const MountOptions& options,
                    const sigset_t& signals) {
    struct Answer {
        std::mutex mutex;
        std::condition_variable changed;
        std::optional<Status> status;
    };
    auto answer = std::make_shared<Answer>();  // may outlive the wait
    loop.run_and_wait([&] {
        vfs.start([answer](const Status& status) {
            std::lock_guard lock(answer->mutex);
            answer->status = status;
            answer->changed.notify_one();
        });
    });
    constexpr std::chrono::milliseconds kLook{100};
    std::chrono::milliseconds waited{0}, next_line{2'000};
    std::unique_lock lock(answer->mutex);
    auto answered = [&] { return answer->status.has_value(); };
    while (!answer->changed.wait_for(lock, kLook, answered)) {
        if (wait_is_over(signals)) return Status(Errc::canceled, "interrupted");
        if ((waited += kLook) < next_line) continue;
        say_waiting(options, waited);
        next_line = std::min(next_line * 4, next_line + std::chrono::minutes(1));
    }
    if (answer->status->code() != Errc::timedout) return *answer->status;
    return Status(Errc::timedout,
                  fmt::format("no metad there has answered as leader within {} s",
                              options.client.timeo / kSecond));
}

int run(const MountOptions& options) {
    init_log(options.log);
    // Many connections and open files; the default of 1,024 is soon reached.
    rlimit files = {65'536, 65'536};
    setrlimit(RLIMIT_NOFILE, &files);
    sigset_t signals;
    sigemptyset(&signals);
    for (int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);

    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
        return fail(Status(Errc::io, "no random numbers from the kernel"));
    }
    RealLoop loop;
    NngTransport transport(loop);
    client::ClientOptions client_options = options.client;
    client_options.host = host_name();
    std::unique_ptr<client::Vfs> vfs;
    loop.run_and_wait([&] {
        vfs = std::make_unique<client::Vfs>(loop, transport, Prng(seed), client_options);
    });
    const Status started = start_client(loop, *vfs, options, signals);
    if (!started.is_ok()) {
        loop.run_and_wait([&] { vfs.reset(); });
        loop.stop();
        return fail(started.with_context("cannot use the cluster at " + options.source));
    }
    Session session(loop, *vfs, options);
    if (const Status mounted = session.mount(); !mounted.is_ok()) {
        loop.stop();
        return fail(mounted);
    }
    tell_parent(0);
    if (!options.foreground) close_standard_files();
    std::thread watcher(
        [&] { signal_thread(signals, session, loop, *vfs, options); });
    session.serve();
    session.stop();

    std::mutex mutex;
    std::condition_variable changed;
    bool answered = false;
    Status stopped;
    loop.run_and_wait([&] {
        vfs->stop(kStopPatience, [&](const Status& status) {
            std::lock_guard lock(mutex);
            stopped = status;
            answered = true;
            changed.notify_one();
        });
    });
    {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return answered; });
    }
    if (!stopped.is_ok()) LFS_LOG(error, "unmounting lost data: {}", stopped.to_string());
    pthread_kill(watcher.native_handle(), SIGTERM);
    watcher.join();
    loop.run_and_wait([&] { vfs.reset(); });
    loop.stop();
    return stopped.is_ok() ? 0 : 1;
}

}  // namespace
}  // namespace lumeofs::fusefs

int main(int argc, char** argv) {
    using namespace lumeofs::fusefs;
    auto options = parse_mount_options(std::vector<std::string>(argv + 1, argv + argc));
    if (!options) {
        std::fprintf(stderr, "lumeofs-fuse: %s\n", std::string(options.status().text()).c_str());
        return kExitUsage;
    }
    if (options->help) {
        std::fputs(kUsage, stdout);
        return 0;
    }
    if (options->version) {
        std::puts("lumeofs-fuse " LUMEO_VERSION);
        return 0;
    }
    if (char* full = realpath(options->mount_point.c_str(), nullptr)) {  // before chdir("/")
        options->mount_point = full;
        std::free(full);
    } else {
        std::fprintf(stderr, "lumeofs-fuse: no directory %s\n", options->mount_point.c_str());
        return kExitUsage;
    }
    if (!options->foreground && !go_to_background()) return kExitFailed;
    return run(*options);
}
