// SPDX-License-Identifier: Apache-2.0
#include "chunkd/server.h"

#include <algorithm>

#include "chunkd/replication/driver.h"
#include "chunkd/service/chunk_service.h"
#include "chunkd/service/identity.h"
#include "chunkd/service/metad_duties.h"
#include "chunkd/service/metad_link.h"
#include "chunkd/service/peer_links.h"
#include "common/base/log.h"
#include "common/rpc/server.h"
#include "common/wire/frame.h"

namespace lumeofs::chunkd {

namespace {

constexpr Nanos kHousekeeping = kSecond;
constexpr uint32_t kTrashPerRound = 64;
// With less than 1/20 of the room left, removed chunks go after ten minutes: a full cluster is worse than
// a restored database that finds fewer of them [18].
constexpr uint64_t kPressedShare = 20;
constexpr Nanos kTrashWhenPressed = 600 * kSecond;
constexpr const char* kRelease = LUMEO_VERSION;

}  // namespace

ChunkdServer::ChunkdServer(const ChunkdEnv& env, const ChunkdConfig& config)
    : env_(env), config_(config), prng_(env.seed), housekeeping_(env.loop) {}

ChunkdServer::~ChunkdServer() {
    alive_.reset();
    housekeeping_.stop();
    server_.reset();
    duties_.reset();
    metad_.reset();
    driver_.reset();
    peers_.reset();
    store_.reset();
}

Status ChunkdServer::start() {
    LFS_ASSIGN(identity_,
               NodeIdentity::open(env_.fs, config_.data_dirs.front(), config_.node_id, prng_));
    peers_ = std::make_unique<PeerLinks>(env_.loop,
                                         env_.transport,
                                         prng_.fork("peers"),
                                         config_.node_id,
                                         PeerLinksEvents{[this] { return hello(); },
                                                         [this](NodeId node) {
                                                             if (driver_) driver_->peer_up(node);
                                                         },
                                                         [this](NodeId node) {
                                                             if (driver_) driver_->peer_down(node);
                                                         }});
    if (identity_->has_cluster()) LFS_TRY(open_store());
    LFS_TRY(listen());
    MetadLinkEvents on;
    on.fill_register = [this](wire::RegisterT* message) {
        message->node = config_.node_id.value;
        message->uuid_high = identity_->uuid_high;
        message->uuid_low = identity_->uuid_low;
        message->address = address();
        message->http_address = config_.address + ":" + std::to_string(config_.http_port);
        message->zone = config_.zone;
        message->release = kRelease;
    };
    on.on_registered = [this](const wire::RegisterReplyT& reply) { registered(reply); };
    on.on_refused = [this](const Status& status) { fail(status); };
    on.fill_heartbeat = [this](wire::HeartbeatT* beat) { duties_->fill_heartbeat(beat); };
    on.on_beat = [this](const wire::HeartbeatReplyT& reply) { duties_->on_beat(reply); };
    on.on_beat_lost = [this] { duties_->on_beat_lost(); };
    metad_ = std::make_unique<MetadLink>(
        env_.loop,
        env_.transport,
        prng_.fork("metad"),
        MetadLinkOptions{config_.masters, config_.heartbeat_interval, [this] { return hello(); }},
        std::move(on));
    metad_->start();
    return Status();
}

Status ChunkdServer::open_store() {
    store::StoreOptions options;
    for (const std::string& dir : config_.data_dirs) options.dirs.push_back(dir + "/store");
    options.cluster_id_high = identity_->cluster_high;
    options.cluster_id_low = identity_->cluster_low;
    options.node = config_.node_id;
    options.seed = prng_.next();
    options.wal_max_size = config_.wal_max_size;
    options.reserve_percent = config_.reserve_percent;
    options.cache_bytes = config_.cache_bytes != 0 ? config_.cache_bytes : config_.read_cache_size;
    if (config_.wal_segment_size != 0) options.wal_segment_size = config_.wal_segment_size;
    if (config_.home_file_size != 0) options.home_file_size = config_.home_file_size;
    if (config_.home_step != 0) options.home_step = config_.home_step;
    if (config_.fill_ahead != UINT64_MAX) options.fill_ahead = config_.fill_ahead;
    if (config_.reserve_min_bytes != UINT64_MAX) {
        options.reserve_min_bytes = config_.reserve_min_bytes;
    }
    // The disk has said why. metad learns what is not held any more; the last disk takes us with it,
    // and what is on it may be whole when we are started again.
    options.on_disk_failed = [this](uint32_t, const Status&) {
        if (stopped_ || !duties_) return;
        if (!store_->usable()) return fail(Status(Errc::io, "no usable disk is left"));
        if (!driver_->started()) return;
        driver_->disk_failed();
        duties_->report_holdings();
    };
    options.on_bad_block = [this](const store::BadBlock& bad) {
        LFS_LOG(warn, "chunk {} block {}: checksum does not match", bad.chunk.value, bad.block);
        if (!driver_ || stopped_) return;
        env_.loop.post([this, bad, alive = std::weak_ptr<char>(alive_)] {
            if (alive.expired() || !driver_ || stopped_ || !driver_->started()) return;
            driver_->repair(bad.chunk, {bad.block}, [](const Status& status) {
                ignore(status, "it stays in quarantine and is tried again when it is met");
            });
        });
    };
    LFS_ASSIGN(store_, store::ChunkStore::open(env_.fs, env_.loop, std::move(options)));
    replication::Outside& outside = *this;
    driver_ = std::make_unique<replication::Driver>(
        env_.loop,
        *store_,
        outside,
        replication::DriverOptions{config_.node_id, config_.max_concurrent_writes});
    duties_ = std::make_unique<MetadDuties>(
        env_.loop,
        *store_,
        *driver_,
        config_.node_id,
        MetadDuties::Needs{
            [this] { metad_->beat_soon(); },
            [this](wire::NodeOpUnion op,
                   Nanos timeout,
                   std::function<void(Result<wire::ConfigReplyT>)> done) {
                metad_->call(std::move(op), timeout, std::move(done));
            },
            [this](const std::vector<std::unique_ptr<wire::NodeAddressT>>& nodes) {
                peers_->learn(nodes);
            }});
    return Status();
}

Status ChunkdServer::listen() {
    RpcServerEvents on;
    on.check = [this](const Hello& peer) {
        if (stopped_) return Status(Errc::shutting_down, "this chunkd is stopping");
        // At the first start of all the cluster is learnt later than this began to listen.
        LFS_TRY(check_hello(hello(), peer));
        if (peer.role == Role::metad) return Status(Errc::protocol, "a metad has no business here");
        return Status();
    };
    on.on_request = [this](RpcPeer& peer, RpcRequest request) {
        if (!driver_ || stopped_) {
            return request.responder.reply(Status(Errc::unavailable, "this chunkd is starting"));
        }
        serve_request(*driver_, peer.hello(), std::move(request));
    };
    on.on_push = [this](RpcPeer& peer, const RpcPush& push) {
        if (driver_ && !stopped_) serve_push(*driver_, peer.hello(), push);
    };
    server_ = std::make_unique<RpcServer>(env_.loop, env_.transport, std::move(on));
    Status status = server_->listen(config_.listen_address(), hello());
    if (status.is_ok()) return status;
    return Status(Errc::config,
                  "cannot listen on " + config_.listen_address() + ": " + status.to_string());
}

Hello ChunkdServer::hello() const {
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = Role::chunkd;
    hello.node = config_.node_id;
    hello.incarnation = incarnation_;
    hello.cluster_id_high = identity_->cluster_high;
    hello.cluster_id_low = identity_->cluster_low;
    return hello;
}

// A start of ours is known to the cluster: fences and addresses first, then the chunks.
void ChunkdServer::registered(const wire::RegisterReplyT& reply) {
    incarnation_ = Incarnation{reply.incarnation};
    Status status = identity_->join_cluster(reply.cluster_id_high, reply.cluster_id_low);
    if (status.is_ok() && !store_) status = open_store();
    if (!status.is_ok()) return fail(status);
    LFS_LOG(info, "registered: incarnation {}", incarnation_.value);
    duties_->start(reply);
    driver_->start(incarnation_, reply.min_write_replicas, ChunkId{reply.last_chunk});
    peers_->learn(reply.nodes);
    if (!housekeeping_.running()) housekeeping_.repeat(kHousekeeping, [this] { housekeeping(); });
}

void ChunkdServer::fail(const Status& status) {
    LFS_LOG(error, "{}", status.to_string());
    stopped_ = true;
    housekeeping_.stop();
    if (driver_) driver_->stop();
    if (metad_) metad_->stop(false, {});
    env_.loop.post([this, status, alive = std::weak_ptr<char>(alive_)] {
        if (alive.expired()) return;
        if (env_.on_failure) env_.on_failure(status);
    });
}

// Trash that is old enough is freed; a slice of the disks is read and verified.
void ChunkdServer::housekeeping() {
    const Nanos now = env_.loop.wall_now();
    const store::DiskSpaceInfo space = store_->space();
    const bool pressed = space.free_bytes < space.total_bytes / kPressedShare;
    const Nanos delay = pressed ? std::min(config_.gc_delay, kTrashWhenPressed) : config_.gc_delay;
    if (now > delay) {
        auto purged = store_->purge_trash(now - delay, kTrashPerRound, [](const Status& s) {
            ignore(s, "purged again in the next round");
        });
        ignore(purged, "tried again in the next round");
    }
    if (config_.scrub_rate_mbps != 0) {
        const uint64_t blocks = (uint64_t{config_.scrub_rate_mbps} << 20) / 8 / kBlockSize;
        // Bad blocks are told to on_bad_block; reading blocks the loop, so a slice is bounded.
        store_->scrub(static_cast<uint32_t>(std::min<uint64_t>(blocks, 4096)));
    }
}

void ChunkdServer::stop(std::function<void()> done) {
    if (stopped_) {
        if (done) env_.loop.post(std::move(done));
        return;
    }
    stopped_ = true;
    housekeeping_.stop();
    if (driver_) driver_->stop();
    if (duties_) duties_->stop();
    if (store_) ignore(store_->flush(), "the disk was taken out; its log is replayed");
    if (!metad_) {
        if (done) env_.loop.post(std::move(done));
        return;
    }
    const bool goodbye = driver_ != nullptr;
    metad_->stop(goodbye, [this, done = std::move(done), alive = std::weak_ptr<char>(alive_)] {
        if (alive.expired()) return;
        peers_->stop();
        server_->stop();
        if (done) done();
    });
}

const std::string& ChunkdServer::address() const { return server_->address(); }

bool ChunkdServer::lease_valid() const { return !stopped_ && metad_ && metad_->lease_valid(); }

void ChunkdServer::call_node(
    NodeId node, Method method, Bytes body, Buffer payload, Nanos timeout, RpcDone done) {
    peers_->call(node, method, std::move(body), std::move(payload), timeout, std::move(done));
}

bool ChunkdServer::push_node(NodeId node, Method method, Bytes body) {
    return peers_->push(node, method, std::move(body));
}

bool ChunkdServer::node_up(NodeId node) const { return peers_->is_up(node); }

void ChunkdServer::call_metad(wire::NodeOpUnion op,
                              Nanos timeout,
                              std::function<void(Result<wire::ConfigReplyT>)> done) {
    metad_->call(std::move(op), timeout, std::move(done));
}

}  // namespace lumeofs::chunkd
