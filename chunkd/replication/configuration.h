// SPDX-License-Identifier: Apache-2.0
// The configuration of a chunk as a chunkd knows it, and the record that it keeps with the chunk.
//
// A configuration is made by metad only; a higher epoch wins (I8). An epoch is never learnt without
// its shrink marks, so they are part of the value [6]. The record is stored in the chunk's blob, in
// the same log record as the epoch: after a restart a chunkd knows its role without asking anybody.
//
// Record format (the blob), little-endian:
//   u8 revision = 1, u8 flags (1 sealed, 2 complete, 4 from_start), u8 members, u8 marks, u16 voids, u16 zero,
//   u64 joiner, u64 per member, (u64 epoch, u64 truncate_to) per mark, (u64 session, u64 up_to) per
//   void. The epoch itself is the store's own field.
// Plain values; thread-compatible.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "chunkd/store/types.h"
#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/wire/messages.h"

namespace lumeofs::replication {

using store::WriteName;

struct ShrinkMark {
    Epoch epoch;
    uint64_t truncate_to = 0;
    bool operator==(const ShrinkMark&) const = default;
};

struct Configuration {
    Epoch epoch;
    bool sealed = false;
    std::vector<NodeId> members;  // [0] is the primary; empty: nothing is known
    NodeId joiner;
    std::vector<ShrinkMark> marks;  // ascending epochs

    NodeId primary() const { return members.empty() ? NodeId{} : members.front(); }
    bool is_member(NodeId node) const;
    bool operator==(const Configuration&) const = default;
};

// Writes of `session` up to this number that the chunk's table knows do not count as done: their
// bytes were overwritten by a primary that did not have them (or by the filling of a joiner).
struct Void {
    SessionId session;
    uint64_t up_to = 0;
    bool operator==(const Void&) const = default;
};

inline constexpr size_t kMaxVoids = 32;

struct ReplicaRecord {
    Configuration config;   // epoch not included
    bool complete = false;  // this copy was whole when the configuration was adopted
    // Every write since the chunk's birth was applied here by name: with no commit point yet, all of
    // its content is in the in-doubt list.
    bool from_start = false;
    std::vector<Void> voids;
};

// Checks the bounds of what a peer sent: corrupt if there is no member, one twice, too many, or
// marks out of order.
Result<Configuration> from_wire(const wire::ChunkGrantT& grant);
wire::ChunkGrantT to_wire(ChunkId chunk, const Configuration& config);

Bytes encode_record(const ReplicaRecord& record);
Result<ReplicaRecord> decode_record(View blob);

wire::WriteName to_wire(const WriteName& name);
WriteName from_wire(const wire::WriteName* name);  // null: the zero name
std::unique_ptr<wire::WriteName> to_wire_ptr(const WriteName& name);

// What a member at `own` must drop when it adopts a configuration with these marks: the smallest mark
// of a later epoch, once [6]. `newest` is the newest such epoch.
struct ShrinkStep {
    uint64_t truncate_to = 0;
    Epoch newest;
};
std::optional<ShrinkStep> shrink_step(const std::vector<ShrinkMark>& marks, Epoch own);
// True if a chunk was cut after `epoch`.
bool shrunk_since(const Configuration& config, Epoch epoch);

}  // namespace lumeofs::replication
