// SPDX-License-Identifier: Apache-2.0
#include "chunkd/replication/driver.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {

namespace {

constexpr Nanos kTick = kCommitPointDelay / 2;
constexpr size_t kBackgroundPerTick = 64;
constexpr size_t kListedInDoubt = 16 * 1024;
constexpr Nanos kListAgain = kSecond / 2;
constexpr uint64_t kGatherReplyBytes = 1u << 20;

void refuse(const ChunkAnswer& answer, Errc errc) {
    wire::ChunkReplyT reply;
    reply.errc = static_cast<uint16_t>(errc);
    answer(std::move(reply), {});
}

}  // namespace

Driver::Driver(Loop& loop, store::ChunkStore& store, Outside& outside, DriverOptions options)
    : loop_(loop),
      store_(store),
      outside_(outside),
      options_(options),
      repair_(*this,
              [this](ChunkId chunk) -> Result<BlockRepair::Copy> {
                  auto it = replicas_.find(chunk);
                  if (it == replicas_.end() || !it->second->has()) return Status(Errc::not_found);
                  const ChunkReplica& one = *it->second;
                  return BlockRepair::Copy{
                      one.members(), one.config(), one.applied(), one.role() == Role::joiner};
              }),
      timer_(loop) {}

Driver::~Driver() {
    alive_.reset();
    for (auto& [chunk, one] : replicas_) one->drop(Errc::shutting_down);
}

void Driver::start(Incarnation incarnation, uint32_t min_write_replicas, ChunkId last_chunk) {
    stop();
    last_chunk_ = last_chunk;
    disk_lost_ = false;
    incarnation_ = incarnation;
    min_write_replicas_ = min_write_replicas;
    started_ = true;
    listed_.clear();
    for (ChunkId chunk : store_.chunks_in_doubt()) background_.insert(chunk);
    settle_in_background();
    for (NodeId node : linked_) list_in_doubt(node);
}

void Driver::stop() {
    started_ = false;
    timer_.stop();
    const auto loaded = std::exchange(loaded_, {});
    auto replicas = std::exchange(replicas_, {});
    active_.clear();
    background_.clear();
    for (ChunkId chunk : loaded) replicas[chunk]->drop(Errc::shutting_down);
    gathers_.clear();
    commit_points_.clear();
    reports_.clear();
    configs_wanted_.clear();
}

// ---------------------------------------------------------------------------------------- replicas

Result<Driver::ReplicaPtr> Driver::replica(ChunkId chunk) {
    auto it = replicas_.find(chunk);
    if (it != replicas_.end()) return it->second;
    if (!started_) return Status(Errc::unavailable, "this chunkd is not registered yet");
    if (replicas_.size() >= options_.replicas_max) sweep();
    auto made = std::make_shared<ChunkReplica>(*this, chunk);
    // Known before it is loaded: entering its role may already ask others.
    replicas_.emplace(chunk, made);
    loaded_.insert(chunk);
    if (Status status = made->load(); !status.is_ok()) {
        replicas_.erase(chunk);
        loaded_.erase(chunk);
        return status;
    }
    return made;
}

ChunkReplica* Driver::find(ChunkId chunk) {
    auto it = replicas_.find(chunk);
    return it == replicas_.end() ? nullptr : it->second.get();
}

// What is forgotten is in the store; only the settlement of a primary is done again at its next use.
void Driver::sweep() {
    const Nanos now = loop_.now();
    if (now - swept_at_ < kSecond) return;
    swept_at_ = now;
    for (auto it = loaded_.begin(); it != loaded_.end();) {
        auto found = replicas_.find(*it);
        if (!active_.contains(*it) && found->second->idle()) {
            replicas_.erase(found);
            it = loaded_.erase(it);
        } else {
            ++it;
        }
    }
}

void Driver::wake(ChunkId chunk) {
    active_.insert(chunk);
    if (!timer_.running() && started_) timer_.start(kTick, [this] { tick(); });
}

void Driver::tick() {
    settle_in_background();
    const Nanos now = loop_.now();
    const std::vector<ChunkId> due(active_.begin(), active_.end());
    for (ChunkId chunk : due) {
        auto it = replicas_.find(chunk);
        if (it == replicas_.end()) {
            active_.erase(chunk);
            continue;
        }
        const ReplicaPtr one = it->second;
        if (!one->tick(now)) active_.erase(chunk);
    }
    const bool more = !active_.empty() || !background_.empty();
    if (more && started_ && !timer_.running()) timer_.start(kTick, [this] { tick(); });
}

