// SPDX-License-Identifier: Apache-2.0
// What a leader knows of one follower, and the only place where that changes.
//
//   probe      one message at a time: where the logs agree is not known (or the link broke)
//   replicate  pipelined: `next` runs ahead of the acknowledgements, bounded in messages and bytes
//   snapshot   it needs entries that the log no longer has: nothing is sent until the stream ends
//
//   start -> probe;  probe -(ack)-> replicate;  replicate -(reject, link broken)-> probe;
//   any -(entries gone)-> snapshot;  snapshot -(stream ended)-> probe;  snapshot -(ack)-> replicate
// Invariant: match < next; match only grows within one leadership.
// Single-thread: core.
#pragma once

#include <cstdint>
#include <deque>

#include "metad/raft/types.h"

namespace lumeofs::raft {

class Progress {
public:
    enum class State : uint8_t { probe, replicate, snapshot };
    struct Window {
        uint32_t messages_max = 0;
        uint64_t bytes_max = 0;
    };

    Progress(LogIndex next, Window window) : next_(next), window_(window) {}

    State state() const { return state_; }
    LogIndex match() const { return match_; }
    LogIndex next() const { return next_; }
    uint64_t round() const { return round_; }
    uint32_t in_flight_messages() const { return static_cast<uint32_t>(in_flight_.size()); }

    // May an AppendEntries leave now?
    bool may_send() const;
    // One left with entries up to `last` (an empty one: last = next - 1) and `bytes` of cost.
    void sent(LogIndex last, uint64_t bytes, uint64_t round);
    // An ack up to `index`. True if it was news (match grew, or sending may go on).
    bool acknowledged(LogIndex index);
    // A reject of prev = `refused`; `agree` is the newest index where the logs can agree. True if
    // it was not a stale one: from here on probe from the new `next`.
    bool rejected(LogIndex refused, LogIndex agree);
    // A heartbeat was answered: a probe of an older round is sent again, a full window is let one
    // further, so that messages that were lost without a trace cannot stall a follower.
    void heard(uint64_t round);
    void answered_round(uint64_t round);
    void link_broke();
    void wants_snapshot();
    // The stream ended; `index` is what it carried, 0 if it failed.
    void snapshot_ended(LogIndex index);

private:
    void become_probe(LogIndex next);

    State state_ = State::probe;
    LogIndex match_;
    LogIndex next_;
    bool probe_sent_ = false;
    uint64_t probe_round_ = 0;  // in which it left
    uint64_t round_ = 0;
    struct Flight {
        LogIndex last;
        uint64_t bytes = 0;
    };
    std::deque<Flight> in_flight_;
    uint64_t in_flight_bytes_ = 0;
    Window window_;
};

}  // namespace lumeofs::raft
