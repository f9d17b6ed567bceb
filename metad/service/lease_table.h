// SPDX-License-Identifier: Apache-2.0
// LeaseTable: who has which inode open, who holds its lease, who waits for it (system.md 2.4, the
// first form). The leader's memory; a new leader starts with an empty one and fills it from the
// sessions that attach (hazard 32).
//
// One session at a time holds the lease of an inode, in mode read (nobody else has it open: data,
// size and layout may be kept) or write (may also buffer changes). Whoever needs the inode in a state
// that the lease contradicts calls claim(): the holder is recalled, and the claim is answered when it
// has obeyed or was evicted. *Recall first, then propose* [22]: while blocked() an inode gives no new
// leases to anybody.
//
// Transitions of one inode (holder, waiting claims):
//   free      -- grant(s, m) -->            held(s, m)
//   held(s,m) -- claim(other, revoke) -->   held + revoke pending  -- gave_back/evicted --> free
//   held(s,w) -- claim(other, flush) -->    held + flush pending   -- flushed/gave_back/evicted --> ok
// Recalls carry a number per session. A claim is answered only by an acknowledgement of a recall that
// was sent after the claim was made: one that was already under way may have been obeyed before the
// change that the claim must not miss. single-thread: the metad loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace lumeofs::metad {

enum class Lease : uint8_t { none = 0, read = 1, write = 2 };
enum class RecallWhat : uint8_t { flush = 1, revoke = 2, drop = 3 };  // drop: a read lease

struct PendingRecall {
    SessionId session;
    InodeId ino;
    uint64_t number = 0;
    RecallWhat what = RecallWhat::flush;
    Nanos started = 0;    // when the holder was first told
    Nanos last_sent = 0;
};

class LeaseTable {
public:
    // `send` is called with each recall that starts or is strengthened, and again by resend().
    explicit LeaseTable(std::function<void(const PendingRecall&)> send) : send_(std::move(send)) {}

    // --- opens: a set per session; open and release may be repeated without harm.
    void add_opener(SessionId session, InodeId ino, bool writer);
    void remove_opener(SessionId session, InodeId ino);
    bool is_open(InodeId ino) const;
    bool only_opener(SessionId session, InodeId ino) const;  // nobody else has it open
    bool has_open(SessionId session, InodeId ino) const;

    // --- the lease
    Lease held(SessionId session, InodeId ino) const;
    // A session other than `session` holds it in mode write.
    bool written_by_other(SessionId session, InodeId ino) const;
    // True if nobody else holds it and no mutation is under way on it.
    bool grantable(SessionId session, InodeId ino) const;
    // Requires grantable(). Stronger of old and new mode.
    void grant(SessionId session, InodeId ino, Lease mode);
    void give_back(SessionId session, InodeId ino, Nanos now);
    // A recall was obeyed. Unknown or older numbers are ignored.
    void acknowledge(SessionId session, InodeId ino, uint64_t number, Nanos now);

    // Calls `done` (maybe at once) when no other session than `session` holds the inode in a way that
    // contradicts `what`: flush: no dirty data of the time of this call is missing from the state;
    // revoke: nobody else holds the lease, and it is not blocked by somebody else's mutation.
    void claim(SessionId session, InodeId ino, RecallWhat what, Nanos now, std::function<void()> done);

    // A mutation on the inode is proposed: no new leases until unblock().
    void block(InodeId ino);
    void unblock(InodeId ino, Nanos now);
    bool blocked(InodeId ino) const;

    // Everything of a session that was fenced and ended.
    void drop_session(SessionId session, Nanos now);
    // Inodes that this session has open (for orphans, status).
    std::vector<InodeId> opened_by(SessionId session) const;

    // Recalls not obeyed since, oldest first.
    std::vector<PendingRecall> pending() const;
    void resend(Nanos now, Nanos older_than);

    size_t inodes() const { return inodes_.size(); }

private:
    struct Waiter {
        SessionId session;
        RecallWhat what;
        uint64_t needs;  // recall number whose acknowledgement answers it (flush); 0 = just be free
        std::function<void()> done;
    };
    struct Inode {
        std::map<SessionId, bool> openers;  // value: writer
        SessionId holder;                   // 0 = free
        Lease mode = Lease::none;
        int blocks = 0;
        PendingRecall recall;               // number 0 = none
        std::deque<Waiter> waiters;
    };

    static bool satisfied(const Inode& inode, const Waiter& waiter, uint64_t flushed);
    uint64_t start_recall(Inode& inode, InodeId ino, RecallWhat what, Nanos now);
    void wake(InodeId ino, Nanos now, uint64_t flushed);
    void forget_if_idle(InodeId ino);

    std::function<void(const PendingRecall&)> send_;
    std::map<InodeId, Inode> inodes_;
    std::map<SessionId, uint64_t> last_number_;
    std::map<SessionId, std::set<InodeId>> by_session_;  // opened or held
};

}  // namespace lumeofs::metad
