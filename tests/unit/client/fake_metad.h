// SPDX-License-Identifier: Apache-2.0
// A small model of the metadata service for tests of the client: the schemas of meta.fbs over plain
// maps. Several metads share the replicated part (names, files, slots, sessions); opens and leases
// are the leader's memory and are gone when another one leads.
// single-thread.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/rpc/inproc_transport.h"
#include "common/rpc/server.h"
#include "common/wire/codec.h"
#include "common/wire/frame.h"
#include "common/wire/messages.h"
#include "common/wire/method.h"
#include "tests/unit/client/fake_loop.h"
#include "tests/unit/client/fake_namespace.h"
#include "tests/unit/client/fake_state.h"

namespace lumeofs::client_test {

class FakeMetad : private FakeNamespace {
public:
    // Faults, all off at first.
    struct Faults {
        uint64_t lose_reply_percent = 0;  // of any answer: never sent
        uint64_t delay_max_us = 0;
        Nanos delay_once = 0;                                 // of the next answer
        std::function<bool(const wire::MutationT&)> swallow;  // carried out, answer lost
    };

    FakeMetad(FakeLoop& loop,
              std::shared_ptr<InprocNetwork> network,
              FakeState& state,
              Prng prng,
              uint64_t node,
              Faults& faults)
        : FakeNamespace(loop, state),
          transport_(loop, std::move(network)),
          prng_(prng),
          node_(node),
          faults_(faults) {
        listen();
    }

    std::string address() const { return "metad" + std::to_string(node_) + ":1"; }
    bool leads = false;
    std::string leader_address;  // hint of refusals
    uint64_t mutations = 0, queries = 0, session_requests = 0, renewals = 0, recalls_sent = 0,
             reports = 0;
    std::vector<uint64_t> refused_attaches;
    // Answers to look-ups may be kept; drop() takes the inode back, and when that was obeyed (or the
    // session has attached anew, which drops all) is noted.
    bool keeps = false;
    Nanos dropped_at = 0;
    Nanos attached_at = 0;
    void drop(uint64_t session, uint64_t ino) {
        wire::RecallT message;
        message.session = session;
        message.ino = ino;
        message.number = ++attached_[session].recalls;
        message.kind = wire::RecallKind::drop;
        message.last_grant = attached_[session].grants;
        if (auto peer = attached_[session].peer.lock()) {
            peer->push(static_cast<uint16_t>(Method::recall), wire::encode<wire::Recall>(message));
        }
    }

    void listen() {
        RpcServerEvents events;
        events.on_request = [this](RpcPeer& peer, RpcRequest request) {
            handle(peer, std::move(request));
        };
        server_ = std::make_unique<RpcServer>(loop_, transport_, std::move(events));
        Hello hello;
        hello.protocol_revision = kProtocolRevision;
        hello.role = Role::metad;
        hello.node = NodeId{node_};
        LFS_ASSERT(server_->listen(address(), hello).is_ok());
    }
    void crash() {
        server_.reset();
        resign();
    }
    void resign() {
        leads = false;
        leases_.clear();
        attached_.clear();
        in_flight_.clear();
    }
    void lead(uint64_t term, const std::set<uint64_t>& wait_for) {
        leads = true;
        recovering_ = wait_for;
        wire::LeaderHelloT hello;
        hello.term = term;
        hello.node = node_;
        if (!server_) return;
        server_->for_each_peer([&](RpcPeer& peer) {
            peer.push(static_cast<uint16_t>(Method::leader_hello),
                      wire::encode<wire::LeaderHello>(hello));
        });
    }
    void end_session(uint64_t session) {
        state_.sessions.erase(session);
        state_.fenced.insert(session);
        attached_.erase(session);
        recovering_.erase(session);
        for (auto& [ino, lease] : leases_) {
            lease.openers.erase(session);
            if (lease.holder == session) free_lease(ino);
        }
    }
    uint64_t holder(uint64_t ino) { return leases_[ino].holder; }
    bool is_open(uint64_t ino) override { return !leases_[ino].openers.empty(); }

private:
    struct Lease {
        std::map<uint64_t, bool> openers;
        uint64_t holder = 0;
        wire::LeaseMode mode = wire::LeaseMode::none;
        uint64_t recall = 0;
        wire::RecallKind kind = wire::RecallKind::flush;
        struct Waiter {
            uint64_t session;
            bool revoke;
            std::function<void()> go;
        };
        std::deque<Waiter> waiters;
    };
    struct Attached {
        std::weak_ptr<RpcPeer> peer;
        uint64_t grants = 0;
        uint64_t recalls = 0;
    };

