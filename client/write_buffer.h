// SPDX-License-Identifier: Apache-2.0
// WriteBuffer: the bytes of one file that were written here and are not yet on the chunkds.
//
// Two layers of extents. *Waiting* ones do not overlap; a new write cuts what it covers. take()
// makes a piece of waiting extents and moves it to the *in-flight* layer until finish(). A waiting
// extent that overlaps a piece in flight stays until that one was answered: two overlapping writes
// of a client are never under way at once [10]. What a reader sees is waiting over in flight over
// chunkds.
//
// Large buffers are kept and sent as they came. Small sequential writes are appended to a block
// that ends at a multiple of kPieceBytes, so that a stream goes out in aligned pieces with one
// copy. Bytes that were handed out (pieces, overlays) are never changed afterwards. Pure; guarded
// by its owner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"

namespace lumeofs::client {

class WriteBuffer {
public:
    static constexpr uint64_t kPieceBytes = uint64_t{1} << 20;

    struct Piece {
        uint64_t offset = 0;  // in the file
        Buffer data;
        uint64_t end() const { return offset + data.size(); }
    };

    // Takes the bytes in. `data` must not be changed afterwards. True if a piece became full, so
    // that take_full() has something.
    bool write(uint64_t offset, const Buffer& data, Nanos now);
    // Forgets waiting bytes of [offset, offset+length).
    void discard(uint64_t offset, uint64_t length);
    // Forgets all that waits (pieces in flight must still be finished).
    void discard_all();

    // The next piece to send; it is in flight from now on. take_full: only pieces that would not
    // grow any more; take_any: whatever has bytes written up to the number `target` (see
    // last_write()).
    std::optional<Piece> take_full();
    std::optional<Piece> take_any(uint64_t target);
    // The piece that starts there was answered (well or badly: its bytes are no longer ours).
    void finish(uint64_t offset);

    // What lies over the chunkds' bytes in [offset, offset+length): ascending, not overlapping.
    std::vector<Piece> overlay(uint64_t offset, uint64_t length) const;

    bool empty() const { return waiting_.empty() && in_flight_.empty(); }
    bool has_waiting() const { return !waiting_.empty(); }
    size_t pieces_in_flight() const { return in_flight_.size(); }
    bool in_flight_overlaps(uint64_t offset, uint64_t length) const;
    // Nothing written up to the number `target` is left.
    bool clean_up_to(uint64_t target) const;
    uint64_t last_write() const { return last_write_; }  // number of the newest write, from 1
    uint64_t bytes() const { return bytes_; }
    Nanos oldest() const;  // when the oldest waiting byte was written; 0 if none waits

private:
    struct Extent {
        Buffer block;  // capacity
        uint64_t used = 0;
        uint64_t number = 0;  // of the oldest write in it
        Nanos born = 0;
    };
    using Extents = std::map<uint64_t, Extent>;

    bool append(uint64_t offset, const Buffer& data);
    Piece take_from(Extents::iterator first);
    bool is_full(Extents::const_iterator at) const;
    void put(uint64_t offset, Extent extent);
    static Extent part(const Extent& extent, uint64_t skip, uint64_t length);

    Extents waiting_;
    Extents in_flight_;
    std::set<uint64_t> full_;  // offsets of waiting extents that were full when last looked at
    uint64_t last_write_ = 0;
    uint64_t bytes_ = 0;
};

}  // namespace lumeofs::client
