// SPDX-License-Identifier: Apache-2.0
// The driver and the other metads: links, incoming messages, snapshots on their way out and in.
#include <fmt/format.h>

#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "common/wire/method.h"
#include "metad/consensus/driver.h"
#include "metad/consensus/snapshot_sender.h"
#include "metad/raft/membership.h"

namespace lumeofs::consensus {
namespace {

constexpr Nanos kStrangerKept = 30 * kSecond;

}  // namespace

// --- links --------------------------------------------------------------------------------------

Sender RaftDriver::own_sender() const {
    return {
        storage_->identity.cluster, options_.node, storage_->identity.node_uuid, options_.address};
}

PeerLink* RaftDriver::link_to(NodeId node) {
    const auto found = links_.find(node);
    return found == links_.end() ? nullptr : found->second.get();
}

void RaftDriver::open_link(NodeId node, const std::string& address) {
    if (PeerLink* link = link_to(node)) return link->set_address(address);
    const std::weak_ptr<char> alive = alive_;
    PeerLink::Env env{env_.loop,
                      env_.transport,
                      options_.hello,
                      [this] { return own_sender(); },
                      [this, alive](NodeId peer) {
                          // Not at once: this may be inside a send, which may be inside a step's
                          // work.
                          env_.loop.post([this, alive, peer] {
                              if (alive.expired() || !running_) return;
                              if (ask_first_.is_chosen(peer)) ask_all_again();
                              step(raft::PeerUnreachable{peer});
                          });
                      }};
    links_[node] = std::make_unique<PeerLink>(
        env, prng_.fork(fmt::format("link {}", node.value)), node, address);
}

void RaftDriver::follow_membership() {
    for (const raft::Member& member : membership_.members) {
        if (member.id != options_.node) open_link(member.id, member.address);
    }
    ask_all_again();
}

// Nodes that left the group are kept for a while, so that they still hear that they were removed.
void RaftDriver::drop_strangers() {
    const Nanos now = env_.loop.now();
    for (auto at = links_.begin(); at != links_.end();) {
        const NodeId node = at->first;
        const bool recent = last_heard_.contains(node) && now - last_heard_[node] < kStrangerKept;
        if (membership_.find(node) != nullptr || recent || senders_.contains(node)) {
            ++at;
            continue;
        }
        frames_of_old_links_ += at->second->frames_sent();
        at = links_.erase(at);
        last_heard_.erase(node);
        refused_.erase(node);
        // Only what is committed is for good; empty: we do not know the group yet.
        const raft::NodeStatus core = node_->status();
        if (membership_.members.empty() || core.membership_index > core.commit) continue;
        if (Status status = storage_->peers.forget(node); !status.is_ok()) return fail(status);
    }
}

void RaftDriver::send(std::vector<raft::Message>& messages) {
    for (raft::Message& message : messages) {
        if (PeerLink* link = link_to(message.to)) link->queue(std::move(message));
    }
    messages.clear();
}

void RaftDriver::flush_links() {
    if (!running_) return;
    bool waits = false;
    for (auto& [node, link] : links_) {
        if (soft_.role == raft::Role::leader && ask_first_.may_wait(node) && link->may_wait()) {
            waits = waits || link->waits();
        } else {
            link->flush();
        }
    }
    if (!waits || later_.running()) return;
    held_back_ = node_->status().last;
    later_.start(kAskLater, [this] { ask_the_rest(); });
}

void RaftDriver::ask_the_rest() {
    if (state_.applied() < held_back_) ask_all_again();
    for (auto& [node, link] : links_) link->flush();
}

// Until as many as a quorum needs beside this node have shown that they are fast.
void RaftDriver::ask_all_again() {
    ask_first_.choose(membership_.voters().size() / 2, node_->status().last);
}

// --- incoming -----------------------------------------------------------------------------------

// Rule 11: the cluster, the node and its disk must be those we know.
Status RaftDriver::check_sender(const Hello& from, const Sender& sender, NodeId to) {
    if (from.role != Role::metad || from.node != sender.node || to != options_.node ||
        sender.node == options_.node || !sender.node) {
        return Status(Errc::protocol, "a Raft message from or for somebody else");
    }
    Identity& own = storage_->identity;
    if (!sender.cluster || (own.cluster && own.cluster != sender.cluster)) {
        return Status(Errc::protocol,
                      fmt::format("a Raft message of cluster {}, this is {}",
                                  sender.cluster.to_string(),
                                  own.cluster.to_string()));
    }
    if (!own.cluster) LFS_TRY(storage_->adopt_cluster(sender.cluster));
    // A stranger may only teach a node that knows nothing yet, or be one that is just being added.
    if (!links_.contains(sender.node) && links_.size() >= raft::kMaxMembers) {
        return Status(Errc::busy, "too many unknown metads");
    }
    Result<bool> known = storage_->peers.check(sender.node, sender.uuid);
    if (!known) return known.status();
    if (!*known && !planted_bug("consensus.wiped_node_votes")) {
        return Status(
            Errc::fenced,
            fmt::format("metad {} comes back with another disk (node uuid {}, known: {}): its "
                        "votes and its log are lost, it cannot be the same member. Remove it "
                        "from the group and add it again under a new node_id",
                        sender.node.value,
                        sender.uuid.to_string(),
                        storage_->peers.all().at(sender.node).to_string()));
    }
    return Status();
}

void RaftDriver::on_push(const Hello& from, const RpcPush& push) {
    if (!running_ || push.method != static_cast<uint16_t>(Method::raft)) return;
    Result<DecodedBatch> batch = decode_batch(push.body, push.payload.view());
    Status status = batch.status();
    if (batch) status = check_sender(from, batch->sender, batch->to);
    if (!status.is_ok()) {
        if (status.code() == Errc::io || status.code() == Errc::nospc) return fail(status);
        if (refused_.insert(from.node).second) {  // once, not with every heartbeat
            LFS_LOG(
                warn, "Raft message of metad {} dropped: {}", from.node.value, status.to_string());
        }
        return;
    }
    const NodeId node = batch->sender.node;
    refused_.erase(node);
    last_heard_[node] = env_.loop.now();
    if (link_to(node) == nullptr && !batch->sender.address.empty()) {
        open_link(node, batch->sender.address);
    }
    const raft::Member* member = membership_.find(node);
    const bool voter = member != nullptr && member->role == raft::MemberRole::voter;
    for (raft::Message& message : batch->messages) {
        if (voter && message.type == raft::MessageType::append_response && !message.reject) {
            ask_first_.answered(node, message.index);
        }
        step(raft::Received{std::move(message)});
    }
}

void RaftDriver::on_request(const Hello& from, RpcRequest request) {
    if (!running_) return request.responder.reply(Status(Errc::unavailable));
    if (request.method != static_cast<uint16_t>(Method::snapshot_piece)) {
        return request.responder.reply(Status(Errc::nosys));
    }
    Result<SnapshotPieceHead> head = decode_piece(request.body, request.payload.view());
    if (!head) return request.responder.reply(head.status());
    if (Status status = check_sender(from, head->sender, head->to); !status.is_ok()) {
        return request.responder.reply(status);
    }
    on_piece(*head, request.payload.view(), request.responder);
}

// --- snapshots in -------------------------------------------------------------------------------

namespace {

bool same_stream(const std::optional<SnapshotPieceHead>& a, const SnapshotPieceHead& b) {
    return a && a->sender.node == b.sender.node && a->sender.uuid == b.sender.uuid &&
           a->stream == b.stream && a->term == b.term && a->snapshot == b.snapshot;
}

}  // namespace

void RaftDriver::on_piece(const SnapshotPieceHead& head, View bytes, const Responder& responder) {
    if (head.term < soft_.term) return responder.reply(Status(Errc::stale, "an old leader"));
    if (same_stream(finished_, head)) {
        return responder.reply_ok(encode_piece_answer({head.size, true}));
    }
    if (finishing_) {
        // Repeated by an impatient sender, or another one while this is being put in place.
        if (same_stream(finishing_, head)) return finishing_waiters_.push_back(responder);
        return responder.reply(Status(Errc::busy, "a snapshot is being installed"));
    }
    Result<SnapshotStore::Outcome> outcome = storage_->snapshots.put(head, bytes);
    if (!outcome) {
        fail(outcome.status().with_context("receiving a snapshot"));
        return;
    }
    if (!outcome->complete) {
        return responder.reply_ok(encode_piece_answer({outcome->next_offset, false}));
    }
    finishing_ = head;
    finishing_waiters_.push_back(responder);
    storage_->snapshots.finish([this, head, alive = std::weak_ptr<char>(alive_)](
                                   Result<raft::SnapshotDescriptor> snapshot) {
        if (!alive.expired()) piece_received(head, std::move(snapshot));
    });
}

void RaftDriver::piece_received(const SnapshotPieceHead& head,
                                Result<raft::SnapshotDescriptor> snapshot) {
    if (!running_) return;
    if (!snapshot) {
        if (snapshot.code() != Errc::corrupt) return fail(snapshot.status());
        return answer_pieces(snapshot.status(), false);
    }
    step(raft::SnapshotReceived{head.sender.node, head.term, *snapshot});
    // Refused: of no use here. Otherwise the answer comes when it is in place.
    if (!install_) answer_pieces(Status(), true);
}

void RaftDriver::answer_pieces(const Status& status, bool done) {
    if (done) finished_ = finishing_;
    const uint64_t size = finishing_ ? finishing_->size : 0;
    finishing_.reset();
    std::vector<Responder> waiters;
    waiters.swap(finishing_waiters_);
    for (const Responder& waiter : waiters) {
        if (status.is_ok()) {
            waiter.reply_ok(encode_piece_answer({size, done}));
        } else {
            waiter.reply(status);
        }
    }
}

// --- snapshots out ------------------------------------------------------------------------------

void RaftDriver::start_sender(const raft::SnapshotNeed& need) {
    senders_.erase(need.follower);
    Result<std::unique_ptr<PinnedSnapshot>> pinned = state_.pin_snapshot();
    if (!pinned || (*pinned)->applied() < need.floor) {
        LFS_LOG(warn,
                "no snapshot for metad {}: {}",
                need.follower.value,
                pinned ? "the pinned one is too old" : pinned.status().to_string());
        step(raft::SnapshotSent{need.follower, need.floor, false});
        return;
    }
    SnapshotPieceHead head;
    head.sender = own_sender();
    head.to = need.follower;
    head.term = need.term;
    head.stream = ++last_stream_;
    head.snapshot = node_->describe((*pinned)->applied());
    head.snapshot.id = 0;
    head.size = (*pinned)->size_bytes();
    const NodeId follower = need.follower;
    const LogIndex index = head.snapshot.index;
    LFS_LOG(info,
            "sending metad {} a snapshot of entry {} ({} bytes)",
            follower.value,
            index.value,
            head.size);
    auto sender = std::make_unique<SnapshotSender>(
        env_.loop,
        [this, follower](
            const SnapshotPieceHead& piece, Buffer bytes, Nanos timeout, RpcDone done) {
            if (PeerLink* link = link_to(follower)) {
                return link->call_piece(piece, std::move(bytes), timeout, std::move(done));
            }
            env_.loop.post([done = std::move(done)] {
                done({Status(Errc::disconnected), {}, {}});
            });
        },
        std::move(*pinned),
        head,
        [this, follower, index](bool delivered) { sender_ended(follower, index, delivered); });
    SnapshotSender& started = *sender;
    senders_[follower] = std::move(sender);
    started.start();
}

void RaftDriver::sender_ended(NodeId follower, LogIndex index, bool delivered) {
    LFS_LOG(info,
            "snapshot of entry {} for metad {} {}",
            index.value,
            follower.value,
            delivered ? "delivered" : "not delivered");
    senders_.erase(follower);
    if (running_) step(raft::SnapshotSent{follower, index, delivered});
}

}  // namespace lumeofs::consensus
