// SPDX-License-Identifier: Apache-2.0
// The state of one read of a chunk inside ChunkClient: which members were asked in this round, what
// is under way. A round asks every member once; when all have failed, metad is told and the next
// round starts with the newest configuration. single-thread: the loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "client/chunk_client.h"

namespace lumeofs::client {

struct ChunkClient::Read {
    explicit Read(Loop& loop) : slow(loop) {}

    uint64_t serial = 0;
    InodeId ino;
    ChunkPtr chunk;
    uint64_t offset = 0;
    uint64_t length = 0;
    Done<Buffer> done;            // empty once answered
    uint64_t start = 0;           // rotation: where the first round begins
    std::vector<uint64_t> asked;  // members of this round
    uint64_t redirect = 0;        // the primary, if a member named it: asked next
    int under_way = 0;
    int rounds = 0;
    uint64_t round_number = 0;  // counts rounds: failures of an old one do not end a new one
    Timer slow;

    bool was_asked(uint64_t node) const {
        return std::find(asked.begin(), asked.end(), node) != asked.end();
    }
};

}  // namespace lumeofs::client
