// SPDX-License-Identifier: Apache-2.0
// A simulated cluster: 3 metads, 3 chunkds, 2 clients, each a process with its own loop, clocks and
// (servers) disk, all of them the real objects. Processes can be killed, lose power (their disk
// forgets what was not synced), pause and start again.
// A violation is the first sentence that fail() got; the run ends with it.
// single-thread: the simulation.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chunkd/server.h"
#include "client/vfs.h"
#include "metad/server.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_sqlite_vfs.h"

namespace lumeofs::sim {

inline constexpr size_t kMetads = 3;
inline constexpr size_t kChunkds = 3;
inline constexpr size_t kClients = 2;

enum class Kind : uint8_t { metad, chunkd, client };

struct Process {
    Kind kind = Kind::metad;
    ProcessId id = 0;
    std::string name;
    std::unique_ptr<SimDisk> disk;  // servers
    std::unique_ptr<SimSqliteVfs> sqlite;
    ClockSkew skew;
    SimLoop* loop = nullptr;  // null: not running
    std::unique_ptr<Transport> transport;
    std::unique_ptr<metad::MetadServer> metad;
    std::unique_ptr<chunkd::ChunkdServer> chunkd;
    std::unique_ptr<client::Vfs> vfs;
    bool up = false;          // servers: start() has succeeded
    bool power_lost = false;  // its disk has failed in the middle of a change
    bool started = false;   // clients: start() was answered
    uint64_t epoch = 0;     // clients: raised when unsynced data may be lost
    uint64_t sessions_lost = 0;
    uint64_t starts = 0;
};

class Cluster {
public:
    explicit Cluster(uint64_t seed);
    ~Cluster();
    Cluster(const Cluster&) = delete;
    Cluster& operator=(const Cluster&) = delete;

    World world;
    SimNetwork network;

    std::vector<std::unique_ptr<Process>>& processes() { return processes_; }
    Process& metad(size_t i) { return *processes_[i]; }
    Process& chunkd(size_t i) { return *processes_[kMetads + i]; }
    Process& client(size_t i) { return *processes_[kMetads + kChunkds + i]; }

    void start(Process& process);
    // power: the machine loses power; else only the process dies.
    void crash(Process& process, bool power);
    void pause(Process& process);
    void resume(Process& process);
    // The leader's server, null if nobody is ready.
    metad::MetadServer* leader();

    // A machine's power failed by itself (SimDisk::fail_power_after): to crash it, from an event.
    void on_power_lost(std::function<void(Process&)> hook) { power_lost_ = std::move(hook); }

    void fail(const std::string& what);
    const std::string& violation() const { return violation_; }
    uint64_t crashes() const { return crashes_; }

private:
    void start_metad(Process& process);
    void start_chunkd(Process& process);
    void start_client(Process& process);
    void ended_itself(Process& process, const Status& why);

    Prng random_;
    const uint64_t seed_;
    std::vector<std::unique_ptr<SimLoop>> loops_;  // also of dead processes: timers name them
    std::vector<std::unique_ptr<Transport>> old_transports_;
    std::vector<std::unique_ptr<Process>> processes_;
    std::function<void(Process&)> power_lost_;
    std::string violation_;
    uint64_t crashes_ = 0;
};

}  // namespace lumeofs::sim
