// SPDX-License-Identifier: Apache-2.0
#include "metad/service/copy_checks.h"

#include <algorithm>

#include "common/base/log.h"

namespace lumeofs::metad {
namespace {

constexpr uint32_t kRowsAtOnce = 1024;
constexpr size_t kChecksMax = 64 * 1024;  // the rest is found by the next report
constexpr size_t kOrdersPerNode = 128;
constexpr size_t kChecksPerBeat = 1024;

}  // namespace

void CopyChecks::reported(const wire::ChunkReportT& report) {
    const NodeId node{report.node};
    std::set<ChunkId> held;
    for (const auto& one : report.chunks) held.insert(ChunkId{one->chunk});
    const ChunkId end = report.last || held.empty() ? ChunkId{UINT64_MAX} : *held.rbegin();
    size_t found = 0;
    for (ChunkId after{report.first};;) {
        const auto rows = leader_.state.chunks_of_node(node, after, kRowsAtOnce);
        for (const ChunkRow& row : rows) {
            if (row.id > end || missing_.size() >= kChecksMax) break;
            const auto& members = row.members;
            if (held.contains(row.id) ||
                std::find(members.begin(), members.end(), node) == members.end()) {
                continue;
            }
            missing_[row.id].nodes.insert(node);
            ++found;
        }
        if (rows.size() < kRowsAtOnce || rows.back().id > end) break;
        after = rows.back().id;
    }
    if (found == 0) return;
    LFS_LOG(info, "chunkd {} does not hold {} chunks of its own; their primaries ask", node.value, found);
    tick();
}

void CopyChecks::tick() {
    size_t looked_at = 0;
    for (auto it = missing_.begin(); it != missing_.end() && looked_at < kChecksPerBeat;) {
        ++looked_at;
        const auto row = leader_.state.chunk(it->first);
        std::erase_if(it->second.nodes, [&row](NodeId node) {
            return !row || std::find(row->members.begin(), row->members.end(), node) ==
                               row->members.end();
        });
        if (it->second.nodes.empty()) {
            it = missing_.erase(it);
        } else {
            order(*row, &it->second);
            ++it;
        }
    }
}

void CopyChecks::order(const ChunkRow& row, Check* check) {
    const NodeId primary = row.members[0];
    LiveNode* node = leader_.node(primary);
    if (!node || !leader_.usable(primary)) return;
    if (check->primary == primary && node->orders.contains(check->order)) return;
    if (node->orders.size() >= kOrdersPerNode) return;
    check->primary = primary;
    check->order = leader_.order(
        *node, wire::OrderKind::check_copies,
        std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(row)));
}

void CopyChecks::done(ChunkId chunk) { missing_.erase(chunk); }

}  // namespace lumeofs::metad
