// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/state_machine.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/checksum.h"
#include "common/base/planted_bug.h"
#include "common/env/file_system.h"
#include "common/wire/codec.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

const wire::CallerT kNobody;

// Answers that leave no trace, not even in the slot: the leader starts over.
bool leaves_no_trace(const Reply& reply) {
    const auto code = static_cast<Errc>(reply.errc);
    return code == Errc::recall || code == Errc::busy || code == Errc::corrupt;
}

Reply dispatch(OpContext& ctx, const wire::MutationOpUnion& op) {
    if (const auto* make_op = op.AsMake()) return make(ctx, *make_op);
    if (const auto* link_op = op.AsLink()) return link(ctx, *link_op);
    if (const auto* unlink_op = op.AsUnlink()) return unlink(ctx, *unlink_op);
    if (const auto* rename_op = op.AsRename()) return rename(ctx, *rename_op);
    if (const auto* setattr_op = op.AsSetAttr()) return setattr(ctx, *setattr_op);
    if (const auto* set_op = op.AsSetXattr()) return set_xattr(ctx, *set_op);
    if (const auto* remove_op = op.AsRemoveXattr()) return remove_xattr(ctx, *remove_op);
    if (const auto* write_op = op.AsWriteInline()) return write_inline(ctx, *write_op);
    if (const auto* allocate_op = op.AsAllocate()) return allocate(ctx, *allocate_op);
    if (const auto* commit_op = op.AsCommitWrite()) return commit_write(ctx, *commit_op);
    if (const auto* punch_op = op.AsPunchChunks()) return punch_chunks(ctx, *punch_op);
    return reply_error(Errc::corrupt);
}

Reply dispatch(OpContext& ctx, const wire::CommandOpUnion& op) {
    if (const auto* open_op = op.AsApplyOpenSession()) return open_session(ctx, *open_op);
    if (const auto* end_op = op.AsApplyEndSession()) return end_session(ctx, *end_op);
    if (const auto* free_op = op.AsApplyFreeOrphans()) return free_orphans(ctx, *free_op);
    if (op.AsApplyCleanup() != nullptr) return cleanup(ctx);
    if (const auto* node_op = op.AsApplyNode()) return change_node(ctx, *node_op);
    if (const auto* config_op = op.AsApplyConfigChanges()) return change_configs(ctx, *config_op);
    if (const auto* garbage_op = op.AsApplyGarbageDone()) return garbage_done(ctx, *garbage_op);
    if (const auto* boot_op = op.AsApplyBootstrap()) return bootstrap(ctx, *boot_op);
    if (const auto* trim_op = op.AsApplyTrimMarks()) return trim_marks(ctx, *trim_op);
    if (const auto* condemn_op = op.AsApplyCondemn()) return condemn(ctx, *condemn_op);
    return reply_error(Errc::corrupt);
}

// What an operation promises: an error changed nothing, and nothing is too big [40].
void check_promises(const OpContext& ctx, const Reply& reply) {
    if (ctx.db.failed()) return;
    LFS_ASSERT(reply.errc == 0 || ctx.rows_used() == 0);
    LFS_ASSERT(ctx.rows_used() <= kMaxRowsPerCommand);
}

}  // namespace

StateMachine::StateMachine(const StateMachineOptions& options) : options_(options) {}
StateMachine::~StateMachine() {
    if (db_) commit();  // an orderly end: nothing is left to be replayed
}

Result<std::unique_ptr<StateMachine>> StateMachine::open(const StateMachineOptions& options) {
    std::unique_ptr<StateMachine> machine(new StateMachine(options));
    LFS_TRY(machine->open_database());
    return machine;
}

Status StateMachine::open_database() {
    const DbOptions options{
        options_.path, options_.vfs, options_.exclusive, options_.page_cache_bytes};
    LFS_ASSIGN(db_, Db::open(options));
    if (db_->is_new()) {
        db_->begin();
        for (const char* statement : kCreateStatements) db_->exec(statement);
    }
    tables_ = std::make_unique<Tables>(*db_);
    if (db_->is_new()) {
        // With the tables: after a power cut here there are both or neither.
        tables_->state_row.save(tables_->state);
        db_->commit();
    }
    if (!tables_->state_row.load(&tables_->state) && !db_->is_new()) {
        db_->fail(Errc::corrupt, "the database has no state row");
    }
    pins_ = nullptr;
    return db_->error();
}

LogIndex StateMachine::applied() const { return LogIndex{tables_->state.applied}; }

uint64_t StateMachine::bytes_since_checkpoint() const { return db_->wal_bytes(); }

