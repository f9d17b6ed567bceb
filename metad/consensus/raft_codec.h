// SPDX-License-Identifier: Apache-2.0
// Raft messages <-> frames (schema/raft.fbs). Several messages travel in one frame; the bytes of
// entries travel as raw payload. What comes from the network is checked with our own limits before
// it becomes a raft::Message: bytes that do not fit give Errc::corrupt.
// Pure functions; thread-safe.
#pragma once

#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "metad/consensus/identity.h"
#include "metad/raft/types.h"

namespace lumeofs::consensus {

struct Sender {
    Uuid cluster;
    NodeId node;
    Uuid uuid;
    std::string address;  // in batches only
};

struct EncodedFrame {
    Bytes body;
    Buffer payload;
};

struct DecodedBatch {
    Sender sender;
    NodeId to;
    std::vector<raft::Message> messages;
};

struct SnapshotPieceHead {
    Sender sender;
    NodeId to;
    Term term;
    uint64_t stream = 0;
    raft::SnapshotDescriptor snapshot;
    uint64_t size = 0;
    uint64_t offset = 0;
    uint64_t checksum = 0;
    uint64_t chain = 0;
};

struct SnapshotPieceAnswer {
    uint64_t next_offset = 0;
    bool done = false;
};

inline constexpr size_t kMaxMessagesPerFrame = 256;

// How many bytes of entries a message has; a frame holds at most kMaxPayloadBytes of them.
uint64_t payload_bytes(const raft::Message& message);

// Requires: at most kMaxMessagesPerFrame messages.
EncodedFrame encode_batch(const Sender& sender,
                          NodeId to,
                          const std::vector<raft::Message>& messages);
Result<DecodedBatch> decode_batch(View body, View payload);

Bytes encode_piece(const SnapshotPieceHead& head);
// Checks the form, and the payload against its checksum.
Result<SnapshotPieceHead> decode_piece(View body, View payload);

Bytes encode_piece_answer(const SnapshotPieceAnswer& answer);
Result<SnapshotPieceAnswer> decode_piece_answer(View body);

}  // namespace lumeofs::consensus
