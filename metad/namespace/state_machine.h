// SPDX-License-Identifier: Apache-2.0
// The replicated state machine: namespace, chunk map, sessions and node table on SQLite.
//
// apply() is a pure function of (state, command) (I4): whatever is not deterministic stands in the
// command. One batch is one transaction, with the applied index inside it. Every command is
// answered with an encoded wire::MetaReply; bytes that are no Command get Errc::corrupt and change
// nothing. A POSIX error changes nothing but the slot that remembers it. Errc::recall and
// Errc::busy mean "the leader looked at another state" and "the marks of a chunk are full, trim
// them": nothing changed, not even the slot, and the leader starts over with the same request.
//
// Replies of the commands (errc in all):
//   ApplyMutation: as its operation says in meta.fbs. no_session, fenced, superseded: no effect,
//     not stored. unavailable: not bootstrapped. conflict and exist carry attr.
//   ApplyOpenSession: value = session id (of that client id's live session if there is one);
//     cluster_id_*. busy: kMaxSessions are open.
//   ApplyEndSession: fence_only: value = fence number (the same again if fenced already).
//     no_session if unknown. A session may be ended without a fence (clean close).
//   ApplyFreeOrphans: value = how many were freed (others were no orphans, or are for next time).
//   ApplyCleanup: value = 1 if there is more that it can do.
//   ApplyNode: value = incarnation; nodes_version. conflict: the id belongs to another uuid. Empty
//     strings, role 0, state 0 and uuid 0 leave what the row has.
//   ApplyConfigChanges: grants = the new configuration of each change applied, in order; those not
//     applied (another epoch, unknown chunk, no member, a new member that was neither member nor
//     joiner, no room in this command) are missing. value = number applied.
//   ApplyGarbageDone: value = copies taken off the list. ApplyTrimMarks: value = chunks changed.
//   ApplyCondemn: value = copies put on the garbage list.
//   ApplyBootstrap: exist: another cluster id. The same id again takes the settings over.
//
// The read half (all below ReplicatedState) shows applied state, between two apply() calls.
// After a failed apply() or checkpoint() the object answers nothing but that failure: stop.
// single-thread: the metad loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/result.h"
#include "common/wire/messages.h"
#include "metad/consensus/replicated_state.h"
#include "metad/namespace/rows.h"

namespace lumeofs {
class FileSystem;
}

namespace lumeofs::metad {

class Db;
struct OpContext;
struct Tables;

struct StateMachineOptions {
    std::string path;             // of the database file; "" = in memory (tests)
    std::string vfs;              // SQLite VFS to use; "" = the system's
    FileSystem* files = nullptr;  // for install_snapshot (rename, remove, sync); not with path ""
    bool exclusive = true;        // locking_mode=EXCLUSIVE: no shared memory; nobody else may look
    uint64_t page_cache_bytes = uint64_t{256} << 20;
    // So many commands share a transaction: the pages that they all change are written once. A
    // crash loses it and the Raft log replays it: checkpoint() commits, so the log has it all [12].
    uint64_t commands_per_commit = 256;
    // A pinned snapshot is dropped (its reads then answer Errc::stale) rather than let SQLite's WAL
    // grow beyond this.
    uint64_t pinned_wal_bytes_max = uint64_t{2} << 30;
};

// What is known about (session, slot, sequence) [21].
enum class SlotCheck {
    fresh,       // not seen: propose it
    repeat,      // applied: the stored reply is the answer
    superseded,  // a later request of the slot was applied: drop it
};

// At most this many chunks in one Allocate (rows per command are bounded [40]).
inline constexpr uint32_t kMaxChunksPerAllocate = 16;
// Grants in one layout; `value` of the reply is the index to go on at, 0 = that was all.
inline constexpr uint32_t kMaxGrantsPerReply = 512;

class StateMachine final : public ReplicatedState {
public:
    // Opens or makes the database. Errors: corrupt (not ours, damaged, of a newer program), io.
    static Result<std::unique_ptr<StateMachine>> open(const StateMachineOptions& options);
    ~StateMachine() override;

    // ---- ReplicatedState
    LogIndex applied() const override;
    Result<std::vector<Bytes>> apply(LogIndex first, const std::vector<View>& commands) override;
    Result<LogIndex> checkpoint() override;
    Result<std::unique_ptr<PinnedSnapshot>> pin_snapshot() override;
    Status install_snapshot(const std::string& path) override;
    // Bytes in SQLite's WAL since the last checkpoint: when to call checkpoint().
    uint64_t bytes_since_checkpoint() const;

    // ---- queries of clients
    // All of QueryOp except what the leader's memory must add: GetNodes and StatFs give what the
    // tables know (StatFs: files and chunks; the service fills the bytes), ReadDir gives attr with
    // every entry (the service takes them away where a write lease is out), GetLayout gives grants
    // for reading (write_limit 0); for a lease holder call layout().
    wire::MetaReplyT query(const wire::QueryT& query);
    // Grants of the existing chunks in [first, first+count), attr, and data if the file is inline:
    // min(size, kInlineMax) bytes, what is beyond them is zeros. `writable`: with write_limit, see
    // grant_for. Errors in the reply: noent, isdir or inval (no regular file), unavailable (a
    // grower ended uncleanly and its tail is not cut yet [7]: propose ApplyCleanup, then ask
    // again).
    wire::MetaReplyT layout(
        InodeId ino, uint32_t first, uint32_t count, SessionId session, bool writable);
    // The grant of one chunk; nothing if there is no row (a hole). write_limit: the whole chunk if
    // `session` is the inode's grower, else up to the committed size; 0 if not writable. So whoever
    // wants to write beyond the committed size asks by Allocate, also where the chunk exists.
    std::optional<wire::ChunkGrantT> grant_for(InodeId ino,
                                               uint32_t index,
                                               SessionId session,
                                               bool writable);