void Driver::settle_in_background() {
    for (size_t i = 0; i < kBackgroundPerTick && !background_.empty(); ++i) {
        const ChunkId chunk = *background_.begin();
        background_.erase(background_.begin());
        ignore(replica(chunk), "its disk was taken out; nothing to settle");
    }
    if (!background_.empty() && !timer_.running() && started_) {
        timer_.start(kTick, [this] { tick(); });
    }
}

bool Driver::quiet() const {
    for (ChunkId chunk : loaded_) {
        if (!replicas_.at(chunk)->idle()) return false;
    }
    return *writes_ == 0;
}

uint64_t Driver::free_bytes() const { return store_.space().free_bytes; }

// ----------------------------------------------------------------------------------------- clients

void Driver::write(wire::WriteChunkT request,
                   Buffer payload,
                   bool forwarded,
                   Nanos deadline,
                   ChunkAnswer answer) {
    if (!request.grant) return refuse(answer, Errc::corrupt);
    auto grant = from_wire(*request.grant);
    if (!grant.is_ok()) return refuse(answer, Errc::corrupt);
    auto found = replica(ChunkId{request.grant->chunk});
    if (!found.is_ok()) return refuse(answer, found.code());
    if (*writes_ - *waiting_writes_ >= options_.max_concurrent_writes) {
        return refuse(answer, Errc::busy);
    }
    ++*writes_;
    auto write = std::make_shared<ClientWrite>();
    write->request = std::move(request);
    write->grant = std::move(grant).value();
    write->payload = std::move(payload);
    write->forwarded = forwarded;
    write->deadline = deadline;
    write->answer = [answer = std::move(answer), count = writes_](wire::ChunkReplyT reply,
                                                                  Buffer bytes) {
        --*count;
        answer(std::move(reply), std::move(bytes));
    };
    (*found)->write(std::move(write));
}

void Driver::note_lost(ChunkId chunk, bool lost) {
    if (lost) {
        lost_.insert(chunk);
    } else {
        lost_.erase(chunk);
    }
}

std::shared_ptr<void> Driver::waiting_place() {
    if (*waiting_writes_ >= options_.max_concurrent_writes) return nullptr;
    ++*waiting_writes_;
    return {waiting_writes_.get(), [count = waiting_writes_](void*) { --*count; }};
}

void Driver::read(const wire::ReadChunkT& request, Nanos deadline, ChunkAnswer answer) {
    if (!request.grant) return refuse(answer, Errc::corrupt);
    auto grant = from_wire(*request.grant);
    if (!grant.is_ok()) return refuse(answer, Errc::corrupt);
    auto found = replica(ChunkId{request.grant->chunk});
    if (!found.is_ok()) return refuse(answer, found.code());
    auto read = std::make_shared<ClientRead>();
    read->grant = std::move(grant).value();
    read->session = SessionId{request.session};
    read->offset = request.offset;
    read->length = request.length;
    read->deadline = deadline;
    read->answer = std::move(answer);
    (*found)->read(std::move(read));
}

void Driver::extents(const wire::ChunkExtentsT& request, Nanos deadline, ChunkAnswer answer) {
    if (!request.grant) return refuse(answer, Errc::corrupt);
    auto grant = from_wire(*request.grant);
    if (!grant.is_ok()) return refuse(answer, Errc::corrupt);
    auto found = replica(ChunkId{request.grant->chunk});
    if (!found.is_ok()) return refuse(answer, found.code());
    auto read = std::make_shared<ClientRead>();
    read->grant = std::move(grant).value();
    read->session = SessionId{request.session};
    read->offset = request.offset;
    read->length = request.length;
    read->extents = true;
    read->deadline = deadline;
    read->answer = std::move(answer);
    (*found)->read(std::move(read));
}

// ------------------------------------------------------------------------------------- other nodes

// Messages of an earlier start of the same node are late ones.
bool Driver::sender_is_current(NodeId sender, uint64_t incarnation) {
    Incarnation& newest = seen_[sender];
    if (incarnation == 0 || Incarnation{incarnation} < newest) return false;
    newest = Incarnation{incarnation};
    return true;
}

