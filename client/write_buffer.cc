// SPDX-License-Identifier: Apache-2.0
#include "client/write_buffer.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"
#include "common/base/planted_bug.h"

namespace lumeofs::client {
namespace {

constexpr uint64_t kKeepAsItIs = 512 * 1024;  // a buffer this large is not copied
constexpr uint64_t kFirstGrowth = 64 * 1024;
constexpr uint64_t kFullMin = 64 * 1024;  // a shorter extent at a boundary may be random access

uint64_t next_boundary(uint64_t offset) {
    return (offset / WriteBuffer::kPieceBytes + 1) * WriteBuffer::kPieceBytes;
}

}  // namespace

WriteBuffer::Extent WriteBuffer::part(const Extent& extent, uint64_t skip, uint64_t length) {
    return {extent.block.slice(skip, length), length, extent.number, extent.born};
}

void WriteBuffer::put(uint64_t offset, Extent extent) {
    bytes_ += extent.used;
    waiting_.emplace(offset, std::move(extent));
}

void WriteBuffer::discard(uint64_t offset, uint64_t length) {
    const uint64_t end = offset + length;
    auto it = waiting_.upper_bound(offset);
    if (it != waiting_.begin()) --it;
    while (it != waiting_.end() && it->first < end) {
        const uint64_t from = it->first;
        const uint64_t to = from + it->second.used;
        if (to <= offset) {
            ++it;
            continue;
        }
        const Extent old = std::move(it->second);
        bytes_ -= old.used;
        full_.erase(from);
        it = waiting_.erase(it);
        if (from < offset) put(from, part(old, 0, offset - from));
        if (to > end) put(end, part(old, end - from, to - end));
    }
}

void WriteBuffer::discard_all() {
    for (const auto& [offset, extent] : waiting_) bytes_ -= extent.used;
    waiting_.clear();
    full_.clear();
}

// Adds to the extent that ends where the write starts, if it is one that grows.
bool WriteBuffer::append(uint64_t offset, const Buffer& data) {
    auto it = waiting_.lower_bound(offset);
    if (it == waiting_.begin()) return false;
    --it;
    Extent& extent = it->second;
    const uint64_t limit = next_boundary(it->first) - it->first;
    const uint64_t need = extent.used + data.size();
    if (it->first + extent.used != offset || need > limit) return false;
    if (need > extent.block.size()) {
        const uint64_t grown = std::max({kFirstGrowth, uint64_t{extent.block.size()} * 4, need});
        Buffer block = Buffer::allocate(std::min(grown, limit));
        std::memcpy(block.mutable_data(), extent.block.data(), extent.used);
        extent.block = std::move(block);
    }
    std::memcpy(extent.block.mutable_data() + extent.used, data.data(), data.size());
    extent.used = need;
    bytes_ += data.size();
    return true;
}

bool WriteBuffer::write(uint64_t offset, const Buffer& data, Nanos now) {
    ++last_write_;
    if (data.empty()) return false;
    discard(offset, data.size());
    if (data.size() >= kKeepAsItIs) {
        put(offset, {data, data.size(), last_write_, now});
        full_.insert(offset);
        return true;
    }
    bool became_full = false;
    for (uint64_t done = 0; done < data.size();) {  // at most two rounds: one boundary inside
        const uint64_t at = offset + done;
        const uint64_t take = std::min(data.size() - done, next_boundary(at) - at);
        const Buffer slice = data.slice(done, take);
        if (!append(at, slice)) put(at, {Buffer::copy_of(slice.view()), take, last_write_, now});
        done += take;
        auto it = std::prev(waiting_.upper_bound(at));
        if (!is_full(it)) continue;
        full_.insert(it->first);
        became_full = true;
    }
    return became_full;
}

bool WriteBuffer::is_full(Extents::const_iterator at) const {
    const uint64_t used = at->second.used;
    return used >= kKeepAsItIs || (used >= kFullMin && (at->first + used) % kPieceBytes == 0);
}

bool WriteBuffer::in_flight_overlaps(uint64_t offset, uint64_t length) const {
    auto it = in_flight_.lower_bound(offset + length);
    if (it == in_flight_.begin()) return false;
    --it;  // they do not overlap each other, so the last one that starts before the end decides
    return it->first + it->second.used > offset;
}

std::optional<WriteBuffer::Piece> WriteBuffer::take_full() {
    for (auto it = full_.begin(); it != full_.end();) {
        auto extent = waiting_.find(*it);
        if (extent == waiting_.end() || !is_full(extent)) {
            it = full_.erase(it);
            continue;
        }
        if (in_flight_overlaps(extent->first, extent->second.used)) {
            ++it;
            continue;
        }
        return take_from(extent);
    }
    return std::nullopt;
}

std::optional<WriteBuffer::Piece> WriteBuffer::take_any(uint64_t target) {
    for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
        if (it->second.number > target) continue;
        if (in_flight_overlaps(it->first, it->second.used) &&
            !planted_bug("client.overlapping_writes")) {
            continue;
        }
        return take_from(it);
    }
    return std::nullopt;
}

