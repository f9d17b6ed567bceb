// SPDX-License-Identifier: Apache-2.0
// LogStore: the Raft log on disk, in recycled segments (layout and crash argument: log_format.h).
//
// write() puts a batch into the file, sync() makes everything written durable with ONE fdatasync;
// what was written but not synced counts for nobody. Truncating the end of the log is a batch like
// any other, so that it is atomic with the entries that replace it. The beginning is cut by whole
// segments, after the new floor is durable.
// A failed write or sync poisons the store (I3): everything later is Errc::poisoned.
// open() tells a torn tail from damage: damage is Errc::corrupt, and the node must not vote.
// single-thread: the loop.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/env/file_system.h"
#include "metad/consensus/log_format.h"
#include "metad/raft/log_view.h"

namespace lumeofs::consensus {

struct LogStoreOptions {
    std::string dir;                             // of the segments; exists
    uint64_t log_id = 0;                         // from the identity
    uint64_t segment_bytes = kRaftSegmentBytes;  // of new segments; a multiple of 4096
};

class LogStore final : public raft::LogView {
public:
    // A new, empty log after `floor`. What a start that was cut short left in `dir` is removed.
    static Result<std::unique_ptr<LogStore>> create(FileSystem& fs,
                                                    const LogStoreOptions& options,
                                                    const raft::SnapshotDescriptor& floor);
    // `synced_hint`: a batch number that is known from elsewhere to have been synced (0 = none).
    static Result<std::unique_ptr<LogStore>> open(FileSystem& fs,
                                                  const LogStoreOptions& options,
                                                  uint64_t synced_hint);
    ~LogStore() override;

    // The log ends before `truncate_from` (if given), then `entries` follow without a gap. Not yet
    // durable. toobig: an entry that does not fit into a segment.
    Status write(const std::optional<LogIndex>& truncate_from,
                 const std::vector<raft::Entry>& entries);
    Status sync();

    // Makes `floor` the beginning of the log, durably, and recycles the segments below it.
    // Requires: old floor <= floor.index <= last; everything is synced.
    Status cut(const raft::SnapshotDescriptor& floor);
    // Voids all entries; the log is empty after `floor`. Durable and atomic.
    Status reset(const raft::SnapshotDescriptor& floor);

    Result<std::vector<raft::Entry>> load_entries(LogIndex first,
                                                  LogIndex last,
                                                  uint64_t bytes_max) override;

    // Zeroes `bytes` more of the next segment, so that a full one is replaced without waiting. To
    // be called now and then from idle moments. Trouble with it is harmless: the spare is given up.
    void prepare_spare(uint64_t bytes);

    const raft::SnapshotDescriptor& floor() const { return floor_; }
    LogIndex last() const { return last_; }
    // Bytes on disk of the batches that are still needed.
    uint64_t live_bytes() const { return live_bytes_; }
    // The smallest index so that the entries after it take at most `bytes` on disk.
    LogIndex index_before_tail(uint64_t bytes) const;
    uint64_t synced_batch() const { return synced_batch_; }
    // The largest payload that an entry may have.
    uint64_t payload_bytes_max() const;
    // The first error of load_entries or of writing; ok if none. After it the node must step down.
    const Status& failure() const { return failure_; }
    uint64_t sync_count() const { return sync_count_; }  // for tests: syncs of batches
    size_t segment_count() const { return segments_.size(); }

private:
    struct Segment {
        std::unique_ptr<File> file;
        std::string path;
        SegmentHeader header;
    };
    // Where entries [first, first+count) are; `count` shrinks when the end is replaced.
    struct BatchRef {
        LogIndex first;
        uint64_t count = 0;
        uint64_t segment = 0;
        uint64_t offset = 0;
        uint64_t bytes = 0;
        LogIndex last() const { return first + (count - 1); }
    };
    friend class LogRecovery;

    LogStore(FileSystem& fs, LogStoreOptions options);
    Status start_segment();
    Result<std::unique_ptr<File>> take_spare(std::string* name);
    Result<uint8_t*> begin_batch(uint64_t body_bytes);
    Status end_batch(BatchHeader header);
    Status put_floor(const raft::SnapshotDescriptor& floor, bool reset);
    Status write_entries(const std::vector<raft::Entry>& entries);
    struct Window {  // bytes of a segment that were read together
        uint64_t segment = 0;
        uint64_t offset = 0;
        Buffer bytes;
        bool covers(const BatchRef& ref) const {
            return ref.segment == segment && ref.offset >= offset &&
                   ref.offset + ref.bytes <= offset + bytes.size();
        }
    };
    Result<Window> read_window(size_t at, uint64_t bytes_max);
    Result<std::vector<raft::Entry>> decode_batch(const BatchRef& ref, const Window& window);
    Status recycle();
    Status poison(Status status);
    void drop_from(LogIndex index);
    void drop_to_floor();
    std::string path(const std::string& name) const { return options_.dir + "/" + name; }

    FileSystem& fs_;
    LogStoreOptions options_;
    std::map<uint64_t, Segment> segments_;  // the last one is written to
    std::deque<BatchRef> refs_;             // of the entries after the floor, in order
    raft::SnapshotDescriptor floor_;
    LogIndex last_;
    uint64_t live_bytes_ = 0;
    uint64_t write_offset_ = 0;  // in the last segment
    uint64_t last_batch_ = 0;
    uint64_t last_link_ = 0;
    uint64_t synced_batch_ = 0;
    uint64_t sync_count_ = 0;
    Buffer scratch_;               // one batch; reused
    std::unique_ptr<File> spare_;  // being zeroed, under kSpareInWork
    uint64_t spare_done_ = 0;
    bool spare_ready_ = false;
    bool spare_refused_ = false;
    Status failure_;
};

}  // namespace lumeofs::consensus
