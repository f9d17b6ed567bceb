// SPDX-License-Identifier: Apache-2.0
// The bytes of a connection. This comment IS the format; all numbers are little-endian.
//
// A connection starts with one hello from the dialler (128 bytes), answered by one hello from the
// listener (128 bytes). Frames follow in both directions, each: header (48 bytes), body, payload.
//
// Hello                                     Frame header
//   0  8  magic "LUMEOFS\n"                   0  4  magic "LFSf"
//   8  2  protocol revision                   4  2  protocol revision
//  10  1  role (Role)                         6  1  kind (FrameKind)
//  11  1  zero                                7  1  zero
//  12  2  refusal: 0, or the Errc number      8  2  method; a reply repeats its request's
//         why the sender closes now          10  2  status: Errc number, replies only, else 0
//  14  2  zero                               12  4  body length    <= kMaxBodyBytes
//  16  8  node id (0 = client)               16  4  payload length <= kMaxPayloadBytes
//  24  8  incarnation (0 = none)             20  4  requests: how long the asker waits, in ms, 0 =
//  32 16  cluster id, high then low half            for ever; replies: 1 = the body is the text of
//         (0 = "tell me yours")                     the status (kReplyBodyIsText), else 0
//  48 72  spare: for a TLS binding or a      24  8  request id: chosen by the asker, unique on its
//         login; written as zero, ignored           side of the link; pushes: 0
// 120  8  XXH3-64 of bytes 0..119            32  8  zero
//                                            40  8  XXH3-64 of the body, seeded with the XXH3-64 of
//                                                   bytes 0..39
// Validity: a wrong magic, revision, kind, "zero" field, length or checksum ends the connection;
// there is no resynchronising inside a byte stream. The lengths are checked against their limits
// before anything is allocated for them. The payload is not covered here: its checksums are in the
// body and go end to end, from the client to the disk.
// Revision: both sides must have the same one (rolling upgrades raise it together with a rule).
// Pure functions; thread-safe.
#pragma once

#include <array>
#include <cstdint>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/result.h"
#include "common/env/transport.h"

namespace lumeofs {

inline constexpr uint16_t kProtocolRevision = 1;
inline constexpr size_t kFrameHeaderBytes = 48;
inline constexpr uint32_t kReplyBodyIsText = 1;  // in the deadline_ms of a reply

using HelloBytes = std::array<uint8_t, kMaxHelloBytes>;
using FrameHeaderBytes = std::array<uint8_t, kFrameHeaderBytes>;

// A hello as it stands on the wire; `refusal` is Errc::ok unless the sender is about to close.
struct HelloMessage {
    Hello hello;
    Errc refusal = Errc::ok;
};

HelloBytes encode_hello(const Hello& hello, Errc refusal = Errc::ok);
// Errc::protocol if what has come so far (any number of bytes) cannot become a hello: a stranger is
// recognised by its first bytes, without waiting for more.
Status check_hello_start(View bytes);
// Errc::protocol with a clear text for a wrong magic or revision ("speaks revision 7, this program
// 1"), Errc::corrupt for a wrong checksum. Requires: bytes.size() == kMaxHelloBytes.
Result<HelloMessage> decode_hello(View bytes);
// The checks that every transport makes of a peer's hello: revision, role, and that the cluster ids
// are equal unless one of them is 0 (Errc::config). Errc::protocol for the rest; the text names both.
Status check_hello(const Hello& own, const Hello& peer);
// "metad 3 of cluster 0123..ef", for logs.
std::string describe(const Hello& hello);

// The header of `frame`, checksum over its body included. Requires: body and payload within limits.
FrameHeaderBytes encode_frame_header(const Frame& frame);

// What the first 48 bytes of a frame say.
struct FrameHeader {
    Frame frame;  // body and payload still empty
    uint32_t body_bytes = 0;
    uint32_t payload_bytes = 0;
    uint64_t seed = 0;      // of the body's checksum
    uint64_t expected = 0;  // what it must be
};

// Checks all but the checksum. Errc::protocol, with the reason, for anything that does not fit;
// allocates nothing. Requires: bytes.size() >= kFrameHeaderBytes.
Result<FrameHeader> decode_frame_header(View bytes);
// Errc::corrupt if the body (or the header) was damaged on the way.
Status check_frame_body(const FrameHeader& header, View body);

}  // namespace lumeofs
