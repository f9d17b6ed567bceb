// SPDX-License-Identifier: Apache-2.0
#include "common/wire/frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "common/base/checksum.h"

namespace lumeofs {
namespace {

constexpr uint8_t kHelloMagic[8] = {'L', 'U', 'M', 'E', 'O', 'F', 'S', '\n'};
constexpr uint8_t kFrameMagic[4] = {'L', 'F', 'S', 'f'};
constexpr size_t kHelloSumAt = 120;
constexpr size_t kFrameSumAt = 40;
static_assert(kHelloSumAt + 8 == kMaxHelloBytes && kFrameSumAt + 8 == kFrameHeaderBytes);

Status protocol(std::string text) { return Status(Errc::protocol, text); }

std::string printable(View bytes) {
    std::string out;
    for (uint8_t byte : bytes) {
        if (byte >= 0x20 && byte < 0x7F) {
            out += static_cast<char>(byte);
        } else {
            out += fmt::format("\\x{:02x}", byte);
        }
    }
    return out;
}

bool all_zero(View bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

const char* role_name(Role role) {
    switch (role) {
        case Role::metad: return "metad";
        case Role::chunkd: return "chunkd";
        case Role::client: return "client";
        case Role::admin: return "admin";
    }
    return "unknown";
}

bool known_role(uint8_t role) {
    return role >= static_cast<uint8_t>(Role::metad) && role <= static_cast<uint8_t>(Role::admin);
}

Status wrong_revision(uint16_t theirs) {
    return protocol(
        fmt::format("speaks protocol revision {}, this program {}", theirs, kProtocolRevision));
}

}  // namespace

HelloBytes encode_hello(const Hello& hello, Errc refusal) {
    HelloBytes bytes{};
    std::memcpy(bytes.data(), kHelloMagic, sizeof kHelloMagic);
    put_le(&bytes[8], hello.protocol_revision);
    bytes[10] = static_cast<uint8_t>(hello.role);
    put_le(&bytes[12], static_cast<uint16_t>(refusal));
    put_le(&bytes[16], hello.node.value);
    put_le(&bytes[24], hello.incarnation.value);
    put_le(&bytes[32], hello.cluster_id_high);
    put_le(&bytes[40], hello.cluster_id_low);
    put_le(&bytes[kHelloSumAt], checksum(View(bytes).first(kHelloSumAt)));
    return bytes;
}

Status check_hello_start(View bytes) {
    const View start = bytes.first(std::min(bytes.size(), sizeof kHelloMagic));
    if (std::equal(start.begin(), start.end(), kHelloMagic)) return ok_status();
    return protocol("does not speak LumeoFS: its first bytes are '" + printable(start) + "'");
}

Result<HelloMessage> decode_hello(View bytes) {
    LFS_ASSERT(bytes.size() == kMaxHelloBytes);
    LFS_TRY(check_hello_start(bytes));
    HelloMessage message;
    Hello& hello = message.hello;
    hello.protocol_revision = get_le<uint16_t>(&bytes[8]);
    // Before the checksum: another revision may lay out the rest differently.
    if (hello.protocol_revision != kProtocolRevision) return wrong_revision(hello.protocol_revision);
    if (get_le<uint64_t>(&bytes[kHelloSumAt]) != checksum(bytes.first(kHelloSumAt))) {
        return Status(Errc::corrupt, "hello does not match its checksum");
    }
    if (!known_role(bytes[10])) return protocol(fmt::format("hello with unknown role {}", bytes[10]));
    if (bytes[11] != 0 || !all_zero(bytes.subspan(14, 2))) {
        return protocol("hello with bits set that revision 1 does not know");
    }
    hello.role = static_cast<Role>(bytes[10]);
    const auto refusal = get_le<uint16_t>(&bytes[12]);
    message.refusal = errc_known(refusal) ? static_cast<Errc>(refusal) : Errc::protocol;
    hello.node = NodeId(get_le<uint64_t>(&bytes[16]));
    hello.incarnation = Incarnation(get_le<uint64_t>(&bytes[24]));
    hello.cluster_id_high = get_le<uint64_t>(&bytes[32]);
    hello.cluster_id_low = get_le<uint64_t>(&bytes[40]);
    return message;
}

std::string describe(const Hello& hello) {
    std::string out = role_name(hello.role);
    if (hello.node) out += " " + hello.node.to_string();
    if (hello.cluster_id_high != 0 || hello.cluster_id_low != 0) {
        out += fmt::format(
            " of cluster {:016x}{:016x}", hello.cluster_id_high, hello.cluster_id_low);
    } else {
        out += " of no cluster yet";
    }
    return out;
}

Status check_hello(const Hello& own, const Hello& peer) {
    if (peer.protocol_revision != own.protocol_revision) {
        return wrong_revision(peer.protocol_revision);
    }
    if (!known_role(static_cast<uint8_t>(peer.role))) return protocol("unknown role");
    const bool own_set = own.cluster_id_high != 0 || own.cluster_id_low != 0;
    const bool peer_set = peer.cluster_id_high != 0 || peer.cluster_id_low != 0;
    if (own_set && peer_set &&
        (own.cluster_id_high != peer.cluster_id_high || own.cluster_id_low != peer.cluster_id_low)) {
        return Status(Errc::config,
                      "wrong cluster: it is " + describe(peer) + ", this is " + describe(own));
    }
    return ok_status();
}

FrameHeaderBytes encode_frame_header(const Frame& frame) {
    LFS_ASSERT(frame.body.size() <= kMaxBodyBytes && frame.payload.size() <= kMaxPayloadBytes);
    FrameHeaderBytes bytes{};
    std::memcpy(bytes.data(), kFrameMagic, sizeof kFrameMagic);
    put_le(&bytes[4], kProtocolRevision);
    bytes[6] = static_cast<uint8_t>(frame.kind);
    put_le(&bytes[8], frame.method);
    put_le(&bytes[10], frame.status);
    put_le(&bytes[12], static_cast<uint32_t>(frame.body.size()));
    put_le(&bytes[16], static_cast<uint32_t>(frame.payload.size()));
    put_le(&bytes[20], frame.deadline_ms);
    put_le(&bytes[24], frame.request_id);
    const uint64_t seed = checksum(View(bytes).first(kFrameSumAt));
    put_le(&bytes[kFrameSumAt], checksum_seeded(frame.body, seed));
    return bytes;
}

Result<FrameHeader> decode_frame_header(View bytes) {
    LFS_ASSERT(bytes.size() >= kFrameHeaderBytes);
    if (std::memcmp(bytes.data(), kFrameMagic, sizeof kFrameMagic) != 0) {
        return protocol("frame starts with '" + printable(bytes.first(sizeof kFrameMagic)) + "'");
    }
    if (const auto revision = get_le<uint16_t>(&bytes[4]); revision != kProtocolRevision) {
        return wrong_revision(revision);
    }
    const uint8_t kind = bytes[6];
    if (kind < static_cast<uint8_t>(FrameKind::request) ||
        kind > static_cast<uint8_t>(FrameKind::push)) {
        return protocol(fmt::format("frame of unknown kind {}", kind));
    }
    if (bytes[7] != 0 || !all_zero(bytes.subspan(32, 8))) {
        return protocol("frame with bits set that revision 1 does not know");
    }
    FrameHeader header;
    header.body_bytes = get_le<uint32_t>(&bytes[12]);
    header.payload_bytes = get_le<uint32_t>(&bytes[16]);
    if (header.body_bytes > kMaxBodyBytes) {
        return protocol(fmt::format(
            "frame with a body of {} bytes, at most {} are allowed", header.body_bytes, kMaxBodyBytes));
    }
    if (header.payload_bytes > kMaxPayloadBytes) {
        return protocol(fmt::format("frame with a payload of {} bytes, at most {} are allowed",
                                    header.payload_bytes,
                                    kMaxPayloadBytes));
    }
    header.frame.kind = static_cast<FrameKind>(kind);
    header.frame.method = get_le<uint16_t>(&bytes[8]);
    header.frame.status = get_le<uint16_t>(&bytes[10]);
    header.frame.deadline_ms = get_le<uint32_t>(&bytes[20]);
    header.frame.request_id = get_le<uint64_t>(&bytes[24]);
    if (header.frame.status != 0 && header.frame.kind != FrameKind::reply) {
        return protocol("frame with a status that is not a reply");
    }
    header.seed = checksum(bytes.first(kFrameSumAt));
    header.expected = get_le<uint64_t>(&bytes[kFrameSumAt]);
    return header;
}

Status check_frame_body(const FrameHeader& header, View body) {
    if (body.size() != header.body_bytes || checksum_seeded(body, header.seed) != header.expected) {
        return Status(Errc::corrupt, "frame does not match its checksum");
    }
    return ok_status();
}

}  // namespace lumeofs
