// SPDX-License-Identifier: Apache-2.0
// Method numbers of frames: what the encoded body is. Never reused.
#pragma once

#include <cstdint>

namespace lumeofs {

enum class Method : uint16_t {
    // clients -> metad (schema/meta.fbs); replies are MetaReply
    mutation = 1,
    query = 2,
    session = 3,
    // metad -> client pushes
    recall = 10,
    leader_hello = 11,
    // chunkd -> metad (schema/cluster.fbs): NodeRequest; the reply type is said there
    node = 20,
    // clients and tools -> metad: AdminRequest; the reply's payload is JSON
    admin = 30,
    // clients -> chunkd (schema/chunk.fbs); replies are ChunkReply
    write_chunk = 40,
    read_chunk = 41,
    chunk_extents = 42,
    // chunkd -> chunkd (schema/chunk.fbs)
    replicate = 50,
    gather = 51,
    copy_blocks = 52,
    compare_blocks = 53,
    commit_point = 54,
    adopt_config = 55,
    // metad <-> metad (schema/raft.fbs); pushes
    raft = 60,
    snapshot_piece = 61,
};

}  // namespace lumeofs
