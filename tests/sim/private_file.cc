// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/private_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace lumeofs::sim {

void PrivateFile::change(Bytes content, uint64_t from, uint64_t to) {
    older_.push_back(std::move(now_));
    now_ = std::move(content);
    touched_.emplace_back(from, to);
}

void PrivateFile::write(uint64_t offset, View bytes) {
    Bytes content = now_;
    if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
    std::memcpy(content.data() + offset, bytes.data(), bytes.size());
    change(std::move(content), offset, offset + bytes.size());
}

void PrivateFile::truncate(uint64_t size) {
    Bytes content = now_;
    content.resize(size);
    change(std::move(content), std::min<uint64_t>(size, now_.size()), UINT64_MAX);
}

void PrivateFile::truncated() {
    if (!touched_.empty()) end_doubt(touched_.back().first, UINT64_MAX);
}

void PrivateFile::synced() {
    synced_ = now_;
    older_.clear();
    for (const auto& [from, to] : touched_) end_doubt(from, to);
    touched_.clear();
}

void PrivateFile::end_doubt(uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to && i < in_doubt_.size(); ++i) in_doubt_[i] = false;
}

bool PrivateFile::doubted(uint64_t at, uint8_t byte) const {
    if (at >= in_doubt_.size() || !in_doubt_[at]) return false;
    return std::any_of(doubtful_.begin(), doubtful_.end(), [&](const Bytes& content) {
        return at < content.size() ? content[at] == byte : byte == 0;
    });
}

std::string PrivateFile::read(uint64_t offset, const Bytes& got) {
    for (uint64_t i = 0; i < got.size(); ++i) {
        const uint64_t at = offset + i;
        if (at < now_.size() && got[i] == now_[at]) continue;
        if (at < now_.size() && doubted(at, got[i])) {
            now_[at] = got[i];
            continue;
        }
        return fmt::format("byte {} is {} instead of {} (size {}, settled at {:.3f} s)",
                           at,
                           got[i],
                           at < now_.size() ? now_[at] : -1,
                           now_.size(),
                           static_cast<double>(settled_at_) / 1e9);
    }
    return {};
}

std::string PrivateFile::settle(const Bytes& found, Nanos when) {
    std::vector<const Bytes*> candidates = {&now_};
    if (!touched_.empty()) {
        candidates.push_back(&synced_);
        for (const Bytes& older : older_) candidates.push_back(&older);
    }
    auto smaller = [](const Bytes* a, const Bytes* b) { return a->size() < b->size(); };
    // Sizes of flushed parts lie between those that were answered.
    const auto [low, high] = std::minmax_element(candidates.begin(), candidates.end(), smaller);
    if (found.size() < (*low)->size() || found.size() > (*high)->size()) {
        return fmt::format(
            "{} bytes, expected {} (synced {})", found.size(), now_.size(), synced_.size());
    }
    std::vector<bool> in_doubt(found.size());
    for (size_t i = 0; i < found.size(); ++i) {
        bool right = false, other = false;
        for (const Bytes* content : candidates) {
            const uint8_t byte = i < content->size() ? (*content)[i] : 0;
            (byte == found[i] ? right : other) = true;
        }
        if (!right && !doubted(i, found[i])) {
            return fmt::format(
                "byte {} of {} is {}, which it never was (expected {}, synced {}, {} "
                "unsynced changes, last settled at {:.3f} s)",
                i,
                found.size(),
                found[i],
                i < now_.size() ? now_[i] : -1,
                i < synced_.size() ? synced_[i] : -1,
                older_.size(),
                static_cast<double>(settled_at_) / 1e9);
        }
        in_doubt[i] = other || (i < in_doubt_.size() && in_doubt_[i]);
    }
    if (candidates.size() > 1) {
        for (Bytes& older : older_) doubtful_.push_back(std::move(older));
        doubtful_.push_back(std::move(now_));
        doubtful_.push_back(std::move(synced_));
    }
    in_doubt_ = std::move(in_doubt);
    settled_at_ = when;
    now_ = found;
    synced_ = found;  // it was read from the cluster
    older_.clear();
    touched_.clear();
    return {};
}

}  // namespace lumeofs::sim
