// SPDX-License-Identifier: Apache-2.0
#include "metad/raft/raft_log.h"

#include <algorithm>

#include "common/base/assert.h"

namespace lumeofs::raft {

RaftLog::RaftLog(LogIndex floor, Term floor_term, LogView* view, uint64_t tail_bytes_max)
    : view_(view), tail_bytes_max_(tail_bytes_max) {
    reset(floor, floor_term);
}

Term RaftLog::term_at(LogIndex index) const {
    if (index == floor_) return floor_term_;
    if (index < floor_ || index > last_) return Term{};
    auto run = std::upper_bound(
        runs_.begin(), runs_.end(), index, [](LogIndex at, const Run& r) { return at < r.first; });
    LFS_ASSERT(run != runs_.begin());
    return std::prev(run)->term;
}

bool RaftLog::matches(LogIndex index, Term term) const {
    return index >= floor_ && index <= last_ && term_at(index) == term;
}

bool RaftLog::up_to_date(LogIndex last, Term last_term) const {
    const Term own = this->last_term();
    return last_term > own || (last_term == own && last >= last_);
}

LogIndex RaftLog::newest_with_term_at_most(LogIndex index, Term term) const {
    index = std::min(index, last_);
    for (auto run = runs_.rbegin(); run != runs_.rend(); ++run) {
        if (run->first > index) continue;
        if (run->term <= term) return index;
        index = run->first - 1;
    }
    return std::min(index, floor_);
}

Result<std::vector<Entry>> RaftLog::slice(LogIndex first,
                                          LogIndex last,
                                          uint64_t entries_max,
                                          uint64_t bytes_max) const {
    LFS_ASSERT(first > floor_ && last <= last_ && first <= last && entries_max > 0);
    if (last - first >= entries_max) last = first + (entries_max - 1);
    if (first < tail_first()) {
        last = std::min(last, tail_first() - 1);
        LFS_ASSERT(last <= stable_);
        LFS_ASSIGN(std::vector<Entry> loaded, view_->load_entries(first, last, bytes_max));
        if (loaded.empty() || loaded.size() > last - first + 1) {
            return Status(Errc::corrupt, "log view gave a wrong number of entries");
        }
        for (size_t i = 0; i < loaded.size(); ++i) {
            if (loaded[i].index != first + i || loaded[i].term != term_at(first + i)) {
                return Status(Errc::corrupt, "log view gave another entry than was written");
            }
        }
        return loaded;
    }
    std::vector<Entry> entries;
    uint64_t bytes = 0;
    for (uint64_t i = first - tail_first(); i <= last - tail_first(); ++i) {
        bytes += tail_[i].cost_bytes();
        if (!entries.empty() && bytes > bytes_max) break;
        entries.push_back(tail_[i]);
    }
    return entries;
}

uint64_t RaftLog::cost_bytes(LogIndex first, LogIndex last) const {
    uint64_t bytes = 0;
    for (LogIndex at = first; at <= last; at = at + 1) {
        const Entry* entry = find(at);
        LFS_ASSERT(entry != nullptr);
        bytes += entry->cost_bytes();
    }
    return bytes;
}

const Entry* RaftLog::find(LogIndex index) const {
    if (index > last_ || index < tail_first()) return nullptr;
    return &tail_[index - tail_first()];
}

void RaftLog::append(const Entry& entry) {
    LFS_ASSERT(entry.index == last_ + 1);
    LFS_ASSERT(entry.term >= last_term());
    if (runs_.empty() || runs_.back().term != entry.term) {
        runs_.push_back({entry.index, entry.term});
    }
    tail_.push_back(entry);
    tail_bytes_ += entry.cost_bytes();
    last_ = entry.index;
}

void RaftLog::truncate(LogIndex from) {
    // Reliability rule 9: what is committed (and so what may be applied) is never taken back.
    LFS_ASSERT(from > commit_);
    LFS_ASSERT(from > applied_ && from > handed_);
    LFS_ASSERT(from <= last_ && from >= tail_first());
    while (last_ >= from) {
        tail_bytes_ -= tail_.back().cost_bytes();
        tail_.pop_back();
        last_ = last_ - 1;
    }
    while (!runs_.empty() && runs_.back().first >= from) runs_.pop_back();
    stable_ = std::min(stable_, last_);
    for (Write& write : writes_) write.last = std::min(write.last, last_);
}

void RaftLog::commit_to(LogIndex index) {
    LFS_ASSERT(index <= last_);
    commit_ = std::max(commit_, index);
}

void RaftLog::handed_to(LogIndex index) {
    LFS_ASSERT(index > handed_);
    LFS_ASSERT(index <= commit_ && index <= stable_);  // never apply beyond commit
    handed_ = index;
}

void RaftLog::applied_to(LogIndex index) {
    LFS_ASSERT(index <= handed_);
    applied_ = std::max(applied_, index);
    trim();
}

void RaftLog::note_write(uint64_t persist_id) { writes_.push_back({persist_id, last_}); }

void RaftLog::persisted(uint64_t persist_id) {
    while (!writes_.empty() && writes_.front().persist_id <= persist_id) {
        stable_ = std::max(stable_, writes_.front().last);
        writes_.pop_front();
    }
    trim();
}

void RaftLog::compact(LogIndex floor) {
    LFS_ASSERT(floor >= floor_ && floor <= applied_ && floor <= stable_);
    floor_term_ = term_at(floor);
    floor_ = floor;
    while (!tail_.empty() && tail_.front().index <= floor) {
        tail_bytes_ -= tail_.front().cost_bytes();
        tail_.pop_front();
    }
    while (runs_.size() > 1 && runs_[1].first <= floor + 1) runs_.erase(runs_.begin());
    if (floor_ == last_) runs_.clear();
    if (!runs_.empty()) runs_.front().first = std::max(runs_.front().first, floor + 1);
}

void RaftLog::reset(LogIndex floor, Term floor_term) {
    floor_ = applied_ = handed_ = commit_ = stable_ = last_ = floor;
    floor_term_ = floor_term;
    runs_.clear();
    tail_.clear();
    tail_bytes_ = 0;
    writes_.clear();
}

void RaftLog::restored(LogIndex stable, LogIndex applied) {
    stable_ = stable;
    applied_ = handed_ = commit_ = applied;
    trim();
}

void RaftLog::trim() {
    const LogIndex free = std::min(applied_, stable_);
    while (tail_bytes_ > tail_bytes_max_ && !tail_.empty() && tail_.front().index <= free) {
        tail_bytes_ -= tail_.front().cost_bytes();
        tail_.pop_front();
    }
}

}  // namespace lumeofs::raft
