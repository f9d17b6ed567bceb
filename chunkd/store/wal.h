// SPDX-License-Identifier: Apache-2.0
// Wal: the segments of one disk's log; see wal_format.h for the layout and the crash argument.
// Knows batches, not what the records in them mean. After an error from append() or sync() the
// owner stops using it (I3). single-thread: the chunkd loop.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "chunkd/store/wal_format.h"
#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs::store {

struct WalBatch {  // as found by replay
    uint64_t number = 0;
    uint64_t link = 0;
    uint64_t sum = 0;
    uint64_t synced_upto = 0;
    uint32_t record_count = 0;
    uint32_t image_count = 0;
    WalPlace place;
    WalPlace first_image;
    uint32_t total_bytes = 0;  // multiple of 4096
    Bytes records;
};

class Wal {
public:
    Wal(FileSystem& fs, std::string dir, uint64_t uuid, uint64_t segment_size, uint64_t max_size);

    // Opens the segments that are there (none: that is fine for a new disk).
    Status open();
    // The chain from `from` on, as far as the sums of its batches match; *synced_upto is the
    // highest number that any of them or any batch anywhere says to be synced. corrupt: the chain
    // ends before a number that was synced.
    Result<std::vector<WalBatch>> follow(const WalHead& from, uint64_t* synced_upto);
    // Where to go on; `last` = the last batch that counts (none: `from`). Segments that hold
    // batches from `from` on are live. All that is there is made durable.
    Status start(const WalHead& from, const std::vector<WalBatch>& batches);

    // Writes one batch; images are multiples of 4096 in aligned buffers. Returns where its first
    // image stands. busy: no segment is free and max_size is reached.
    Result<WalPlace> append(View records, uint32_t record_count, const std::vector<Buffer>& images);
    Status sync();
    // Batches up to `number` are no longer needed.
    void cut(uint64_t number);
    // Makes a segment ready ahead of need if none is free; cheap if there is nothing to do.
    Status prepare();
    // Makes segments until `count` are free. nospc.
    Status make_ready(uint64_t count);
    Status read_image(WalPlace place, MutableView into);

    const WalHead& head() const { return head_; }
    uint64_t last_synced() const { return synced_; }
    uint64_t live_bytes() const;
    // Segments that could still be taken, and how many of them batches of these sizes would need.
    uint64_t free_segments() const;
    uint64_t segments_needed(const std::vector<uint64_t>& batch_sizes) const;
    uint64_t allocated_bytes() const { return slots_.size() * segment_size_; }
    static uint64_t batch_bytes(uint64_t record_bytes, uint64_t images);

private:
    struct Slot {
        std::unique_ptr<File> file;
        bool live = false;
        uint64_t last_number = 0;  // of the batches in it
        uint32_t live_from = 0;    // what stands before it was cut
    };

    std::string slot_path(size_t slot) const;
    Result<size_t> make_slot(bool fill);
    Result<std::optional<WalBatch>> read_batch(WalPlace place);
    Result<std::optional<WalBatch>> next_batch(const WalHead& head);
    Status search_claims(const std::vector<WalBatch>& chain, uint64_t* synced_upto);
    Status take_segment();

    FileSystem& fs_;
    const std::string dir_;
    const uint64_t uuid_;
    const uint64_t segment_size_;
    const uint64_t max_size_;
    std::vector<Slot> slots_;
    WalHead head_;
    bool started_ = false;  // head_.place is in a live segment
    uint64_t synced_ = 0;
    std::set<uint32_t> unsynced_slots_;
};

}  // namespace lumeofs::store
