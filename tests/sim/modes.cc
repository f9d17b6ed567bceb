// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/modes.h"

#include <fmt/format.h>

namespace lumeofs::sim {

uint64_t Modes::begin(InodeId ino, uint32_t mode, size_t client, Nanos now) {
    File& file = files_[ino];
    file.client = client;
    file.sets.push_back({++last_id_, mode, now, INT64_MAX});
    return last_id_;
}

void Modes::end(uint64_t id, Nanos now) {
    for (auto& [ino, file] : files_) {
        for (Set& set : file.sets) {
            if (set.id != id) continue;
            set.ended = now;
            return;
        }
    }
}

void Modes::session_over(size_t client) {
    std::erase_if(files_, [client](const auto& file) { return file.second.client == client; });
}

InodeId Modes::any(Prng& random) const {
    if (files_.empty()) return InodeId{};
    auto at = files_.begin();
    std::advance(at, static_cast<ptrdiff_t>(random.below(files_.size())));
    return at->first;
}

// The last one that was answered before the look counts, and everything that began after it.
bool Modes::may_be(const File& file, uint32_t mode, Nanos from, Nanos to) {
    const std::vector<Set>& sets = file.sets;
    size_t first = sets.size();
    for (size_t i = 0; i < sets.size(); ++i) {
        if (sets[i].ended <= from) first = i;
    }
    if (first == sets.size()) return true;  // what it had before is not known here
    for (size_t i = first; i < sets.size(); ++i) {
        if (sets[i].began <= to && sets[i].mode == mode) return true;
    }
    return false;
}

void Modes::seen(InodeId ino, uint32_t mode, Nanos from, Nanos to, const std::string& who) {
    const auto found = files_.find(ino);
    if (found == files_.end() || may_be(found->second, mode, from, to)) return;
    found->second.wrong = fmt::format(
        "{}: inode {} has mode {:o}, which client {} has set to", who, ino.to_string(), mode, found->second.client + 1);
    for (const Set& set : found->second.sets) {
        found->second.wrong += fmt::format(" {:o} at {:.3f} s", set.mode, static_cast<double>(set.began) / 1e9);
    }
}

std::string Modes::check() const {
    for (const auto& [ino, file] : files_) {
        if (!file.wrong.empty()) return file.wrong;
    }
    return "";
}

}  // namespace lumeofs::sim
