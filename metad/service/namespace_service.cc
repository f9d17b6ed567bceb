// SPDX-License-Identifier: Apache-2.0
#include "metad/service/namespace_service.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/wire/codec.h"

namespace lumeofs::metad {

struct NamespaceService::Running {
    wire::MutationT mutation;
    SessionId session;
    std::vector<InodeId> targets;  // leases to recall; blocked up to `claimed`
    size_t claimed = 0;
    std::vector<InodeId> touched;  // all inodes that it changes: read leases to recall
    bool readers_blocked = false;
    size_t recalling = 0;  // of `touched`, not answered yet
    int attempts = 0;
};

namespace {

// The inode of operations that only the holder of its write lease may do; 0 for the others.
InodeId needs_write_lease(const wire::MutationT& mutation) {
    if (const auto* op = mutation.op.AsWriteInline()) return InodeId{op->ino};
    if (const auto* op = mutation.op.AsAllocate()) return InodeId{op->ino};
    if (const auto* op = mutation.op.AsCommitWrite()) return InodeId{op->ino};
    if (const auto* op = mutation.op.AsPunchChunks()) return InodeId{op->ino};
    return InodeId{};
}

bool releases_lease(const wire::MutationT& mutation) {
    if (const auto* op = mutation.op.AsWriteInline()) return op->release;
    if (const auto* op = mutation.op.AsCommitWrite()) return op->release;
    return false;
}

bool may_cut(const wire::MutationT& mutation) {
    if (mutation.op.AsAllocate()) return true;
    const auto* op = mutation.op.AsSetAttr();
    return op && (op->valid & static_cast<uint32_t>(wire::SetAttrBits::size)) != 0;
}

// The directories that the operation changes.
std::vector<InodeId> parents_of(const wire::MutationT& mutation) {
    if (const auto* op = mutation.op.AsMake()) return {InodeId{op->parent}};
    if (const auto* op = mutation.op.AsLink()) return {InodeId{op->new_parent}};
    if (const auto* op = mutation.op.AsUnlink()) return {InodeId{op->parent}};
    const auto* op = mutation.op.AsRename();
    if (!op) return {};
    if (op->parent == op->new_parent) return {InodeId{op->parent}};
    return {InodeId{op->parent}, InodeId{op->new_parent}};
}

void sort_unique(std::vector<InodeId>& inodes) {
    std::sort(inodes.begin(), inodes.end());
    inodes.erase(std::unique(inodes.begin(), inodes.end()), inodes.end());
}

// Of our own reply: no need to verify it.
Errc errc_of(const Bytes& reply) {
    return static_cast<Errc>(flatbuffers::GetRoot<wire::MetaReply>(reply.data())->errc());
}

}  // namespace

void NamespaceService::handle_mutation(const RpcRequest& request) {
    auto message = wire::decode<wire::Mutation>(request.body);
    if (!message) {
        request.responder.reply_ok(error_reply(Errc::protocol, message.status().text()));
        return;
    }
    auto run = std::make_shared<Running>();
    run->mutation = std::move(*message);
    run->session = SessionId{run->mutation.session};
    LiveSession* session = leader_.session(run->session);
    if (!session) {
        request.responder.reply_ok(error_reply(Errc::no_session, "the session was ended"));
        return;
    }
    if (!session->attached) {
        request.responder.reply_ok(error_reply(Errc::unavailable, "attach first"));
        return;
    }
    const uint32_t slot = run->mutation.slot;
    if (slot >= kSlotsPerSession) {
        request.responder.reply_ok(error_reply(Errc::protocol, "no such slot"));
        return;
    }
    if (auto it = session->in_flight.find(slot); it != session->in_flight.end()) {
        if (it->second.sequence == run->mutation.sequence) {
            it->second.waiting.push_back(request.responder);  // a repeat of one under way joins it
        } else {
            request.responder.reply_ok(error_reply(Errc::superseded, "the slot is in use"));
        }
        return;
    }
    session->in_flight[slot] = {run->mutation.sequence, {request.responder}};
    sessions_.when_recovered(leader_.guarded([this, run] { start(run); }));
}

void NamespaceService::start(const RunningPtr& run) {
    LiveSession* session = leader_.session(run->session);
    if (!session) return finish(run, error_reply(Errc::no_session, "the session was ended"));
    wire::MetaReplyT stored;
    const wire::MutationT& mutation = run->mutation;
    switch (leader_.state.check_slot(run->session, mutation.slot, mutation.sequence, &stored)) {
        case SlotCheck::superseded:
            return finish(run, error_reply(Errc::superseded, "a later request used the slot"));
        case SlotCheck::repeat: {
            auto answered = session->answered.find(mutation.slot);
            if (answered != session->answered.end() &&
                answered->second.sequence == mutation.sequence) {
                return finish(run, answered->second.reply);
            }
            return finish(run, with_volatile_parts(run, encoded(stored)));
        }
        case SlotCheck::fresh:
            break;
    }
    const InodeId leased = needs_write_lease(mutation);
    if (leased && leader_.leases.held(run->session, leased) != Lease::write) {
        return finish(run, error_reply(Errc::recall, "take the write lease first"));
    }
    if (++run->attempts > 100) {
        return finish(run, error_reply(Errc::unavailable, "the names keep changing; try again"));
    }
    run->targets = leader_.state.lease_targets(mutation);
    sort_unique(run->targets);
    run->claimed = 0;
    claim_next(run);
}

// In ascending order of inodes, each blocked once it is ours: two mutations cannot wait for each
// other in a circle. Inodes whose lease this very session holds are claimed the same way: it
// costs nothing and keeps others from getting a lease while the command is on its way.
void NamespaceService::claim_next(const RunningPtr& run) {
    if (run->claimed == run->targets.size()) return recall_readers(run);
    const InodeId ino = run->targets[run->claimed];
    if (leader_.leases.held(run->session, ino) != Lease::none) {
        leader_.leases.block(ino);
        ++run->claimed;
        return claim_next(run);
    }
    leader_.leases.claim(run->session,
                         ino,
                         RecallWhat::revoke,
                         leader_.loop.now(),
                         leader_.guarded([this, run, ino] {
                             leader_.leases.block(ino);
                             ++run->claimed;
                             claim_next(run);
                         }));
}

// The read leases of all others on what it changes, all at once: nobody who is recalled waits for
// anything but time.
void NamespaceService::recall_readers(const RunningPtr& run) {
    run->touched = run->targets;
    for (InodeId parent : parents_of(run->mutation)) run->touched.push_back(parent);
    sort_unique(run->touched);
    run->readers_blocked = true;
    for (InodeId ino : run->touched) leader_.readers.block(ino);
    run->recalling = 1;  // this very function
    const std::function<void()> recalled = leader_.guarded([this, run] {
        if (--run->recalling == 0) propose(run);
    });
    for (InodeId ino : run->touched) {
        ++run->recalling;
        leader_.readers.recall_others(run->session, ino, leader_.loop.now(), recalled);
    }
    recalled();
}

void NamespaceService::propose(const RunningPtr& run) {
    if (!leader_.session(run->session)) {
        unblock(run);
        return finish(run, error_reply(Errc::no_session, "the session was ended"));
    }
    for (InodeId ino : leader_.state.lease_targets(run->mutation)) {
        if (std::binary_search(run->targets.begin(), run->targets.end(), ino)) continue;
        unblock(run);  // while we waited the name has come to mean another inode
        return start(run);
    }
    wire::ApplyMutationT command;
    if (Status placed = place_chunks(run, &command); !placed.is_ok()) {
        unblock(run);
        return finish(run, error_reply(placed.code(), placed.text()));
    }
    for (InodeId ino : run->targets) command.recalled.push_back(ino.value);
    for (InodeId victim : leader_.state.victims(run->mutation)) {
        command.recalled.push_back(victim.value);
        // What a rename replaces can be opened for a moment longer, by whoever has just looked its
        // name up: open(2) of a name that is always there must not fail.
        const auto attr = leader_.state.inode(victim);
        const bool file = attr && (attr->mode & 0170000) == 0100000;
        const bool replaced = run->mutation.op.AsRename() != nullptr && file;
        if (replaced || leader_.leases.is_open(victim)) command.openers.push_back(victim.value);
    }
    command.mutation = std::make_unique<wire::MutationT>(run->mutation);
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose_raw(std::move(op),
                        [this, run](Result<Bytes> reply) { applied(run, std::move(reply)); });
}

Status NamespaceService::place_chunks(const RunningPtr& run, wire::ApplyMutationT* command) {
    const auto* allocate = run->mutation.op.AsAllocate();
    if (!allocate) return Status();
    const auto missing = leader_.state.missing_chunks(
        InodeId{allocate->ino}, allocate->first, std::min(allocate->count, kMaxChunksPerAllocate));
    if (missing.empty()) return Status();
    const ClusterRow cluster = leader_.state.cluster();
    const size_t least = std::max(1u, cluster.min_write_replicas);
    const auto candidates = leader_.candidates();
    for (uint32_t index : missing) {
        LFS_ASSIGN(const auto members,
                   place_chunk(candidates, cluster.default_replicas, least, leader_.prng));
        auto placement = std::make_unique<wire::PlacementT>();
        placement->index = index;
        for (NodeId node : members) placement->members.push_back(node.value);
        command->placements.push_back(std::move(placement));
    }
    return Status();
}

void NamespaceService::applied(const RunningPtr& run, Result<Bytes> reply) {
    if (!reply) {
        unblock(run);
        return finish(run, error_reply(reply.code(), reply.status().text()));
    }
    const Errc code = errc_of(*reply);
    if (code == Errc::recall) {  // apply found other inodes than we did: nothing happened, look again
        unblock(run);
        return start(run);
    }
    if (code == Errc::ok && releases_lease(run->mutation)) {
        leader_.leases.give_back(
            run->session, needs_write_lease(run->mutation), leader_.loop.now());
    }
    Bytes full = with_volatile_parts(run, std::move(*reply));
    unblock(run);
    finish(run, with_read_leases(run, std::move(full)));
    if (may_cut(run->mutation)) cut_();
}

// What only this leader's memory knows: the lease that comes with an open.
Bytes NamespaceService::with_volatile_parts(const RunningPtr& run, Bytes reply) {
    const auto* make = run->mutation.op.AsMake();
    if (!make || make->open_flags == 0 || errc_of(reply) != Errc::ok) return reply;
    LiveSession* session = leader_.session(run->session);
    auto message = wire::decode<wire::MetaReply>(reply);
    if (!session || !message || !message->attr) return reply;
    const InodeId ino{message->attr->ino};
    // What was stored with the slot is of the day of the command. A lease that is given now needs
    // the file as it is now; one that is gone meanwhile gets none.
    auto now = leader_.state.inode(ino);
    if (!now) return reply;
    message->attr = std::make_unique<wire::AttrT>(std::move(*now));
    const bool writer = (make->open_flags & static_cast<uint32_t>(wire::OpenFlags::write)) != 0;
    // If it was there already its lease may have to be recalled first: complete_open() grants none
    // then, and the client asks for it when it needs it.
    const bool existed = message->value == 1;
    sessions_.complete_open(*session, ino, writer, &*message);
    message->value = existed ? 1 : 0;
    Bytes full = encoded(*message);
    session->answered[run->mutation.slot] = {run->mutation.sequence, full};
    return full;
}

// What the session knows of the inodes that it has changed is kept up to date by the answer, as they
// are *now*: entries of the same batch may have changed them once more. One that somebody else is
// changing is not kept.
Bytes NamespaceService::with_read_leases(const RunningPtr& run, Bytes reply) {
    LiveSession* session = leader_.session(run->session);
    if (!session || errc_of(reply) != Errc::ok) return reply;
    auto message = wire::decode<wire::MetaReply>(reply);
    if (!message) return reply;
    if (message->attr) {
        if (auto now = leader_.state.inode(InodeId{message->attr->ino})) {
            *message->attr = *now;
            keep(*session, InodeId{now->ino}, &*message);
        }
    }
    for (InodeId ino : run->touched) {
        auto now = leader_.state.inode(ino);
        if (now) {
            keep(*session, ino, &*message);
        } else {
            now.emplace();
            now->ino = ino.value;
        }
        message->changed.push_back(std::make_unique<wire::AttrT>(*now));
    }
    if (message->grant_number == 0) message->grant_number = ++session->grants;
    return encoded(*message);
}

void NamespaceService::keep(LiveSession& session, InodeId ino, wire::MetaReplyT* reply) {
    if (leader_.leases.written_by_other(session.id, ino)) return;
    if (!leader_.readers.grant(session.id, ino, leader_.loop.now())) return;
    reply->kept.push_back(ino.value);
}

void NamespaceService::finish(const RunningPtr& run, const Bytes& reply) {
    auto it = leader_.sessions.find(run->session);
    if (it == leader_.sessions.end()) return;
    auto flight = it->second.in_flight.find(run->mutation.slot);
    if (flight == it->second.in_flight.end()) return;
    const std::vector<Responder> waiting = std::move(flight->second.waiting);
    it->second.in_flight.erase(flight);
    for (const Responder& responder : waiting) responder.reply_ok(reply);
}

void NamespaceService::unblock(const RunningPtr& run) {
    const size_t claimed = run->claimed;
    run->claimed = 0;
    if (std::exchange(run->readers_blocked, false)) {
        for (InodeId ino : run->touched) leader_.readers.unblock(ino);
    }
    for (size_t i = 0; i < claimed; ++i) {
        leader_.leases.unblock(run->targets[i], leader_.loop.now());
    }
}

void NamespaceService::handle_query(const RpcRequest& request) {
    auto message = wire::decode<wire::Query>(request.body);
    if (!message) {
        request.responder.reply_ok(error_reply(Errc::protocol, message.status().text()));
        return;
    }
    LiveSession* session = leader_.session(SessionId{message->session});
    if (!session) {
        request.responder.reply_ok(error_reply(Errc::no_session, "the session was ended"));
        return;
    }
    if (!session->attached) {
        request.responder.reply_ok(error_reply(Errc::unavailable, "attach first"));
        return;
    }
    auto query_ptr = std::make_shared<wire::QueryT>(std::move(*message));
    leader_.consensus.read_barrier(leader_.guarded(
        [this, query_ptr, responder = request.responder](const Status& status) {
            if (!status.is_ok()) {
                responder.reply_ok(error_reply(status.code(), status.text()));
                return;
            }
            sessions_.when_recovered(
                leader_.guarded([this, query_ptr, responder] { query(query_ptr, responder); }));
        }));
}

InodeId NamespaceService::target_of(const wire::QueryT& query) {
    if (const auto* op = query.op.AsLookup()) {
        auto ino = leader_.state.resolve(InodeId{op->parent}, op->name);
        return ino ? *ino : InodeId{};
    }
    if (const auto* op = query.op.AsGetAttr()) return InodeId{op->ino};
    if (const auto* op = query.op.AsGetLayout()) return InodeId{op->ino};
    return InodeId{};
}

// What another session has buffered for the inode must be in the state before it is shown. A look-up
// whose name means another inode after the wait starts over.
void NamespaceService::query(const std::shared_ptr<wire::QueryT>& query_ptr,
                             const Responder& responder) {
    const SessionId session{query_ptr->session};
    const InodeId target = target_of(*query_ptr);
    if (!target || !leader_.leases.written_by_other(session, target)) {
        return answer_query(*query_ptr, responder);
    }
    leader_.leases.claim(session,
                         target,
                         RecallWhat::flush,
                         leader_.loop.now(),
                         leader_.guarded([this, query_ptr, responder, target] {
                             if (target_of(*query_ptr) != target) {
                                 query(query_ptr, responder);
                             } else {
                                 answer_query(*query_ptr, responder);
                             }
                         }));
}

void NamespaceService::answer_query(const wire::QueryT& query, const Responder& responder) {
    const SessionId session{query.session};
    wire::MetaReplyT reply;
    if (const auto* op = query.op.AsGetLayout()) {
        const InodeId ino{op->ino};
        const bool writable = leader_.leases.held(session, ino) == Lease::write;
        reply = leader_.state.layout(ino, op->first, op->count, session, writable);
        // A number for what is read under the lease, so that a recall can name it [27].
        if (LiveSession* live = leader_.session(session)) reply.grant_number = live->grants;
        reply.lease = static_cast<wire::LeaseMode>(leader_.leases.held(session, ino));
    } else if (query.op.AsGetNodes()) {
        reply.nodes = node_addresses(leader_);
        reply.nodes_version = leader_.state.nodes_version();
    } else {
        reply = leader_.state.query(query);
    }
    if (query.op.AsReadDir()) {
        for (auto& entry : reply.entries) {
            if (leader_.leases.written_by_other(session, InodeId{entry->ino})) entry->attr.reset();
        }
    }
    if (query.op.AsStatFs() && reply.statfs) {
        const ClusterRow cluster = leader_.state.cluster();
        const uint64_t copies = std::max(1u, cluster.default_replicas);
        for (const auto& [id, node] : leader_.nodes) {
            if (leader_.state_of(id) == wire::NodeState::offline) continue;
            reply.statfs->total_bytes += node.total_bytes / copies;
            reply.statfs->free_bytes += node.free_bytes / copies;
        }
    }
    keep_answer(query, &reply);
    responder.reply_ok(encoded(reply));
}

void NamespaceService::keep_answer(const wire::QueryT& query, wire::MetaReplyT* reply) {
    LiveSession* session = leader_.session(SessionId{query.session});
    if (!session) return;
    const bool found = reply->errc == 0;
    if (const auto* op = query.op.AsLookup()) {
        if (found || reply->errc == static_cast<uint16_t>(Errc::noent)) {
            keep(*session, InodeId{op->parent}, reply);
        }
        if (found && reply->attr) keep(*session, InodeId{reply->attr->ino}, reply);
    } else if (const auto* get = query.op.AsGetAttr()) {
        if (found) keep(*session, InodeId{get->ino}, reply);
    } else if (const auto* list = query.op.AsReadDir(); list && found) {
        keep(*session, InodeId{list->ino}, reply);
        for (const auto& entry : reply->entries) {
            if (entry->attr) keep(*session, InodeId{entry->ino}, reply);
        }
    }
    if (!reply->kept.empty()) reply->grant_number = ++session->grants;
}

}  // namespace lumeofs::metad