    void answer(const Responder& responder, wire::MetaReplyT reply) {
        answer_bytes(responder, wire::encode<wire::MetaReply>(reply));
    }
    void answer_bytes(const Responder& responder, Bytes bytes) {
        if (prng_.below(100) < faults_.lose_reply_percent) {
            lost_.push_back(responder);
            return;
        }
        Nanos wait = faults_.delay_max_us == 0
                         ? 0
                         : static_cast<Nanos>(prng_.below(faults_.delay_max_us)) * 1000;
        wait += std::exchange(faults_.delay_once, 0);
        if (wait == 0) return responder.reply_ok(std::move(bytes));
        loop_.after(wait, [responder, bytes = std::move(bytes)] { responder.reply_ok(bytes); });
    }
    void handle(RpcPeer& peer, RpcRequest request) {
        if (!leads) {
            wire::MetaReplyT reply = error(Errc::not_leader);
            reply.leader_address = leader_address;
            return request.responder.reply_ok(wire::encode<wire::MetaReply>(reply));
        }
        if (request.method == static_cast<uint16_t>(Method::session)) {
            auto message = wire::decode<wire::SessionRequest>(request.body);
            LFS_ASSERT(message.is_ok());
            return session_request(peer, *message, request.responder);
        }
        if (request.method == static_cast<uint16_t>(Method::query)) {
            auto message = wire::decode<wire::Query>(request.body);
            LFS_ASSERT(message.is_ok());
            ++queries;
            auto shared = std::make_shared<wire::QueryT>(std::move(*message));
            if (!usable(shared->session, request.responder)) return;
            return query(shared, request.responder);
        }
        auto message = wire::decode<wire::Mutation>(request.body);
        LFS_ASSERT(message.is_ok());
        ++mutations;
        auto shared = std::make_shared<wire::MutationT>(std::move(*message));
        if (!usable(shared->session, request.responder)) return;
        mutation(shared, request.responder);
    }
    bool usable(uint64_t session, const Responder& responder) {
        if (!state_.sessions.contains(session))
            answer(responder, error(Errc::no_session));
        else if (!attached_.contains(session) || !recovering_.empty())
            answer(responder, error(Errc::unavailable));
        else
            return true;
        return false;
    }

