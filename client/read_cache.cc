// SPDX-License-Identifier: Apache-2.0
#include "client/read_cache.h"

#include <algorithm>
#include <utility>

namespace lumeofs::client {

void Segment::fill(Result<Buffer> result) {
    data = std::move(result);
    ready = true;
    std::vector<std::function<void()>> calls = std::exchange(waiting, {});
    for (auto& call : calls) call();
}

std::shared_ptr<Segment> ReadCache::find(uint64_t offset) const {
    auto it = segments_.upper_bound(offset);
    if (it == segments_.begin()) return nullptr;
    --it;
    return it->second->end() > offset ? it->second : nullptr;
}

uint64_t ReadCache::next_start(uint64_t offset) const {
    auto it = segments_.upper_bound(offset);
    return it == segments_.end() ? UINT64_MAX : it->first;
}

std::shared_ptr<Segment> ReadCache::add(uint64_t offset, uint64_t length) {
    auto segment = std::make_shared<Segment>();
    segment->offset = offset;
    segment->length = length;
    segments_[offset] = segment;
    bytes_ += length;
    return segment;
}

void ReadCache::erase(std::map<uint64_t, std::shared_ptr<Segment>>::iterator at) {
    bytes_ -= at->second->length;
    segments_.erase(at);
}

void ReadCache::drop(uint64_t offset, uint64_t length) {
    auto it = segments_.upper_bound(offset);
    if (it != segments_.begin()) --it;
    while (it != segments_.end() && it->first < offset + length) {
        auto next = std::next(it);
        if (it->second->end() > offset) erase(it);
        it = next;
    }
}

void ReadCache::drop_before(uint64_t offset) {
    while (!segments_.empty() && segments_.begin()->second->end() <= offset) {
        erase(segments_.begin());
    }
}

void ReadCache::clear() {
    segments_.clear();
    bytes_ = 0;
}

uint64_t ReadAhead::on_read(uint64_t offset, uint64_t length, uint64_t window_max) {
    // The kernel sends read-ahead requests in parallel, so they may come a little out of order.
    const uint64_t slack = std::max(window_, kReadAheadMin);
    const bool near = offset + slack >= expected_ && offset <= expected_ + slack;
    if (!near) {
        expected_ = offset + length;
        window_ = 0;
        return 0;
    }
    if (offset + length > expected_) {
        expected_ = offset + length;
        window_ = window_ == 0 ? kReadAheadMin : window_ * 2;
    }
    window_ = std::min(window_, window_max);
    return window_ == 0 ? 0 : expected_ + window_;
}

}  // namespace lumeofs::client
