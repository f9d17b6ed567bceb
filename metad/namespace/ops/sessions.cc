// SPDX-License-Identifier: Apache-2.0
// Sessions begin, are fenced, and end.
//
// The end is two commands: the fence (from then on nothing of the session is accepted; chunkds
// learn its number), and, when they have, the end itself: what the session may have written beyond
// committed sizes is cut, then its rows go. Growers that do not fit into one command keep the
// session in state `ending`, and ApplyCleanup goes on with them.
#include "metad/namespace/file_data.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {
constexpr uint64_t kFencesKept = 10'000;
}  // namespace

Reply open_session(OpContext& ctx, const wire::ApplyOpenSessionT& op) {
    State& state = ctx.t.state;
    if (!state.bootstrapped) return reply_error(Errc::unavailable);
    std::optional<SessionId> id =
        ctx.t.sessions.live_of_client(op.client_id_high, op.client_id_low);
    if (!id) {
        if (state.totals.sessions >= kMaxSessions) return reply_error(Errc::busy);
        SessionRow row;
        row.id = state.next_session();
        row.client_high = op.client_id_high;
        row.client_low = op.client_id_low;
        row.host = op.host;
        row.mount = op.mount;
        row.opened_ns = ctx.now_ns;
        ctx.t.sessions.insert(row);
        id = row.id;
    }
    Reply reply = reply_value(id->value);
    reply.cluster_id_high = state.cluster.cluster_id_high;
    reply.cluster_id_low = state.cluster.cluster_id_low;
    return reply;
}

bool cut_growers_of(OpContext& ctx, SessionId session) {
    InodeId after;
    for (;;) {
        const std::vector<InodeId> page = ctx.t.growers.of_session(session, after, 64);
        if (page.empty()) break;
        for (InodeId ino : page) {
            if (ctx.rows_used() + kRowsPerFreeMax > kMaxRowsPerCommand) return false;
            after = ino;
            std::optional<InodeRow> row = ctx.t.inodes.load(ino);
            if (!row) {
                ctx.db.fail(Errc::corrupt, "a grower without an inode");
                return false;
            }
            if (can_cut_tail(ctx.t, *row) != Errc::ok) continue;  // waits for ApplyTrimMarks
            cut_tail(ctx, *row);
            ++row->version;
            ctx.t.inodes.update(*row);
        }
    }
    return ctx.t.growers.of_session(session, InodeId{}, 1).empty();
}

Reply end_session(OpContext& ctx, const wire::ApplyEndSessionT& op) {
    const SessionId id{op.session};
    const std::optional<SessionRow> row = ctx.t.sessions.load(id);
    if (!row) return reply_error(Errc::no_session);
    if (op.fence_only) {
        if (row->state == SessionState::fenced) return reply_value(row->fence_number);
        ctx.t.sessions.set_fenced(id, ctx.index);
        ctx.t.sessions.insert_fence({ctx.index, id});
        ctx.t.sessions.trim_fences(kFencesKept);
        ctx.t.state.last_fence = ctx.index;
        return reply_value(ctx.index);
    }
    ctx.t.sessions.set_ending(id);
    if (cut_growers_of(ctx, id)) ctx.t.sessions.remove(id);
    return Reply();
}

}  // namespace lumeofs::metad