    // --- leases
    bool holds_write_lease(uint64_t session, uint64_t ino) override {
        const Lease& lease = leases_[ino];
        return lease.holder == session && lease.mode == wire::LeaseMode::write;
    }
    void free_lease(uint64_t ino) {
        Lease& lease = leases_[ino];
        lease.holder = 0;
        lease.mode = wire::LeaseMode::none;
        lease.recall = 0;
        wake(ino, true);
    }
    bool satisfied(const Lease& lease, const Lease::Waiter& waiter, bool flushed) const {
        const bool other = lease.holder != 0 && lease.holder != waiter.session;
        if (waiter.revoke) return !other;
        return !other || lease.mode != wire::LeaseMode::write || flushed;
    }
    void wake(uint64_t ino, bool flushed) {
        Lease& lease = leases_[ino];
        for (size_t i = 0; i < lease.waiters.size();) {
            if (!satisfied(lease, lease.waiters[i], flushed)) {
                ++i;
                continue;
            }
            auto go = std::move(lease.waiters[i].go);
            lease.waiters.erase(lease.waiters.begin() + static_cast<ptrdiff_t>(i));
            go();
            i = 0;
        }
        for (auto& waiter : lease.waiters) recall(ino, waiter.revoke);
    }
    void claim(uint64_t session, uint64_t ino, bool revoke, std::function<void()> go) {
        Lease& lease = leases_[ino];
        Lease::Waiter waiter{session, revoke, std::move(go)};
        if (satisfied(lease, waiter, false)) return waiter.go();
        lease.waiters.push_back(std::move(waiter));
        recall(ino, revoke);
    }
    void recall(uint64_t ino, bool revoke) {
        Lease& lease = leases_[ino];
        if (lease.holder == 0) return;
        if (lease.recall != 0 && (lease.kind == wire::RecallKind::revoke || !revoke)) return;
        auto it = attached_.find(lease.holder);
        if (it == attached_.end()) return;
        lease.recall = ++it->second.recalls;
        lease.kind = revoke ? wire::RecallKind::revoke : wire::RecallKind::flush;
        push_recall(ino);
    }
    void push_recall(uint64_t ino) {
        Lease& lease = leases_[ino];
        Attached& holder = attached_[lease.holder];
        wire::RecallT message;
        message.session = lease.holder;
        message.ino = ino;
        message.number = lease.recall;
        message.kind = lease.kind;
        message.last_grant = holder.grants;
        ++recalls_sent;
        if (auto peer = holder.peer.lock()) {
            peer->push(static_cast<uint16_t>(Method::recall), wire::encode<wire::Recall>(message));
        }
    }
    void complete_open(uint64_t session, uint64_t ino, bool writer, wire::MetaReplyT* reply) {
        Lease& lease = leases_[ino];
        bool& is_writer = lease.openers[session];
        is_writer = is_writer || writer;
        if (lease.openers.size() == 1 && (lease.holder == 0 || lease.holder == session)) {
            grant(session, ino, writer ? wire::LeaseMode::write : wire::LeaseMode::read);
        }
        fill(session, ino, reply);
    }
    void grant(uint64_t session, uint64_t ino, wire::LeaseMode mode) {
        Lease& lease = leases_[ino];
        lease.holder = session;
        lease.mode = std::max(lease.mode, mode);
    }
    void fill(uint64_t session, uint64_t ino, wire::MetaReplyT* reply) {
        Lease& lease = leases_[ino];
        reply->lease = lease.holder == session ? lease.mode : wire::LeaseMode::none;
        reply->grant_number = ++attached_[session].grants;
        layout(session, ino, 0, 16, reply);
        reply->value = 1;
    }
    // --- sessions
    void session_request(RpcPeer& peer,
                         const wire::SessionRequestT& request,
                         const Responder& responder) {
        if (const auto* op = request.op.AsOpenSession()) {
            wire::MetaReplyT reply;
            for (const auto& [id, client] : state_.sessions) {
                if (client == std::make_pair(op->client_id_high, op->client_id_low))
                    reply.value = id;
            }
            if (reply.value == 0) {
                reply.value = ++state_.last_session;
                state_.sessions[reply.value] = {op->client_id_high, op->client_id_low};
            }
            add_nodes(&reply);
            return answer(responder, std::move(reply));
        }
        const uint64_t session = request.session;
        if (!state_.sessions.contains(session)) return answer(responder, error(Errc::no_session));
        if (const auto* op = request.op.AsAttach()) return attach(peer, session, *op, responder);
        if (request.op.AsCloseSession()) {
            end_session(session);
            state_.fenced.erase(session);
            return answer(responder, {});
        }
        if (!attached_.contains(session)) return answer(responder, error(Errc::unavailable));
        if (request.op.AsRenew()) {
            ++renewals;
            wire::MetaReplyT reply;
            reply.value = static_cast<uint64_t>(kClientLease);
            add_nodes(&reply);
            return answer(responder, std::move(reply));
        }
        ++session_requests;
        if (!recovering_.empty()) return answer(responder, error(Errc::unavailable));
        if (const auto* op = request.op.AsOpen()) {
            const uint64_t ino = op->ino;
            if (!state_.inodes.contains(ino)) return answer(responder, error(Errc::stale));
            const bool writer = (op->flags & 2) != 0;
            leases_[ino].openers[session] = leases_[ino].openers[session] || writer;
            claim(session, ino, true, [=, this] {
                if (!attached_.contains(session)) return answer(responder, error(Errc::no_session));
                wire::MetaReplyT reply;
                complete_open(session, ino, writer, &reply);
                answer(responder, std::move(reply));
            });
        } else if (const auto* release = request.op.AsRelease()) {
            std::vector<uint64_t> closed = release->others;
            closed.push_back(release->ino);
            for (uint64_t ino : closed) {
                leases_[ino].openers.erase(session);
                if (leases_[ino].holder == session) free_lease(ino);
                drop_if_orphan(ino);
            }
            answer(responder, {});
        } else if (const auto* acquire = request.op.AsAcquireLease()) {
            const uint64_t ino = acquire->ino;
            if (!state_.inodes.contains(ino)) return answer(responder, error(Errc::stale));
            claim(session, ino, true, [=, this, transient = acquire->transient] {
                if (!attached_.contains(session)) return answer(responder, error(Errc::no_session));
                wire::MetaReplyT reply;
                const auto& openers = leases_[ino].openers;
                const bool alone =
                    openers.empty() || (openers.size() == 1 && openers.contains(session));
                if (transient || alone) grant(session, ino, wire::LeaseMode::write);
                fill(session, ino, &reply);
                answer(responder, std::move(reply));
            });
        } else if (const auto* back = request.op.AsGiveBack()) {
            if (leases_[back->ino].holder == session) free_lease(back->ino);
            answer(responder, {});
        } else if (const auto* ack = request.op.AsRecallAck()) {
            if (ack->kind == wire::RecallKind::drop) dropped_at = loop_.now();
            Lease& lease = leases_[ack->ino];
            if (lease.holder == session && lease.recall == ack->recall &&
                lease.kind == wire::RecallKind::flush) {
                lease.recall = 0;
                wake(ack->ino, true);
            }
            answer(responder, {});
        } else if (const auto* report = request.op.AsReportChunk()) {
            answer(responder, report_chunk(session, *report));
        } else {
            answer(responder, error(Errc::protocol));
        }
    }
    void add_nodes(wire::MetaReplyT* reply) {
        for (const auto& node : state_.nodes)
            reply->nodes.push_back(std::make_unique<wire::NodeAddressT>(node));
        reply->nodes_version = state_.nodes_version;
        reply->cluster_time_ns = now_ns();
    }
    bool released(uint64_t session, const wire::OpenRecordT& record) {
        if (record.release_sequence == 0) return false;
        const FakeState::Slot& slot = state_.slots[{session, record.release_slot}];
        if (slot.sequence != record.release_sequence) return false;
        return wire::decode<wire::MetaReply>(slot.reply)->errc == 0;
    }
    void attach(RpcPeer& peer,
                uint64_t session,
                const wire::AttachT& op,
                const Responder& responder) {
        const bool known = attached_.contains(session);
        Attached& attached = attached_[session];
        attached.peer = peer.weak_from_this();
        attached_at = loop_.now();
        attached.recalls = std::max(attached.recalls, op.last_recall);
        attached.grants += 1000;  // above all that another leader gave
        std::set<uint64_t> declared;
        for (const auto& record : op.opens) {
            Lease& lease = leases_[record->ino];
            declared.insert(record->ino);
            if (record->readers + record->writers > 0) lease.openers[session] = record->writers > 0;
            if (released(session, *record)) record->lease = wire::LeaseMode::none;
            if (record->lease == wire::LeaseMode::none) {
                if (lease.holder == session) free_lease(record->ino);
            } else if (!known && lease.holder == 0) {
                grant(session, record->ino, record->lease);
            } else if (lease.holder != session) {
                refused_attaches.push_back(record->ino);
                end_session(session);
                return answer(responder, error(Errc::no_session));
            }
        }
        for (auto& [ino, lease] : leases_) {
            if (declared.contains(ino)) continue;
            lease.openers.erase(session);
            if (lease.holder == session) free_lease(ino);
        }
        recovering_.erase(session);
        wire::MetaReplyT reply;
        reply.value = static_cast<uint64_t>(kClientLease);
        add_nodes(&reply);
        answer(responder, std::move(reply));
        for (auto& [ino, lease] : leases_) {
            if (lease.holder == session && lease.recall != 0) push_recall(ino);
        }
    }
    wire::MetaReplyT report_chunk(uint64_t session, const wire::ReportChunkT& op) {
        ++reports;
        auto it = state_.chunks.find(op.chunk);
        if (it == state_.chunks.end()) return error(Errc::noent);
        wire::ChunkGrantT& grant = it->second.grant;
        if (state_.dead.contains(op.node) && grant.epoch == op.epoch && grant.members.size() > 1) {
            std::erase(grant.members, op.node);
            ++grant.epoch;
        }
        wire::MetaReplyT reply;
        reply.grants.push_back(make_grant(
            session, op.ino, op.chunk, state_.inodes.at(op.ino).grower == session));
        return reply;
    }

