// SPDX-License-Identifier: Apache-2.0
// Storage: everything below `data_dir/raft/` of one metad, opened and checked together.
//
//   identity       whose data this is (identity.h); a foreign directory is refused
//   lock           held while the process lives
//   peers          node uuids of the other members (identity.h)
//   hard_state     term and vote (hard_state_store.h)
//   log/           segments (log_format.h)
//   snapshot/      a snapshot that is being received
//   install        an install that was decided and is not finished (snapshot_store.h)
//
// First start. Every first member starts from the SAME static list of members and writes it as the
// floor of its empty log, so all logs agree. There is no other bootstrap: once `identity` says
// ready, the list in the configuration is not looked at any more; membership lives in the log. A
// node that joins a running group starts with an empty list and learns it from the leader's log.
// Nobody may bootstrap twice: a node whose disk was wiped gets a new node uuid, and the others, who
// know the old one, do not listen to it. Replace it under a new node_id.
// single-thread: the loop.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/env/file_system.h"
#include "common/env/loop.h"
#include "metad/consensus/hard_state_store.h"
#include "metad/consensus/identity.h"
#include "metad/consensus/log_store.h"
#include "metad/consensus/replicated_state.h"
#include "metad/consensus/snapshot_store.h"

namespace lumeofs::consensus {

struct StorageOptions {
    std::string data_dir;
    NodeId node;
    Uuid cluster;                // 0 = whatever the identity says
    Uuid new_cluster;            // for a first start; 0 = this node joins and learns it
    raft::Membership bootstrap;  // first start only; empty = this node joins a running group
    uint64_t segment_bytes = kRaftSegmentBytes;
    Uuid new_node_uuid;       // random, for a first start
    uint64_t new_log_id = 0;  // likewise
};

struct Storage {
    // config: foreign directory. corrupt: damage, do not vote. busy: another process has it.
    static Result<std::unique_ptr<Storage>> open(Loop& loop,
                                                 FileSystem& fs,
                                                 const StorageOptions& options,
                                                 ReplicatedState& state);

    // Steps 2 to 4 of an install (snapshot_store.h), now or at the start after it was interrupted.
    Status install(const PendingInstall& pending, ReplicatedState& state);
    // A node that joined has learnt its cluster.
    Status adopt_cluster(Uuid cluster);

    FileSystem& fs;
    std::string dir;
    std::unique_ptr<FileLock> lock;
    Identity identity;
    KnownPeers peers;
    std::unique_ptr<HardStateStore> hard_state;
    std::unique_ptr<LogStore> log;
    SnapshotStore snapshots;

private:
    Storage(Loop& loop, FileSystem& file_system, const std::string& raft_dir);
    Status open_all(const StorageOptions& options, ReplicatedState& state);
    Status first_start(const StorageOptions& options, const ReplicatedState& state);
    LogStoreOptions log_options(const StorageOptions& options) const;
    Status check_state(const ReplicatedState& state) const;
};

}  // namespace lumeofs::consensus
