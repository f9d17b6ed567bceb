// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/chunk.h"

#include <algorithm>

#include "common/base/assert.h"

namespace lumeofs::store {

void Page::set_sum(uint32_t block, uint64_t sum) {
    if (block >= sums_.size()) {
        if (sum == kHole) return;
        sums_.resize(block + 1, kHole);
    }
    sums_[block] = sum;
    while (!sums_.empty() && sums_.back() == kHole) sums_.pop_back();
}

void Page::set_unit(uint32_t unit, uint32_t home_unit) {
    if (unit >= units_.size()) {
        if (home_unit == kNoUnit) return;
        units_.resize(unit + 1, kNoUnit);
    }
    units_[unit] = home_unit;
    while (!units_.empty() && units_.back() == kNoUnit) units_.pop_back();
}

Page& Chunk::make_page(uint32_t number) {
    LFS_ASSERT(pages[number] || page_at[number].bytes == 0);  // else it must be loaded first
    if (!pages[number]) pages[number] = std::make_unique<Page>();
    return *pages[number];
}

uint64_t Chunk::home_sum(uint32_t block) const {
    const Page* page = page_of(block);
    LFS_ASSERT(page || page_at[block / kBlocksPerPage].bytes == 0);
    return page ? page->sum(block % kBlocksPerPage) : kHole;
}

uint32_t Chunk::unit_of(uint32_t chunk_unit) const {
    const Page* page = pages[chunk_unit / kUnitsPerPage].get();
    LFS_ASSERT(page || page_at[chunk_unit / kUnitsPerPage].bytes == 0);
    return page ? page->unit(chunk_unit % kUnitsPerPage) : kNoUnit;
}

void Chunk::set_home_sum(uint32_t block, uint64_t sum) {
    const uint32_t number = block / kBlocksPerPage;
    make_page(number).set_sum(block % kBlocksPerPage, sum);
    dirty_pages |= uint32_t{1} << number;
    meta_dirty = true;
}

void Chunk::set_unit(uint32_t chunk_unit, uint32_t home_unit) {
    const uint32_t number = chunk_unit / kUnitsPerPage;
    Page& page = make_page(number);
    const bool had = page.unit(chunk_unit % kUnitsPerPage) != kNoUnit;
    page.set_unit(chunk_unit % kUnitsPerPage, home_unit);
    if (had && home_unit == kNoUnit) --used_units;
    if (!had && home_unit != kNoUnit) ++used_units;
    dirty_pages |= uint32_t{1} << number;
    meta_dirty = true;
}

Version Chunk::newest(uint32_t block) const {
    if (auto it = overlay.find(block); it != overlay.end()) return it->second;
    Version version;
    version.sum = home_sum(block);
    if (version.sum == kHole) return version;
    const uint32_t unit = unit_of(block / kUnitBlocks);
    if (unit == kNoUnit) {
        version.kind = Version::Kind::lost;
        return version;
    }
    version.kind = Version::Kind::home;
    version.home_block = uint64_t{unit} * kUnitBlocks + block % kUnitBlocks;
    return version;
}

Version Chunk::committed(uint32_t block) const {
    if (auto it = undo.find(block); it != undo.end()) return it->second.front().before;
    return newest(block);
}

bool Chunk::is_hole(uint32_t block) const {
    return overlay.count(block) == 0 && home_sum(block) == kHole;
}

uint32_t Chunk::end_block() const {
    uint32_t end = overlay.empty() ? 0 : overlay.rbegin()->first + 1;
    for (uint32_t number = kPagesPerChunk; number-- > 0;) {
        if (pages[number] || page_at[number].bytes != 0) {
            return std::max(end, (number + 1) * kBlocksPerPage);
        }
    }
    return end;
}

void Chunk::remember_undo(uint32_t block, const WriteName& by, std::vector<uint32_t>& blocks) {
    undo[block].push_back({by, newest(block)});
    blocks.push_back(block);
}

void Chunk::advance_commit(const WriteName& point) {
    if (point <= meta.commit_point) return;
    meta.commit_point = point;
    meta_dirty = true;
    while (!in_doubt.empty() && in_doubt.front().name <= point) in_doubt.pop_front();
    while (!undo_log.empty() && undo_log.front().first <= point) {
        for (uint32_t block : undo_log.front().second) {
            auto it = undo.find(block);
            if (it == undo.end()) continue;
            std::erase_if(it->second, [&](const Undo& item) { return item.by <= point; });
            if (it->second.empty()) undo.erase(it);
        }
        undo_log.pop_front();
    }
}

void Chunk::note_session(SessionId session, uint64_t write_no, uint64_t lowest) {
    if (session.value == 0) return;
    auto it = std::find_if(sessions.begin(), sessions.end(), [&](const SessionWrites& item) {
        return item.session == session;
    });
    SessionWrites writes;
    writes.session = session;
    if (it != sessions.end()) {
        writes = std::move(*it);
        sessions.erase(it);
    } else if (sessions.size() >= kMaxSessionsPerChunk) {
        sessions.erase(sessions.begin());  // the one that wrote longest ago
    }
    writes.lowest_outstanding = std::max(writes.lowest_outstanding, lowest);
    if (write_no >= writes.lowest_outstanding) {
        auto at = std::lower_bound(writes.done.begin(), writes.done.end(), write_no);
        if (at == writes.done.end() || *at != write_no) writes.done.insert(at, write_no);
    }
    std::erase_if(writes.done, [&](uint64_t no) { return no < writes.lowest_outstanding; });
    if (writes.done.size() > kMaxWritesPerSession) writes.done.erase(writes.done.begin());
    sessions.push_back(std::move(writes));
    meta_dirty = true;
}

size_t Chunk::memory() const {
    size_t bytes = sizeof *this + overlay.size() * 128 + in_doubt.size() * sizeof(InDoubt) + 1500;
    for (const auto& page : pages) bytes += page ? page->memory() : 0;
    return bytes;
}

}  // namespace lumeofs::store
