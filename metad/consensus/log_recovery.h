// SPDX-License-Identifier: Apache-2.0
// Reads a Raft log back at start: follows the chain of batches, cuts a torn tail, and refuses a
// damaged log (log_format.h says how the two are told apart).
// single-thread: the loop.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "metad/consensus/log_store.h"

namespace lumeofs::consensus {

class LogRecovery {
public:
    explicit LogRecovery(LogStore& store) : store_(store) {}
    // Fills in the store. corrupt: damage; the text says where and what to do.
    Status run(uint64_t synced_hint);

private:
    struct Place {
        uint64_t segment = 0;
        uint64_t offset = 0;
    };

    Status open_segments();
    Status read_segment(LogStore::Segment& segment, const LogStore::Segment* next);
    // The batch at `offset`, checked in every way, or corrupt.
    Result<BatchHeader> read_batch(LogStore::Segment& segment, uint64_t offset, Bytes* floor_body);
    Status take(const BatchHeader& header, View floor_body, Place place);
    Status take_entries(const BatchHeader& header, Place place);
    Status find_witness(LogStore::Segment& segment, uint64_t offset);
    Status check_whole();
    Result<View> window(LogStore::Segment& segment, uint64_t offset, uint64_t length);
    Status damaged(const LogStore::Segment& segment, uint64_t offset, std::string_view why) const;

    LogStore& store_;
    uint64_t synced_hint_ = 0;
    // False until the first batch that says where the log ends: segments that were cut off may have
    // held what comes before.
    bool last_known_ = false;
    bool floor_known_ = false;
    std::string why_bad_;  // of the batch that ended the last segment
    Buffer window_;
    uint64_t window_segment_ = 0;
    uint64_t window_offset_ = 0;
    uint64_t window_length_ = 0;
};

}  // namespace lumeofs::consensus
