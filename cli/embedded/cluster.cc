// SPDX-License-Identifier: Apache-2.0
#include "cli/embedded/cluster.h"

#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <mutex>

#include "chunkd/config.h"
#include "chunkd/server.h"
#include "common/env/daemon.h"
#include "common/rpc/connector.h"
#include "common/rpc/inproc_transport.h"
#include "common/rpc/nng_transport.h"
#include "common/rpc/server.h"
#include "common/wire/frame.h"
#include "common/wire/method.h"
#include "metad/config.h"
#include "metad/server.h"

namespace lumeofs::embedded {
namespace {

constexpr Nanos kQuestionPatience = 3 * kSecond;

void fail(const Status& why) {
    std::fprintf(stderr, "lumeofs-embedded: %s\n", std::string(why.text()).c_str());
    _exit(kExitFailure);
}

Hello hello_of(Role role, NodeId node) {
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = role;
    hello.node = node;
    return hello;
}

}  // namespace

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

struct Cluster::Parts {
    explicit Parts(FileSystem& files) : fs(files) {}

    FileSystem& fs;
    RealLoop loop;
    std::shared_ptr<InprocNetwork> network = std::make_shared<InprocNetwork>();
    InprocTransport inside{loop, network};
    NngTransport outside{loop};
    std::unique_ptr<metad::MetadServer> metad;
    std::vector<std::unique_ptr<chunkd::ChunkdServer>> chunkds;
    std::unique_ptr<Connector> to_metad;
    std::unique_ptr<RpcServer> questions;
    bool stopped = false;
};

Cluster::Cluster(FileSystem& fs) : parts_(std::make_unique<Parts>(fs)) {}
Cluster::~Cluster() { stop(); }

RealLoop& Cluster::loop() { return parts_->loop; }
Transport& Cluster::transport() { return parts_->inside; }

Status Cluster::listen_for_questions(const std::string& address, NodeId metad) {
    Parts& parts = *parts_;
    ConnectorOptions options;
    options.address = address;
    options.hello = [] { return hello_of(Role::admin, NodeId{}); };
    parts.to_metad = std::make_unique<Connector>(
        parts.loop, parts.inside, Prng(system_random()), std::move(options), ConnectorEvents{});
    parts.to_metad->start();
    RpcServerEvents events;
    events.on_request = [&parts](RpcPeer&, RpcRequest request) {
        if (request.method != static_cast<uint16_t>(Method::admin)) {
            return request.responder.reply(
                Status(Errc::nosys, "an embedded cluster serves its own mount only"));
        }
        parts.to_metad->call(request.method,
                             std::move(request.body),
                             {},
                             kQuestionPatience,
                             [responder = request.responder](RpcReply reply) {
                                 responder.reply(
                                     reply.status, std::move(reply.body), std::move(reply.payload));
                             });
    };
    parts.questions = std::make_unique<RpcServer>(parts.loop, parts.outside, std::move(events));
    return parts.questions->listen(address, hello_of(Role::metad, metad));
}

Status Cluster::start_on_loop(const std::vector<std::string>& files) {
    Parts& parts = *parts_;
    LFS_ASSIGN(const auto metad_config, metad::load_metad_config(parts.fs, files[0]));
    parts.metad = std::make_unique<metad::MetadServer>(
        metad::MetadEnv{parts.loop, parts.fs, parts.inside, system_random(), "", false, fail},
        metad_config);
    LFS_TRY(parts.metad->start());
    for (size_t i = 1; i < files.size(); ++i) {
        LFS_ASSIGN(const auto config, chunkd::load_chunkd_config(parts.fs, files[i]));
        parts.chunkds.push_back(std::make_unique<chunkd::ChunkdServer>(
            chunkd::ChunkdEnv{parts.loop, parts.fs, parts.inside, system_random(), fail}, config));
        LFS_TRY(parts.chunkds.back()->start());
    }
    return listen_for_questions(metad_config.listen_address(), metad_config.node_id);
}

Status Cluster::start(const std::vector<std::string>& files) {
    Status status;
    parts_->loop.run_and_wait([&] { status = start_on_loop(files); });
    return status;
}

void Cluster::stop() {
    Parts& parts = *parts_;
    if (parts.stopped) return;
    parts.stopped = true;
    for (auto& server : parts.chunkds) {
        ignore(await(parts.loop, [&](auto done) { server->stop([done] { done(ok_status()); }); }),
               "stop has no errors");
    }
    parts.loop.run_and_wait([&] {
        parts.questions.reset();
        parts.to_metad.reset();
        parts.chunkds.clear();
        if (parts.metad) parts.metad->stop();
        parts.metad.reset();
    });
    parts.loop.stop();
}

}  // namespace lumeofs::embedded
