// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/frame_stream.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "common/base/checksum.h"
#include "common/base/prng.h"

using namespace lumeofs;

namespace {

Frame frame_of(uint64_t id, size_t body, size_t payload) {
    Frame frame;
    frame.kind = FrameKind::request;
    frame.request_id = id;
    frame.body.resize(body);
    for (size_t i = 0; i < body; ++i) frame.body[i] = static_cast<uint8_t>(id + i);
    frame.payload = Buffer::allocate(payload);
    for (size_t i = 0; i < payload; ++i) {
        frame.payload.mutable_data()[i] = static_cast<uint8_t>(id * 7 + i);
    }
    return frame;
}

bool same(const Frame& a, const Frame& b) {
    return a.request_id == b.request_id && a.body == b.body && a.payload.size() == b.payload.size() &&
           std::equal(a.payload.data(), a.payload.data() + a.payload.size(), b.payload.data());
}

// All bytes of the writer, taken `step` at a time.
Bytes drain(FrameWriter& writer, size_t step) {
    Bytes out;
    while (!writer.empty()) {
        View pieces[FrameWriter::kMaxPieces];
        const size_t count = writer.gather(pieces);
        REQUIRE(count > 0);
        size_t left = step;
        for (size_t i = 0; i < count && left > 0; ++i) {
            const size_t n = std::min(left, pieces[i].size());
            out.insert(out.end(), pieces[i].begin(), pieces[i].begin() + static_cast<long>(n));
            left -= n;
        }
        writer.sent(step - left);
    }
    return out;
}

// Gives `bytes` to the reader, at most `step` at a time.
Status feed(FrameReader& reader, View bytes, size_t step, std::vector<Frame>* frames) {
    while (!bytes.empty()) {
        MutableView places[2];
        const size_t count = reader.places(places);
        size_t given = 0;
        for (size_t i = 0; i < count && given < step && !bytes.empty(); ++i) {
            const size_t n = std::min({step - given, places[i].size(), bytes.size()});
            std::memcpy(places[i].data(), bytes.data(), n);
            bytes = bytes.subspan(n);
            given += n;
        }
        REQUIRE(given > 0);
        LFS_TRY(reader.filled(given, frames));
    }
    return ok_status();
}

const std::pair<size_t, size_t> kSizes[] = {
    {0, 0},      {1, 0},       {0, 1},           {100, 200},      {8192, 8192},      {8193, 8193},
    {70'000, 0}, {0, 200'000}, {65'488, 65'536}, {100, 1 << 20}, {300'000, 300'000}, {5, 5}};

}  // namespace

TEST_CASE("frames come out as they went in, however the bytes are cut") {
    for (size_t out_step : {size_t{7}, size_t{4096}, size_t{1} << 20}) {
        for (size_t in_step : {size_t{13}, size_t{65'536}, size_t{1} << 20}) {
            CAPTURE(out_step);
            CAPTURE(in_step);
            FrameWriter writer;
            uint64_t id = 0;
            for (auto [body, payload] : kSizes) writer.push(frame_of(++id, body, payload));
            const uint64_t total = writer.bytes();
            Bytes bytes = drain(writer, out_step);
            CHECK(bytes.size() == total);
            CHECK(writer.bytes() == 0);
            FrameReader reader;
            std::vector<Frame> frames;
            REQUIRE(feed(reader, bytes, in_step, &frames).is_ok());
            REQUIRE(frames.size() == std::size(kSizes));
            id = 0;
            for (auto [body, payload] : kSizes) {
                CHECK(same(frames[id], frame_of(id + 1, body, payload)));
                ++id;
            }
        }
    }
}

TEST_CASE("many small frames leave in one piece and arrive from one buffer") {
    FrameWriter writer;
    for (uint64_t id = 1; id <= 100; ++id) writer.push(frame_of(id, 64, 0));
    View pieces[FrameWriter::kMaxPieces];
    REQUIRE(writer.gather(pieces) == 1);
    CHECK(pieces[0].size() == 100 * (kFrameHeaderBytes + 64));
    FrameReader reader;
    std::vector<Frame> frames;
    REQUIRE(feed(reader, pieces[0], kStreamBufferBytes, &frames).is_ok());
    CHECK(frames.size() == 100);
}

TEST_CASE("a large payload is sent from its buffer and received into a page") {
    FrameWriter writer;
    Frame frame = frame_of(1, 10, 1 << 20);
    const uint8_t* at = frame.payload.data();
    writer.push(frame);
    View pieces[FrameWriter::kMaxPieces];
    REQUIRE(writer.gather(pieces) == 2);
    CHECK(pieces[1].data() == at);
    FrameReader reader;
    std::vector<Frame> frames;
    Bytes bytes = drain(writer, 1 << 21);
    REQUIRE(feed(reader, View(bytes).first(1000), 1000, &frames).is_ok());
    MutableView places[2];
    REQUIRE(reader.places(places) == 2);
    CHECK(places[0].size() == (1 << 20) + 10 + kFrameHeaderBytes - 1000);
    REQUIRE(feed(reader, View(bytes).subspan(1000), 1 << 21, &frames).is_ok());
    REQUIRE(frames.size() == 1);
    CHECK(reinterpret_cast<uintptr_t>(frames[0].payload.data()) % Buffer::kAlignment == 0);
}

TEST_CASE("what is not a frame ends the stream, the frames before it are good") {
    FrameWriter writer;
    writer.push(frame_of(1, 20, 30));
    Bytes good = drain(writer, 1000);
    struct Row {
        const char* name;
        size_t at;
        uint8_t value;
        Errc expected;
    };
    for (const Row& row : {Row{"magic", 0, 'X', Errc::protocol},
                           Row{"revision", 4, 9, Errc::protocol},
                           Row{"body length", 15, 0x7F, Errc::protocol},
                           Row{"payload length", 19, 0x7F, Errc::protocol},
                           Row{"request id", 24, 0x55, Errc::corrupt},
                           Row{"body", 60, 0xAA, Errc::corrupt}}) {
        CAPTURE(row.name);
        Bytes bytes = good;
        bytes.insert(bytes.end(), good.begin(), good.end());
        bytes[good.size() + row.at] = row.value;
        FrameReader reader;
        std::vector<Frame> frames;
        CHECK(feed(reader, bytes, 1 << 20, &frames).code() == row.expected);
        CHECK(frames.size() == 1);
    }
}

TEST_CASE("random bytes after a good start never crash the reader") {
    Prng prng(3);
    for (int round = 0; round < 2'000; ++round) {
        FrameWriter writer;
        writer.push(frame_of(1, prng.below(300), prng.below(300)));
        writer.push(frame_of(2, prng.below(300), prng.below(300)));
        Bytes bytes = drain(writer, 1 << 20);
        for (int i = 0; i < 3; ++i) {
            bytes[prng.below(bytes.size())] ^= static_cast<uint8_t>(1u << prng.below(8));
        }
        FrameReader reader;
        std::vector<Frame> frames;
        ignore(feed(reader, bytes, 1 + prng.below(700), &frames), "either outcome is fine");
        CHECK(frames.size() <= 2);
    }
}
