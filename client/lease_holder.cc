// SPDX-License-Identifier: Apache-2.0
// The lease of an inode at this client: taking it, obeying recalls, giving it back. The states
// stand in inode_state.h. Two rules make late messages harmless:
//   - every grant has a number, and a recall names the last one sent: a grant that comes after the
//     recall that named it is void [27];
//   - a grant that was asked for before a give-back was sent is void, and nothing new is asked for
//     before the give-back was answered (requests on one link keep their order).
#include <algorithm>
#include <utility>

#include "client/core.h"
#include "client/layout.h"
#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"

namespace lumeofs::client {
namespace {

constexpr Nanos kSharedFor = kSecond;  // then it is asked again whether we are alone

}  // namespace

bool Core::lease_counts(const Inode& inode) const {
    return inode.has_lease() && !inode.releasing && meta_.lease_valid();
}

void Core::need_write_lease(const InodePtr& inode, bool exclusive, StatusDone run) {
    inode->waiters.push_back({exclusive, std::move(run)});
    advance(inode);
}

void Core::end_exclusive(const InodePtr& inode) {
    inode->exclusive = false;
    advance(inode);
}

// Runs whoever waits as far as the lease allows; called whenever something has changed.
void Core::advance(const InodePtr& at) {
    const InodePtr inode = at;  // `at` may be a member of what goes away below
    for (;;) {
        if (inode->lost) {
            auto failed = std::exchange(inode->waiters, {});
            for (LeaseWaiter& waiter : failed)
                waiter.run(Status(Errc::io, "the session was ended"));
            return;
        }
        if (inode->exclusive) return;
        if (inode->winding || inode->releasing) {
            advance_winding(inode);
            if (inode->winding || inode->releasing) return;
        }
        if (inode->waiters.empty()) break;
        if (inode->lease != wire::LeaseMode::write || inode->reacquire) return acquire(inode);
        if (!meta_.lease_valid()) {  // on_lease() comes back
            stalled_ = true;
            return;
        }
        LeaseWaiter waiter = std::move(inode->waiters.front());
        inode->waiters.pop_front();
        inode->exclusive = waiter.exclusive;
        waiter.run(ok_status());
    }
    if (inode->transient && inode->has_lease()) return wind_down(inode);
    forget_if_idle(inode);
}

void Core::acquire(const InodePtr& inode) {
    if (inode->acquiring || inode->give_backs > 0) return;
    inode->acquiring = true;
    if (inode->shared && loop_.now() - inode->shared_since > kSharedFor) inode->shared = false;
    wire::AcquireLeaseT op;
    op.ino = inode->ino.value;
    op.mode = wire::LeaseMode::write;
    op.transient = inode->shared;
    wire::SessionOpUnion request;
    request.Set(std::move(op));
    meta_.session_request(std::move(request),
                          [this, inode, count = inode->give_back_count, transient = inode->shared](
                              MetaAnswer answer) {
                              inode->acquiring = false;
                              if (inode->lost) return advance(inode);
                              if (answer.status.is_ok() && inode->give_back_count != count)
                                  return advance(inode);
                              inode->transient = transient;
                              on_acquired(inode, std::move(answer));
                          });
}

void Core::on_acquired(const InodePtr& inode, MetaAnswer answer) {
    if (!answer.status.is_ok()) {
        if (inode->reacquire) {  // nobody will take our changes any more
            inode->reacquire = false;
            record_error(*inode, answer.status);
            inode->buffer.discard_all();
            inode->gathered = {};
            auto parked = std::exchange(inode->parked, {});
            for (const auto& piece : parked) inode->buffer.finish(piece.offset);
            inode->committed = inode->buffer.last_write();
            drop_lease(*inode);
            account(inode);
            finish_jobs(inode);
        }
        auto failed = std::exchange(inode->waiters, {});
        for (LeaseWaiter& waiter : failed) waiter.run(answer.status);
        return advance(inode);
    }
    const bool recalled = answer.reply.grant_number <= inode->void_grants &&
                          !planted_bug("client.grant_after_recall");
    if (answer.reply.lease == wire::LeaseMode::write && !recalled) {
        adopt_grant(*inode, answer.reply);
        if (inode->transient) {
            inode->shared = true;
        }
        pump(inode);
    } else if (!recalled) {  // somebody else has it open: take it for one operation at a time
        inode->shared = true;
        inode->shared_since = loop_.now();
    }
    advance(inode);
}

// The reply of Open, Make or AcquireLease gave us the lease.
void Core::adopt_grant(Inode& inode, const wire::MetaReplyT& reply) {
    inode.lease = reply.lease;
    if (inode.reacquire) {  // our changes stay; what we knew of the committed state does not
        inode.reacquire = false;
        inode.attr.version = 0;
        inode.grower = false;
        if (reply.attr) adopt_attr(inode, *reply.attr);
        adopt_layout(inode, reply, true);
        return;
    }
    LFS_ASSERT(!inode.dirty());
    inode.attr.version = 0;
    inode.moving_out = false;
    inode.mtime_dirty = false;
    inode.clear_suid = false;
    inode.gathered = {};
    inode.grower = false;
    if (reply.attr) adopt_attr(inode, *reply.attr);
    inode.written_end = inode.attr.size;
    inode.inline_data = inode.is_inline ? Bytes(reply.data.begin(), reply.data.end()) : Bytes();
    inode.inline_from = UINT64_MAX;
    inode.inline_to = 0;
    adopt_layout(inode, reply, true);
}

// `clear`: the reply shows the layout from chunk 0 on, as far as reply.value and the grants say.
void Core::adopt_layout(Inode& inode, const wire::MetaReplyT& reply, bool clear) {
    if (clear) {
        inode.chunks.clear();
        inode.holes.clear();
        inode.all_chunks_known = reply.value == 1 || chunk_count(inode.attr.size) <= 16;
    }
    for (const auto& grant : reply.grants) {
        auto& chunk = inode.chunks[grant->index];
        if (chunk && chunk->grant.chunk == grant->chunk && chunk->grant.epoch > grant->epoch)
            continue;
        if (!chunk || chunk->grant.chunk != grant->chunk) chunk = std::make_shared<ChunkRef>();
        chunk->grant = *grant;
        inode.holes.erase(grant->index);
    }
}

// --- recalls

void Core::on_recall(const wire::RecallT& recall) {
    const InodeId ino{recall.ino};
    if (recall.kind == wire::RecallKind::drop) {
        names_.recall(ino, recall.last_grant);
        drop_names_if_full();
        const Nanos when = planted_bug("client.recall_not_waited_out") ? 0 : lent_.until(ino);
        return at(when, [this, ino, recall] {
            acknowledge(ino, recall.number, recall.kind);
        });
    }
    const InodePtr inode = find(ino);
    const bool revoke = recall.kind == wire::RecallKind::revoke;
    if (revoke) note_given_up(ino);
    if (!inode) {
        return revoke ? give_back_unknown(ino, recall.number) : acknowledge(ino, recall.number, recall.kind);
    }
    if (!revoke) return on_flush_recall(inode, recall.number);
    inode->wanted_elsewhere = true;
    inode->void_grants = std::max(inode->void_grants, recall.last_grant);
    if (!inode->has_lease() && !inode->releasing && !inode->reacquire) return give_back(inode);
    inode->revokes.insert(recall.number);
    wind_down(inode);
}

void Core::on_flush_recall(const InodePtr& inode, uint64_t number) {
    if (inode->lease != wire::LeaseMode::write || !inode->dirty()) {
        if (!inode->releasing) return acknowledge(inode->ino, number, wire::RecallKind::flush);
    }
    if (!inode->flush_recalls.insert(number).second) return;  // being obeyed
    flush_to(inode, inode->buffer.last_write(), false, [this, inode, number](const Status&) {
        inode->flush_recalls.erase(number);
        if (!inode->lost) acknowledge(inode->ino, number, wire::RecallKind::flush);
    });
}

void Core::acknowledge(InodeId ino, uint64_t number, wire::RecallKind kind) {
    wire::RecallAckT op;
    op.ino = ino.value;
    op.recall = number;
    op.kind = kind;
    wire::SessionOpUnion request;
    request.Set(std::move(op));
    meta_.session_request(std::move(request), [](const MetaAnswer&) {});
}

void Core::give_back_unknown(InodeId ino, uint64_t number) {
    wire::GiveBackT op;
    op.ino = ino.value;
    op.recall = number;
    wire::SessionOpUnion request;
    request.Set(std::move(op));
    meta_.session_request(std::move(request), [](const MetaAnswer&) {});
}

// --- giving back

void Core::wind_down(const InodePtr& inode) {
    if (inode->winding || inode->lost) return;
    inode->winding = true;
    advance(inode);
}

void Core::advance_winding(const InodePtr& inode) {
    if (inode->releasing || inode->exclusive || !inode->winding) return;
    if (inode->lease == wire::LeaseMode::write || inode->reacquire) {
        if (inode->dirty() || inode->grower || inode->commit_running) {
            if (inode->reacquire) return acquire(inode);
            return pump(inode);  // ends in a commit with `release`
        }
    }
    inode->winding = false;
    if (inode->has_lease()) drop_lease(*inode);
    give_back(inode);
}

// Tells the leader that we have nothing of it. Requires: nothing dirty, no lease.
void Core::give_back(const InodePtr& inode) {
    wire::GiveBackT op;
    op.ino = inode->ino.value;
    op.recall = inode->revokes.empty() ? 0 : *inode->revokes.rbegin();
    inode->revokes.clear();
    note_given_up(inode->ino);
    ++inode->give_back_count;
    ++inode->give_backs;
    wire::SessionOpUnion request;
    request.Set(std::move(op));
    meta_.session_request(std::move(request), [this, inode](const MetaAnswer&) {
        --inode->give_backs;
        advance(inode);
    });
}

// The commit that gave the lease back was answered (or there is nothing left to commit).
void Core::end_release(const InodePtr& inode) {
    inode->releasing = false;
    inode->winding = false;
    drop_lease(*inode);
    if (!inode->revokes.empty()) give_back(inode);
    for (Task& task : std::exchange(inode->after_release, {})) task();
}

// From here on nothing that was known under the lease counts [8].
void Core::drop_lease(Inode& inode) {
    inode.lease = wire::LeaseMode::none;
    inode.transient = false;
    ++inode.lease_serial;
    inode.cache.clear();
    // With nobody who has it open there is nobody to read the kernel's pages; the next open decides.
    if (invalidate_ && inode.handles > 0) post([this, ino = inode.ino] { invalidate_(ino); });
    if (planted_bug("client.keep_grant_after_lease")) return;
    inode.attr_known = false;
    inode.chunks.clear();
    inode.holes.clear();
    inode.all_chunks_known = false;
    inode.inline_data.clear();
}

}  // namespace lumeofs::client
