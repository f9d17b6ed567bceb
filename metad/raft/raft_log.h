// SPDX-License-Identifier: Apache-2.0
// The core's picture of its log: the whole index space above the floor, its terms as runs, and the
// newest entries in memory; older ones are asked of the LogView when a follower lags.
//
//   floor <= applied <= handed <= commit <= last      handed <= stable <= last
// handed: given to the state machine (Update::commit). stable: durable here.
// In memory are at least all entries above min(applied, stable); only those can still be truncated
// or wait to be written. Terms of all entries are always known without a read.
// Single-thread: core.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "common/base/result.h"
#include "metad/raft/log_view.h"
#include "metad/raft/types.h"

namespace lumeofs::raft {

class RaftLog {
public:
    RaftLog(LogIndex floor, Term floor_term, LogView* view, uint64_t tail_bytes_max);

    LogIndex floor() const { return floor_; }
    LogIndex applied() const { return applied_; }
    LogIndex handed() const { return handed_; }
    LogIndex commit() const { return commit_; }
    LogIndex stable() const { return stable_; }
    LogIndex last() const { return last_; }
    Term last_term() const { return term_at(last_); }
    uint64_t tail_entries() const { return tail_.size(); }

    // The term of the floor or of an entry; Term{0} outside (and at index 0).
    Term term_at(LogIndex index) const;
    bool matches(LogIndex index, Term term) const;
    // Is a log that ends so at least as complete as this one (Raft 3.6.1)?
    bool up_to_date(LogIndex last, Term last_term) const;
    // The newest index <= `index` whose term is <= `term`; the floor if there is none above it.
    LogIndex newest_with_term_at_most(LogIndex index, Term term) const;
    // Entries first..last or fewer: at least one, and no more than fit into the bounds.
    Result<std::vector<Entry>> slice(LogIndex first,
                                     LogIndex last,
                                     uint64_t entries_max,
                                     uint64_t bytes_max) const;
    // Cost of entries first..last, which must be in memory.
    uint64_t cost_bytes(LogIndex first, LogIndex last) const;
    // In memory, or null.
    const Entry* find(LogIndex index) const;

    // Requires: entry.index == last + 1, no falling term.
    void append(const Entry& entry);
    // Takes back `from` and all after it. Requires: commit < from <= last.
    void truncate(LogIndex from);
    void commit_to(LogIndex index);
    void handed_to(LogIndex index);
    void applied_to(LogIndex index);
    // The write with this id covers the log as it now is (and the truncations before it).
    void note_write(uint64_t persist_id);
    void persisted(uint64_t persist_id);
    void compact(LogIndex floor);
    // A snapshot took the place of everything.
    void reset(LogIndex floor, Term floor_term);
    // At start: `index` is durable and applied.
    void restored(LogIndex stable, LogIndex applied);

private:
    struct Run {
        LogIndex first;
        Term term;
    };
    // A write on its way; `last` shrinks with truncations, so that a report of a write whose
    // entries were replaced meanwhile (even by the same index and term again) counts for nothing.
    struct Write {
        uint64_t persist_id = 0;
        LogIndex last;
    };
    LogIndex tail_first() const { return last_ + 1 - tail_.size(); }
    void trim();

    LogIndex floor_;
    Term floor_term_;
    std::vector<Run> runs_;  // rising first and term; the first run begins at floor + 1
    std::deque<Entry> tail_;
    uint64_t tail_bytes_ = 0;
    LogIndex applied_, handed_, commit_, stable_, last_;
    std::deque<Write> writes_;
    LogView* view_;
    uint64_t tail_bytes_max_;
};

}  // namespace lumeofs::raft
