// SPDX-License-Identifier: Apache-2.0
#include "common/wire/frame.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "common/base/checksum.h"
#include "common/base/prng.h"

using namespace lumeofs;

namespace {

Hello hello_of(Role role, uint64_t cluster) {
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = role;
    hello.node = NodeId(7);
    hello.incarnation = Incarnation(3);
    hello.cluster_id_high = cluster;
    hello.cluster_id_low = cluster == 0 ? 0 : 99;
    return hello;
}

Frame frame_of(std::string_view body) {
    Frame frame;
    frame.kind = FrameKind::request;
    frame.method = 40;
    frame.request_id = 0x0123456789ABCDEF;
    frame.deadline_ms = 1500;
    frame.body.assign(body.begin(), body.end());
    return frame;
}

// A header with a checksum that fits, whatever was changed in it.
void reseal(FrameHeaderBytes& bytes, View body) {
    const uint64_t seed = checksum(View(bytes).first(40));
    put_le(&bytes[40], checksum_seeded(body, seed));
}

void reseal(HelloBytes& bytes) { put_le(&bytes[120], checksum(View(bytes).first(120))); }

}  // namespace

TEST_CASE("a hello comes through as it was") {
    auto bytes = encode_hello(hello_of(Role::chunkd, 0xFEED), Errc::busy);
    auto message = decode_hello(bytes);
    REQUIRE(message.is_ok());
    CHECK(message->refusal == Errc::busy);
    CHECK(message->hello.role == Role::chunkd);
    CHECK(message->hello.node == NodeId(7));
    CHECK(message->hello.incarnation == Incarnation(3));
    CHECK(message->hello.cluster_id_high == 0xFEED);
    CHECK(message->hello.cluster_id_low == 99);
}

TEST_CASE("the bytes of a hello are those of the format") {
    auto bytes = encode_hello(hello_of(Role::metad, 0x1122334455667788));
    CHECK(as_text(View(bytes).first(8)) == "LUMEOFS\n");
    CHECK(bytes[8] == 1);
    CHECK(bytes[10] == 1);
    CHECK(bytes[16] == 7);
    CHECK(bytes[24] == 3);
    CHECK(bytes[32] == 0x88);
    CHECK(bytes[39] == 0x11);
    CHECK(bytes[40] == 99);
}

