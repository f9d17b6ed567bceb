// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/history.h"

#include <fmt/format.h>

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
    writes_[id - 1].epoch = epoch;
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

std::string History::check(const std::vector<uint64_t>& epochs) const {
    std::map<std::pair<int, uint64_t>, std::vector<size_t>> by_page;
    for (size_t i = 0; i < writes_.size(); ++i) {
        for (uint64_t k = 0; k < writes_[i].count; ++k) {
            by_page[{writes_[i].file, writes_[i].page + k}].push_back(i);
        }
    }
    for (const Read& read : reads_) {
        const std::string where = fmt::format("shared file {} page {}, read in [{:.6f}, {:.6f}]",
                                              read.file,
                                              read.page,
                                              seconds(read.from),
                                              seconds(read.to));
        if (read.value == UINT64_MAX) return where + ": a mixture";
        Nanos value_to = 0;
        if (read.value != 0) {
            if (read.value > writes_.size()) return where + ": bytes that nobody wrote";
            const Write& write = writes_[read.value - 1];
            const bool covers = write.file == read.file && read.page >= write.page &&
                                read.page < write.page + write.count;
            if (!covers) return where + ": bytes of another page";
            if (write.from > read.to) return where + ": bytes from the future";
            value_to = write.to;
        }
        auto found = by_page.find({read.file, read.page});
        if (found == by_page.end()) continue;
        for (size_t i : found->second) {
            const Write& newer = writes_[i];
            const bool stands = newer.durable || newer.epoch == epochs[newer.client];
            if (newer.to >= read.from || !stands || newer.from <= value_to) continue;
            return fmt::format(
                "{}: value {} although write {} of client {} (in [{:.6f}, {:.6f}]{}) replaced it",
                where,
                read.value,
                i + 1,
                newer.client + 1,
                seconds(newer.from),
                seconds(newer.to),
                newer.durable ? ", synced" : "");
        }
    }
    return {};
}

}  // namespace lumeofs::sim
