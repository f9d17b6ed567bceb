// SPDX-License-Identifier: Apache-2.0
// The rows of the replicated state as plain values, for those who read the state machine.
//
// Nothing here knows SQL; each struct is one row of the table of the same name.
// Plain values; thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"

namespace lumeofs::metad {

// State of a session as apply sees it. `none`: never opened, or ended.
enum class SessionState : uint8_t { none = 0, live = 1, fenced = 2 };

struct SessionRow {
    SessionId id;
    uint64_t client_high = 0;  // the mount's random id, the same in every retry of its OpenSession
    uint64_t client_low = 0;
    std::string host;
    std::string mount;
    SessionState state = SessionState::none;
    uint64_t fence_number = 0;  // with `fenced`: its number in the list of fences
    Nanos opened_ns = 0;
};

// One line of the list that chunkds acknowledge: number = log index of the fence.
struct FenceRow {
    uint64_t number = 0;
    SessionId session;
};

struct NodeRow {
    NodeId id;
    uint8_t role = 0;  // Role of common/env/transport.h
    uint64_t uuid_high = 0;
    uint64_t uuid_low = 0;
    std::string address;
    std::string http_address;
    std::string zone;
    uint8_t state = 0;  // NodeState of cluster.fbs
    Incarnation incarnation;
    uint64_t attempt = 0;  // of the start that got this incarnation
    std::string release;
};

struct ShrinkMark {
    Epoch epoch;
    uint64_t truncate_to = 0;
    bool operator==(const ShrinkMark&) const = default;
};

// Chunks with fewer marks are left as they are: an ordinary truncate leaves one.
inline constexpr size_t kMarksToTrim = 4;

// A chunk: its configuration and whose data it is.
struct ChunkRow {
    ChunkId id;
    Epoch epoch;
    uint8_t state = 1;              // wire::ChunkState
    std::vector<NodeId> members;    // [0] is the primary; never empty
    NodeId joiner;                  // 0 = none
    std::vector<NodeId> absent;     // removed members whose copies were not written off yet [6]
    std::vector<ShrinkMark> marks;  // epochs and offsets both strictly ascending
    uint32_t wanted = 0;            // how many members it should have
    InodeId owner;                  // first owner; shared chunks have more map entries
    uint32_t index = 0;             // in its owner
    uint32_t references = 1;        // map entries that name it
    bool written = false;  // data of it was committed
    uint64_t length = 0;  // bytes of it below its owner's committed size (0: not visible yet)
};

// A session that may have written beyond the committed size of an inode and has not ended cleanly.
struct GrowerRow {
    InodeId ino;
    SessionId session;
    bool moving_out = false;  // inline data is being moved into chunk 0 [34]
};

// One copy that must go: on `node`, everything of `chunk` at or below `epoch`.
struct GarbageRow {
    NodeId node;
    ChunkId chunk;
    Epoch epoch;
};

struct ClusterRow {
    uint64_t cluster_id_high = 0;
    uint64_t cluster_id_low = 0;
    uint32_t generation = 0;  // stands in new ids and in front of epochs [18]
    uint32_t default_replicas = 0;
    uint32_t min_write_replicas = 0;
};

// Kept up to date by every command; no scan is behind them.
struct Totals {
    uint64_t inodes = 0;
    uint64_t chunks = 0;
    uint64_t bytes = 0;  // sum of the sizes of regular files (modulo 2^64: files may be sparse)
    uint64_t inline_bytes = 0;      // of small files and symlinks, in the database itself
    uint64_t garbage = 0;           // copies still to be removed
    uint64_t under_replicated = 0;  // chunks with fewer members than wanted
    uint64_t sessions = 0;
};

}  // namespace lumeofs::metad
