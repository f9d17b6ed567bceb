// SPDX-License-Identifier: Apache-2.0
// Numbers and addresses that the tables know.
#include "metad/namespace/ops/op.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

Reply stat_fs(Tables& t) {
    Reply reply;
    reply.statfs = std::make_unique<wire::StatFsInfoT>();
    reply.statfs->files = t.state.totals.inodes;
    reply.statfs->chunks = t.state.totals.chunks;
    return reply;
}

Reply get_nodes(Tables& t, const wire::GetNodesT& op) {
    Reply reply;
    reply.nodes_version = t.state.nodes_version;
    if (op.known_version != 0 && op.known_version == t.state.nodes_version) return reply;
    for (const NodeRow& row : t.nodes.all()) {
        reply.nodes.push_back(std::make_unique<wire::NodeAddressT>(address_of(row)));
    }
    return reply;
}

}  // namespace lumeofs::metad
