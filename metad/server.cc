// SPDX-License-Identifier: Apache-2.0
#include "metad/server.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/rpc/server.h"
#include "common/wire/frame.h"
#include "common/wire/method.h"
#include "metad/consensus/driver.h"
#include "metad/namespace/state_machine.h"
#include "metad/service/metad_service.h"

namespace lumeofs::metad {
namespace {

constexpr uint64_t kCheckpointBytes = uint64_t{64} << 20;
constexpr Nanos kCheckpointEvery = 2 * kSecond;

uint32_t ticks(Nanos time) { return static_cast<uint32_t>(std::max<Nanos>(1, time / kRaftTick)); }

// A node lease must outlive the longest election, a client's must not be shorter than a node's
// [36].
ServiceSettings settings_of(const MetadConfig& config) {
    ServiceSettings settings;
    settings.self = config.node_id;
    settings.default_replicas = config.default_replicas;
    settings.min_write_replicas = config.min_write_replicas;
    settings.node_timeout = config.node_timeout;
    settings.node_lease =
        std::max(kNodeLease, kBeat + 2 * config.election_timeout + kSecond);
    settings.client_lease = std::max(kClientLease, settings.node_lease);
    return settings;
}

}  // namespace

MetadServer::MetadServer(const MetadEnv& env, const MetadConfig& config)
    : env_(env), config_(config), prng_(env.seed), checkpoint_timer_(env.loop) {}

MetadServer::~MetadServer() { stop(); }

Status MetadServer::open_state() {
    StateMachineOptions options;
    if (!env_.in_memory) {
        const std::string dir = config_.data_dir + "/state";
        LFS_TRY(env_.fs.make_dirs(dir));
        options.path = dir + "/metad.db";
        options.vfs = env_.sqlite_vfs;
        options.files = &env_.fs;
    }
    LFS_ASSIGN(state_, StateMachine::open(options));
    return ok_status();
}

Status MetadServer::open_raft() {
    consensus::DriverOptions options;
    options.data_dir = config_.data_dir;
    options.node = config_.node_id;
    options.address = config_.listen_address();
    for (const PeerConfig& peer : config_.peers) {
        options.peers.push_back({peer.node, raft::MemberRole::voter, peer.address});
    }
    std::sort(options.peers.begin(),
              options.peers.end(),
              [](const raft::Member& a, const raft::Member& b) { return a.id < b.id; });
    options.seed = prng_.next();
    options.election_ticks = ticks(config_.election_timeout);
    options.heartbeat_ticks = ticks(config_.heartbeat_interval);
    options.start_pause_ticks = options.election_ticks;
    options.log_bytes_max = config_.raft_log_max_size;
    options.log_bytes_kept = config_.raft_log_max_size / 8;
    options.hello = [this] { return own_hello(); };
    options.on_failure = env_.on_failure;
    LFS_ASSIGN(raft_,
               consensus::RaftDriver::open(
                   {env_.loop, env_.fs, env_.transport}, options, *state_));
    return ok_status();
}

Status MetadServer::listen() {
    RpcServerEvents events;
    events.check = [this](const Hello& hello) {
        // At the first start of all the cluster gets its id later than this begins to listen.
        return check_hello(own_hello(), hello);
    };
    events.on_request = [this](RpcPeer& peer, RpcRequest request) {
        if (request.method == static_cast<uint16_t>(Method::snapshot_piece)) {
            raft_->on_request(peer.hello(), std::move(request));
        } else {
            service_->on_request(peer, std::move(request));
        }
    };
    events.on_push = [this](RpcPeer& peer, RpcPush push) {
        if (push.method == static_cast<uint16_t>(Method::raft)) raft_->on_push(peer.hello(), push);
    };
    events.on_gone = [this](RpcPeer& peer, const Status&) { service_->on_gone(peer); };
    server_ = std::make_unique<RpcServer>(env_.loop, env_.transport, std::move(events));
    service_->set_peers(
        [this](const std::function<void(RpcPeer&)>& visit) { server_->for_each_peer(visit); });
    return server_->listen(config_.listen_address(), own_hello());
}

Hello MetadServer::own_hello() const {
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = Role::metad;
    hello.node = config_.node_id;
    if (state_->is_bootstrapped()) {
        hello.cluster_id_high = state_->cluster().cluster_id_high;
        hello.cluster_id_low = state_->cluster().cluster_id_low;
    }
    return hello;
}

Status MetadServer::start() {
    LFS_TRY(env_.fs.make_dirs(config_.data_dir));
    LFS_TRY(open_state());
    LFS_TRY(open_raft());
    service_ = std::make_unique<MetadService>(
        env_.loop, *raft_, *state_, settings_of(config_), prng_.fork("service"));
    LFS_TRY(listen());
    raft_->start();
    checkpoint_timer_.repeat(kCheckpointEvery, [this] { checkpoint_if_due(); });
    return ok_status();
}

// SQLite's own log must not grow without end; the Raft log may be cut below a checkpoint.
void MetadServer::checkpoint_if_due() {
    if (state_->bytes_since_checkpoint() < kCheckpointBytes) return;
    auto cut = raft_->compact();
    if (!cut) LFS_LOG(error, "checkpoint failed: {}", cut.status().to_string());
}

void MetadServer::stop() {
    checkpoint_timer_.stop();
    if (server_) server_->stop();
    if (raft_) raft_->stop();
    server_.reset();
    service_.reset();
    raft_.reset();
    state_.reset();
}

}  // namespace lumeofs::metad
