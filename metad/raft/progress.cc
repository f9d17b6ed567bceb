// SPDX-License-Identifier: Apache-2.0
#include "metad/raft/progress.h"

#include <algorithm>

#include "common/base/assert.h"

namespace lumeofs::raft {

bool Progress::may_send() const {
    switch (state_) {
        case State::probe:
            return !probe_sent_;
        case State::replicate:
            return in_flight_.size() < window_.messages_max && in_flight_bytes_ < window_.bytes_max;
        case State::snapshot:
            return false;
    }
    LFS_UNREACHABLE("progress state");
}

void Progress::sent(LogIndex last, uint64_t bytes, uint64_t round) {
    if (state_ == State::probe) {
        probe_sent_ = true;
        probe_round_ = round;
        return;
    }
    LFS_ASSERT(state_ == State::replicate);
    if (last < next_) return;  // empty: it costs no window
    next_ = last + 1;
    in_flight_.push_back({last, bytes});
    in_flight_bytes_ += bytes;
}

bool Progress::acknowledged(LogIndex index) {
    const bool news = index > match_;
    match_ = std::max(match_, index);
    next_ = std::max(next_, match_ + 1);
    switch (state_) {
        case State::probe:
            // Also without news: the ack of an empty probe ends the search. An older one does not.
            if (!news && index + 1 < next_) return false;
            state_ = State::replicate;
            probe_sent_ = false;
            next_ = match_ + 1;
            return true;
        case State::replicate: {
            bool freed = false;
            while (!in_flight_.empty() && in_flight_.front().last <= index) {
                in_flight_bytes_ -= in_flight_.front().bytes;
                in_flight_.pop_front();
                freed = true;
            }
            return news || freed;
        }
        case State::snapshot:
            if (!news) return false;
            // It has moved on, by the stream or without it. If the log still lacks what comes next,
            // the sender finds out and asks for another snapshot.
            state_ = State::replicate;
            next_ = match_ + 1;
            return true;
    }
    LFS_UNREACHABLE("progress state");
}

bool Progress::rejected(LogIndex refused, LogIndex agree) {
    switch (state_) {
        case State::replicate:
            if (refused <= match_) return false;  // older than an ack that we have
            become_probe(match_ + 1);
            return true;
        case State::probe:
            if (next_ - 1 != refused) return false;  // answers an older probe
            become_probe(std::max(std::min(refused, agree + 1), match_ + 1));
            return true;
        case State::snapshot:
            return false;
    }
    LFS_UNREACHABLE("progress state");
}

void Progress::heard(uint64_t round) {
    if (round > probe_round_) probe_sent_ = false;
    if (state_ == State::replicate && !may_send() && !in_flight_.empty()) {
        in_flight_bytes_ -= in_flight_.front().bytes;
        in_flight_.pop_front();
    }
}

void Progress::answered_round(uint64_t round) { round_ = std::max(round_, round); }

void Progress::link_broke() {
    if (state_ == State::replicate) become_probe(match_ + 1);
}

void Progress::wants_snapshot() {
    become_probe(match_ + 1);
    state_ = State::snapshot;
}

void Progress::snapshot_ended(LogIndex index) {
    if (state_ != State::snapshot) return;
    become_probe(std::max(match_, index) + 1);
    // Delivered: its own ack comes when the snapshot is in place. Failed: not again at once. In
    // both cases the next heartbeat that it answers lets us go on.
    probe_sent_ = true;
}

void Progress::become_probe(LogIndex next) {
    state_ = State::probe;
    next_ = next;
    probe_sent_ = false;
    in_flight_.clear();
    in_flight_bytes_ = 0;
    LFS_ASSERT(match_ < next_);
}

}  // namespace lumeofs::raft
