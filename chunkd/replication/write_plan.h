// SPDX-License-Identifier: Apache-2.0
// PURE: what a chunkd does with a request on a chunk, decided from plain facts.
//
// plan_write: a client's write. plan_read: a client's read. plan_replica: a message of another
// chunkd that acts as the chunk's primary. Each gives exactly one step; carrying it out is the
// business of chunk_replica. The order of the checks is part of the meaning: fences come before
// epochs (a fenced session must not even teach us a configuration), epochs before roles, roles before
// the table of done writes (only the primary decides about repeats).
// No state, no clock, no I/O; thread-safe.
#pragma once

#include <cstdint>

#include "chunkd/replication/configuration.h"
#include "common/base/status.h"

namespace lumeofs::replication {

// Writes up to this size are forwarded to the primary by other members, larger ones redirected.
inline constexpr uint64_t kForwardMax = 64 * 1024;

enum class Step : uint8_t {
    refuse = 1,    // with `errc`; send_config: our newer configuration goes with it
    adopt,         // the request names a newer configuration: adopt it, then plan again
    forward,       // to the primary, and pass its answer on
    redirect,      // the asker sends it to the primary itself
    wait,          // until this primary has settled what its predecessor left in doubt, and has
                   // enough members
    done_already,  // a repeat of a write that is done: answer ok
    join,          // a repeat of a write under way: answer both together
    accept,        // name it, write it, send it
    serve,         // reads: answer from here
};

struct Plan {
    Step step = Step::refuse;
    Errc errc = Errc::ok;
    bool send_config = false;
};

enum class Role : uint8_t { outside = 1, joiner, member, recovering, serving };

// What this node knows about the chunk and about itself.
struct OwnFacts {
    NodeId self;
    const Configuration* config = nullptr;  // ours; epoch 0 = none
    Role role = Role::outside;
    bool lease_valid = false;   // node lease, by our clock
    bool session_fenced = false;
    bool few_members = false;   // the configuration has fewer than min_write_replicas
    bool lost = false;          // it held data, and no member has a copy
};

struct RangeFacts {
    uint64_t offset = 0;
    uint64_t length = 0;
};

struct WriteFacts {
    const Configuration* grant = nullptr;
    RangeFacts range;
    uint64_t write_limit = 0;
    bool grant_is_of_session = true;
    bool data = true;             // payload and checksums must be there
    uint64_t payload_bytes = 0;
    uint64_t checksum_count = 0;
    bool forwarded = false;       // by another member: not forwarded once more
    // The chunk's table of this session's writes [10].
    uint64_t write_no = 0;
    uint64_t lowest_outstanding = 0;
    uint64_t known_lowest = 0;
    bool known_done = false;
    bool under_way = false;
    // Room of the fullest member that we heard of lately, and our own [20].
    uint64_t free_bytes = UINT64_MAX;
    bool full_up = false;         // too many writes wait here
};
Plan plan_write(const OwnFacts& own, const WriteFacts& write);

struct ReadFacts {
    const Configuration* grant = nullptr;
    RangeFacts range;
    bool has_chunk = false;
    bool shrunk_since_grant = false;  // the chunk was cut after the grant's epoch
    bool undecided = false;           // a write to the range may or may not be committed
};
Plan plan_read(const OwnFacts& own, const ReadFacts& read);

// Named (epoch, incarnation): the primaryship that a message acts for.
struct Primaryship {
    Epoch epoch;
    Incarnation incarnation;
    constexpr auto operator<=>(const Primaryship&) const = default;
};
struct ReplicaFacts {
    const Configuration* config = nullptr;  // of the message
    NodeId sender;
    Primaryship sender_is;
    Primaryship promised;  // the newest that we have followed
    bool to_joiner = false;
};
// Steps: refuse, adopt, accept.
Plan plan_replica(const OwnFacts& own, const ReplicaFacts& message);

// Number of checksum pieces of a range (4 KiB pieces cut at multiples of the chunk offset).
uint64_t piece_count(uint64_t offset, uint64_t length);

}  // namespace lumeofs::replication
