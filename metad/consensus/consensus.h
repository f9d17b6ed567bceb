// SPDX-License-Identifier: Apache-2.0
// Consensus: a group of metads that applies the same commands in the same order.
// This is all that the services know of Raft.
// single-thread: the metad loop.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/result.h"

namespace lumeofs {

enum class RaftRole : uint8_t { follower, candidate, leader, learner };

struct ConsensusStatus {
    RaftRole role = RaftRole::follower;
    Term term;
    NodeId leader;  // 0 = unknown
    LogIndex last, commit, applied, first;  // of the log kept
    struct Member {
        NodeId node;
        std::string address;
        bool learner = false;
        LogIndex match;          // leader only
        Nanos silent_for = 0;    // leader only: since its last answer
    };
    std::vector<Member> members;
    uint64_t log_bytes = 0;
    std::string trouble;  // "" or what keeps it from working, for people
};

class Consensus {
public:
    virtual ~Consensus() = default;

    // Appends `command`; `done` gets what apply returned for it. Errors: not_leader (it was surely
    // not appended, or it may or may not be applied later: the caller's client repeats it in its
    // slot), busy (bounded queue is full).
    virtual void propose(Bytes command, std::function<void(Result<Bytes>)> done) = 0;
    // Calls `done` with ok once everything that was answered anywhere before this call is applied
    // here, or with not_leader / unavailable. At once, from inside the call, while the lease of the
    // leader holds; else by a batched ReadIndex.
    virtual void read_barrier(std::function<void(Status)> done) = 0;

    // Leader of the current term whose first entry is applied here.
    virtual bool is_ready_leader() const = 0;
    virtual Term term() const = 0;
    virtual NodeId leader() const = 0;  // 0 = unknown
    virtual std::string leader_address() const = 0;
    // Boot time at which the newest heartbeat round was SENT that a quorum has answered, as leader
    // of the current term; -1 if none. Leases given to others count from there at the earliest
    // [26].
    virtual Nanos quorum_contact() const = 0;
    virtual ConsensusStatus status() const = 0;
    // Called on the loop when is_ready_leader() turns true or false.
    virtual void on_leadership(std::function<void(bool ready_leader)> changed) = 0;
};

}  // namespace lumeofs