void Driver::on_peer_push(NodeId sender, const RpcPush& push) {
    if (push.method != static_cast<uint16_t>(Method::commit_point) || !started_) return;
    auto message = wire::decode<wire::CommitPoints>(push.body);
    if (!message.is_ok() || !sender_is_current(sender, message->incarnation)) return;
    for (const wire::CommitPoint& point : message->points) {
        // A chunk that is not loaded has nothing in memory that the point could resolve; if it is in
        // doubt it is loaded by the start's background pass.
        if (ChunkReplica* one = find(ChunkId{point.chunk()})) {
            one->on_commit_point(sender, from_wire(&point.name()));
        } else if (store_.has(ChunkId{point.chunk()})) {
            auto loaded = replica(ChunkId{point.chunk()});
            if (loaded.is_ok()) (*loaded)->on_commit_point(sender, from_wire(&point.name()));
        }
    }
}

void Driver::peer_up(NodeId node) {
    linked_.insert(node);
    if (!started_) return;
    for (ChunkId chunk : std::vector<ChunkId>(loaded_.begin(), loaded_.end())) {
        if (auto it = replicas_.find(chunk); it != replicas_.end()) {
            const ReplicaPtr one = it->second;
            one->peer_up(node);
        }
    }
    if (!listed_.contains(node)) list_in_doubt(node);
}

void Driver::peer_down(NodeId node) {
    linked_.erase(node);
    not_told(node);
}

// The commit points that were sent to it may not have come.
void Driver::not_told(NodeId node) {
    for (ChunkId chunk : loaded_) replicas_.at(chunk)->peer_down(node);
}

// Which of the chunks that are ours to settle does this node have doubts about?
void Driver::list_in_doubt(NodeId node) {
    wire::GatherT message;
    message.incarnation = incarnation_.value;
    message.list_in_doubt = true;
    outside_.call_node(
        node,
        Method::gather,
        wire::encode<wire::Gather>(message),
        {},
        kRpcTimeout,
        [this, node, alive = std::weak_ptr<char>(alive_), at = incarnation_](RpcReply rpc) {
            if (alive.expired() || !started_ || at != incarnation_) return;
            auto reply = rpc.status.is_ok() ? wire::decode<wire::GatherReply>(rpc.body)
                                            : Result<wire::GatherReplyT>(rpc.status);
            if (!reply.is_ok() || reply->errc != 0) return list_again(node);
            listed_.insert(node);
            for (uint64_t chunk : reply->in_doubt) background_.insert(ChunkId{chunk});
            settle_in_background();
        });
}

// It may have been started as we were, and not be registered yet. Without a link: when that is back.
void Driver::list_again(NodeId node) {
    loop_.after(kListAgain, [this, node, alive = std::weak_ptr<char>(alive_), at = incarnation_] {
        if (alive.expired() || !started_ || at != incarnation_ || listed_.contains(node)) return;
        if (linked_.contains(node)) list_in_doubt(node);
    });
}

std::vector<uint64_t> Driver::in_doubt_of(NodeId primary) {
    std::vector<uint64_t> found;
    for (ChunkId chunk : store_.chunks_in_doubt()) {
        if (found.size() >= kListedInDoubt) break;
        auto one = replica(chunk);
        if (one.is_ok() && (*one)->config().primary() == primary) found.push_back(chunk.value);
    }
    return found;
}

