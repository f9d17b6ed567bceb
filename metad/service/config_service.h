// SPDX-License-Identifier: Apache-2.0
// Changes of chunk configurations (system.md 3.1, PacificA's configuration manager): removal of failed
// members, promotion, joining. Every change is a commit that raises the epoch.
//
// A change is *answered* only when every member that it removed has acknowledged it or cannot serve
// any more [3]: removals ride on the reply that renews a node's lease, so a node that was renewed
// after the commit knows them, and one that was not has stopped by the lease it had at the commit.
// Promotion waits for the old primary's node lease, its goodbye, or its next incarnation; a closed
// connection proves nothing [33]. single-thread: the metad loop.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "metad/service/leader.h"

namespace lumeofs::metad {

class ConfigService {
public:
    explicit ConfigService(Leader& leader);

    // A client could not use `report.node` for the chunk. Answers with the grant to use now: at once
    // if the configuration is newer than the client's or the node is well, else when the member has
    // been replaced as primary.
    void client_report(const wire::ReportChunkT& report,
                       SessionId session,
                       std::function<void(Result<wire::MetaReplyT>)> done);
    // A primary lost members.
    void report_members(const wire::ReportMembersT& report,
                        std::function<void(wire::ConfigReplyT)> done);
    void join_done(const wire::JoinDoneT& report, std::function<void(wire::ConfigReplyT)> done);

    // Proposes the changes; `done` gets the grants of those that took effect, when they are in force.
    void change(std::vector<wire::ConfigChangeT> changes,
                std::function<void(Result<std::vector<wire::ChunkGrantT>>)> done);
    // The change that makes a usable member the primary of a chunk whose primary is gone, dropping
    // the dead as far as min_write_replicas allows. Nothing if no member is usable or the primary is.
    std::optional<wire::ConfigChangeT> promotion(const ChunkRow& row) const;

    // Copies that `node` says it has, (chunk, epoch): those of deleted chunks become garbage there
    // [19]. They come about when a copy is made, or a node comes back, after the removal was done.
    void condemn_deleted(NodeId node, const std::vector<std::pair<ChunkId, Epoch>>& held);

    void acknowledged(NodeId node, const std::vector<uint64_t>& chunks);
    // A node cannot serve any more, or time has passed: looks at who still waits.
    void tick();
    size_t waiting() const { return waits_.size(); }

private:
    struct Removed {
        NodeId node;
        ChunkId chunk;
        Epoch epoch;
        Nanos until = 0;         // the lease that it had when the change was committed
        Incarnation incarnation;  // a later one cannot serve the old configuration
    };
    struct Wait {
        std::vector<Removed> removed;
        std::vector<wire::ChunkGrantT> grants;
        std::function<void(Result<std::vector<wire::ChunkGrantT>>)> done;
    };
    struct Report {  // of a client, about a primary whose lease still runs
        wire::ReportChunkT report;
        SessionId session;
        std::function<void(Result<wire::MetaReplyT>)> done;
        Nanos since = 0;
    };

    bool gone(const Removed& removed) const;
    std::vector<NodeId> survivors(const ChunkRow& row, const wire::MemberFailureT& failure) const;
    void answer_report(const Report& report);

    Leader& leader_;
    std::vector<Wait> waits_;
    std::vector<Report> reports_;
    std::map<ChunkId, int> changing_;  // a change is on its way: others wait for its outcome
};

wire::ConfigChangeT change_of(const ChunkRow& row);

}  // namespace lumeofs::metad
