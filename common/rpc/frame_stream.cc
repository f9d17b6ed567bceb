// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/frame_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/assert.h"

namespace lumeofs {
namespace {

// Larger parts are sent from where they are: a copy costs more than another iovec.
constexpr size_t kMaxStagedPart = 8 * 1024;

}  // namespace

// --- FrameReader ----------------------------------------------------------------------------------

FrameReader::FrameReader() : buffer_(new uint8_t[kStreamBufferBytes]) {}

// The rest of the body or payload under way. Requires: header_.
MutableView FrameReader::missing() {
    Frame& frame = header_->frame;
    MutableView whole = body_done_ ? frame.payload.mutable_view() : MutableView(frame.body);
    return whole.subspan(got_);
}

size_t FrameReader::places(MutableView (&out)[2]) {
    if (header_) {
        // All that was in the buffer has gone into the frame (see parse).
        LFS_ASSERT(available() == 0);
        begin_ = end_ = 0;
        out[0] = missing();
        out[1] = {buffer_.get(), kStreamBufferBytes};
        return 2;
    }
    if (begin_ > 0) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, available());
        end_ -= begin_;
        begin_ = 0;
    }
    out[0] = {buffer_.get() + end_, kStreamBufferBytes - end_};
    return 1;
}

Status FrameReader::filled(size_t count, std::vector<Frame>* frames) {
    if (header_) {
        const size_t direct = std::min(count, missing().size());
        got_ += direct;
        count -= direct;
    }
    end_ += count;
    LFS_ASSERT(end_ <= kStreamBufferBytes);
    return parse(frames);
}

// False while bytes are missing. Memory for a body or payload is taken only after its length was
// checked, and only when its first bytes are due.
bool FrameReader::take_body() {
    Frame& frame = header_->frame;
    const uint8_t* from = buffer_.get() + begin_;
    if (got_ == 0 && available() >= header_->body_bytes) {
        frame.body.assign(from, from + header_->body_bytes);  // the usual case: no zeroing first
        begin_ += header_->body_bytes;
        got_ = header_->body_bytes;
        return true;
    }
    if (frame.body.empty()) frame.body.resize(header_->body_bytes);
    const size_t step = std::min(available(), missing().size());
    if (step > 0) std::memcpy(missing().data(), from, step);
    begin_ += step;
    got_ += step;
    return got_ == header_->body_bytes;
}

bool FrameReader::take_payload() {
    Frame& frame = header_->frame;
    if (frame.payload.empty()) frame.payload = Buffer::allocate(header_->payload_bytes);
    const size_t step = std::min(available(), missing().size());
    if (step > 0) std::memcpy(missing().data(), buffer_.get() + begin_, step);
    begin_ += step;
    got_ += step;
    return got_ == header_->payload_bytes;
}

Status FrameReader::parse(std::vector<Frame>* frames) {
    for (;;) {
        if (!header_) {
            if (available() < kFrameHeaderBytes) return ok_status();
            auto header = decode_frame_header({buffer_.get() + begin_, available()});
            if (!header.is_ok()) return header.status();
            header_ = std::move(header).value();
            begin_ += kFrameHeaderBytes;
            body_done_ = false;
            got_ = 0;
        }
        if (!body_done_) {
            if (!take_body()) return ok_status();
            LFS_TRY(check_frame_body(*header_, header_->frame.body));
            body_done_ = true;
            got_ = 0;
        }
        if (header_->payload_bytes > 0 && !take_payload()) return ok_status();
        frames->push_back(std::move(header_->frame));
        header_.reset();
    }
}

// --- FrameWriter ----------------------------------------------------------------------------------

void FrameWriter::push(Frame frame) {
    bytes_ += kFrameHeaderBytes + frame.body.size() + frame.payload.size();
    queue_.push_back(std::move(frame));
}

// Copies `bytes` behind what was staged last. False if they do not fit.
bool FrameWriter::stage(View bytes) {
    if (bytes.empty()) return true;
    if (bytes.size() > kStreamBufferBytes - staged_) return false;
    uint8_t* to = staging_.get() + staged_;
    std::memcpy(to, bytes.data(), bytes.size());
    staged_ += bytes.size();
    if (!pieces_.empty() && pieces_.back().bytes.data() + pieces_.back().bytes.size() == to) {
        View& last = pieces_.back().bytes;
        last = {last.data(), last.size() + bytes.size()};
    } else {
        pieces_.push_back({{to, bytes.size()}, {}, {}});
    }
    return true;
}

void FrameWriter::add(Frame frame, const FrameHeaderBytes& header) {
    const bool staged = stage(header);
    LFS_ASSERT(staged);
    if (frame.body.size() > kMaxStagedPart || !stage(frame.body)) {
        Piece piece;
        piece.body = std::move(frame.body);
        piece.bytes = piece.body;
        pieces_.push_back(std::move(piece));  // moving a vector keeps its bytes in place
    }
    if (frame.payload.size() > kMaxStagedPart || !stage(frame.payload.view())) {
        Piece piece;
        piece.bytes = frame.payload.view();
        piece.payload = std::move(frame.payload);
        pieces_.push_back(std::move(piece));
    }
}

void FrameWriter::refill() {
    if (!staging_) staging_.reset(new uint8_t[kStreamBufferBytes]);
    staged_ = 0;
    // A frame makes at most three pieces.
    while (!queue_.empty() && pieces_.size() + 3 <= kMaxPieces &&
           staged_ + kFrameHeaderBytes <= kStreamBufferBytes) {
        Frame frame = std::move(queue_.front());
        queue_.pop_front();
        const FrameHeaderBytes header = encode_frame_header(frame);
        add(std::move(frame), header);
    }
}

size_t FrameWriter::gather(View (&out)[kMaxPieces]) {
    if (pieces_.empty()) refill();
    size_t count = 0;
    for (const Piece& piece : pieces_) out[count++] = piece.bytes;
    return count;
}

void FrameWriter::sent(size_t count) {
    LFS_ASSERT(count <= bytes_);
    bytes_ -= count;
    while (count > 0) {
        Piece& first = pieces_.front();
        if (count < first.bytes.size()) {
            first.bytes = first.bytes.subspan(count);
            return;
        }
        count -= first.bytes.size();
        pieces_.pop_front();
    }
}

}  // namespace lumeofs