    // ---- what the leader must know before it proposes a mutation
    // Where (session, slot, sequence) stands; with `repeat`, *stored is the answer.
    SlotCheck check_slot(SessionId session,
                         uint32_t slot,
                         uint64_t sequence,
                         wire::MetaReplyT* stored);
    // The inodes whose write lease, if ANOTHER session holds it, must be recalled first.
    std::vector<InodeId> lease_targets(const wire::MutationT& mutation);
    // The inodes that unlink or rename takes a name from by removing or replacing it (whatever
    // their nlink). ApplyMutation.recalled must hold lease_targets and victims as the leader saw
    // them, and ApplyMutation.openers those victims that some session has open. If apply finds
    // another victim it answers Errc::recall, changes nothing, and the leader starts over [22].
    std::vector<InodeId> victims(const wire::MutationT& mutation);
    // Indices in [first, first+count) without a chunk: the leader puts placements for them into the
    // ApplyMutation of an Allocate. If apply misses one it answers Errc::recall.
    std::vector<uint32_t> missing_chunks(InodeId ino, uint32_t first, uint32_t count);
    std::optional<InodeId> resolve(InodeId parent, std::string_view name);
    std::optional<wire::AttrT> inode(InodeId ino);
    // The session that may have written beyond the committed size.
    std::optional<GrowerRow> grower(InodeId ino);
    // True if the grower's session is gone and the tail is not cut: no grants until ApplyCleanup.
    bool tail_uncut(InodeId ino);
    std::vector<GrowerRow> growers(InodeId after, uint32_t limit);  // ascending by inode

    // ---- sessions
    SessionState session_state(SessionId session);
    std::vector<SessionRow> sessions();  // live and fenced, ascending
    std::optional<SessionRow> session(SessionId session);
    // Fences with a number above `number`, ascending, at most `limit`. The oldest of more than
    // 10,000 are forgotten.
    std::vector<FenceRow> fences_since(uint64_t number, uint32_t limit);
    uint64_t last_fence() const;  // 0 = none ever

    // ---- chunks. Pages ascend by chunk id; `after` = the last one seen, 0 to begin.
    std::optional<ChunkRow> chunk(ChunkId chunk);
    std::optional<ChunkRow> chunk_at(InodeId ino, uint32_t index);
    std::vector<ChunkRow> chunks(ChunkId after, uint32_t limit);
    // Chunks that name `node` as member, joiner or absent replica.
    std::vector<ChunkRow> chunks_of_node(NodeId node, ChunkId after, uint32_t limit);
    uint64_t chunk_count_of_node(NodeId node);
    // Chunks with exactly `members` members although more are wanted (joiners do not count).
    std::vector<ChunkRow> under_replicated(uint32_t members, ChunkId after, uint32_t limit);
    // Chunks that have shrink marks (candidates for ApplyTrimMarks).
    std::vector<ChunkRow> chunks_with_marks(ChunkId after, uint32_t limit);
    // The row as it goes over the wire (no session, write_limit 0).
    static wire::ChunkGrantT to_grant(const ChunkRow& row);

    // ---- things to clean up
    std::vector<GarbageRow> garbage_of_node(NodeId node, ChunkId after, uint32_t limit);
    bool is_garbage(ChunkId chunk);  // some copy of it is in the garbage list
    std::vector<InodeId> orphans(InodeId after, uint32_t limit);  // unlinked, kept because open
    bool cleanup_pending();  // an ApplyCleanup has something to do

    // ---- nodes and the cluster
    std::vector<NodeRow> nodes();  // ascending
    std::optional<NodeRow> node(NodeId node);
    uint64_t nodes_version() const;  // log index of the last change, 0 = none
    bool is_bootstrapped() const;
    // The chunk is not there and was surely deleted: a copy of it may be condemned.
    bool was_deleted(ChunkId chunk);
    // The newest chunk that was ever given; 0 = none.
    ChunkId last_chunk() const;
    ClusterRow cluster() const;
    Totals totals() const;
    Nanos last_now_ns() const;  // of the last command: the next one's must be greater

    // ---- checks
    // Over all rows of all tables in a defined order: equal on all nodes at the same applied index,
    // and independent of how commands were batched. Reads everything.
    Result<uint64_t> digest();
    // A running sum over (index, reply) of every command ever applied, kept in the database: O(1)
    // to ask, and different as soon as two nodes answered one command differently.
    uint64_t history() const;
    // Everything that must hold between the tables (see invariants.h); one sentence for each break.
    std::vector<std::string> check_invariants();

private:
    // Who reads the main file: shared with the pins, which may outlive a database or this object.
    struct Pins;
    class FilePin;
    class MemoryPin;

    explicit StateMachine(const StateMachineOptions& options);
    Status open_database();
    Status swap_file(const std::string& path);
    void commit();
    Bytes apply_one(LogIndex index, View command);
    wire::MetaReplyT apply_command(uint64_t index, const wire::CommandT& command);
    wire::MetaReplyT apply_mutation(uint64_t index, const wire::ApplyMutationT& command);
    std::vector<ChunkRow> with_lengths(std::vector<ChunkRow> rows);

    StateMachineOptions options_;
    std::unique_ptr<Db> db_;
    std::unique_ptr<Tables> tables_;
    std::shared_ptr<Pins> pins_;
    uint64_t uncommitted_ = 0;   // commands applied in the transaction that is open
    uint64_t checkpointed_ = 0;  // applied index in the main file, as far as this object has seen
};

}  // namespace lumeofs::metad
