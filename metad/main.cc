// SPDX-License-Identifier: Apache-2.0
// lumeofs-metad: a metadata server. Wiring only; server.cc is the contents page.
#include <cstdio>
#include <memory>

#include "common/config/json_config.h"
#include "common/env/daemon.h"
#include "common/env/posix_file_system.h"
#include "common/env/real_loop.h"
#include "common/rpc/nng_transport.h"
#include "metad/config.h"
#include "metad/server.h"

using namespace lumeofs;

namespace {

int complain(const Status& status, int exit_status) {
    std::fprintf(stderr, "lumeofs-metad: %s\n", std::string(status.text()).c_str());
    return exit_status;
}

}  // namespace

int main(int argc, char** argv) {
    const DaemonArgs args = parse_daemon_args("lumeofs-metad", argc, argv);
    if (args.exit_status >= 0) return args.exit_status;
    PosixFileSystem fs;
    auto config = metad::load_metad_config(fs, args.config_file);
    if (!config) return complain(config.status(), kExitConfig);
    if (args.check_only) return kExitOk;
    init_log(config->log);
    block_daemon_signals();
    raise_file_limit();

    RealLoop loop;
    NngTransport transport(loop);
    Status failure;
    metad::MetadEnv env{loop, fs, transport, system_random(), "", false, [&](const Status& why) {
                            failure = why;
                            loop.stop();
                        }};
    auto server = std::make_unique<metad::MetadServer>(env, *config);
    Status started;
    loop.run_and_wait([&] { started = server->start(); });
    if (!started.is_ok()) {
        loop.run_and_wait([&] { server.reset(); });
        loop.stop();
        return complain(started, started.code() == Errc::config ? kExitConfig : kExitFailure);
    }
    LFS_LOG(info, "metad {} listens on {}", config->node_id.value, config->listen_address());
    run_daemon(loop,
               {[&] {
                    auto again = metad::load_metad_config(fs, args.config_file);
                    if (again) set_log_level(again->log.level);
                    if (!again) LFS_LOG(error, "not reloaded: {}", again.status().text());
                },
                [&] {
                    server->stop();
                    loop.stop();
                }});
    server.reset();
    if (!failure.is_ok()) return complain(failure, kExitFailure);
    return kExitOk;
}
