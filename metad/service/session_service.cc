// SPDX-License-Identifier: Apache-2.0
#include "metad/service/session_service.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/wire/codec.h"
#include "metad/service/config_service.h"

namespace lumeofs::metad {
namespace {

constexpr uint32_t kLayoutWithOpen = 16;  // chunks whose grants ride on the reply of an open

wire::MetaReplyT failed(Errc code, std::string_view text) {
    wire::MetaReplyT reply;
    reply.errc = static_cast<uint16_t>(code);
    reply.text = text;
    return reply;
}

}  // namespace

std::vector<std::unique_ptr<wire::NodeAddressT>> node_addresses(const Leader& leader) {
    std::vector<std::unique_ptr<wire::NodeAddressT>> result;
    for (const NodeRow& row : leader.state.nodes()) {
        auto address = std::make_unique<wire::NodeAddressT>();
        address->node = row.id.value;
        address->address = row.address;
        address->role = row.role;
        address->state = static_cast<uint8_t>(leader.state_of(row.id));
        address->incarnation = row.incarnation.value;
        result.push_back(std::move(address));
    }
    return result;
}

SessionService::SessionService(Leader& leader, ConfigService& configs)
    : leader_(leader), configs_(configs) {
    check_recovered();
}

void SessionService::handle(const std::shared_ptr<RpcPeer>& peer, const RpcRequest& request) {
    auto message = wire::decode<wire::SessionRequest>(request.body);
    if (!message) {
        request.responder.reply_ok(error_reply(Errc::protocol, message.status().text()));
        return;
    }
    const Answer answer = [responder = request.responder](const wire::MetaReplyT& reply) {
        responder.reply_ok(encoded(reply));
    };
    // A leader that was deposed and does not know it yet must not renew or grant anything [26].
    leader_.consensus.read_barrier(leader_.guarded(
        [this, peer, answer, message = std::make_shared<wire::SessionRequestT>(std::move(*message))](
            const Status& status) {
            if (!status.is_ok()) {
                answer(failed(status.code(), status.text()));
            } else {
                dispatch(peer, *message, answer);
            }
        }));
}

void SessionService::dispatch(const std::shared_ptr<RpcPeer>& peer,
                              const wire::SessionRequestT& request,
                              const Answer& answer) {
    if (const auto* op = request.op.AsOpenSession()) return open_session(peer, *op, answer);
    const SessionId id{request.session};
    LiveSession* session = leader_.session(id);
    if (!session) return answer(failed(Errc::no_session, "the session was ended or never opened"));
    if (const auto* op = request.op.AsAttach()) return attach(peer, id, *op, answer);
    if (request.op.AsCloseSession()) return close_session(id, answer);
    // On another connection than the attached one it is late: what it undoes may be of later [27].
    if (!session->attached || session->peer != peer) {
        return answer(failed(Errc::unavailable, "attach first"));
    }
    if (const auto* op = request.op.AsRenew()) return renew(*session, *op, answer);
    if (const auto* op = request.op.AsOpen()) {
        when_recovered([this, id, op = *op, answer] { open(id, op, answer); });
    } else if (const auto* release = request.op.AsRelease()) {
        auto close = [this, id](uint64_t ino) {
            leader_.leases.give_back(id, InodeId{ino}, leader_.loop.now());
            leader_.leases.remove_opener(id, InodeId{ino});
            released(InodeId{ino});
        };
        close(release->ino);
        for (uint64_t ino : release->others) close(ino);
        answer({});
    } else if (const auto* acquire_op = request.op.AsAcquireLease()) {
        when_recovered([this, id, op = *acquire_op, answer] { acquire(id, op, answer); });
    } else if (const auto* back = request.op.AsGiveBack()) {
        if (back->ino == 0) {
            leader_.readers.drop_session(id);
        } else {
            leader_.leases.give_back(id, InodeId{back->ino}, leader_.loop.now());
        }
        answer({});
    } else if (const auto* ack = request.op.AsRecallAck()) {
        if (ack->kind == wire::RecallKind::drop) {
            leader_.readers.acknowledge(id, InodeId{ack->ino}, ack->recall);
        } else {
            leader_.leases.acknowledge(id, InodeId{ack->ino}, ack->recall, leader_.loop.now());
        }
        answer({});
    } else if (const auto* report = request.op.AsReportChunk()) {
        configs_.client_report(*report, id, [answer](const Result<wire::MetaReplyT>& reply) {
            answer(reply ? *reply : failed(reply.code(), reply.status().text()));
        });
    } else {
        answer(failed(Errc::protocol, "a session request without an operation that is known"));
    }
}

void SessionService::open_session(const std::shared_ptr<RpcPeer>& peer,
                                  const wire::OpenSessionT& op,
                                  const Answer& answer) {
    if (!leader_.state.is_bootstrapped()) {
        return answer(failed(Errc::unavailable, "the cluster is being set up"));
    }
    wire::ApplyOpenSessionT command;
    command.client_id_high = op.client_id_high;
    command.client_id_low = op.client_id_low;
    command.host = op.host;
    command.mount = op.mount;
    wire::CommandOpUnion command_op;
    command_op.Set(std::move(command));
    leader_.propose(std::move(command_op), [this, peer, answer](Result<wire::MetaReplyT> reply) {
        if (!reply) return answer(failed(reply.code(), reply.status().text()));
        if (reply->errc == 0) {
            const SessionId id{reply->value};
            // A session that is new holds nothing: nothing to declare. One that was there when this
            // leader came must attach all the same: this may be a late repeat of its first request.
            const bool is_new = !leader_.sessions.contains(id);
            LiveSession& session = leader_.sessions[id];
            session.id = id;
            session.last_renewed = leader_.loop.now();
            if (is_new) {
                session.peer = peer;
                session.attached = true;
            }
            fill_nodes(&*reply);
            check_recovered();
        }
        answer(*reply);
    });
}

// A lease that the session may have given back already: by what the state says of that commit.
Lease SessionService::declared_lease(SessionId id, const wire::OpenRecordT& open) const {
    wire::MetaReplyT stored;
    const bool released =
        open.release_sequence != 0 &&
        leader_.state.check_slot(id, open.release_slot, open.release_sequence, &stored) ==
            SlotCheck::repeat &&
        stored.errc == 0;
    return released ? Lease::none : static_cast<Lease>(open.lease);
}

void SessionService::attach(const std::shared_ptr<RpcPeer>& peer,
                            SessionId id,
                            const wire::AttachT& op,
                            const Answer& answer) {
    LiveSession& session = *leader_.session(id);
    const Nanos now = leader_.loop.now();
    if (op.number < session.last_attach) {
        return answer(failed(Errc::superseded, "a later attach came first"));
    }
    session.last_attach = op.number;
    session.peer = peer;
    session.last_renewed = now;
    leader_.readers.drop_session(id);  // it has dropped them itself before it asked
    // A lease that was granted in an answer which the client had not got when it sent this is not
    // declared and ends below: a repeat of the request must not be told of it again.
    session.answered.clear();
    std::set<InodeId> declared;
    for (const auto& open : op.opens) {
        const InodeId ino{open->ino};
        declared.insert(ino);
        if (open->readers + open->writers > 0) leader_.leases.add_opener(id, ino, open->writers > 0);
        const Lease mode = declared_lease(id, *open);
        if (mode == Lease::none) {
            leader_.leases.give_back(id, ino, now);
        } else if (!session.attached && leader_.leases.grantable(id, ino)) {
            leader_.leases.grant(id, ino, mode);
        } else if (leader_.leases.held(id, ino) == Lease::none) {
            // Somebody else has it: that is possible only if we ended this session, which refuses it.
            return answer(failed(Errc::no_session, "a lease that it claims was given to another"));
        }
    }
    for (InodeId ino : leader_.leases.opened_by(id)) {
        if (declared.contains(ino)) continue;  // an open that was in doubt: asked again by the client
        leader_.leases.give_back(id, ino, now);
        leader_.leases.remove_opener(id, ino);
    }
    session.attached = true;
    wire::MetaReplyT reply;
    reply.value = static_cast<uint64_t>(leader_.settings.client_lease);
    reply.cluster_time_ns = leader_.cluster_time();
    reply.grant_number = session.grants;
    fill_nodes(&reply);
    answer(reply);
    leader_.leases.resend(now, 0);
    check_recovered();
}

void SessionService::renew(LiveSession& session, const wire::RenewT& op, const Answer& answer) {
    wire::MetaReplyT reply;
    if (session.renewable) {
        session.last_renewed = leader_.loop.now();
        reply.value = static_cast<uint64_t>(leader_.settings.client_lease);
    }
    reply.cluster_time_ns = leader_.cluster_time();
    reply.nodes_version = leader_.state.nodes_version();
    if (op.nodes_version != reply.nodes_version) fill_nodes(&reply);
    answer(reply);
}

// A clean close: the client has had an answer to everything that it wrote, so nothing of it can be
// under way and no fence is needed.
void SessionService::close_session(SessionId id, const Answer& answer) {
    leader_.sessions[id].ending = true;
    finishing_[id] = true;
    wire::ApplyEndSessionT command;
    command.session = id.value;
    command.reason = "closed";
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose(std::move(op), [this, id, answer](const Result<wire::MetaReplyT>& reply) {
        if (!reply) {
            finishing_.erase(id);  // in doubt: tick() ends it
            return answer(failed(reply.code(), reply.status().text()));
        }
        finish_end(id);
        answer({});
    });
}

void SessionService::open(SessionId id, const wire::OpenT& op, const Answer& answer) {
    const InodeId ino{op.ino};
    const bool writer = (op.flags & static_cast<uint32_t>(wire::OpenFlags::write)) != 0;
    // Registered before the recall, so that an unlink meanwhile keeps the data.
    if (!leader_.session(id)) return answer(failed(Errc::no_session, "the session was ended"));
    if (!leader_.state.inode(ino)) return answer(failed(Errc::stale, "the inode is gone"));
    leader_.leases.add_opener(id, ino, writer);
    claim(id, ino, writer ? Lease::write : Lease::read, [=, this] {
        LiveSession* session = leader_.session(id);
        if (!session) return answer(failed(Errc::no_session, "the session was ended"));
        wire::MetaReplyT reply;
        auto attr = leader_.state.inode(ino);
        if (!attr) {
            leader_.leases.remove_opener(id, ino);
            return answer(failed(Errc::stale, "the inode is gone"));
        }
        reply.attr = std::make_unique<wire::AttrT>(std::move(*attr));
        complete_open(*session, ino, writer, &reply);
        answer(reply);
    });
}

// Recalls what contradicts a lease in this mode: that of another only opener, and for writing also
// what others keep of the inode to read (no new read leases meanwhile, so that it stays so).
void SessionService::claim(SessionId id, InodeId ino, Lease mode, std::function<void()> go) {
    const Nanos now = leader_.loop.now();
    if (mode != Lease::write) {
        return leader_.leases.claim(
            id, ino, RecallWhat::revoke, now, leader_.guarded(std::move(go)));
    }
    leader_.readers.block(ino);
    auto claimed = leader_.guarded([this, ino, go = std::move(go)] {
        go();
        leader_.readers.unblock(ino);
    });
    leader_.readers.recall_others(
        id, ino, now, leader_.guarded([this, id, ino, now, claimed]() mutable {
            leader_.leases.claim(id, ino, RecallWhat::revoke, now, std::move(claimed));
        }));
}

void SessionService::complete_open(LiveSession& session,
                                   InodeId ino,
                                   bool writer,
                                   wire::MetaReplyT* reply) {
    leader_.leases.add_opener(session.id, ino, writer);
    const bool read_elsewhere = writer && leader_.readers.others_have(session.id, ino);
    if (leader_.leases.only_opener(session.id, ino) && leader_.leases.grantable(session.id, ino) &&
        !read_elsewhere && !leader_.state.tail_uncut(ino)) {
        leader_.leases.grant(session.id, ino, writer ? Lease::write : Lease::read);
    }
    reply->lease = static_cast<wire::LeaseMode>(leader_.leases.held(session.id, ino));
    reply->grant_number = ++session.grants;
    fill_layout(session.id, ino, writer && reply->lease == wire::LeaseMode::write, reply);
}

void SessionService::acquire(SessionId id, const wire::AcquireLeaseT& op, const Answer& answer) {
    const InodeId ino{op.ino};
    const auto mode = static_cast<Lease>(op.mode);
    if (mode != Lease::read && mode != Lease::write) {
        return answer(failed(Errc::protocol, "a lease is taken in mode read or write"));
    }
    claim(id, ino, mode, [=, this] {
        LiveSession* session = leader_.session(id);
        if (!session) return answer(failed(Errc::no_session, "the session was ended"));
        wire::MetaReplyT reply;
        auto attr = leader_.state.inode(ino);
        if (!attr) return answer(failed(Errc::stale, "the inode is gone"));
        if (leader_.state.tail_uncut(ino)) {
            return answer(failed(Errc::unavailable, "the file's tail is being cut"));
        }
        reply.attr = std::make_unique<wire::AttrT>(std::move(*attr));
        // While others have it open the lease serves one operation only: the protocol of sharing.
        if (op.transient || leader_.leases.only_opener(id, ino)) {
            leader_.leases.grant(id, ino, mode);
        }
        reply.lease = static_cast<wire::LeaseMode>(leader_.leases.held(id, ino));
        reply.grant_number = ++session->grants;
        fill_layout(id, ino, reply.lease == wire::LeaseMode::write, &reply);
        answer(reply);
    });
}

void SessionService::fill_layout(SessionId id, InodeId ino, bool writable, wire::MetaReplyT* reply) {
    wire::MetaReplyT layout = leader_.state.layout(ino, 0, kLayoutWithOpen, id, writable);
    if (layout.errc != 0) return;  // no regular file: nothing to lay out
    reply->grants = std::move(layout.grants);
    reply->data = std::move(layout.data);
    // Whether these are all chunks of the file: the rest is asked for by GetLayout.
    const uint64_t size = reply->attr ? reply->attr->size : 0;
    reply->value = size <= uint64_t{kLayoutWithOpen} * kChunkSize ? 1 : 0;
}

void SessionService::fill_nodes(wire::MetaReplyT* reply) const {
    reply->nodes = node_addresses(leader_);
    reply->nodes_version = leader_.state.nodes_version();
    const ClusterRow cluster = leader_.state.cluster();
    reply->cluster_id_high = cluster.cluster_id_high;
    reply->cluster_id_low = cluster.cluster_id_low;
}

void SessionService::peer_closed(const RpcPeer* peer) {
    for (auto& [id, session] : leader_.sessions) {
        if (session.peer.get() == peer) session.peer.reset();
    }
}

// The last opener of an unlinked file has gone: its data may go too.
void SessionService::released(InodeId ino) {
    if (recovering_ || leader_.leases.is_open(ino)) return;
    auto attr = leader_.state.inode(ino);
    if (!attr || attr->nlink != 0) return;
    wire::ApplyFreeOrphansT command;
    command.inodes.push_back(ino.value);
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose(std::move(op), [](const Result<wire::MetaReplyT>&) {});  // housekeeping repeats it
}

void SessionService::when_recovered(std::function<void()> go) {
    if (!recovering_) {
        go();
    } else {
        waiting_.push_back(std::move(go));
    }
}

void SessionService::check_recovered() {
    if (!recovering_) return;
    for (const auto& [id, session] : leader_.sessions) {
        if (!session.attached && !session.ending) return;
        // One that is being ended may hold leases that we do not know of: it must be ended first.
        if (session.ending && !session.attached) return;
    }
    recovering_ = false;
    LFS_LOG(info,
            "leading term {}: all {} sessions are attached after {} ms",
            leader_.term.value,
            leader_.sessions.size(),
            (leader_.loop.now() - leader_.since) / kMillisecond);
    while (!waiting_.empty()) {
        auto go = std::move(waiting_.front());
        waiting_.pop_front();
        go();
    }
}

void SessionService::end(SessionId id, const std::string& reason) {
    LiveSession* session = leader_.session(id);
    if (!session) return;
    LFS_LOG(warn, "session {} is fenced: {}", id.value, reason);
    session->ending = true;
    wire::ApplyEndSessionT command;
    command.session = id.value;
    command.reason = reason;
    command.fence_only = true;
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    // A refusal may come from inside the call, and this may be: the next tick tries again.
    leader_.propose(std::move(op), [this](const Result<wire::MetaReplyT>& reply) {
        if (reply) tick();
    });
}

// Every chunkd that may still serve refuses the sessions up to this number.
bool SessionService::fence_in_force(uint64_t number) const {
    for (const auto& [id, node] : leader_.nodes) {
        if (node.acked_fence < number && leader_.may_serve(id)) return false;
    }
    return true;
}

void SessionService::tick() {
    const Nanos now = leader_.loop.now();
    const Nanos lease = leader_.settings.client_lease;
    leader_.leases.resend(now, kSecond);
    leader_.readers.resend(now, kSecond);
    std::vector<PendingRecall> recalls = leader_.leases.pending();
    for (const PendingRecall& recall : leader_.readers.pending()) recalls.push_back(recall);
    for (const PendingRecall& recall : recalls) {
        LiveSession* session = leader_.session(recall.session);
        if (!session) continue;
        if (now - recall.started > kRecallLimit) session->renewable = false;
        const bool lease_over = now - session->last_renewed > lease;
        if (lease_over || now - recall.started > kRecallLimit + lease) {
            end(recall.session,
                "it has not obeyed the recall of inode " + recall.ino.to_string() + " for " +
                    std::to_string((now - recall.started) / kMillisecond) + " ms");
        }
    }
    std::vector<SessionId> silent, fenced;
    for (const auto& [id, session] : leader_.sessions) {
        const Nanos limit = recovering_ && !session.attached ? lease : kSessionTimeout;
        if (session.ending) {
            fenced.push_back(id);
        } else if (now - session.last_renewed > limit) {
            silent.push_back(id);
        }
    }
    for (SessionId id : silent) end(id, "it has been silent for too long");
    for (SessionId id : fenced) {
        if (finishing_.contains(id)) continue;
        auto row = leader_.state.session(id);
        if (!row) {
            finish_end(id);
            continue;
        }
        if (row->state != SessionState::fenced) {  // a clean close in doubt, or the fence was lost
            leader_.sessions[id].ending = false;
            end(id, "its close was not confirmed");
            continue;
        }
        if (!fence_in_force(row->fence_number)) continue;
        finishing_[id] = true;
        wire::ApplyEndSessionT command;
        command.session = id.value;
        command.reason = "fenced";
        wire::CommandOpUnion op;
        op.Set(std::move(command));
        leader_.propose(std::move(op), [this, id](const Result<wire::MetaReplyT>& reply) {
            finishing_.erase(id);
            if (reply) finish_end(id);
        });
    }
}

void SessionService::finish_end(SessionId id) {
    finishing_.erase(id);
    const std::vector<InodeId> opened = leader_.leases.opened_by(id);
    leader_.sessions.erase(id);
    leader_.leases.drop_session(id, leader_.loop.now());
    leader_.readers.drop_session(id);
    for (InodeId ino : opened) released(ino);
    check_recovered();
}

}  // namespace lumeofs::metad
