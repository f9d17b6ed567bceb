// SPDX-License-Identifier: Apache-2.0
// What all nodes of the fake cluster share: names, files, chunks, sessions, slots (as if replication
// always worked). single-thread.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/wire/messages.h"

namespace lumeofs::client_test {

struct FakeInode {
    wire::AttrT attr;
    Bytes inline_data;
    std::map<uint32_t, uint64_t> chunks;
    std::map<std::string, uint64_t> entries;
    std::string target;
    std::map<std::string, Bytes> xattrs;
    uint64_t grower = 0;  // the session that may commit a larger size
};

struct FakeChunk {
    wire::ChunkGrantT grant;
    std::map<uint64_t, Bytes> blocks;              // 4 KiB each
    std::set<std::pair<uint64_t, uint64_t>> done;  // (session, write number)
};

// What all nodes of the fake cluster share.
struct FakeState {
    uint64_t last_ino = 1;
    uint64_t last_chunk = 0;
    uint64_t last_session = 0;
    bool refuse_setattr = false;
    std::map<uint64_t, FakeInode> inodes;
    std::map<uint64_t, FakeChunk> chunks;
    std::map<uint64_t, std::pair<uint64_t, uint64_t>> sessions;  // live: client id
    std::set<uint64_t> fenced;
    struct Slot {
        uint64_t sequence = 0;
        Bytes reply;
    };
    std::map<std::pair<uint64_t, uint32_t>, Slot> slots;
    std::vector<wire::NodeAddressT> nodes;
    uint64_t nodes_version = 1;
    std::set<uint64_t> dead;  // chunkds
    uint64_t applied = 0;     // mutations carried out
    int64_t clock_ns = 0;

    FakeState() {
        FakeInode root;
        root.attr.ino = 1;
        root.attr.mode = 0040755;
        root.attr.nlink = 2;
        inodes[1] = root;
    }
    void cut_chunk(uint64_t id, uint64_t length) {
        FakeChunk& chunk = chunks.at(id);
        for (auto it = chunk.blocks.begin(); it != chunk.blocks.end();) {
            const uint64_t start = it->first * kBlockSize;
            if (start >= length) {
                it = chunk.blocks.erase(it);
                continue;
            }
            if (start + kBlockSize > length) {
                std::fill(it->second.begin() + static_cast<ptrdiff_t>(length - start),
                          it->second.end(),
                          0);
            }
            ++it;
        }
    }
};

}  // namespace lumeofs::client_test
