// SPDX-License-Identifier: Apache-2.0
#include "metad/service/metad_service.h"

#include "common/base/log.h"
#include "common/wire/codec.h"
#include "common/wire/method.h"
#include "metad/service/admin_service.h"
#include "metad/service/config_service.h"
#include "metad/service/copy_checks.h"
#include "metad/service/housekeeper.h"
#include "metad/service/mark_trimmer.h"
#include "metad/service/namespace_service.h"
#include "metad/service/node_service.h"
#include "metad/service/session_service.h"

namespace lumeofs::metad {
namespace {

constexpr Nanos kQuickTick = 100 * kMillisecond;  // fences, recalls, removals

}  // namespace

// Everything of one leadership, in the order in which it is built.
struct MetadService::Leadership {
    Leadership(Loop& loop,
               Consensus& consensus,
               StateMachine& state,
               const ServiceSettings& settings,
               Prng prng)
        : leader(std::make_shared<Leader>(loop, consensus, state, settings, prng)),
          configs(*leader),
          sessions(*leader, configs),
          marks(*leader, configs),
          copies(*leader, configs),
          names(*leader, sessions, [this] { marks.tick(); }),
          nodes(*leader,
                configs,
                {[this] { sessions.tick(); },
                 [this](NodeId node, ChunkId chunk, Epoch epoch) {
                     marks.adopted(node, chunk, epoch);
                 },
                 [this] { housekeeper.joined(); },
                 [this](const wire::ChunkReportT& report) { copies.reported(report); },
                 [this](NodeId primary, ChunkId chunk, uint64_t order) {
                     copies.done(primary, chunk, order);
                 }}),
          housekeeper(*leader, configs, sessions),
          quick(loop),
          slow(loop) {
        quick.repeat(kQuickTick, [this] {
            configs.tick();
            sessions.tick();
        });
        slow.repeat(kBeat, [this] {
            housekeeper.tick();
            marks.tick();
            copies.tick();
        });
    }

