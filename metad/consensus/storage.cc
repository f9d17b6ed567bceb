// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/storage.h"

#include <fmt/format.h>

#include "common/base/log.h"

namespace lumeofs::consensus {

Storage::Storage(Loop& loop, FileSystem& file_system, const std::string& raft_dir)
    : fs(file_system),
      dir(raft_dir),
      peers(file_system, raft_dir + "/peers"),
      snapshots(loop, file_system, raft_dir + "/snapshot", raft_dir + "/install") {}

Result<std::unique_ptr<Storage>> Storage::open(Loop& loop,
                                               FileSystem& fs,
                                               const StorageOptions& options,
                                               ReplicatedState& state) {
    const std::string dir = options.data_dir + "/raft";
    std::unique_ptr<Storage> storage(new Storage(loop, fs, dir));
    for (const char* sub : {"/log", "/snapshot"}) LFS_TRY(fs.make_dirs(dir + sub));
    LFS_TRY(fs.sync_dir(options.data_dir));
    LFS_TRY(fs.sync_dir(dir));
    Result<std::unique_ptr<FileLock>> lock = fs.lock(dir + "/lock");
    if (!lock) return lock.status().with_context("another process uses " + dir);
    storage->lock = std::move(*lock);
    LFS_TRY(storage->open_all(options, state));
    return storage;
}

LogStoreOptions Storage::log_options(const StorageOptions& options) const {
    return {.dir = dir + "/log", .log_id = identity.log_id, .segment_bytes = options.segment_bytes};
}

Status Storage::open_all(const StorageOptions& options, ReplicatedState& state) {
    Result<Identity> found = load_identity(fs, dir + "/identity");
    if (!found && found.code() != Errc::noent) return found.status();
    if (found) {
        identity = *found;
        LFS_TRY(check_identity(identity, options.data_dir, options.node, options.cluster));
    }
    if (!identity.ready) return first_start(options, state);
    LFS_TRY(peers.load());
    LFS_ASSIGN(hard_state, HardStateStore::open(fs, dir + "/hard_state", identity.log_id));
    LFS_ASSIGN(log, LogStore::open(fs, log_options(options), hard_state->synced_batch()));
    LFS_ASSIGN(std::optional<PendingInstall> pending, snapshots.open());
    if (pending) LFS_TRY(install(*pending, state));
    return check_state(state);
}

Status Storage::first_start(const StorageOptions& options, const ReplicatedState& state) {
    const bool began = identity.node == options.node;
    if (!began) {
        // Nothing of ours is here, so nothing of anybody may be: an identity that went missing must
        // not turn an old member into a new one.
        LFS_ASSIGN(std::vector<std::string> segments, fs.list(dir + "/log"));
        LFS_ASSIGN(bool voted, fs.exists(dir + "/hard_state"));
        if (!segments.empty() || voted) {
            return Status(
                Errc::corrupt,
                fmt::format("{}/identity is missing, but there is a Raft log beside it. Put "
                            "the file back, or remove this node from the group and add it "
                            "again with an empty data_dir and a new node_id",
                            dir));
        }
    }
    if (state.applied().value != 0) {
        return Status(Errc::corrupt,
                      fmt::format("{} has no Raft log, but the database holds {} applied entries. "
                                  "Use an empty data_dir",
                                  options.data_dir,
                                  state.applied().value));
    }
    identity.cluster = options.new_cluster;
    identity.node = options.node;
    identity.node_uuid = options.new_node_uuid;
    identity.log_id = options.new_log_id;
    LFS_TRY(save_identity(fs, dir + "/identity", identity));
    LFS_ASSIGN(hard_state, HardStateStore::create(fs, dir + "/hard_state", identity.log_id));
    raft::SnapshotDescriptor floor;
    floor.membership = options.bootstrap;
    LFS_ASSIGN(log, LogStore::create(fs, log_options(options), floor));
    LFS_TRY(snapshots.open());
    identity.ready = true;
    LFS_TRY(save_identity(fs, dir + "/identity", identity));
    LFS_LOG(info, "first start of metad {} in {}", options.node.value, dir);
    return Status();
}

// The database and the log must meet: rule 14 and hazard 12.
Status Storage::check_state(const ReplicatedState& state) const {
    if (state.applied() > log->last()) {
        return Status(
            Errc::corrupt,
            fmt::format("the Raft log is damaged: it ends at entry {}, but entry {} was "
                        "applied, so committed entries are lost. This node must not vote: "
                        "remove it from the group, and add it again with an empty data_dir "
                        "and a new node_id",
                        log->last().value,
                        state.applied().value));
    }
    if (state.applied() < log->floor().index) {
        return Status(
            Errc::corrupt,
            fmt::format("the database ends at entry {}, but the Raft log begins after {}: "
                        "the database is older than the log allows. Remove this node from "
                        "the group, and add it again with an empty data_dir and a new "
                        "node_id",
                        state.applied().value,
                        log->floor().index.value));
    }
    return Status();
}

Status Storage::install(const PendingInstall& pending, ReplicatedState& state) {
    LFS_ASSIGN(bool there, fs.exists(pending.path));
    if (there) {
        LFS_TRY(state.install_snapshot(pending.path));
    } else if (state.applied() < pending.snapshot.index) {
        return Status(
            Errc::corrupt,
            fmt::format("the snapshot {} that was to be installed is gone", pending.path));
    }
    // Not again if only step 4 is missing: entries may have followed.
    if (log->floor().index < pending.snapshot.index) LFS_TRY(log->reset(pending.snapshot));
    return snapshots.end_install();
}

Status Storage::adopt_cluster(Uuid cluster) {
    LFS_ASSERT(!identity.cluster);
    identity.cluster = cluster;
    return save_identity(fs, dir + "/identity", identity);
}

}  // namespace lumeofs::consensus
