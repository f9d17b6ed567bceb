// SPDX-License-Identifier: Apache-2.0
// What an operation gets, and the list of all operations: one file each in this folder.
//
// An operation decides everything first and changes rows last: once it has changed one, it must end
// well (the dispatcher asserts it). Answers recall and busy mean "start over": nothing was changed
// and nothing is remembered in the slot.
// single-thread: the metad loop.
#pragma once

#include "common/wire/messages.h"
#include "metad/namespace/tables.h"

namespace lumeofs::metad {

struct OpContext {
    Db& db;
    Tables& t;
    uint64_t index = 0;  // of the command in the log
    Nanos now_ns = 0;
    // Mutations only:
    SessionId session;
    const wire::CallerT& caller;
    const wire::ApplyMutationT* command = nullptr;

    // Rows changed by this command so far.
    uint64_t rows_used() const { return db.changes() - changes_at_start; }
    uint64_t changes_at_start = 0;
};

using Reply = wire::MetaReplyT;

// --- mutations
Reply make(OpContext& ctx, const wire::MakeT& op);
Reply link(OpContext& ctx, const wire::LinkT& op);
Reply unlink(OpContext& ctx, const wire::UnlinkT& op);
Reply rename(OpContext& ctx, const wire::RenameT& op);
Reply setattr(OpContext& ctx, const wire::SetAttrT& op);
Reply set_xattr(OpContext& ctx, const wire::SetXattrT& op);
Reply remove_xattr(OpContext& ctx, const wire::RemoveXattrT& op);
Reply write_inline(OpContext& ctx, const wire::WriteInlineT& op);
Reply allocate(OpContext& ctx, const wire::AllocateT& op);
Reply commit_write(OpContext& ctx, const wire::CommitWriteT& op);
Reply punch_chunks(OpContext& ctx, const wire::PunchChunksT& op);

// What the holder of the write lease has gathered and commits with its data: it was checked by the
// holder's kernel, and nobody else could change it meanwhile. Only mode, owner and times.
Errc check_gathered(const wire::SetAttrT* attrs);
void set_gathered(OpContext& ctx, const wire::SetAttrT* attrs, InodeRow& row);

// --- other commands
Reply open_session(OpContext& ctx, const wire::ApplyOpenSessionT& op);
Reply end_session(OpContext& ctx, const wire::ApplyEndSessionT& op);
// As many tails of an ended session's growers as fit into this command; true: none is left.
bool cut_growers_of(OpContext& ctx, SessionId session);
Reply free_orphans(OpContext& ctx, const wire::ApplyFreeOrphansT& op);
Reply cleanup(OpContext& ctx);
Reply change_node(OpContext& ctx, const wire::ApplyNodeT& op);
Reply change_configs(OpContext& ctx, const wire::ApplyConfigChangesT& op);
Reply garbage_done(OpContext& ctx, const wire::ApplyGarbageDoneT& op);
Reply bootstrap(OpContext& ctx, const wire::ApplyBootstrapT& op);
Reply trim_marks(OpContext& ctx, const wire::ApplyTrimMarksT& op);
Reply condemn(OpContext& ctx, const wire::ApplyCondemnT& op);

// --- queries
Reply lookup(Tables& t, const wire::CallerT& caller, const wire::LookupT& op);
Reply get_attr(Tables& t, const wire::GetAttrT& op);
Reply read_link(Tables& t, const wire::ReadLinkT& op);
Reply read_dir(Tables& t, const wire::CallerT& caller, const wire::ReadDirT& op);
Reply get_xattr(Tables& t, const wire::CallerT& caller, const wire::GetXattrT& op);
Reply list_xattr(Tables& t, const wire::ListXattrT& op);
Reply stat_fs(Tables& t);
Reply get_path(Tables& t, const wire::GetPathT& op);
Reply get_nodes(Tables& t, const wire::GetNodesT& op);
Reply get_layout(
    Tables& t, InodeId ino, uint32_t first, uint32_t count, SessionId session, bool writable);

}  // namespace lumeofs::metad
