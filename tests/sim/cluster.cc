// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/cluster.h"

#include "common/base/log.h"
#include "metad/consensus/driver.h"

namespace lumeofs::sim {

namespace {

constexpr uint16_t kMetadPort = 9100;
constexpr uint16_t kChunkdPort = 10100;

std::vector<std::string> metad_addresses() {
    std::vector<std::string> result;
    for (size_t i = 1; i <= kMetads; ++i) {
        result.push_back("127.0.0.1:" + std::to_string(kMetadPort + i));
    }
    return result;
}

}  // namespace

Cluster::Cluster(uint64_t seed)
    : world(seed), network(world), random_(Prng(seed).fork("cluster")), seed_(seed) {
    SimSqliteVfs::seed_sqlite(seed);
    auto add = [&](Kind kind, ProcessId id, const std::string& name) {
        auto process = std::make_unique<Process>();
        process->kind = kind;
        process->id = id;
        process->name = name;
        process->skew.boot_offset = static_cast<Nanos>(random_.below(uint64_t{100'000} * kSecond));
        process->skew.wall_offset = static_cast<Nanos>(random_.below(uint64_t{4} * kSecond)) -
                                    2 * kSecond;
        process->skew.drift_permille = static_cast<int>(random_.below(21)) - 10;
        if (kind != Kind::client) process->disk = std::make_unique<SimDisk>();
        if (kind == Kind::metad) {
            process->sqlite =
                std::make_unique<SimSqliteVfs>("sim-" + name, *process->disk, random_.next());
        }
        Process* raw = process.get();
        if (raw->disk) {
            raw->disk->set_power_lost_hook([this, raw] {
                raw->power_lost = true;
                network.process_died(raw->id, true);
                world.at(world.now(), [this, raw] {
                    if (raw->power_lost && power_lost_) power_lost_(*raw);
                });
            });
        }
        processes_.push_back(std::move(process));
    };
    for (size_t i = 1; i <= kMetads; ++i) add(Kind::metad, i, "metad" + std::to_string(i));
    for (size_t i = 1; i <= kChunkds; ++i) add(Kind::chunkd, 10 + i, "chunkd" + std::to_string(i));
    for (size_t i = 1; i <= kClients; ++i) add(Kind::client, 20 + i, "client" + std::to_string(i));
    for (auto& process : processes_) start(*process);
}

Cluster::~Cluster() {
    for (auto& process : processes_) {
        network.process_died(process->id, false);
        process->vfs.reset();
        process->chunkd.reset();
        process->metad.reset();
    }
    for (auto& loop : loops_) loop->kill();
    world.clear();
    processes_.clear();
}

void Cluster::fail(const std::string& what) {
    if (violation_.empty()) violation_ = what;
}

void Cluster::start(Process& process) {
    if (process.loop != nullptr) return;
    if (process.disk && !process.disk->powered()) process.disk->power_on();
    ++process.starts;
    loops_.push_back(std::make_unique<SimLoop>(world, process.id, process.skew));
    process.loop = loops_.back().get();
    process.transport = network.transport(process.id, *process.loop);
    process.started = false;
    switch (process.kind) {
        case Kind::metad: return start_metad(process);
        case Kind::chunkd: return start_chunkd(process);
        case Kind::client: return start_client(process);
    }
}

void Cluster::start_metad(Process& process) {
    metad::MetadConfig config;
    config.node_id = NodeId{process.id};
    config.port = static_cast<uint16_t>(kMetadPort + process.id);
    config.data_dir = "/data";
    config.raft_log_max_size = uint64_t{1} << 20;
    const auto addresses = metad_addresses();
    for (size_t i = 0; i < kMetads; ++i) config.peers.push_back({NodeId{i + 1}, addresses[i]});
    metad::MetadEnv env{*process.loop,
                        *process.disk,
                        *process.transport,
                        random_.next(),
                        process.sqlite->name(),
                        false,
                        [this, &process](const Status& why) { ended_itself(process, why); }};
    process.metad = std::make_unique<metad::MetadServer>(env, config);
    const Status status = process.metad->start();
    process.up = status.is_ok();
    if (!process.up) ended_itself(process, status);
}

void Cluster::start_chunkd(Process& process) {
    chunkd::ChunkdConfig config;
    config.node_id = NodeId{process.id};
    config.port = static_cast<uint16_t>(kChunkdPort + process.id);
    config.data_dirs = {"/data"};
    config.masters = metad_addresses();
    config.wal_segment_size = uint64_t{8} << 20;
    config.wal_max_size = uint64_t{64} << 20;
    config.home_file_size = uint64_t{64} << 20;
    config.home_step = uint64_t{4} << 20;
    config.fill_ahead = seed_ % 2 == 0 ? 0 : uint64_t{4} << 20;
    config.reserve_min_bytes = 1 << 20;
    config.read_cache_size = uint64_t{4} << 20;
    chunkd::ChunkdEnv env{*process.loop,
                          *process.disk,
                          *process.transport,
                          random_.next(),
                          [this, &process](const Status& why) { ended_itself(process, why); }};
    ignore(process.disk->make_dirs("/data"), "the start says so");
    process.chunkd = std::make_unique<chunkd::ChunkdServer>(env, config);
    const Status status = process.chunkd->start();
    process.up = status.is_ok();
    if (!process.up) ended_itself(process, status);
}

void Cluster::start_client(Process& process) {
    client::ClientOptions options;
    options.metads = metad_addresses();
    options.host = process.name;
    options.mount_path = "/mnt";
    options.cache_limit = uint64_t{8} << 20;
    options.read_ahead_max = uint64_t{1} << 20;
    options.kernel_time = process.id % 2 == 0 ? client::kKernelTime : 0;
    process.sessions_lost = 0;
    process.vfs = std::make_unique<client::Vfs>(
        *process.loop, *process.transport, Prng(random_.next()), options);
    process.loop->post([this, &process] {
        process.vfs->start([this, &process](const Status& status) {
            if (!status.is_ok()) return fail(process.name + " start: " + status.to_string());
            process.started = true;
        });
    });
}

// A daemon ended by itself. It may do that when its disk is gone, never otherwise.
void Cluster::ended_itself(Process& process, const Status& why) {
    if (!process.disk->powered() || process.power_lost || process.loop == nullptr) return;
    fail(process.name + " ended itself: " + why.to_string());
}

void Cluster::crash(Process& process, bool power) {
    if (process.loop == nullptr) return;
    ++crashes_;
    network.process_died(process.id, power);
    if (process.disk && (power || process.power_lost)) process.disk->power_cut(random_.next());
    if (process.disk && !power) process.disk->kill_process();
    process.power_lost = false;
    process.up = false;
    process.vfs.reset();
    process.chunkd.reset();
    process.metad.reset();
    process.loop->kill();
    process.loop = nullptr;
    process.started = false;
    ++process.epoch;
    old_transports_.push_back(std::move(process.transport));
}

void Cluster::pause(Process& process) {
    if (process.loop != nullptr) process.loop->pause();
}

void Cluster::resume(Process& process) {
    if (process.loop != nullptr) process.loop->resume();
}

metad::MetadServer* Cluster::leader() {
    metad::MetadServer* best = nullptr;
    for (size_t i = 0; i < kMetads; ++i) {
        Process& process = metad(i);
        if (process.loop == nullptr || !process.up || process.loop->paused()) continue;
        if (process.power_lost || !process.metad->raft().is_ready_leader()) continue;
        if (best == nullptr || best->raft().term() < process.metad->raft().term()) {
            best = process.metad.get();
        }
    }
    return best;
}

}  // namespace lumeofs::sim
