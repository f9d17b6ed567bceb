// SPDX-License-Identifier: Apache-2.0
// ReadCache: blocks of one file that were fetched ahead of its reader, and the read-ahead window.
//
// Good only under the inode's lease: the owner calls clear() when the lease goes, and drop() for
// every range that is written, when it is written AND when its write-back is answered (a block
// fetched in between may hold the bytes from before). A fetch that was under way when its range was
// dropped still serves the reads that began before, and no later one. Read-ahead starts at 128 KiB
// when two reads follow each other, doubles up to a limit, and is forgotten on random access.
// Segments never cross chunks. Pure; guarded by its owner.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/result.h"

namespace lumeofs::client {

inline constexpr uint64_t kReadAheadMin = 128 * 1024;
inline constexpr uint64_t kReadAheadSegment = uint64_t{1} << 20;

// One fetch, under way or done.
struct Segment {
    uint64_t offset = 0;
    uint64_t length = 0;
    bool ready = false;
    Result<Buffer> data{Errc::unavailable};
    std::vector<std::function<void()>> waiting;  // called once, when ready

    uint64_t end() const { return offset + length; }
    void fill(Result<Buffer> result);
};

class ReadCache {
public:
    // The segment that covers `offset`, if any.
    std::shared_ptr<Segment> find(uint64_t offset) const;
    // Where the next segment after `offset` starts; UINT64_MAX if there is none.
    uint64_t next_start(uint64_t offset) const;
    std::shared_ptr<Segment> add(uint64_t offset, uint64_t length);
    void drop(uint64_t offset, uint64_t length);
    // Everything that ends at or before `offset` was consumed.
    void drop_before(uint64_t offset);
    void clear();
    uint64_t bytes() const { return bytes_; }

private:
    void erase(std::map<uint64_t, std::shared_ptr<Segment>>::iterator at);

    std::map<uint64_t, std::shared_ptr<Segment>> segments_;
    uint64_t bytes_ = 0;
};

// Read-ahead of one handle.
class ReadAhead {
public:
    // A read of [offset, offset+length) came. Answers up to where to fetch ahead (a file offset, 0
    // = not at all).
    uint64_t on_read(uint64_t offset, uint64_t length, uint64_t window_max);
    uint64_t window() const { return window_; }

private:
    uint64_t expected_ = 0;  // where the next sequential read starts
    uint64_t window_ = 0;
};

}  // namespace lumeofs::client
