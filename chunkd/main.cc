// SPDX-License-Identifier: Apache-2.0
// lumeofs-chunkd: a chunk server. Wiring only; server.cc is the contents page.
#include <cstdio>
#include <memory>

#include "chunkd/config.h"
#include "chunkd/server.h"
#include "common/config/json_config.h"
#include "common/env/daemon.h"
#include "common/env/posix_file_system.h"
#include "common/env/real_loop.h"
#include "common/rpc/nng_transport.h"

using namespace lumeofs;

namespace {

int complain(const Status& status, int exit_status) {
    std::fprintf(stderr, "lumeofs-chunkd: %s\n", std::string(status.text()).c_str());
    return exit_status;
}

}  // namespace

int main(int argc, char** argv) {
    const DaemonArgs args = parse_daemon_args("lumeofs-chunkd", argc, argv);
    if (args.exit_status >= 0) return args.exit_status;
    PosixFileSystem fs;
    auto config = chunkd::load_chunkd_config(fs, args.config_file);
    if (!config.is_ok()) return complain(config.status(), kExitConfig);
    if (args.check_only) return kExitOk;
    init_log(config->log);
    block_daemon_signals();
    raise_file_limit();

    RealLoop loop;
    NngTransport transport(loop);
    Status failure;
    chunkd::ChunkdEnv env{loop, fs, transport, system_random(), [&](const Status& why) {
                              failure = why;
                              loop.stop();
                          }};
    auto server = std::make_unique<chunkd::ChunkdServer>(env, *config);
    Status started;
    loop.run_and_wait([&] { started = server->start(); });
    if (!started.is_ok()) {
        loop.run_and_wait([&] { server.reset(); });
        loop.stop();
        return complain(started, started.code() == Errc::config ? kExitConfig : kExitFailure);
    }
    LFS_LOG(info, "chunkd {} listens on {}", config->node_id.value, config->listen_address());
    run_daemon(loop,
               {[&] {
                    auto again = chunkd::load_chunkd_config(fs, args.config_file);
                    if (again.is_ok()) set_log_level(again->log.level);
                    if (!again.is_ok()) LFS_LOG(error, "not reloaded: {}", again.status().text());
                },
                [&] { server->stop([&] { loop.stop(); }); }});
    server.reset();
    if (!failure.is_ok()) {
        return complain(failure, failure.code() == Errc::config ? kExitConfig : kExitFailure);
    }
    return kExitOk;
}
