// SPDX-License-Identifier: Apache-2.0
// lumeofs-embedded: a whole small cluster in one process: a metad, chunkds, the client and the
// mount on one loop, joined by the in-process transport. Started by `lumeofs dev up --embedded`.
//
// It is the one program that may include metad/server.h, chunkd/server.h and fuse/session.h
// together; nothing may include it. Data and promises are those of the separate daemons (which can
// be started on the same directories later); only questions of the command line come over the
// network.
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

#include "chunkd/config.h"
#include "chunkd/server.h"
#include "client/vfs.h"
#include "common/env/daemon.h"
#include "common/env/posix_file_system.h"
#include "common/env/real_loop.h"
#include "common/rpc/inproc_transport.h"
#include "common/rpc/nng_transport.h"
#include "common/rpc/server.h"
#include "common/wire/frame.h"
#include "common/wire/method.h"
#include "fuse/mount_options.h"
#include "fuse/session.h"
#include "metad/config.h"
#include "metad/server.h"
#include "metad/service/metad_service.h"

using namespace lumeofs;

namespace {

constexpr Nanos kStopPatience = 60 * kSecond;
constexpr const char* kUsage =
    "usage: lumeofs-embedded METAD.json CHUNKD.json… --mount SOURCE DIR [-f] [-o OPTIONS]\n";

struct Cluster {
    PosixFileSystem fs;
    RealLoop loop;
    std::shared_ptr<InprocNetwork> network = std::make_shared<InprocNetwork>();
    InprocTransport inside{loop, network};
    NngTransport outside{loop};
    std::unique_ptr<metad::MetadServer> metad;
    std::vector<std::unique_ptr<chunkd::ChunkdServer>> chunkds;
    std::unique_ptr<RpcServer> questions;
    std::unique_ptr<client::Vfs> vfs;
};

int complain(const Status& status) {
    std::fprintf(stderr, "lumeofs-embedded: %s\n", std::string(status.text()).c_str());
    return kExitFailure;
}

// Damage in any part ends the whole process, as it would end that daemon.
void fail(const Status& why) {
    complain(why);
    _exit(kExitFailure);
}

Status await(RealLoop& loop, const std::function<void(std::function<void(Status)>)>& start) {
    std::mutex mutex;
    std::condition_variable came;
    bool answered = false;
    Status result;
    loop.run_and_wait([&] {
        start([&](Status status) {
            std::lock_guard lock(mutex);
            result = std::move(status);
            answered = true;
            came.notify_one();
        });
    });
    std::unique_lock lock(mutex);
    came.wait(lock, [&] { return answered; });
    return result;
}

Status listen_for_questions(Cluster& cluster, const metad::MetadConfig& config) {
    RpcServerEvents events;
    events.on_request = [&cluster](RpcPeer& peer, RpcRequest request) {
        if (request.method != static_cast<uint16_t>(Method::admin)) {
            return request.responder.reply(
                Status(Errc::nosys, "an embedded cluster serves its own mount only"));
        }
        cluster.metad->service().on_request(peer, std::move(request));
    };
    cluster.questions =
        std::make_unique<RpcServer>(cluster.loop, cluster.outside, std::move(events));
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = Role::metad;
    hello.node = config.node_id;
    return cluster.questions->listen(config.listen_address(), hello);
}

Status start_servers(Cluster& cluster, const std::vector<std::string>& files) {
    LFS_ASSIGN(const auto metad_config, metad::load_metad_config(cluster.fs, files[0]));
    cluster.metad = std::make_unique<metad::MetadServer>(
        metad::MetadEnv{cluster.loop, cluster.fs, cluster.inside, system_random(), "", false, fail},
        metad_config);
    LFS_TRY(cluster.metad->start());
    for (size_t i = 1; i < files.size(); ++i) {
        LFS_ASSIGN(const auto config, chunkd::load_chunkd_config(cluster.fs, files[i]));
        cluster.chunkds.push_back(std::make_unique<chunkd::ChunkdServer>(
            chunkd::ChunkdEnv{cluster.loop, cluster.fs, cluster.inside, system_random(), fail},
            config));
        LFS_TRY(cluster.chunkds.back()->start());
    }
    return listen_for_questions(cluster, metad_config);
}

void stop_servers(Cluster& cluster) {
    for (auto& server : cluster.chunkds) {
        ignore(await(cluster.loop, [&](auto done) { server->stop([done] { done(ok_status()); }); }),
               "stop has no errors");
    }
    cluster.loop.run_and_wait([&] {
        cluster.questions.reset();
        cluster.vfs.reset();
        cluster.chunkds.clear();
        if (cluster.metad) cluster.metad->stop();
        cluster.metad.reset();
    });
    cluster.loop.stop();
}

Status serve_mount(Cluster& cluster, const fusefs::MountOptions& options) {
    LFS_TRY(await(cluster.loop, [&](auto done) {
        cluster.vfs = std::make_unique<client::Vfs>(
            cluster.loop, cluster.inside, Prng(system_random()), options.client);
        cluster.vfs->start(done);
    }));
    fusefs::Session session(cluster.loop, *cluster.vfs, options);
    LFS_TRY(session.mount());
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
    return await(cluster.loop, [&](auto done) { cluster.vfs->stop(kStopPatience, done); });
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

    Cluster cluster;
    Status status;
    cluster.loop.run_and_wait([&] { status = start_servers(cluster, files); });
    if (status.is_ok()) status = serve_mount(cluster, *options);
    stop_servers(cluster);
    return status.is_ok() ? kExitOk : complain(status);
}
