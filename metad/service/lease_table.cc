// SPDX-License-Identifier: Apache-2.0
#include "metad/service/lease_table.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace lumeofs::metad {

void LeaseTable::add_opener(SessionId session, InodeId ino, bool writer) {
    bool& is_writer = inodes_[ino].openers[session];
    is_writer = is_writer || writer;
    by_session_[session].insert(ino);
}

void LeaseTable::remove_opener(SessionId session, InodeId ino) {
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    it->second.openers.erase(session);
    if (it->second.holder != session) {
        if (auto own = by_session_.find(session); own != by_session_.end()) own->second.erase(ino);
    }
    forget_if_idle(ino);
}

bool LeaseTable::is_open(InodeId ino) const {
    auto it = inodes_.find(ino);
    return it != inodes_.end() && !it->second.openers.empty();
}

bool LeaseTable::has_open(SessionId session, InodeId ino) const {
    auto it = inodes_.find(ino);
    return it != inodes_.end() && it->second.openers.contains(session);
}

bool LeaseTable::only_opener(SessionId session, InodeId ino) const {
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return true;
    const auto& openers = it->second.openers;
    return openers.empty() || (openers.size() == 1 && openers.contains(session));
}

Lease LeaseTable::held(SessionId session, InodeId ino) const {
    auto it = inodes_.find(ino);
    if (it == inodes_.end() || it->second.holder != session) return Lease::none;
    return it->second.mode;
}

bool LeaseTable::written_by_other(SessionId session, InodeId ino) const {
    auto it = inodes_.find(ino);
    return it != inodes_.end() && it->second.holder && it->second.holder != session &&
           it->second.mode == Lease::write;
}

bool LeaseTable::grantable(SessionId session, InodeId ino) const {
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return true;
    const Inode& inode = it->second;
    return inode.blocks == 0 && (!inode.holder || inode.holder == session);
}

void LeaseTable::grant(SessionId session, InodeId ino, Lease mode) {
    LFS_ASSERT(mode != Lease::none);
    LFS_ASSERT(grantable(session, ino));  // one holder, and none while a mutation is under way
    Inode& inode = inodes_[ino];
    inode.holder = session;
    inode.mode = std::max(inode.mode, mode);
    by_session_[session].insert(ino);
}

void LeaseTable::give_back(SessionId session, InodeId ino, Nanos now) {
    auto it = inodes_.find(ino);
    if (it == inodes_.end() || it->second.holder != session) return;
    Inode& inode = it->second;
    inode.holder = SessionId{};
    inode.mode = Lease::none;
    inode.recall = {};
    if (!inode.openers.contains(session)) by_session_[session].erase(ino);
    wake(ino, now, UINT64_MAX);
}

void LeaseTable::acknowledge(SessionId session, InodeId ino, uint64_t number, Nanos now) {
    auto it = inodes_.find(ino);
    if (it == inodes_.end() || it->second.holder != session) return;
    Inode& inode = it->second;
    if (inode.recall.number == 0 || number > inode.recall.number) return;
    if (inode.recall.what == RecallWhat::flush && number == inode.recall.number) inode.recall = {};
    wake(ino, now, number);
}

bool LeaseTable::satisfied(const Inode& inode, const Waiter& waiter, uint64_t flushed) {
    const bool other = inode.holder && inode.holder != waiter.session;
    if (waiter.what == RecallWhat::revoke) return !other && inode.blocks == 0;
    return !other || inode.mode != Lease::write || (waiter.needs != 0 && waiter.needs <= flushed);
}

void LeaseTable::claim(SessionId session,
                       InodeId ino,
                       RecallWhat what,
                       Nanos now,
                       std::function<void()> done) {
    auto it = inodes_.find(ino);
    Waiter waiter{session, what, 0, std::move(done)};
    if (it == inodes_.end() || satisfied(it->second, waiter, 0)) {
        waiter.done();
        return;
    }
    Inode& inode = it->second;
    if (inode.holder && inode.holder != session) waiter.needs = start_recall(inode, ino, what, now);
    inode.waiters.push_back(std::move(waiter));
}

