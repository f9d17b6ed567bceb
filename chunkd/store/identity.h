// SPDX-License-Identifier: Apache-2.0
// Who a data directory belongs to, and which disks a node has.
//
// DIR/identity, text, one "key value" per line: format 1, uuid (32 hex digits), cluster (32 hex
// digits), node (decimal, 0 = not yet known), ready (0 until the first index is durable, then 1),
// and last "sum" with the XXH3-64 of the lines before it in 16 hex digits. DIR/disks and the node's
// own record (StoreOptions::record_path) hold "disk UUID DIR" per disk that the node has ever had,
// closed by the same kind of sum. Written whole by replace_file().
//
// A directory without identity is new only if it is empty (but for lost+found and our lock) and no
// record says that a disk should be there: a missing disk is not an empty one.
// single-thread: the chunkd loop, at start.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chunkd/store/chunk_store.h"
#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs::store {

struct Identity {
    std::string dir;
    uint64_t uuid_high = 0;
    uint64_t uuid_low = 0;
    uint64_t cluster_high = 0;
    uint64_t cluster_low = 0;
    NodeId node;
    bool ready = false;

    std::string uuid_text() const;
};

struct ClaimedDisk {
    Identity identity;
    std::unique_ptr<FileLock> lock;
};

// Locks and checks all directories of `options`, initialises those that are new, and brings the
// records of the node's disks up to date. Errors as ChunkStore::open.
Result<std::vector<ClaimedDisk>> claim_disks(FileSystem& fs, const StoreOptions& options);
Status write_identity(FileSystem& fs, const Identity& identity);

}  // namespace lumeofs::store
