// SPDX-License-Identifier: Apache-2.0
// What happened to the files that both clients share, page by page, and whether that can be: each
// 4 KiB page is a register. Checked at the end, when it is known which writes were lost rightly
// (not synced when their client died or lost its session).
//
// Rules: a read returns a value that was written to that page, whose write had begun before the
// read ended; never one that another write had replaced which was acknowledged before the read
// began and had begun after the value's own write was acknowledged, or after the session of the
// value's own write was known to have ended [9]. One page is never a mixture. A truncate writes
// zeros to all pages from its size on. Guarded by its owner.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace lumeofs::sim {

class History {
public:
    static constexpr size_t kPage = 4096;

    // The bytes of a page that write `id` wrote; id_of gives 0 for zeros, UINT64_MAX for a mixture.
    static void fill(uint64_t id, uint64_t page, MutableView into);
    static uint64_t id_of(uint64_t page, View bytes);

    uint64_t begin_write(int file, uint64_t page, uint64_t count, size_t client, Nanos now);
    void end_write(uint64_t id, uint64_t epoch, Nanos now);
    // A change of the size: durable when it is answered. Pages.
    uint64_t begin_truncate(int file, uint64_t size, size_t client, Nanos now);
    // The client died or lost its session: what it had under way must not overwrite later writes.
    void session_over(size_t client, Nanos now);
    // An fsync that began at `from` has succeeded: what was acknowledged before is durable.
    void synced(int file, size_t client, uint64_t epoch, Nanos from);
    void read(int file, uint64_t page, View bytes, Nanos from, Nanos to);
    void truncated(uint64_t id, Nanos now);

    // Empty if all is well. `epochs`: of the clients now.
    std::string check(const std::vector<uint64_t>& epochs) const;
    uint64_t reads() const { return reads_.size(); }
    uint64_t writes() const { return writes_.size(); }

private:
    static constexpr Nanos kNever = INT64_MAX;
    struct Write {
        int file = 0;
        uint64_t page = 0, count = 0;
        size_t client = 0;
        uint64_t epoch = 0;
        Nanos from = 0, to = kNever;
        Nanos over = kNever;  // its session had ended by then
        bool durable = false;
        bool zeros = false;  // a truncate
    };
    struct Read {
        int file = 0;
        uint64_t page = 0, value = 0;
        Nanos from = 0, to = 0;
    };
    bool stands(const Write& write, const std::vector<uint64_t>& epochs) const;
    // A change of the page that the read must have seen if its value is as old as `value_to`; 0 =
    // none.
    size_t missed(const Read& read,
                  const std::vector<size_t>& changes,
                  Nanos value_to,
                  const std::vector<uint64_t>& epochs) const;

    std::vector<Write> writes_;  // id - 1
    std::vector<Read> reads_;
};

}  // namespace lumeofs::sim