// Makes a piece of the extent and of what follows it without a gap, within one chunk, up to
// kPieceBytes (a single large buffer: kMaxIoBytes). One extent: no copy.
WriteBuffer::Piece WriteBuffer::take_from(Extents::iterator first) {
    const uint64_t offset = first->first;
    const uint64_t chunk_end = (offset / kChunkSize + 1) * kChunkSize;
    const uint64_t own = std::min({first->second.used, kMaxIoBytes, chunk_end - offset});
    uint64_t end = offset + own;
    auto last = std::next(first);
    const uint64_t limit = std::min(chunk_end, std::max(end, next_boundary(offset)));
    while (own == first->second.used && last != waiting_.end() && last->first == end &&
           end + last->second.used <= limit &&
           !in_flight_overlaps(last->first, last->second.used)) {
        end += last->second.used;
        ++last;
    }
    Extent taken;
    taken.number = first->second.number;
    taken.born = first->second.born;
    taken.used = end - offset;
    if (std::next(first) == last) {
        taken.block = first->second.block.slice(0, own);
        if (own < first->second.used) {
            Extent rest = part(first->second, own, first->second.used - own);
            bytes_ -= rest.used;  // put() counts it again
            put(end, std::move(rest));
            full_.insert(end);
        }
        full_.erase(offset);
        waiting_.erase(first);
    } else {
        taken.block = Buffer::allocate(taken.used);
        uint8_t* to = taken.block.mutable_data();
        while (first != last) {
            std::memcpy(to, first->second.block.data(), first->second.used);
            to += first->second.used;
            taken.number = std::min(taken.number, first->second.number);
            full_.erase(first->first);
            first = waiting_.erase(first);
        }
    }
    Piece piece{offset, taken.block};
    in_flight_[offset] = std::move(taken);
    return piece;
}

void WriteBuffer::finish(uint64_t offset) {
    auto it = in_flight_.find(offset);
    if (it == in_flight_.end()) {
        LFS_ASSERT(planted_bug("client.overlapping_writes"));
        return;
    }
    bytes_ -= it->second.used;
    in_flight_.erase(it);
}

std::vector<WriteBuffer::Piece> WriteBuffer::overlay(uint64_t offset, uint64_t length) const {
    const uint64_t end = offset + length;
    std::vector<Piece> result;
    auto clip = [&](uint64_t at, const Extent& extent, uint64_t from, uint64_t to) {
        const uint64_t low = std::max({at, from});
        const uint64_t high = std::min({at + extent.used, to});
        if (low < high) result.push_back({low, extent.block.slice(low - at, high - low)});
    };
    // In-flight bytes fill the gaps between the waiting ones, which are newer.
    auto fill = [&](uint64_t from, uint64_t to) {
        if (from >= to) return;
        auto it = in_flight_.upper_bound(from);
        if (it != in_flight_.begin()) --it;
        for (; it != in_flight_.end() && it->first < to; ++it)
            clip(it->first, it->second, from, to);
    };
    uint64_t at = offset;
    auto it = waiting_.upper_bound(offset);
    if (it != waiting_.begin()) --it;
    for (; it != waiting_.end() && it->first < end; ++it) {
        if (it->first + it->second.used <= offset) continue;
        fill(at, std::min(it->first, end));
        clip(it->first, it->second, offset, end);
        at = std::max(at, it->first + it->second.used);
    }
    fill(at, end);
    return result;
}

bool WriteBuffer::clean_up_to(uint64_t target) const {
    auto newer = [&](const auto& entry) { return entry.second.number > target; };
    return std::all_of(waiting_.begin(), waiting_.end(), newer) &&
           std::all_of(in_flight_.begin(), in_flight_.end(), newer);
}

Nanos WriteBuffer::oldest() const {
    Nanos oldest = 0;
    for (const auto& [offset, extent] : waiting_) {
        if (oldest == 0 || extent.born < oldest) oldest = extent.born;
    }
    return oldest;
}

}  // namespace lumeofs::client