TEST_CASE("hellos that do not fit") {
    struct Row {
        const char* name;
        std::function<void(HelloBytes&)> change;
        Errc expected;
        const char* text;
    };
    const Row rows[] = {
        {"magic", [](HelloBytes& b) { b[0] = 'G'; reseal(b); }, Errc::protocol, "does not speak"},
        {"revision", [](HelloBytes& b) { b[8] = 7; reseal(b); }, Errc::protocol,
         "speaks protocol revision 7, this program 1"},
        {"role 0", [](HelloBytes& b) { b[10] = 0; reseal(b); }, Errc::protocol, "unknown role 0"},
        {"role 9", [](HelloBytes& b) { b[10] = 9; reseal(b); }, Errc::protocol, "unknown role 9"},
        {"flag", [](HelloBytes& b) { b[11] = 1; reseal(b); }, Errc::protocol, "bits set"},
        {"zero field", [](HelloBytes& b) { b[15] = 1; reseal(b); }, Errc::protocol, "bits set"},
        {"damage", [](HelloBytes& b) { b[33] ^= 4; }, Errc::corrupt, "checksum"},
        {"damage in the spare part", [](HelloBytes& b) { b[100] ^= 4; }, Errc::corrupt, "checksum"},
        {"damaged sum", [](HelloBytes& b) { b[127] ^= 1; }, Errc::corrupt, "checksum"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        auto bytes = encode_hello(hello_of(Role::client, 5));
        row.change(bytes);
        auto message = decode_hello(bytes);
        CHECK(message.code() == row.expected);
        CHECK(std::string(message.status().text()).find(row.text) != std::string::npos);
    }
}

TEST_CASE("the spare part of a hello is ignored, an unknown refusal is still one") {
    auto bytes = encode_hello(hello_of(Role::client, 5));
    bytes[48] = 1;
    bytes[119] = 1;
    put_le<uint16_t>(&bytes[12], 60'000);
    reseal(bytes);
    auto message = decode_hello(bytes);
    REQUIRE(message.is_ok());
    CHECK(message->refusal == Errc::protocol);
}

TEST_CASE("a stranger is recognised by its first bytes") {
    CHECK(check_hello_start({}).is_ok());
    CHECK(check_hello_start(as_view("LUM")).is_ok());
    CHECK(check_hello_start(as_view("G")).code() == Errc::protocol);
    auto status = check_hello_start(as_view("GET / HTTP/1.1\r\n"));
    CHECK(std::string(status.text()).find("'GET / HT'") != std::string::npos);
}

TEST_CASE("clusters must be the same unless one side does not know its own") {
    const Hello ours = hello_of(Role::metad, 5);
    CHECK(check_hello(ours, hello_of(Role::client, 5)).is_ok());
    CHECK(check_hello(ours, hello_of(Role::client, 0)).is_ok());
    CHECK(check_hello(hello_of(Role::metad, 0), hello_of(Role::client, 6)).is_ok());
    auto status = check_hello(ours, hello_of(Role::chunkd, 6));
    CHECK(status.code() == Errc::config);
    CHECK(std::string(status.text()).find("wrong cluster: it is chunkd 7 of cluster") == 0);
    Hello low = ours;
    low.cluster_id_low = 98;
    CHECK(check_hello(ours, low).code() == Errc::config);
    Hello newer = ours;
    newer.protocol_revision = 2;
    CHECK(check_hello(ours, newer).code() == Errc::protocol);
}

TEST_CASE("a frame header comes through as it was") {
    Frame frame = frame_of("the body");
    frame.kind = FrameKind::reply;
    frame.status = 28;
    frame.payload = Buffer::copy_of(as_view("payload"));
    auto header = decode_frame_header(encode_frame_header(frame));
    REQUIRE(header.is_ok());
    CHECK(header->frame.kind == FrameKind::reply);
    CHECK(header->frame.method == 40);
    CHECK(header->frame.status == 28);
    CHECK(header->frame.deadline_ms == 1500);
    CHECK(header->frame.request_id == 0x0123456789ABCDEF);
    CHECK(header->body_bytes == 8);
    CHECK(header->payload_bytes == 7);
    CHECK(check_frame_body(*header, frame.body).is_ok());
    CHECK(check_frame_body(*header, as_view("the bodY")).code() == Errc::corrupt);
    CHECK(check_frame_body(*header, as_view("the bod")).code() == Errc::corrupt);
}

TEST_CASE("frame headers that do not fit") {
    struct Row {
        const char* name;
        std::function<void(FrameHeaderBytes&)> change;
        const char* text;
    };
    const Row rows[] = {
        {"magic", [](FrameHeaderBytes& b) { b[3] = 'x'; }, "frame starts with 'LFSx'"},
        {"revision", [](FrameHeaderBytes& b) { b[4] = 2; }, "revision 2"},
        {"kind 0", [](FrameHeaderBytes& b) { b[6] = 0; }, "unknown kind 0"},
        {"kind 4", [](FrameHeaderBytes& b) { b[6] = 4; }, "unknown kind 4"},
        {"byte 7", [](FrameHeaderBytes& b) { b[7] = 1; }, "bits set"},
        {"byte 32", [](FrameHeaderBytes& b) { b[32] = 1; }, "bits set"},
        {"byte 39", [](FrameHeaderBytes& b) { b[39] = 1; }, "bits set"},
        {"status of a request", [](FrameHeaderBytes& b) { b[10] = 1; }, "status that is not"},
        {"body one too long",
         [](FrameHeaderBytes& b) { put_le<uint32_t>(&b[12], kMaxBodyBytes + 1); },
         "body of 2097153 bytes"},
        {"body 4 GiB",
         [](FrameHeaderBytes& b) { put_le<uint32_t>(&b[12], UINT32_MAX); },
         "body of 4294967295 bytes"},
        {"payload one too long",
         [](FrameHeaderBytes& b) { put_le<uint32_t>(&b[16], kMaxPayloadBytes + 1); },
         "payload of 8388609 bytes"},
    };
    for (const Row& row : rows) {
        CAPTURE(row.name);
        Frame frame = frame_of("body");
        auto bytes = encode_frame_header(frame);
        row.change(bytes);
        reseal(bytes, frame.body);
        auto header = decode_frame_header(bytes);
        CHECK(header.code() == Errc::protocol);
        CHECK(std::string(header.status().text()).find(row.text) != std::string::npos);
    }
}

TEST_CASE("the largest lengths are accepted") {
    auto bytes = encode_frame_header(frame_of(""));
    put_le<uint32_t>(&bytes[12], kMaxBodyBytes);
    put_le<uint32_t>(&bytes[16], kMaxPayloadBytes);
    CHECK(decode_frame_header(bytes).is_ok());
}

TEST_CASE("every flipped bit of header and body is found") {
    Frame frame = frame_of("some body");
    const auto good = encode_frame_header(frame);
    for (size_t bit = 0; bit < (good.size() + frame.body.size()) * 8; ++bit) {
        auto bytes = good;
        Bytes body = frame.body;
        uint8_t& byte = bit / 8 < bytes.size() ? bytes[bit / 8] : body[bit / 8 - bytes.size()];
        byte = static_cast<uint8_t>(byte ^ (1u << (bit % 8)));
        auto header = decode_frame_header(bytes);
        CHECK_FALSE((header.is_ok() && check_frame_body(*header, body).is_ok()));
    }
}

TEST_CASE("random bytes never pass") {
    Prng prng(1);
    for (int round = 0; round < 20'000; ++round) {
        FrameHeaderBytes header{};
        HelloBytes hello{};
        for (auto& byte : header) byte = static_cast<uint8_t>(prng.next());
        for (auto& byte : hello) byte = static_cast<uint8_t>(prng.next());
        if (round % 2 == 0) std::memcpy(header.data(), "LFSf\1\0\1\0", 8);
        if (round % 2 == 0) std::memcpy(hello.data(), "LUMEOFS\n\1\0\1\0", 12);
        auto decoded = decode_frame_header(header);
        CHECK_FALSE((decoded.is_ok() && check_frame_body(*decoded, {}).is_ok()));
        CHECK_FALSE(decode_hello(hello).is_ok());
    }
}