void Driver::answer_gather(NodeId sender, const wire::GatherT& message, Responder to) {
    // Answers come as the disk makes them durable; the last one sends the reply.
    struct Open {
        wire::GatherReplyT reply;
        size_t missing = 0;
        uint64_t bytes = 0;
        Responder to;
    };
    auto open = std::make_shared<Open>();
    open->to = std::move(to);
    open->missing = message.configs.size() + 1;
    open->reply.free_bytes = free_bytes();
    open->reply.chunks.resize(message.configs.size());
    if (message.list_in_doubt) open->reply.in_doubt = in_doubt_of(sender);
    auto finish_one = [open] {
        if (--open->missing == 0) open->to.reply_ok(wire::encode<wire::GatherReply>(open->reply));
    };
    for (size_t i = 0; i < message.configs.size(); ++i) {
        open->reply.chunks[i] = std::make_unique<wire::GatheredChunkT>();
        wire::GatheredChunkT& slot = *open->reply.chunks[i];
        slot.errc = static_cast<uint16_t>(Errc::corrupt);
        auto config = message.configs[i] ? from_wire(*message.configs[i])
                                         : Result<Configuration>(Errc::corrupt);
        auto one = config.is_ok() ? replica(ChunkId{message.configs[i]->chunk})
                                  : Result<ReplicaPtr>(config.status());
        if (!one.is_ok()) {
            slot.errc = static_cast<uint16_t>(one.code());
            finish_one();
            continue;
        }
        (*one)->on_gather(sender,
                          Incarnation{message.incarnation},
                          *config,
                          [open, i, finish_one](wire::GatheredChunkT chunk) {
                              open->bytes += 100 + 64 * chunk.in_doubt.size();
                              if (open->bytes > kGatherReplyBytes && open->bytes > 300'000 && i > 0) {
                                  // Too much for one message: asked again on its own.
                                  chunk.in_doubt.clear();
                                  chunk.errc = static_cast<uint16_t>(Errc::busy);
                              }
                              *open->reply.chunks[i] = std::move(chunk);
                              finish_one();
                          });
    }
    finish_one();
}

void Driver::on_peer_request(NodeId sender, RpcRequest request) {
    const Responder to = request.responder;
    if (!started_) return to.reply(Status(Errc::unavailable, "this chunkd is not registered yet"));
    // `Table` is the request, its config names the chunk; `act` gets both.
    auto with_chunk = [&](auto message, auto&& act) {
        if (!message.is_ok()) return to.reply(message.status());
        if (!message->config) return to.reply(Status(Errc::corrupt, "no configuration"));
        if (!sender_is_current(sender, message->incarnation)) {
            return to.reply(Status(Errc::fenced, "a later start of your node is known here"));
        }
        auto config = from_wire(*message->config);
        if (!config.is_ok()) return to.reply(config.status());
        auto one = replica(ChunkId{message->config->chunk});
        if (!one.is_ok()) return to.reply(one.status());
        act(**one, std::move(config).value(), std::move(message).value());
    };
    auto replica_answer = [to](const wire::ReplicaReplyT& reply, const Buffer&) {
        to.reply_ok(wire::encode<wire::ReplicaReply>(reply));
    };
    switch (static_cast<Method>(request.method)) {
        case Method::replicate:
            return with_chunk(wire::decode<wire::Replicate>(request.body),
                              [&](ChunkReplica& one, Configuration config, wire::ReplicateT message) {
                                  one.on_replicate(
                                      sender,
                                      config,
                                      std::make_shared<wire::ReplicateT>(std::move(message)),
                                      std::move(request.payload),
                                      replica_answer);
                              });
        case Method::copy_blocks:
            return with_chunk(wire::decode<wire::CopyBlocks>(request.body),
                              [&](ChunkReplica& one, Configuration config, wire::CopyBlocksT message) {
                                  one.on_copy(sender,
                                              config,
                                              message,
                                              std::move(request.payload),
                                              replica_answer);
                              });
        case Method::compare_blocks:
            return with_chunk(
                wire::decode<wire::CompareBlocks>(request.body),
                [&](ChunkReplica& one, Configuration config, wire::CompareBlocksT message) {
                    one.on_compare(sender,
                                   config,
                                   message,
                                   [to](const wire::CompareReplyT& reply, Buffer payload) {
                                       to.reply_ok(wire::encode<wire::CompareReply>(reply),
                                                   std::move(payload));
                                   });
                });
        case Method::gather: {
            auto message = wire::decode<wire::Gather>(request.body);
            if (!message.is_ok()) return to.reply(message.status());
            if (!sender_is_current(sender, message->incarnation)) {
                return to.reply(Status(Errc::fenced, "a later start of your node is known here"));
            }
            if (message->configs.size() > kGathersPerMessage) {
                return to.reply(Status(Errc::toobig, "too many chunks in one gather"));
            }
            return answer_gather(sender, *message, to);
        }
        case Method::mutation:
        case Method::query:
        case Method::session:
        case Method::recall:
        case Method::leader_hello:
        case Method::node:
        case Method::admin:
        case Method::write_chunk:
        case Method::read_chunk:
        case Method::chunk_extents:
        case Method::commit_point:
        case Method::adopt_config:
        case Method::raft:
        case Method::snapshot_piece: break;
    }
    to.reply(Status(Errc::nosys, "not a request between chunkds"));
}