// A revoke that is under way answers flush claims too; anything else needs a recall of its own.
uint64_t LeaseTable::start_recall(Inode& inode, InodeId ino, RecallWhat what, Nanos now) {
    PendingRecall& recall = inode.recall;
    const bool pending = recall.number != 0;
    if (pending && recall.what == RecallWhat::revoke) return recall.number;
    const Nanos started = pending ? recall.started : now;
    recall = {inode.holder, ino, ++last_number_[inode.holder], what, started, now};
    send_(recall);
    return recall.number;
}

// Runs the waiters that are satisfied, first come first served. A waiter's `done` may take the lease
// or block the inode: the state is looked at anew before each, and who is then in the way is recalled.
void LeaseTable::wake(InodeId ino, Nanos now, uint64_t flushed) {
    for (;;) {
        auto it = inodes_.find(ino);
        if (it == inodes_.end()) return;
        Inode& inode = it->second;
        auto ready = std::find_if(inode.waiters.begin(), inode.waiters.end(), [&](const Waiter& w) {
            return satisfied(inode, w, flushed);
        });
        if (ready == inode.waiters.end()) break;
        std::function<void()> done = std::move(ready->done);
        inode.waiters.erase(ready);
        done();
    }
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    Inode& inode = it->second;
    for (Waiter& waiter : inode.waiters) {  // a new holder came in between
        if (!inode.holder || inode.holder == waiter.session) continue;
        if (waiter.needs == 0 || inode.recall.number == 0) {
            waiter.needs = start_recall(inode, ino, waiter.what, now);
        }
    }
    forget_if_idle(ino);
}

void LeaseTable::block(InodeId ino) { ++inodes_[ino].blocks; }

void LeaseTable::unblock(InodeId ino, Nanos now) {
    auto it = inodes_.find(ino);
    LFS_ASSERT(it != inodes_.end() && it->second.blocks > 0);
    --it->second.blocks;
    wake(ino, now, 0);
}

bool LeaseTable::blocked(InodeId ino) const {
    auto it = inodes_.find(ino);
    return it != inodes_.end() && it->second.blocks > 0;
}

void LeaseTable::drop_session(SessionId session, Nanos now) {
    auto own = by_session_.find(session);
    if (own != by_session_.end()) {
        const std::set<InodeId> inodes = std::move(own->second);
        by_session_.erase(own);
        for (InodeId ino : inodes) {
            auto it = inodes_.find(ino);
            if (it == inodes_.end()) continue;
            it->second.openers.erase(session);
            const bool held = it->second.holder == session;
            if (held) {
                it->second.holder = SessionId{};
                it->second.mode = Lease::none;
                it->second.recall = {};
            }
            // Of one that had it open only, nothing was asked for: the holder has still to flush.
            wake(ino, now, held ? UINT64_MAX : 0);
            forget_if_idle(ino);
        }
    }
    by_session_.erase(session);
    last_number_.erase(session);
}

std::vector<InodeId> LeaseTable::opened_by(SessionId session) const {
    std::vector<InodeId> result;
    auto own = by_session_.find(session);
    if (own == by_session_.end()) return result;
    for (InodeId ino : own->second) {
        if (has_open(session, ino)) result.push_back(ino);
    }
    return result;
}

std::vector<PendingRecall> LeaseTable::pending() const {
    std::vector<PendingRecall> result;
    for (const auto& [ino, inode] : inodes_) {
        if (inode.recall.number != 0) result.push_back(inode.recall);
    }
    std::sort(result.begin(), result.end(), [](const PendingRecall& a, const PendingRecall& b) {
        return a.started < b.started;
    });
    return result;
}

void LeaseTable::resend(Nanos now, Nanos older_than) {
    for (auto& [ino, inode] : inodes_) {
        if (inode.recall.number == 0 || now - inode.recall.last_sent < older_than) continue;
        inode.recall.last_sent = now;
        send_(inode.recall);
    }
}

void LeaseTable::forget_if_idle(InodeId ino) {
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    const Inode& inode = it->second;
    if (inode.openers.empty() && !inode.holder && inode.blocks == 0 && inode.waiters.empty()) {
        inodes_.erase(it);
    }
}

}  // namespace lumeofs::metad
