// SPDX-License-Identifier: Apache-2.0
// Frames from and to a stream of bytes, without any socket: where the next received bytes should go,
// and which bytes should be sent next. Used by the NNG transport; tested alone.
//
// FrameReader: small frames are read many at a time into one 64 KiB buffer and copied out; what is
// missing of a large body or payload is received straight into its place (a payload into its
// page-aligned Buffer) and whatever follows into the 64 KiB buffer, by the same readv.
// FrameWriter: headers, small bodies and small payloads are gathered in one 64 KiB buffer, so that a
// hundred answers leave in one system call; large ones are sent from where they are.
// Guarded by the owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/env/transport.h"
#include "common/wire/frame.h"

namespace lumeofs {

inline constexpr size_t kStreamBufferBytes = 64 * 1024;

class FrameReader {
public:
    FrameReader();

    // The places for the next bytes, in order. Returns 1 or 2.
    size_t places(MutableView (&out)[2]);
    // `count` bytes were put into the places; complete frames are appended to `frames`. An error
    // means that the stream is of no use any more; the frames before it are good.
    Status filled(size_t count, std::vector<Frame>* frames);

private:
    Status parse(std::vector<Frame>* frames);
    size_t available() const { return end_ - begin_; }
    MutableView missing();
    bool take_body();
    bool take_payload();

    std::unique_ptr<uint8_t[]> buffer_;
    size_t begin_ = 0;  // [begin_, end_) of buffer_ is received and not yet used
    size_t end_ = 0;
    std::optional<FrameHeader> header_;  // of the frame under way
    bool body_done_ = false;
    size_t got_ = 0;  // of its body, or payload once the body is done
};

class FrameWriter {
public:
    static constexpr size_t kMaxPieces = 8;  // what NNG takes in one call

    void push(Frame frame);
    bool empty() const { return queue_.empty() && pieces_.empty(); }
    uint64_t bytes() const { return bytes_; }  // not yet sent
    // The next bytes to send; they stay where they are until sent() has covered them.
    size_t gather(View (&out)[kMaxPieces]);
    void sent(size_t count);

private:
    struct Piece {
        View bytes;
        Bytes body;      // what holds the bytes, if it is not staging_
        Buffer payload;
    };
    bool stage(View bytes);
    void add(Frame frame, const FrameHeaderBytes& header);
    void refill();

    std::deque<Frame> queue_;
    std::deque<Piece> pieces_;
    std::unique_ptr<uint8_t[]> staging_;
    size_t staged_ = 0;
    uint64_t bytes_ = 0;
};

}  // namespace lumeofs
