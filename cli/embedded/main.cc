// SPDX-License-Identifier: Apache-2.0
// lumeofs-embedded: a whole small cluster in one process: a metad, chunkds, the client and the
// mount on one loop, joined by the in-process transport. Started by `lumeofs dev up --embedded`.
//
// It is the one program that may include metad/server.h, chunkd/server.h and fuse/session.h
// together; nothing may include it. Data and promises are those of the separate daemons (which can
// be started on the same directories later); only questions of the command line come over the
// network.
#include <signal.h>

#include <cstdio>
#include <memory>
#include <thread>

#include "cli/embedded/cluster.h"
#include "client/vfs.h"
#include "common/env/daemon.h"
#include "common/env/posix_file_system.h"
#include "fuse/mount_options.h"
#include "fuse/session.h"

using namespace lumeofs;
using embedded::await;
using embedded::Cluster;

namespace {

constexpr Nanos kStopPatience = 60 * kSecond;
constexpr const char* kUsage =
    "usage: lumeofs-embedded METAD.json CHUNKD.json… --mount SOURCE DIR [-f] [-o OPTIONS]\n";

int complain(const Status& status) {
    std::fprintf(stderr, "lumeofs-embedded: %s\n", std::string(status.text()).c_str());
    return kExitFailure;
}

void serve_until_unmounted(fusefs::Session& session) {
    std::thread watcher([&session] {
        sigset_t signals;
        sigemptyset(&signals);
        for (int number : {SIGTERM, SIGINT}) sigaddset(&signals, number);
        int number = 0;
        while (sigwait(&signals, &number) != 0) {
        }
        session.stop();
    });
    session.serve();
    session.stop();
    pthread_kill(watcher.native_handle(), SIGTERM);
    watcher.join();
}

Status serve_mount(Cluster& cluster, const fusefs::MountOptions& options) {
    RealLoop& loop = cluster.loop();
    std::unique_ptr<client::Vfs> vfs;
    Status status = await(loop, [&](auto done) {
        vfs = std::make_unique<client::Vfs>(
            loop, cluster.transport(), Prng(system_random()), options.client);
        vfs->start(done);
    });
    if (status.is_ok()) {
        fusefs::Session session(loop, *vfs, options);
        status = session.mount();
        if (status.is_ok()) {
            serve_until_unmounted(session);
            status = await(loop, [&](auto done) { vfs->stop(kStopPatience, done); });
        }
    }
    loop.run_and_wait([&] { vfs.reset(); });
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> files, mount_args;
    bool mounting = false;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (!mounting && arg == "--mount") {
            mounting = true;
        } else {
            (mounting ? mount_args : files).push_back(arg);
        }
    }
    if (files.size() < 2 || !mounting) {
        std::fputs(kUsage, stderr);
        return kExitUsage;
    }
    auto options = fusefs::parse_mount_options(mount_args);
    if (!options) return complain(options.status());
    init_log(options->log);
    block_daemon_signals();
    raise_file_limit();
    options->client.host = "embedded";

    PosixFileSystem fs;
    Cluster cluster(fs);
    Status status = cluster.start(files);
    if (status.is_ok()) status = serve_mount(cluster, *options);
    cluster.stop();
    return status.is_ok() ? kExitOk : complain(status);
}
