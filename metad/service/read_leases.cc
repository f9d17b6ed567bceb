// SPDX-License-Identifier: Apache-2.0
#include "metad/service/read_leases.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"
#include "common/base/planted_bug.h"

namespace lumeofs::metad {
namespace {

constexpr size_t kReadLeasesMax = 256 * 1024;  // of one session
constexpr Nanos kContendedFor = 2 * kSecond;

bool only_reader(const std::map<SessionId, PendingRecall>& readers, SessionId session) {
    return readers.empty() || (readers.size() == 1 && readers.contains(session));
}

}  // namespace

bool ReadLeases::grant(SessionId session, InodeId ino, Nanos now) {
    auto it = inodes_.find(ino);
    if (it != inodes_.end()) {
        const Inode& inode = it->second;
        const auto reader = inode.readers.find(session);
        if (reader != inode.readers.end()) return reader->second.number == 0 && inode.blocks == 0;
        if (inode.blocks > 0 || now < inode.contended_until) return false;
    }
    std::set<InodeId>& own = by_session_[session];
    if (own.size() >= kReadLeasesMax) return false;
    own.insert(ino);
    inodes_[ino].readers.emplace(session, PendingRecall{});
    return true;
}

bool ReadLeases::has(SessionId session, InodeId ino) const {
    auto it = inodes_.find(ino);
    return it != inodes_.end() && it->second.readers.contains(session);
}

bool ReadLeases::others_have(SessionId session, InodeId ino) const {
    auto it = inodes_.find(ino);
    return it != inodes_.end() && !only_reader(it->second.readers, session);
}

void ReadLeases::block(InodeId ino) { ++inodes_[ino].blocks; }

void ReadLeases::unblock(InodeId ino) {
    auto it = inodes_.find(ino);
    LFS_ASSERT(it != inodes_.end() && it->second.blocks > 0);
    --it->second.blocks;
    forget_if_idle(ino);
}

void ReadLeases::recall_others(SessionId session,
                               InodeId ino,
                               Nanos now,
                               std::function<void()> done) {
    auto it = inodes_.find(ino);
    LFS_ASSERT(it != inodes_.end() && it->second.blocks > 0);
    if (planted_bug("ns.no_read_recall")) return done();
    Inode& inode = it->second;
    if (only_reader(inode.readers, session)) return done();
    if (inode.contended_until == 0) contended_.push_back(ino);
    inode.contended_until = now + kContendedFor;
    inode.waiters.push_back({session, std::move(done)});
    for (auto& [reader, recall] : inode.readers) {
        if (reader == session || recall.number != 0) continue;
        recall = {reader, ino, ++last_number_, RecallWhat::drop, now, now};
        recalled_.insert({ino, reader});
        send_(recall);
    }
}

void ReadLeases::acknowledge(SessionId session, InodeId ino, uint64_t number) {
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    auto reader = it->second.readers.find(session);
    if (reader == it->second.readers.end() || number == 0 || reader->second.number != number) return;
    by_session_[session].erase(ino);
    drop(session, ino);
}

void ReadLeases::drop(SessionId session, InodeId ino) {
    auto it = inodes_.find(ino);
    LFS_ASSERT(it != inodes_.end());
    it->second.readers.erase(session);
    recalled_.erase({ino, session});
    wake(ino);
    forget_if_idle(ino);
}

void ReadLeases::drop_session(SessionId session) {
    auto own = by_session_.find(session);
    if (own == by_session_.end()) return;
    const std::set<InodeId> inodes = std::move(own->second);
    by_session_.erase(own);
    for (InodeId ino : inodes) drop(session, ino);
}

// A waiter's `done` may do anything to the table: it is looked at anew before each.
void ReadLeases::wake(InodeId ino) {
    for (;;) {
        auto it = inodes_.find(ino);
        if (it == inodes_.end()) return;
        std::vector<Waiter>& waiters = it->second.waiters;
        auto ready = std::find_if(waiters.begin(), waiters.end(), [&](const Waiter& waiter) {
            return only_reader(it->second.readers, waiter.session);
        });
        if (ready == waiters.end()) return;
        std::function<void()> done = std::move(ready->done);
        waiters.erase(ready);
        done();
    }
}

std::vector<PendingRecall> ReadLeases::pending() const {
    std::vector<PendingRecall> result;
    for (const auto& [ino, session] : recalled_) {
        result.push_back(inodes_.at(ino).readers.at(session));
    }
    std::sort(result.begin(), result.end(), [](const PendingRecall& a, const PendingRecall& b) {
        return a.started < b.started;
    });
    return result;
}

void ReadLeases::resend(Nanos now, Nanos older_than) {
    forget_old_contention(now);
    for (const auto& [ino, session] : recalled_) {
        PendingRecall& recall = inodes_.at(ino).readers.at(session);
        if (now - recall.last_sent < older_than) continue;
        recall.last_sent = now;
        send_(recall);
    }
}

size_t ReadLeases::count() const {
    size_t sum = 0;
    for (const auto& [session, inodes] : by_session_) sum += inodes.size();
    return sum;
}

void ReadLeases::forget_old_contention(Nanos now) {
    for (size_t left = contended_.size(); left > 0; --left) {
        const InodeId ino = contended_.front();
        contended_.pop_front();
        auto it = inodes_.find(ino);
        LFS_ASSERT(it != inodes_.end() && it->second.contended_until != 0);
        if (now < it->second.contended_until) {
            contended_.push_back(ino);
            continue;
        }
        it->second.contended_until = 0;
        forget_if_idle(ino);
    }
}

void ReadLeases::forget_if_idle(InodeId ino) {
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    const Inode& inode = it->second;
    if (inode.readers.empty() && inode.blocks == 0 && inode.waiters.empty() &&
        inode.contended_until == 0) {
        inodes_.erase(it);
    }
}

}  // namespace lumeofs::metad