void Driver::repair(ChunkId chunk, const std::vector<uint32_t>& blocks, StatusDone done) {
    repair_.repair(chunk, blocks, std::move(done));
}

// ------------------------------------------------------------------------------------------- metad

void Driver::fence(const std::vector<uint64_t>& sessions) {
    for (uint64_t session : sessions) fenced_.insert(SessionId{session});
}

bool Driver::pending_fenced() const {
    if (planted_bug("chunkd.ignore_fence")) return false;
    auto fenced = [this](SessionId session) { return fenced_.contains(session); };
    for (ChunkId chunk : active_) {
        auto it = replicas_.find(chunk);
        if (it != replicas_.end() && it->second->has_pending_of(fenced)) return true;
    }
    return false;
}

void Driver::write_decided() {
    if (write_decided_) write_decided_();
}

void Driver::adopt_all(const wire::ConfigReplyT& reply) {
    for (const auto& grant : reply.grants) {
        if (!grant) continue;
        adopt(*grant, {});
        if (ChunkReplica* one = find(ChunkId{grant->chunk})) one->told_written(grant->written);
    }
}

void Driver::adopt(const wire::ChunkGrantT& grant, StatusDone done) {
    adopt(grant, true, std::move(done));
}

void Driver::adopt(const wire::ChunkGrantT& grant, bool from_metad, StatusDone done) {
    auto config = from_wire(grant);
    auto one = config.is_ok() ? replica(ChunkId{grant.chunk}) : Result<ReplicaPtr>(config.status());
    if (!one.is_ok()) {
        if (done) done(one.status());
        return;
    }
    (*one)->adopt(*config, from_metad, std::move(done));
}

void Driver::fill_joiner(const wire::ChunkGrantT& grant, NodeId joiner, StatusDone done) {
    adopt(grant, [this, chunk = ChunkId{grant.chunk}, joiner, done = std::move(done)](
                     const Status& status) {
        ChunkReplica* one = find(chunk);
        if (status.is_ok() && one != nullptr) one->fill_joiner(joiner);
        if (done) done(status);
    });
}

// The order is repeated as it was given: about a joiner, others know better by now.
void Driver::check_copies(const wire::ChunkGrantT& grant, StatusDone done) {
    adopt(grant, false, [this, chunk = ChunkId{grant.chunk}, done = std::move(done)](
                            const Status& status) {
        ChunkReplica* one = find(chunk);
        if (!status.is_ok() || one == nullptr) {
            return done(status.is_ok() ? Status(Errc::canceled) : status);
        }
        one->check_copies(done);
    });
}

// As after a restart without them, but that their configurations are known: where we are the primary,
// the others are asked, have a copy, and metad is told that we have none.
void Driver::disk_failed() {
    disk_lost_ = true;
    for (ChunkId chunk : std::vector<ChunkId>(loaded_.begin(), loaded_.end())) {
        const ReplicaPtr gone = replicas_.at(chunk);
        if (!gone->has() || store_.has(chunk)) continue;
        forget(chunk, Errc::io);
        auto one = replica(chunk);
        if (one.is_ok()) (*one)->adopt(gone->config(), false, {});
    }
}

void Driver::forget(ChunkId chunk, Errc why) {
    auto it = replicas_.find(chunk);
    if (it == replicas_.end()) return;
    const ReplicaPtr gone = it->second;
    gone->drop(why);
    replicas_.erase(chunk);
    loaded_.erase(chunk);
    active_.erase(chunk);
}

void Driver::remove_chunk(ChunkId chunk, Epoch epoch, StatusDone done) {
    removed_.add(chunk, epoch);
    if (!store_.has(chunk)) {
        forget(chunk, Errc::not_found);
        return done(Status());
    }
    auto one = replica(chunk);
    if (!one.is_ok()) return done(one.status());
    if ((*one)->config().epoch > epoch) {
        return done(Status(Errc::conflict, "our copy is newer than the order"));
    }
    forget(chunk, Errc::not_found);
    const Status status = store_.remove(chunk, done);
    if (!status.is_ok()) done(status);
}

}  // namespace lumeofs::replication
