// SPDX-License-Identifier: Apache-2.0
// Grants of the chunks that a file has in a range.
#include <algorithm>

#include "metad/namespace/file_data.h"
#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"
#include "metad/namespace/state_machine.h"

namespace lumeofs::metad {

Reply get_layout(
    Tables& t, InodeId ino, uint32_t first, uint32_t count, SessionId session, bool writable) {
    InodeRow row;
    if (Errc e = load_regular(t, ino, &row); e != Errc::ok) return reply_error(e);
    if (tail_uncut(t, ino)) return reply_error(Errc::unavailable);
    Reply reply = reply_attr(row);
    const std::optional<GrowerRow> grower = t.growers.load(ino);
    const bool is_grower = grower && grower->session == session;
    if (row.is_inline) {
        reply.data = t.inline_data.load(ino);
        reply.data.resize(static_cast<size_t>(std::min(row.size, kInlineMax)), 0);
        if (!is_grower) return reply;  // chunks of a move-out are its mover's only
    }
    if (count == 0) return reply;
    const uint64_t last = std::min<uint64_t>(uint64_t{first} + count - 1, kLastChunkIndex);
    uint32_t next = 0;
    for (const MapRow& map :
         live_range(t, row, first, static_cast<uint32_t>(last), kMaxGrantsPerReply, &next)) {
        const std::optional<ChunkRow> chunk = t.chunks.load(map.chunk);
        if (!chunk) return reply_error(Errc::io);
        reply.grants.push_back(std::make_unique<wire::ChunkGrantT>(
            make_grant(row, map, *chunk, session, writable, is_grower)));
    }
    reply.value = next;
    return reply;
}

}  // namespace lumeofs::metad
