// SPDX-License-Identifier: Apache-2.0
// Every cluster-wide bound and time constant, in one place, with the inequalities that tie them.
// The same inequalities are checked against the configuration at start (see metad/config).
#pragma once

#include <cstddef>
#include <cstdint>

namespace lumeofs {

using Nanos = int64_t;  // durations and points of time in nanoseconds

inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

// --- time -----------------------------------------------------------------------------------
inline constexpr Nanos kBeat = 1 * kSecond;                  // chunkd -> metad and session renewals
inline constexpr Nanos kElectionTimeoutMin = 1 * kSecond;    // random in [min, 2*min)
inline constexpr Nanos kElectionTimeoutMax = 2 * kSecond;
inline constexpr Nanos kRaftHeartbeat = 150 * kMillisecond;
inline constexpr Nanos kRaftTick = 50 * kMillisecond;
inline constexpr Nanos kAskLater = 5 * kMillisecond;  // entries wait for followers beyond a quorum
inline constexpr Nanos kNodeLease = 4 * kSecond;             // a chunkd may serve this long
inline constexpr Nanos kClientLease = 5 * kSecond;           // a session's leases, unless renewed
inline constexpr Nanos kRecallLimit = 5 * kSecond;           // an unacknowledged recall ends renewal
inline constexpr Nanos kSessionTimeout = 30 * kSecond;       // a silent session is ended
inline constexpr int kLeaseDriftDivisor = 32;                // a holder counts 1/32 less
inline constexpr Nanos kCommitPointDelay = 50 * kMillisecond;  // idle primary tells its members
inline constexpr Nanos kDirtyAgeMax = 5 * kSecond;           // write-behind flushes by then
inline constexpr Nanos kRpcTimeout = 2 * kSecond;            // one try of one request
inline constexpr Nanos kHandshakeTimeout = 5 * kSecond;
inline constexpr Nanos kSlowRequest = 500 * kMillisecond;
inline constexpr Nanos kBusyMemberPatience = 5 * kSecond;    // "late" is not dead
static_assert(kNodeLease > kBeat + kElectionTimeoutMax + kSecond / 2,
              "a node lease must outlive a leader election");
static_assert(kNodeLease < 5 * kSecond, "writes go on within 5 s of a chunkd's death");
static_assert(kClientLease >= kNodeLease, "a client must not lose its lease before a node does");
static_assert(kRecallLimit >= kClientLease, "a recall may last one lease");
static_assert(kSessionTimeout > kClientLease + kRecallLimit, "a session outlives its leases");
static_assert(kRaftHeartbeat * 4 < kElectionTimeoutMin, "heartbeats must beat elections");

// Lease time that the holder may count on, from when it sent the request that was answered.
constexpr Nanos shortened(Nanos lease) { return lease - lease / kLeaseDriftDivisor; }

// --- files and chunks -------------------------------------------------------------------------
inline constexpr uint64_t kChunkSize = uint64_t{64} << 20;
inline constexpr uint64_t kBlockSize = 4096;                 // checksum unit
inline constexpr uint64_t kBlocksPerChunk = kChunkSize / kBlockSize;
inline constexpr uint64_t kInlineMax = 4096;                 // larger files have chunks
inline constexpr uint64_t kMaxFileSize = INT64_MAX;          // 2^63-1, the kernel's own bound
inline constexpr uint32_t kMaxNameBytes = 255;
inline constexpr uint32_t kMaxPathBytes = 4096;
inline constexpr uint32_t kMaxSymlinkBytes = 4095;
inline constexpr uint32_t kMaxLinks = 65'000;
inline constexpr uint32_t kMaxXattrNameBytes = 255;
inline constexpr uint32_t kMaxXattrValueBytes = 64 * 1024;
inline constexpr uint32_t kMaxXattrListBytes = 64 * 1024;    // names and values of one inode
inline constexpr uint32_t kMaxShrinkMarks = 16;              // (epoch, truncate_to) pairs per chunk
inline constexpr uint32_t kMaxReplicas = 8;
inline constexpr uint32_t kMaxRowsPerCommand = 1'000;
inline constexpr uint64_t kMaxIoBytes = uint64_t{4} << 20;   // payload of one chunk read or write

// --- messages ---------------------------------------------------------------------------------
inline constexpr uint32_t kMaxBodyBytes = 2u << 20;          // encoded part of a frame
inline constexpr uint32_t kMaxPayloadBytes = 8u << 20;       // raw part of a frame
inline constexpr uint32_t kMaxHelloBytes = 128;              // fixed-size first message
inline constexpr uint32_t kMaxVerifyDepth = 16;
inline constexpr uint32_t kMaxVerifyTables = 100'000;
inline constexpr uint32_t kMaxInFlightPerLink = 4'096;       // requests; more wait at the sender
inline constexpr uint64_t kMaxQueuedBytesPerLink = 64u << 20;

// --- sessions and slots -----------------------------------------------------------------------
inline constexpr uint32_t kSlotsPerSession = 128;            // mutations in flight per session
inline constexpr uint32_t kReservedSlots = 16;               // the last ones: flush, give-back, acks
inline constexpr uint32_t kMaxSessions = 4'096;
inline constexpr uint32_t kMaxOpensPerSession = 1u << 20;
inline constexpr uint32_t kMaxReaddirBytes = 512 * 1024;
inline constexpr uint64_t kClientDirtyBytesMax = uint64_t{64} << 20;

// --- consensus --------------------------------------------------------------------------------
inline constexpr uint32_t kMaxEntriesPerAppend = 1'024;
inline constexpr uint32_t kMaxBytesPerAppend = 1u << 20;
inline constexpr uint32_t kMaxInFlightAppends = 64;
inline constexpr uint32_t kSnapshotPieceBytes = 1u << 20;
inline constexpr uint64_t kRaftSegmentBytes = uint64_t{64} << 20;

}  // namespace lumeofs