    std::shared_ptr<Leader> leader;
    ConfigService configs;
    SessionService sessions;
    MarkTrimmer marks;
    CopyChecks copies;
    NamespaceService names;
    NodeService nodes;
    Housekeeper housekeeper;
    Timer quick;
    Timer slow;
};

MetadService::MetadService(Loop& loop,
                           Consensus& consensus,
                           StateMachine& state,
                           ServiceSettings settings,
                           Prng prng)
    : loop_(loop), consensus_(consensus), state_(state), settings_(settings), prng_(prng) {
    consensus_.on_leadership([this](bool ready) { leadership_changed(ready); });
}

MetadService::~MetadService() = default;

void MetadService::set_peers(
    std::function<void(const std::function<void(RpcPeer&)>&)> for_each_peer) {
    for_each_peer_ = std::move(for_each_peer);
}

Leader* MetadService::leader() { return leadership_ ? leadership_->leader.get() : nullptr; }

void MetadService::leadership_changed(bool ready) {
    // The old one may be on the stack below us (an answer that ended it): let it go a task later.
    if (leadership_) {
        loop_.post([old = std::move(leadership_)]() mutable { old.reset(); });
        leadership_.reset();
    }
    if (!ready) return;
    LFS_LOG(info, "leading term {}", consensus_.term().value);
    leadership_ = std::make_shared<Leadership>(
        loop_, consensus_, state_, settings_, prng_.fork(consensus_.term().to_string()));
    if (!state_.is_bootstrapped()) bootstrap();
    greet();
}

void MetadService::bootstrap() {
    wire::ApplyBootstrapT command;
    command.cluster_id_high = prng_.next();
    command.cluster_id_low = prng_.next();
    command.default_replicas = settings_.default_replicas;
    command.min_write_replicas = settings_.min_write_replicas;
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leadership_->leader->propose(std::move(op), [](const Result<wire::MetaReplyT>& reply) {
        if (reply && reply->errc == 0) LFS_LOG(info, "a new cluster was set up");
    });
}

// A session that hears nothing would find the new leader only by a time-out [36].
void MetadService::greet() {
    if (!for_each_peer_) return;
    wire::LeaderHelloT hello;
    hello.term = consensus_.term().value;
    hello.node = settings_.self.value;
    const Bytes body = wire::encode<wire::LeaderHello>(hello);
    for_each_peer_([&body](RpcPeer& peer) {
        if (peer.hello().role == Role::metad) return;
        peer.push(static_cast<uint16_t>(Method::leader_hello), body);
    });
}

void MetadService::refuse(const RpcRequest& request) const {
    const NodeId leader = consensus_.leader();
    const std::string address = consensus_.leader_address();
    const std::string text = "this metad does not lead";
    switch (static_cast<Method>(request.method)) {
        case Method::mutation:
        case Method::query:
        case Method::session: {
            wire::MetaReplyT reply;
            reply.errc = static_cast<uint16_t>(Errc::not_leader);
            reply.text = text;
            reply.leader = leader.value;
            reply.leader_address = address;
            return request.responder.reply_ok(encoded(reply));
        }
        case Method::node: {
            auto message = wire::decode<wire::NodeRequest>(request.body);
            if (!message) return request.responder.reply(message.status());
            return request.responder.reply_ok(
                NodeService::error_for(*message, Errc::not_leader, text, leader, address));
        }
        case Method::admin:
            return request.responder.reply(Status(Errc::not_leader, address));
        case Method::recall:
        case Method::leader_hello:
        case Method::write_chunk:
        case Method::read_chunk:
        case Method::chunk_extents:
        case Method::replicate:
        case Method::gather:
        case Method::copy_blocks:
        case Method::compare_blocks:
        case Method::commit_point:
        case Method::adopt_config:
        case Method::raft:
        case Method::snapshot_piece:
            break;
    }
    request.responder.reply(Status(
        Errc::nosys, "a metad does not serve method " + std::to_string(request.method)));
}

void MetadService::on_request(RpcPeer& peer, RpcRequest request) {
    const auto method = static_cast<Method>(request.method);
    if (method == Method::admin) return admin(request);
    if (!leadership_) return refuse(request);
    // Held for the call: an answer that is given inside may end this leadership.
    const std::shared_ptr<Leadership> leadership = leadership_;
    if (method == Method::query) {
        leadership->names.handle_query(request);
    } else if (method == Method::mutation) {
        leadership->names.handle_mutation(request);
    } else if (method == Method::session) {
        leadership->sessions.handle(peer.shared_from_this(), request);
    } else if (method == Method::node) {
        leadership->nodes.handle(peer.shared_from_this(), request);
    } else {
        refuse(request);
    }
}

void MetadService::on_gone(RpcPeer& peer) {
    if (!leadership_) return;
    leadership_->sessions.peer_closed(&peer);
    leadership_->nodes.peer_closed(&peer);
}

void MetadService::admin(const RpcRequest& request) {
    auto message = wire::decode<wire::AdminRequest>(request.body);
    if (!message) return request.responder.reply(message.status());
    if (message->what == "raft") {
        const std::string text = raft_status_json(consensus_, settings_.self);
        return request.responder.reply_ok({}, Buffer::copy_of(as_view(text)));
    }
    if (!leadership_) return refuse(request);
    auto question = std::make_shared<wire::AdminRequestT>(std::move(*message));
    consensus_.read_barrier(leadership_->leader->guarded(
        [this, question, responder = request.responder](const Status& status) {
            if (!status.is_ok()) return responder.reply(status);
            if (!leadership_) return responder.reply(Status(Errc::not_leader));
            auto text = admin_answer(*leadership_->leader, leadership_->sessions, *question);
            if (!text) return responder.reply(text.status());
            responder.reply_ok({}, Buffer::copy_of(as_view(*text)));
        }));
}

}  // namespace lumeofs::metad
