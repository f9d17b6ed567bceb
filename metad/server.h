// SPDX-License-Identifier: Apache-2.0
// MetadServer: the contents page of lumeofs-metad. Everything runs on one loop, in this order:
//
//   start   state machine (SQLite) -> consensus (log, term, vote) -> services -> listen -> raft
//   stop    listen ends -> services -> consensus -> state machine
//
// Several can live in one process (embedded mode, the simulator): no globals.
// single-thread: the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/prng.h"
#include "common/env/file_system.h"
#include "common/env/loop.h"
#include "common/env/transport.h"
#include "metad/config.h"

namespace lumeofs {
class RpcServer;
namespace consensus {
class RaftDriver;
}
}  // namespace lumeofs

namespace lumeofs::metad {

class MetadService;
class StateMachine;

struct MetadEnv {
    Loop& loop;
    FileSystem& fs;
    Transport& transport;
    uint64_t seed = 0;           // from the system's random source; the simulator's is its own
    std::string sqlite_vfs;      // "" = the system's
    bool in_memory = false;      // the database only lives in memory and is rebuilt from the log
    std::function<void(const Status&)> on_failure;  // the process must end with this error
};

class MetadServer {
public:
    MetadServer(const MetadEnv& env, const MetadConfig& config);
    ~MetadServer();
    MetadServer(const MetadServer&) = delete;
    MetadServer& operator=(const MetadServer&) = delete;

    // config: the data directory is foreign, an address cannot be listened on. corrupt: damage.
    Status start();
    void stop();

    // For status, tests and the simulator's checkers; valid between start() and stop().
    StateMachine& state() { return *state_; }
    consensus::RaftDriver& raft() { return *raft_; }
    MetadService& service() { return *service_; }

private:
    Status open_state();
    Status open_raft();
    Status listen();
    Hello own_hello() const;
    void checkpoint_if_due();

    MetadEnv env_;
    MetadConfig config_;
    Prng prng_;
    std::unique_ptr<StateMachine> state_;
    std::unique_ptr<consensus::RaftDriver> raft_;
    std::unique_ptr<MetadService> service_;
    std::unique_ptr<RpcServer> server_;
    Timer checkpoint_timer_;
};

}  // namespace lumeofs::metad
