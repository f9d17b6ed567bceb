// SPDX-License-Identifier: Apache-2.0
#include "metad/service/config_service.h"

#include <algorithm>

#include "common/base/log.h"

namespace lumeofs::metad {
namespace {

constexpr Nanos kReportPatience = kSecond;  // a primary that is well meanwhile is tried again

constexpr size_t kCondemnedAtOnce = 400;

bool contains(const std::vector<NodeId>& nodes, NodeId node) {
    return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

}  // namespace

wire::ConfigChangeT change_of(const ChunkRow& row) {
    wire::ConfigChangeT change;
    change.chunk = row.id.value;
    change.epoch = row.epoch.value;
    for (NodeId member : row.members) change.members.push_back(member.value);
    change.joiner = row.joiner.value;
    change.state = static_cast<wire::ChunkState>(row.state);
    return change;
}

// A new leader must not renew a node that some earlier leader removed from a chunk before the node
// knows: who is absent from what stands in the state.
ConfigService::ConfigService(Leader& leader) : leader_(leader) {
    constexpr uint32_t kPage = 1'000;
    for (auto& [id, node] : leader_.nodes) {
        ChunkId after;
        for (;;) {
            const auto rows = leader_.state.chunks_of_node(id, after, kPage);
            for (const ChunkRow& row : rows) {
                if (contains(row.absent, id) && row.joiner != id) node.removals[row.id] = row.epoch;
            }
            if (rows.size() < kPage) break;
            after = rows.back().id;
        }
    }
}

void ConfigService::change(
    std::vector<wire::ConfigChangeT> changes,
    std::function<void(Result<std::vector<wire::ChunkGrantT>>)> done) {
    std::map<uint64_t, std::vector<NodeId>> before;
    for (const auto& change : changes) {
        if (auto row = leader_.state.chunk(ChunkId{change.chunk})) {
            before[change.chunk] = row->members;
        }
    }
    wire::ApplyConfigChangesT command;
    for (auto& change : changes) {
        command.changes.push_back(std::make_unique<wire::ConfigChangeT>(std::move(change)));
    }
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose(std::move(op), [this, before, done](Result<wire::MetaReplyT> reply) {
        if (!reply) return done(reply.status());
        Wait wait;
        wait.done = done;
        for (auto& grant : reply->grants) {
            for (NodeId node : before.at(grant->chunk)) {
                const auto& members = grant->members;
                if (std::find(members.begin(), members.end(), node.value) != members.end()) continue;
                LiveNode* live = leader_.node(node);
                if (!live) continue;
                live->removals[ChunkId{grant->chunk}] = Epoch{grant->epoch};
                wait.removed.push_back({node,
                                        ChunkId{grant->chunk},
                                        Epoch{grant->epoch},
                                        live->goodbye ? 0 : live->lease_until,
                                        live->incarnation});
            }
            wait.grants.push_back(std::move(*grant));
        }
        waits_.push_back(std::move(wait));
        tick();
    });
}

bool ConfigService::gone(const Removed& removed) const {
    if (leader_.loop.now() >= removed.until) return true;
    auto it = leader_.nodes.find(removed.node);
    if (it == leader_.nodes.end()) return true;
    const LiveNode& node = it->second;
    if (node.goodbye || node.incarnation != removed.incarnation) return true;
    auto pending = node.removals.find(removed.chunk);
    return pending == node.removals.end() || pending->second > removed.epoch;
}

void ConfigService::condemn_deleted(NodeId node,
                                    const std::vector<std::pair<ChunkId, Epoch>>& held) {
    wire::ApplyCondemnT command;
    command.node = node.value;
    for (const auto& [chunk, epoch] : held) {
        if (command.chunks.size() == kCondemnedAtOnce) break;
        if (!leader_.state.was_deleted(chunk)) continue;
        command.chunks.push_back(chunk.value);
        command.epochs.push_back(epoch.value);
    }
    if (command.chunks.empty()) return;
    LFS_LOG(info, "node {} has copies of {} deleted chunks", node.value, command.chunks.size());
    wire::CommandOpUnion op;
    op.Set(std::move(command));
    leader_.propose(std::move(op), [](const Result<wire::MetaReplyT>&) {});  // else reported again
}

void ConfigService::acknowledged(NodeId id, const std::vector<uint64_t>& chunks) {
    LiveNode* node = leader_.node(id);
    if (!node || chunks.empty()) return;
    for (uint64_t chunk : chunks) node->removals.erase(ChunkId{chunk});
    tick();
}

void ConfigService::tick() {
    // Answers may come back here: take what is ready out before any of them is given.
    std::vector<Wait> ready;
    for (auto it = waits_.begin(); it != waits_.end();) {
        std::erase_if(it->removed, [this](const Removed& removed) { return gone(removed); });
        if (it->removed.empty()) {
            ready.push_back(std::move(*it));
            it = waits_.erase(it);
        } else {
            ++it;
        }
    }
    for (Wait& wait : ready) wait.done(std::move(wait.grants));
    const std::vector<Report> reports = std::move(reports_);
    reports_.clear();
    for (const Report& report : reports) answer_report(report);
}

std::optional<wire::ConfigChangeT> ConfigService::promotion(const ChunkRow& row) const {
    if (leader_.may_serve(row.members[0])) return std::nullopt;
    std::vector<NodeId> alive, dead;
    for (NodeId member : row.members) (leader_.usable(member) ? alive : dead).push_back(member);
    if (alive.empty()) return std::nullopt;
    const uint32_t least = leader_.state.cluster().min_write_replicas;
    wire::ConfigChangeT change = change_of(row);
    change.members.clear();
    for (NodeId member : alive) change.members.push_back(member.value);
    // Below min_write_replicas nobody is dropped: writes wait for the dead one or for a new member.
    for (NodeId member : dead) {
        if (change.members.size() < least) change.members.push_back(member.value);
    }
    return change;
}

void ConfigService::client_report(const wire::ReportChunkT& report,
                                  SessionId session,
                                  std::function<void(Result<wire::MetaReplyT>)> done) {
    answer_report({report, session, std::move(done), leader_.loop.now()});
}

void ConfigService::answer_report(const Report& report) {
    const auto row = leader_.state.chunk(ChunkId{report.report.chunk});
    if (!row) return report.done(Status(Errc::not_found, "the chunk is gone"));
    const auto reply_now = [&] {
        wire::MetaReplyT reply;
        const InodeId ino{report.report.ino};
        const bool writable = leader_.leases.held(report.session, ino) == Lease::write;
        auto grant = leader_.state.grant_for(ino, report.report.index, report.session, writable);
        if (!grant || grant->chunk != report.report.chunk) {
            return report.done(Status(Errc::conflict, "the file no longer has this chunk there"));
        }
        reply.grants.push_back(std::make_unique<wire::ChunkGrantT>(std::move(*grant)));
        report.done(std::move(reply));
    };
    if (row->epoch.value > report.report.epoch) return reply_now();
    const NodeId primary = row->members[0];
    const bool about_primary = report.report.node == primary.value;
    if (!about_primary || leader_.usable(primary)) {
        // It is well as far as we know: told so after a while, the client tries again.
        if (about_primary && leader_.loop.now() - report.since < kReportPatience) {
            reports_.push_back(report);
            return;
        }
        return reply_now();
    }
    if (changing_.contains(row->id)) {
        reports_.push_back(report);
        return;
    }
    auto change_to_make = promotion(*row);
    if (!change_to_make) {  // its lease runs still, or nobody is left: wait
        reports_.push_back(report);
        return;
    }
    const ChunkId chunk = row->id;
    ++changing_[chunk];
    std::vector<wire::ConfigChangeT> changes;
    changes.push_back(std::move(*change_to_make));
    change(std::move(changes),
           [this, chunk, report](const Result<std::vector<wire::ChunkGrantT>>& grants) {
               changing_.erase(chunk);
               if (!grants) return report.done(grants.status());
               answer_report(report);
           });
}

// The members that go on without the failed ones, the primary first; all of them if none is lost, and
// nobody if it must wait: below min_write_replicas no member is removed that has a copy. (Where one
// without is removed, writes wait until it is filled again: chunkd's plan_write.)
std::vector<NodeId> ConfigService::survivors(const ChunkRow& row,
                                             const wire::MemberFailureT& failure) const {
    const uint32_t least = std::max(1u, leader_.state.cluster().min_write_replicas);
    const auto usable = [this](NodeId node) { return leader_.usable(node); };
    std::vector<NodeId> kept, lost;
    for (NodeId member : row.members) {
        const bool failed = std::find(failure.failed.begin(), failure.failed.end(), member.value) !=
                            failure.failed.end();
        (failed ? lost : kept).push_back(member);
    }
    const NodeId primary = row.members[0];
    if (contains(lost, primary)) {
        // It has no whole copy (any more): it counts for nothing, so it goes even where few are left,
        // and one that can serve is first of the others.
        if (row.members.size() == 1) return row.members;
        kept.assign(row.members.begin() + 1, row.members.end());
        std::stable_partition(kept.begin(), kept.end(), usable);
        return kept;
    }
    if (lost.empty() || kept.size() >= least) return kept;
    // Without a copy they protect nothing, and could only hold up that they are filled again.
    if (static_cast<Errc>(failure.errc) == Errc::not_found) return kept;
    // The primary is the one that is cut off if all the others are well: it hands over [37]. Two that
    // lost power at once have leases still.
    const bool others_well =
        std::all_of(lost.begin(), lost.end(), [this](NodeId node) { return leader_.heard(node); });
    return others_well && lost.size() >= least ? lost : std::vector<NodeId>{};
}

void ConfigService::report_members(const wire::ReportMembersT& report,
                                   std::function<void(wire::ConfigReplyT)> done) {
    auto reply = std::make_shared<wire::ConfigReplyT>();
    std::vector<wire::ConfigChangeT> changes;
    for (const auto& failure : report.failures) {
        const auto row = leader_.state.chunk(ChunkId{failure->chunk});
        if (!row) {
            reply->unknown.push_back(failure->chunk);
            continue;
        }
        const bool stale =
            row->epoch.value != failure->epoch || row->members[0].value != report.node;
        const std::vector<NodeId> members = stale ? row->members : survivors(*row, *failure);
        if (members == row->members) {
            reply->grants.push_back(
                std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(*row)));
            continue;
        }
        if (members.empty()) continue;  // it waits and asks again
        wire::ConfigChangeT change_to_make = change_of(*row);
        change_to_make.members.clear();
        for (NodeId member : members) change_to_make.members.push_back(member.value);
        LFS_LOG(info,
                "chunk {}: primary {} lost members, {} of {} go on",
                failure->chunk,
                report.node,
                members.size(),
                row->members.size());
        changes.push_back(std::move(change_to_make));
    }
    if (changes.empty()) {
        if (reply->grants.empty() && reply->unknown.empty()) {
            reply->errc = static_cast<uint16_t>(Errc::unavailable);
            reply->text = "too few members are left to remove one";
        }
        return done(std::move(*reply));
    }
    change(std::move(changes), [reply, done](Result<std::vector<wire::ChunkGrantT>> grants) {
        if (!grants) {
            reply->errc = static_cast<uint16_t>(grants.code());
            reply->text = grants.status().text();
        } else {
            for (auto& grant : *grants) {
                reply->grants.push_back(std::make_unique<wire::ChunkGrantT>(std::move(grant)));
            }
        }
        done(std::move(*reply));
    });
}

void ConfigService::join_done(const wire::JoinDoneT& report,
                              std::function<void(wire::ConfigReplyT)> done) {
    wire::ConfigReplyT reply;
    const auto row = leader_.state.chunk(ChunkId{report.chunk});
    if (!row) {
        const std::vector<std::pair<ChunkId, Epoch>> held{
            {ChunkId{report.chunk}, Epoch{report.epoch}}};
        condemn_deleted(NodeId{report.joiner}, held);
        condemn_deleted(NodeId{report.node}, held);
        reply.unknown.push_back(report.chunk);
        return done(std::move(reply));
    }
    if (row->epoch.value != report.epoch || row->joiner.value != report.joiner ||
        row->members[0].value != report.node) {
        reply.grants.push_back(std::make_unique<wire::ChunkGrantT>(StateMachine::to_grant(*row)));
        return done(std::move(reply));
    }
    wire::ConfigChangeT change_to_make = change_of(*row);
    change_to_make.joiner = 0;
    change_to_make.raise_epoch = report.ok;
    if (report.ok) {
        change_to_make.members.push_back(report.joiner);
        if (LiveNode* node = leader_.node(NodeId{report.joiner})) node->removals.erase(row->id);
    }
    std::vector<wire::ConfigChangeT> changes;
    changes.push_back(std::move(change_to_make));
    change(std::move(changes), [done](Result<std::vector<wire::ChunkGrantT>> grants) {
        wire::ConfigReplyT answer;
        if (!grants) {
            answer.errc = static_cast<uint16_t>(grants.code());
            answer.text = grants.status().text();
        } else {
            for (auto& grant : *grants) {
                answer.grants.push_back(std::make_unique<wire::ChunkGrantT>(std::move(grant)));
            }
        }
        done(std::move(answer));
    });
}

}  // namespace lumeofs::metad