Result<std::vector<Bytes>> StateMachine::apply(LogIndex first, const std::vector<View>& commands) {
    if (db_->failed()) return db_->error();
    LFS_ASSERT(first.value == tables_->state.applied + 1);
    std::vector<Bytes> replies;
    replies.reserve(commands.size());
    if (!db_->writing()) db_->begin();
    for (size_t i = 0; i < commands.size(); ++i) {
        replies.push_back(apply_one(LogIndex{first.value + i}, commands[i]));
    }
    uncommitted_ += commands.size();
    if (uncommitted_ >= options_.commands_per_commit) commit();
    if (db_->failed()) return db_->error();
    return replies;
}

void StateMachine::commit() {
    if (!db_->writing()) return;
    tables_->state_row.save(tables_->state);
    db_->commit();
    uncommitted_ = 0;
}

Bytes StateMachine::apply_one(LogIndex index, View command) {
    State& state = tables_->state;
    state.applied = index.value;
    if (command.empty()) return {};
    Bytes aligned;  // FlatBuffers reads scalars in place
    if (reinterpret_cast<uintptr_t>(command.data()) % 8 != 0) {
        aligned.assign(command.begin(), command.end());
        command = aligned;
    }
    const Result<wire::CommandT> decoded = wire::decode<wire::Command>(command);
    Reply reply = decoded ? apply_command(index.value, *decoded) : reply_error(Errc::corrupt);
    Bytes encoded = wire::encode<wire::MetaReply>(reply);
    state.history = checksum_seeded(encoded, state.history ^ index.value);
    return encoded;
}

wire::MetaReplyT StateMachine::apply_command(uint64_t index, const wire::CommandT& command) {
    State& state = tables_->state;
    // The leader promises that time rises; if one should not, every node corrects it alike.
    state.now_ns = std::max(command.now_ns, state.now_ns + 1);
    if (const auto* mutation = command.op.AsApplyMutation())
        return apply_mutation(index, *mutation);
    OpContext ctx{*db_, *tables_, index, state.now_ns, SessionId{}, kNobody, nullptr};
    ctx.changes_at_start = db_->changes();
    Reply reply = dispatch(ctx, command.op);
    check_promises(ctx, reply);
    return reply;
}

wire::MetaReplyT StateMachine::apply_mutation(uint64_t index, const wire::ApplyMutationT& command) {
    if (command.mutation == nullptr) return reply_error(Errc::corrupt);
    if (!tables_->state.bootstrapped) return reply_error(Errc::unavailable);
    const wire::MutationT& mutation = *command.mutation;
    const SessionId session{mutation.session};
    const uint32_t session_now = tables_->sessions.state(session);
    if (session_now == kSessionFenced) return reply_error(Errc::fenced);
    if (session_now != kSessionLive) return reply_error(Errc::no_session);
    if (mutation.slot >= kSlotsPerSession) return reply_error(Errc::inval);
    wire::MetaReplyT stored;
    const SlotCheck seen = check_slot(session, mutation.slot, mutation.sequence, &stored);
    if (seen == SlotCheck::repeat) return stored;
    if (seen == SlotCheck::superseded) return reply_error(Errc::superseded);

    OpContext ctx{*db_,
                  *tables_,
                  index,
                  tables_->state.now_ns,
                  session,
                  mutation.caller ? *mutation.caller : kNobody,
                  &command};
    ctx.changes_at_start = db_->changes();
    Reply reply = dispatch(ctx, mutation.op);
    check_promises(ctx, reply);
    if (!leaves_no_trace(reply) && !planted_bug("ns.slot_not_stored")) {
        tables_->sessions.save_slot(
            session, mutation.slot, mutation.sequence, wire::encode<wire::MetaReply>(reply));
    }
    return reply;
}

SlotCheck StateMachine::check_slot(SessionId session,
                                   uint32_t slot,
                                   uint64_t sequence,
                                   wire::MetaReplyT* stored) {
    const std::optional<SlotRow> row = tables_->sessions.load_slot(session, slot);
    if (!row || sequence > row->sequence) return SlotCheck::fresh;
    if (sequence < row->sequence) return SlotCheck::superseded;
    Result<wire::MetaReplyT> reply = wire::decode<wire::MetaReply>(row->reply);
    if (!reply) {
        db_->fail(Errc::corrupt, "a stored reply does not decode");
        *stored = reply_error(Errc::io);
    } else {
        *stored = std::move(*reply);
    }
    return SlotCheck::repeat;
}

// ------------------------------------------------------------------- checkpoints and snapshots

// Only checkpoint() writes the main file, and it does not while somebody reads it: a pin is no more
// than this count, and the file is exactly the state at the checkpoint that the pin began with.
struct StateMachine::Pins {
    Db* db = nullptr;  // null: the pins are void
    int count = 0;
};

