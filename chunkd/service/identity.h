// SPDX-License-Identifier: Apache-2.0
// NodeIdentity: who this chunkd is, kept in its first data directory and locked while it runs.
// (The store has the subdirectory `store` of each data directory to itself.)
//
// File `chunkd.identity`, text: "format 1", "node N", "uuid HIGH LOW", "cluster HIGH LOW" (0 0 until
// the first registration), one per line, decimal. The lock is what entitles a start to a new
// incarnation: nobody else can be running on these directories [33].
// single-thread: the chunkd loop.
#pragma once

#include <memory>
#include <string>

#include "common/base/ids.h"
#include "common/base/prng.h"
#include "common/env/file_system.h"

namespace lumeofs::chunkd {

class NodeIdentity {
public:
    // Locks `dir` and reads or makes the identity. config: it belongs to another node. busy: another
    // process runs on it. corrupt: unreadable.
    static Result<std::unique_ptr<NodeIdentity>> open(FileSystem& fs,
                                                      const std::string& dir,
                                                      NodeId node,
                                                      Prng& random);
    // Durable when it returns. config: the directory belongs to another cluster.
    Status join_cluster(uint64_t high, uint64_t low);

    uint64_t uuid_high = 0;
    uint64_t uuid_low = 0;
    uint64_t cluster_high = 0;
    uint64_t cluster_low = 0;
    bool has_cluster() const { return cluster_high != 0 || cluster_low != 0; }

private:
    NodeIdentity(FileSystem& fs, std::string path, NodeId node)
        : fs_(fs), path_(std::move(path)), node_(node) {}
    Status save();

    FileSystem& fs_;
    const std::string path_;
    const NodeId node_;
    std::unique_ptr<FileLock> lock_;
};

}  // namespace lumeofs::chunkd
