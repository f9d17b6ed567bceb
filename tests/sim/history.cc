// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace lumeofs::sim {

namespace {

uint64_t word(uint64_t id, uint64_t page, size_t i) {
    return i == 0 ? id : id * 0x9E3779B97F4A7C15ULL + page * 0xC2B2AE3D27D4EB4FULL + i;
}

double seconds(Nanos time) { return static_cast<double>(time) / 1e9; }

}  // namespace

void History::fill(uint64_t id, uint64_t page, MutableView into) {
    for (size_t i = 0; i < kPage / 8; ++i) {
        const uint64_t value = word(id, page, i);
        std::memcpy(into.data() + i * 8, &value, 8);
    }
}

uint64_t History::id_of(uint64_t page, View bytes) {
    uint64_t id = 0;
    std::memcpy(&id, bytes.data(), 8);
    for (size_t i = 0; i < kPage / 8; ++i) {
        uint64_t value = 0;
        std::memcpy(&value, bytes.data() + i * 8, 8);
        if (value != (id == 0 ? 0 : word(id, page, i))) return UINT64_MAX;
    }
    return id;
}

uint64_t History::begin_write(int file, uint64_t page, uint64_t count, size_t client, Nanos now) {
    Write write;
    write.file = file;
    write.page = page;
    write.count = count;
    write.client = client;
    write.from = now;
    writes_.push_back(write);
    return writes_.size();
}

void History::end_write(uint64_t id, uint64_t epoch, Nanos now) {
    writes_[id - 1].to = now;
    writes_[id - 1].over = kNever;  // it was not sent yet when a session ended
    writes_[id - 1].epoch = epoch;
}

uint64_t History::begin_truncate(int file, uint64_t size, size_t client, Nanos now) {
    const uint64_t id = begin_write(file, size, UINT64_MAX - size, client, now);
    writes_[id - 1].zeros = true;
    return id;
}

void History::truncated(uint64_t id, Nanos now) {
    writes_[id - 1].to = now;
    writes_[id - 1].over = kNever;
    writes_[id - 1].durable = true;
}

void History::session_over(size_t client, Nanos now) {
    for (Write& write : writes_) {
        if (write.client == client && write.to == kNever) write.over = std::min(write.over, now);
    }
}

void History::synced(int file, size_t client, uint64_t epoch, Nanos from) {
    for (Write& write : writes_) {
        if (write.file == file && write.client == client && write.epoch == epoch &&
            write.to <= from) {
            write.durable = true;
        }
    }
}

void History::read(int file, uint64_t page, View bytes, Nanos from, Nanos to) {
    for (size_t i = 0; i * kPage < bytes.size(); ++i) {
        Read read;
        read.file = file;
        read.page = page + i;
        // A page of which only a part lies before the end of the file cannot be: sizes are pages.
        read.value = bytes.size() - i * kPage < kPage
                         ? UINT64_MAX
                         : id_of(page + i, bytes.subspan(i * kPage, kPage));
        read.from = from;
        read.to = to;
        reads_.push_back(read);
    }
}

bool History::stands(const Write& write, const std::vector<uint64_t>& epochs) const {
    return write.to != kNever && (write.durable || write.epoch == epochs[write.client]);
}

size_t History::missed(const Read& read,
                       const std::vector<size_t>& changes,
                       Nanos value_to,
                       const std::vector<uint64_t>& epochs) const {
    for (size_t i : changes) {
        const Write& newer = writes_[i];
        if (newer.to < read.from && newer.from > value_to && stands(newer, epochs)) return i + 1;
    }
    return 0;
}

std::string History::check(const std::vector<uint64_t>& epochs) const {
    std::map<std::pair<int, uint64_t>, std::vector<size_t>> by_page;
    uint64_t pages = 0;
    for (const Read& read : reads_) pages = std::max(pages, read.page + 1);
    for (size_t i = 0; i < writes_.size(); ++i) {
        const uint64_t end = std::min(pages, writes_[i].page + writes_[i].count);
        for (uint64_t page = writes_[i].page; page < end; ++page) {
            by_page[{writes_[i].file, page}].push_back(i);
        }
    }
    for (const Read& read : reads_) {
        const std::string where = fmt::format("shared file {} page {}, read in [{:.6f}, {:.6f}]",
                                              read.file,
                                              read.page,
                                              seconds(read.from),
                                              seconds(read.to));
        if (read.value == UINT64_MAX) return where + ": a mixture";
        const std::vector<size_t>& changes = by_page[{read.file, read.page}];
        size_t wrong = 0;
        if (read.value != 0) {
            if (read.value > writes_.size()) return where + ": bytes that nobody wrote";
            const Write& write = writes_[read.value - 1];
            const bool covers = write.file == read.file && read.page >= write.page &&
                                read.page < write.page + write.count;
            if (!covers) return where + ": bytes of another page";
            if (write.from > read.to) return where + ": bytes from the future";
            wrong = missed(read, changes, std::min(write.to, write.over), epochs);
        } else {  // as at the beginning, or as some truncate left it
            wrong = missed(read, changes, 0, epochs);
            for (size_t i : changes) {
                const Write& cut = writes_[i];
                if (wrong == 0) break;
                if (!cut.zeros || cut.from > read.to) continue;
                wrong = missed(read, changes, std::min(cut.to, cut.over), epochs);
            }
        }
        if (wrong == 0) continue;
        const Write& newer = writes_[wrong - 1];
        return fmt::format(
            "{}: value {} although {} {} of client {} (in [{:.6f}, {:.6f}]{}) replaced it",
            where,
            read.value,
            newer.zeros ? "truncate" : "write",
            wrong,
            newer.client + 1,
            seconds(newer.from),
            seconds(newer.to),
            newer.durable ? ", synced" : "");
    }
    return {};
}

}  // namespace lumeofs::sim