class StateMachine::FilePin final : public PinnedSnapshot {
public:
    FilePin(std::shared_ptr<Pins> pins, uint64_t applied, uint64_t size)
        : pins_(std::move(pins)), applied_(applied), size_(size) {
        ++pins_->count;
    }
    ~FilePin() override { --pins_->count; }
    LogIndex applied() const override { return LogIndex{applied_}; }
    uint64_t size_bytes() const override { return size_; }
    Result<Bytes> read(uint64_t offset, size_t length) override {
        if (pins_->db == nullptr) return Status(Errc::stale, "the pinned snapshot is gone");
        return pins_->db->read_file(offset, length);
    }

private:
    std::shared_ptr<Pins> pins_;
    uint64_t applied_;
    uint64_t size_;
};

class StateMachine::MemoryPin final : public PinnedSnapshot {
public:
    MemoryPin(Bytes image, uint64_t applied) : image_(std::move(image)), applied_(applied) {}
    LogIndex applied() const override { return LogIndex{applied_}; }
    uint64_t size_bytes() const override { return image_.size(); }
    Result<Bytes> read(uint64_t offset, size_t length) override {
        const size_t from = std::min<size_t>(offset, image_.size());
        const size_t to = from + std::min(length, image_.size() - from);
        return Bytes(image_.begin() + static_cast<std::ptrdiff_t>(from),
                     image_.begin() + static_cast<std::ptrdiff_t>(to));
    }

private:
    Bytes image_;
    uint64_t applied_;
};

Result<LogIndex> StateMachine::checkpoint() {
    if (pins_ && pins_->count > 0) {
        if (db_->wal_bytes() <= options_.pinned_wal_bytes_max) return LogIndex{checkpointed_};
        pins_->db = nullptr;
        pins_ = nullptr;
    }
    commit();
    if (!db_->checkpoint()) return db_->error();
    checkpointed_ = tables_->state.applied;
    return LogIndex{checkpointed_};
}

Result<std::unique_ptr<PinnedSnapshot>> StateMachine::pin_snapshot() {
    LFS_TRY(checkpoint());
    if (options_.path.empty()) {
        LFS_ASSIGN(Bytes image, db_->serialize());
        return std::unique_ptr<PinnedSnapshot>(
            std::make_unique<MemoryPin>(std::move(image), tables_->state.applied));
    }
    if (!pins_) pins_ = std::make_shared<Pins>(Pins{db_.get(), 0});
    return std::unique_ptr<PinnedSnapshot>(
        std::make_unique<FilePin>(pins_, checkpointed_, db_->file_bytes()));
}

Status StateMachine::install_snapshot(const std::string& path) {
    if (pins_) pins_->db = nullptr;
    pins_ = nullptr;
    commit();
    Status status;
    if (options_.path.empty()) {
        tables_.reset();
        db_->ensure_read();
        db_->checkpoint();  // ends the read transaction
        status = db_->load_from(path);
        if (status.is_ok() && options_.files != nullptr) status = options_.files->remove(path);
        tables_ = std::make_unique<Tables>(*db_);
        if (status.is_ok() && !tables_->state_row.load(&tables_->state)) {
            status = Status(Errc::corrupt, "the snapshot has no state row");
        }
    } else {
        status = swap_file(path);
    }
    if (status.is_ok()) {
        checkpointed_ = tables_->state.applied;
        return status;
    }
    // From here on there is no state; whoever asks gets nothing, and apply() this error.
    Result<std::unique_ptr<Db>> dead = Db::open(DbOptions());
    LFS_ASSERT(dead.is_ok());
    tables_.reset();
    db_ = std::move(*dead);
    db_->fail(status.code(), status.text());
    tables_ = std::make_unique<Tables>(*db_);
    return status;
}

// A WAL of the old database beside the new file would be replayed into it. So the old database is
// made whole first, its WAL removed durably, and only then the name changes hands: a crash at any
// point leaves the old state or the new one.
Status StateMachine::swap_file(const std::string& path) {
    LFS_ASSERT(options_.files != nullptr);
    FileSystem& files = *options_.files;
    if (!db_->checkpoint()) return db_->error();
    tables_.reset();
    db_.reset();
    for (const char* suffix : {"-wal", "-shm"}) {
        LFS_ASSIGN(const bool there, files.exists(options_.path + suffix));
        if (there) LFS_TRY(files.remove(options_.path + suffix));
    }
    LFS_TRY(files.sync_dir(parent_dir(options_.path)));
    LFS_TRY(files.rename(path, options_.path));
    LFS_TRY(files.sync_dir(parent_dir(options_.path)));
    return open_database();
}

}  // namespace lumeofs::metad
