// SPDX-License-Identifier: Apache-2.0
#include "metad/service/copy_checks.h"

#include <algorithm>

#include "common/base/log.h"

namespace lumeofs::metad {
namespace {

constexpr uint32_t kRowsAtOnce = 1024;
constexpr size_t kRowsPerTurn = 2 * kRowsAtOnce;
constexpr size_t kPagesMax = 4096;        // what is beyond is found by the next report
constexpr size_t kChecksMax = 64 * 1024;  // more wait in their pages
constexpr size_t kChecksPerTurn = 1024;
constexpr size_t kOrdersPerNode = 128;
constexpr size_t kPromotionsAtOnce = 64;

bool is_member(const ChunkRow& row, NodeId node) {
    return std::find(row.members.begin(), row.members.end(), node) != row.members.end();
}

}  // namespace

void CopyChecks::reported(const wire::ChunkReportT& report) {
    Page page;
    page.node = NodeId{report.node};
    page.after = ChunkId{report.first};
    for (const auto& one : report.chunks) page.held.insert(ChunkId{one->chunk});
    page.end = report.last || page.held.empty() ? ChunkId{UINT64_MAX} : *page.held.rbegin();
    if (pages_.size() < kPagesMax) pages_.push_back(std::move(page));
    const size_t before = missing_.size();
    look();
    if (missing_.size() == before) return;
    LFS_LOG(info,
            "chunkd {} does not hold {} chunks of its own; their primaries ask",
            report.node,
            missing_.size() - before);
    tick();
}

void CopyChecks::look() {
    for (size_t rows_left = kRowsPerTurn;
         !pages_.empty() && rows_left >= kRowsAtOnce && missing_.size() < kChecksMax;
         rows_left -= kRowsAtOnce) {
        Page& page = pages_.front();
        const auto rows = leader_.state.chunks_of_node(page.node, page.after, kRowsAtOnce);
        for (const ChunkRow& row : rows) {
            page.after = row.id;
            if (row.id > page.end) break;
            if (!page.held.contains(row.id) && is_member(row, page.node)) {
                missing_[row.id].nodes.insert(page.node);
            }
        }
        if (rows.size() < kRowsAtOnce || page.after >= page.end) pages_.pop_front();
    }
}

void CopyChecks::tick() {
    look();
    std::vector<wire::ConfigChangeT> promotions;
    auto it = missing_.upper_bound(cursor_);
    for (size_t left = std::min(kChecksPerTurn, missing_.size()); left > 0; --left) {
        if (it == missing_.end()) it = missing_.begin();
        cursor_ = it->first;
        Check& check = it->second;
        const auto row = leader_.state.chunk(it->first);
        std::erase_if(check.nodes, [&row](NodeId node) { return !row || !is_member(*row, node); });
        if (check.nodes.empty()) {
            withdraw(check);
            it = missing_.erase(it);
            continue;
        }
        if (!leader_.usable(row->members[0])) {
            auto change = configs_.promotion(*row);
            if (change && promotions.size() < kPromotionsAtOnce) {
                promotions.push_back(std::move(*change));
            }
        } else {
            order(*row, &check);
        }
        ++it;
    }
    if (promotions.empty() || promoting_) return;
    promoting_ = true;
    configs_.change(std::move(promotions), [this](const Result<std::vector<wire::ChunkGrantT>>&) {
        promoting_ = false;
    });
}

void CopyChecks::order(const ChunkRow& row, Check* check) {
    const NodeId primary = row.members[0];
    LiveNode* node = leader_.node(primary);
    if (!node) return;
    if (check->primary == primary && node->orders.contains(check->order)) return;
    if (node->orders_of(wire::OrderKind::check_copies) >= kOrdersPerNode) return;
    withdraw(*check);
    check->primary = primary;
    check->asked = check->nodes;
    check->order = leader_.order(*node,
                                 wire::OrderKind::check_copies,
                                 std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(row)));
}

void CopyChecks::withdraw(const Check& check) {
    if (LiveNode* node = leader_.node(check.primary)) node->orders.erase(check.order);
}

void CopyChecks::done(NodeId primary, ChunkId chunk, uint64_t order) {
    auto it = missing_.find(chunk);
    if (it == missing_.end() || it->second.primary != primary || it->second.order != order) return;
    for (NodeId node : it->second.asked) it->second.nodes.erase(node);
    if (it->second.nodes.empty()) missing_.erase(it);
}

}  // namespace lumeofs::metad