    // --- queries
    void query(const std::shared_ptr<wire::QueryT>& query, const Responder& responder) {
        uint64_t target = 0;
        if (const auto* op = query->op.AsLookup()) {
            auto parent = state_.inodes.find(op->parent);
            if (parent == state_.inodes.end()) return answer(responder, error(Errc::stale));
            auto entry = parent->second.entries.find(op->name);
            if (entry == parent->second.entries.end()) return answer(responder, error(Errc::noent));
            target = entry->second;
        }
        if (const auto* op = query->op.AsGetAttr()) target = op->ino;
        if (const auto* op = query->op.AsGetLayout()) target = op->ino;
        if (target != 0 && !state_.inodes.contains(target))
            return answer(responder, error(Errc::stale));
        if (target == 0) return answer(responder, plain_query(*query));
        claim(query->session, target, false, [=, this] {
            wire::MetaReplyT reply;
            auto inode = state_.inodes.find(target);
            if (inode == state_.inodes.end()) return answer(responder, error(Errc::stale));
            reply.attr = std::make_unique<wire::AttrT>(inode->second.attr);
            if (const auto* op = query->op.AsLookup(); op != nullptr && keeps) {
                reply.kept = {op->parent, target};
                reply.grant_number = ++attached_[query->session].grants;
            }
            if (const auto* op = query->op.AsGetLayout()) {
                layout(query->session, target, op->first, op->count, &reply);
            }
            answer(responder, std::move(reply));
        });
    }
    // --- mutations
    static uint64_t lease_needed(const wire::MutationT& m) {
        if (const auto* op = m.op.AsWriteInline()) return op->ino;
        if (const auto* op = m.op.AsAllocate()) return op->ino;
        if (const auto* op = m.op.AsCommitWrite()) return op->ino;
        if (const auto* op = m.op.AsPunchChunks()) return op->ino;
        return 0;
    }
    void mutation(const std::shared_ptr<wire::MutationT>& m, const Responder& responder) {
        const auto key = std::make_pair(m->session, m->slot);
        if (auto running = in_flight_.find(key); running != in_flight_.end()) {
            running->second.push_back(responder);
            return;
        }
        FakeState::Slot& slot = state_.slots[key];
        LFS_ASSERT(m->slot < kSlotsPerSession);
        if (m->sequence < slot.sequence) return answer(responder, error(Errc::superseded));
        if (m->sequence == slot.sequence) return answer_bytes(responder, with_open(*m, slot.reply));
        LFS_ASSERT(m->sequence > slot.sequence);
        const uint64_t leased = lease_needed(*m);
        if (leased != 0 && (leases_[leased].holder != m->session ||
                            leases_[leased].mode != wire::LeaseMode::write)) {
            return answer(responder, error(Errc::recall));
        }
        in_flight_[key].push_back(responder);
        uint64_t target = 0;
        if (const auto* op = m->op.AsSetAttr()) target = op->ino;
        if (const auto* op = m->op.AsUnlink()) {
            auto& entries = state_.inodes.at(op->parent).entries;
            if (entries.contains(op->name)) target = entries.at(op->name);
        }
        auto run = [this, m, key] {
            if (!leads) return;
            ++state_.applied;
            wire::MetaReplyT reply = apply(*m);
            FakeState::Slot& stored = state_.slots[key];
            stored.sequence = m->sequence;
            stored.reply = wire::encode<wire::MetaReply>(reply);
            Bytes full = with_open(*m, stored.reply);
            if (reply.errc == 0 && releases(*m)) free_lease(lease_needed(*m));
            auto waiting = std::move(in_flight_[key]);
            in_flight_.erase(key);
            if (faults_.swallow && faults_.swallow(*m)) return lost_.push_back(waiting.front());
            for (const Responder& one : waiting) answer_bytes(one, full);
        };
        if (target == 0 || leases_[target].holder == m->session) return run();
        claim(m->session, target, true, run);
    }
    static bool releases(const wire::MutationT& m) {
        if (const auto* op = m.op.AsWriteInline()) return op->release;
        if (const auto* op = m.op.AsCommitWrite()) return op->release;
        return false;
    }
    Bytes with_open(const wire::MutationT& m, const Bytes& stored) {
        const auto* op = m.op.AsMake();
        auto reply = wire::decode<wire::MetaReply>(stored);
        if (op == nullptr || op->open_flags == 0 || reply->errc != 0) return stored;
        const uint64_t existed = reply->value;
        complete_open(m.session, reply->attr->ino, (op->open_flags & 2) != 0, &*reply);
        reply->value = existed;
        return wire::encode<wire::MetaReply>(*reply);
    }
    InprocTransport transport_;
    Prng prng_;
    const uint64_t node_;
    Faults& faults_;
    std::unique_ptr<RpcServer> server_;
    std::map<uint64_t, Lease> leases_;
    std::map<uint64_t, Attached> attached_;
    std::set<uint64_t> recovering_;
    std::map<std::pair<uint64_t, uint32_t>, std::vector<Responder>> in_flight_;
    std::vector<Responder> lost_;
};

}  // namespace lumeofs::client_test
