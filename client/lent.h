// SPDX-License-Identifier: Apache-2.0
// Lent: what others beside this client may go on using for a moment after they were told: the kernel
// keeps names and attributes for a time that the answer states, and asks nobody meanwhile (system.md
// 2.4, second form).
//
// I7 holds because that time lies inside the read lease and is waited out: nothing is lent that the
// name cache does not hold, none of it beyond the lease time, and a recall of an inode is obeyed only
// when all that was lent of it has run out, whatever ends the lease: until() before a recall is
// acknowledged, until_all() before an Attach or before everything is given back [25].
// The kernel counts from when the caller gets to the answer, and in ticks: kMargin is for both.
// single-thread: the loop.
#pragma once

#include <deque>
#include <unordered_map>
#include <utility>

#include "common/base/ids.h"
#include "common/base/limits.h"

namespace lumeofs::client {

class Lent {
public:
    static constexpr Nanos kMargin = 40 * kMillisecond;

    // At most `time` per answer; 0: nothing is lent.
    explicit Lent(Nanos time) : time_(time) {}

    // Lends what is known of `ino` (its attributes, or names in it). For how long; 0 = not at all.
    Nanos lend(InodeId ino, Nanos now, Nanos lease_until);
    // When nothing of the inode, or of any inode, is lent any more; may be in the past.
    Nanos until(InodeId ino) const;
    Nanos until_all() const { return last_; }

private:
    const Nanos time_;
    Nanos last_ = 0;
    std::unordered_map<InodeId, Nanos> until_;
    std::deque<std::pair<Nanos, InodeId>> order_;  // by time, some of them out of date
};

}  // namespace lumeofs::client
