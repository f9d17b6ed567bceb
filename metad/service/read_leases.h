// SPDX-License-Identifier: Apache-2.0
// ReadLeases: which sessions keep what of the namespace: the attributes of an inode, and of a
// directory also its names (system.md 2.4, the second form). Many sessions may have the same inode.
// The leader's memory; a new leader starts with none, because a session drops what it keeps when it
// attaches, and nothing is changed before every session has attached or has lost its lease [26, 32].
//
// *Recall first, then propose* [22]: whoever changes an inode blocks it (no new read leases), recalls
// it from all others and only then proposes. Who makes the change keeps its own lease: it knows what
// it does. A recall is repeated until it is acknowledged; numbers begin anew, higher, with each term,
// so that an acknowledgement meant for an earlier leader counts for nothing.
//
// A contended inode gives no read leases for a while [39]. The memory is bounded: a session that
// keeps kReadLeasesMax inodes gets no more until it has given some back.
// single-thread: the metad loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "metad/service/lease_table.h"

namespace lumeofs::metad {

class ReadLeases {
public:
    // `send` is called with each recall that starts, and again by resend().
    ReadLeases(Term term, std::function<void(const PendingRecall&)> send)
        : last_number_(term.value << 24), send_(std::move(send)) {}

    // True: the session may keep the inode from now on. False if it is being changed or contended.
    bool grant(SessionId session, InodeId ino, Nanos now);
    bool has(SessionId session, InodeId ino) const;
    bool others_have(SessionId session, InodeId ino) const;

    // No new leases on the inode until as many unblock().
    void block(InodeId ino);
    void unblock(InodeId ino);
    // Calls `done` (maybe at once) when no session but `session` has it. Requires: blocked, so that it
    // stays so.
    void recall_others(SessionId session, InodeId ino, Nanos now, std::function<void()> done);
    // The recall was obeyed. Other numbers than that of the pending recall are ignored.
    void acknowledge(SessionId session, InodeId ino, uint64_t number);
    // The session has dropped everything, or was fenced and ended.
    void drop_session(SessionId session);

    std::vector<PendingRecall> pending() const;  // oldest first
    void resend(Nanos now, Nanos older_than);
    size_t count() const;  // leases of all sessions

private:
    struct Waiter {
        SessionId session;
        std::function<void()> done;
    };
    struct Inode {
        std::map<SessionId, PendingRecall> readers;  // number 0: not recalled
        int blocks = 0;
        Nanos contended_until = 0;
        std::vector<Waiter> waiters;
    };

    void drop(SessionId session, InodeId ino);
    void wake(InodeId ino);
    void forget_if_idle(InodeId ino);
    void forget_old_contention(Nanos now);

    uint64_t last_number_;
    std::function<void(const PendingRecall&)> send_;
    std::map<InodeId, Inode> inodes_;
    std::map<SessionId, std::set<InodeId>> by_session_;
    std::set<std::pair<InodeId, SessionId>> recalled_;  // with a recall under way
    std::deque<InodeId> contended_;                     // by age
};

}  // namespace lumeofs::metad
