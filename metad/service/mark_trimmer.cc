// SPDX-License-Identifier: Apache-2.0
#include "metad/service/mark_trimmer.h"

#include <algorithm>

#include "common/base/log.h"

namespace lumeofs::metad {
namespace {

constexpr uint32_t kChunksAtOnce = 64;
constexpr size_t kOrdersPerNode = 128;

std::vector<NodeId> holders(const ChunkRow& row) {
    std::vector<NodeId> nodes = row.members;
    nodes.insert(nodes.end(), row.absent.begin(), row.absent.end());
    if (row.joiner) nodes.push_back(row.joiner);
    return nodes;
}

}  // namespace

void MarkTrimmer::tick() {
    const std::vector<ChunkRow> rows = leader_.state.chunks_with_marks(ChunkId{}, kChunksAtOnce);
    std::erase_if(known_, [&rows](const auto& entry) {
        return std::none_of(rows.begin(), rows.end(), [&](const ChunkRow& row) {
            return row.id == entry.first;
        });
    });
    wire::ApplyTrimMarksT command;
    std::vector<wire::ConfigChangeT> changes;
    for (const ChunkRow& row : rows) {
        Copies& copies = known_[row.id];
        const Epoch least = least_known(row, copies);
        if (least >= row.marks.front().epoch) {
            command.chunks.push_back(row.id.value);
            command.epochs.push_back(least.value);
        }
        order(row, &copies);
        if (row.marks.size() < kMarksPressing) continue;
        if (auto change = without_lost(row)) changes.push_back(std::move(*change));
    }
    if (!command.chunks.empty() && !trimming_) trim(std::move(command));
    if (changes.empty() || changing_) return;
    changing_ = true;
    configs_.change(std::move(changes), [this](const Result<std::vector<wire::ChunkGrantT>>&) {
        changing_ = false;
    });
}

Epoch MarkTrimmer::least_known(const ChunkRow& row, const Copies& copies) const {
    Epoch least = row.epoch;
    for (NodeId node : holders(row)) {
        auto it = copies.find(node);
        least = std::min(least, it == copies.end() ? Epoch{} : it->second.epoch);
    }
    return least;
}

void MarkTrimmer::order(const ChunkRow& row, Copies* copies) {
    const Epoch wanted = row.marks[row.marks.size() - 2].epoch;  // then all but the newest can go
    for (NodeId id : holders(row)) {
        LiveNode* node = leader_.node(id);
        Copy& copy = (*copies)[id];
        if (copy.epoch >= wanted || !node || !leader_.usable(id)) continue;
        if (node->orders.contains(copy.order)) continue;  // when it is done there will be another
        if (node->orders_of(wire::OrderKind::adopt) >= kOrdersPerNode) continue;
        copy.order =
            leader_.order(*node,
                          wire::OrderKind::adopt,
                          std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(row)));
        copy.ordered = row.epoch;
    }
}

void MarkTrimmer::adopted(NodeId node, ChunkId chunk, Epoch epoch) {
    auto it = known_.find(chunk);
    if (it == known_.end()) return;
    Copy& copy = it->second[node];
    copy.epoch = std::max(copy.epoch, epoch);
    tick();
}

// The configuration without members that cannot serve, and absent copies that cannot be reached
// written off.
std::optional<wire::ConfigChangeT> MarkTrimmer::without_lost(const ChunkRow& row) const {
    if (!leader_.usable(row.members[0])) return configs_.promotion(row);
    wire::ConfigChangeT change = change_of(row);
    for (NodeId node : row.absent) {
        if (!leader_.may_serve(node)) change.written_off.push_back(node.value);
    }
    const uint32_t least = std::max(1u, leader_.state.cluster().min_write_replicas);
    for (NodeId node : row.members) {
        if (!leader_.may_serve(node) && change.members.size() > least) {
            std::erase(change.members, node.value);
        }
    }
    if (change.written_off.empty() && change.members.size() == row.members.size()) return {};
    LFS_LOG(info,
            "chunk {}: shrink marks press; {} copies written off, {} of {} members go on",
            row.id.value,
            change.written_off.size(),
            change.members.size(),
            row.members.size());
    return change;
}

void MarkTrimmer::trim(wire::ApplyTrimMarksT command) {
    trimming_ = true;
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose(std::move(op), [this](const Result<wire::MetaReplyT>& reply) {
        trimming_ = false;
        if (reply && reply->value > 0) tick();  // more may have come meanwhile
    });
}

}  // namespace lumeofs::metad
