// SPDX-License-Identifier: Apache-2.0
// SnapshotSender: streams one pinned snapshot to one follower, piece after piece. The follower
// answers each with the offset that it wants next, so a lost connection, a repeat or a restart of
// the follower costs only what it does not have. A receiver that is stuck or gone is given up after
// a while, and the pinned snapshot with it (rule 13).
// single-thread: the loop.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/env/loop.h"
#include "common/rpc/peer.h"
#include "metad/consensus/raft_codec.h"
#include "metad/consensus/replicated_state.h"

namespace lumeofs::consensus {

class SnapshotSender {
public:
    // Sends a piece to the follower and brings its answer.
    using Call = std::function<void(const SnapshotPieceHead&, Buffer, Nanos timeout, RpcDone)>;

    // `head` says all but the fields of a piece. `done` is called once, from a later task, unless
    // the sender is destroyed before. A read error of the pinned snapshot is reported like a lost
    // stream.
    SnapshotSender(Loop& loop,
                   Call call,
                   std::shared_ptr<PinnedSnapshot> snapshot,
                   const SnapshotPieceHead& head,
                   std::function<void(bool delivered)> done);
    ~SnapshotSender();

    void start();
    LogIndex index() const { return head_.snapshot.index; }
    uint64_t offset() const { return head_.offset; }

private:
    void send_piece();
    void answered(RpcReply reply);
    void try_again();
    void end(bool delivered);

    Loop& loop_;
    Call call_;
    std::shared_ptr<PinnedSnapshot> snapshot_;
    SnapshotPieceHead head_;
    std::function<void(bool)> done_;
    std::vector<uint64_t> chains_;  // [i] = chain before piece i
    int failures_ = 0;              // in a row
    std::shared_ptr<char> alive_;   // goes with us; late answers look at it
    Timer retry_;
};

}  // namespace lumeofs::consensus
