// SPDX-License-Identifier: Apache-2.0
// What an actor knows of one of its private files: the content that must be read, and, after its
// session was lost, what else may be there.
//
// A write that was under way when its session ended may or may not have happened, and a copy that
// could not be reached may still bring it: until the byte is written again and synced, or cut off,
// each value that was in doubt is allowed once (then it stays). Beyond the size that was found
// afterwards nothing may come back (hazard 7).
// Guarded by its owner.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace lumeofs::sim {

class PrivateFile {
public:
    const Bytes& now() const { return now_; }
    uint64_t size() const { return now_.size(); }

    // A write that begins, a truncate that begins; both count as done until the session is lost.
    void write(uint64_t offset, View bytes);
    void truncate(uint64_t size);
    void truncated();  // it was answered
    void synced();

    // Compares what was read at `offset` with what must be there. "" = right.
    std::string read(uint64_t offset, const Bytes& got);
    // After a lost session: `found` is the whole file. "" = possible, and from now on what must be.
    std::string settle(const Bytes& found, Nanos when);

private:
    bool doubted(uint64_t at, uint8_t byte) const;
    void change(Bytes content, uint64_t from, uint64_t to);
    void end_doubt(uint64_t from, uint64_t to);

    Bytes now_;
    Bytes synced_;
    std::vector<Bytes> older_;                            // contents since the last sync
    std::vector<std::pair<uint64_t, uint64_t>> touched_;  // since the last sync
    std::vector<Bytes> doubtful_;                         // contents of lost sessions
    std::vector<bool> in_doubt_;                          // bytes that may still become one of them
    Nanos settled_at_ = 0;
};

}  // namespace lumeofs::sim
