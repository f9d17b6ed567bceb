// SPDX-License-Identifier: Apache-2.0
// What the chunks of a node have to say to other nodes and to metad, put together: what is asked in one
// turn of the loop goes at its end, in one message to each.
#include <algorithm>
#include <utility>

#include "chunkd/replication/driver.h"
#include "common/base/log.h"
#include "common/wire/codec.h"

namespace lumeofs::replication {

namespace {

constexpr Nanos kReportTimeout = 8 * kSecond;  // metad answers when a node lease is over

}  // namespace

void Driver::at_end(bool* asked, void (Driver::*run)()) {
    if (std::exchange(*asked, true)) return;
    loop_.at_end_of_batch([this, asked, run, alive = std::weak_ptr<char>(alive_)] {
        if (alive.expired()) return;
        *asked = false;
        (this->*run)();
    });
}

void Driver::gather(NodeId node, ChunkId chunk, const Configuration& config, GatherDone done) {
    gathers_[node].push_back({chunk, config, std::move(done)});
    at_end(&gathers_asked_, &Driver::send_gathers);
}

void Driver::send_gathers() {
    for (auto& [node, all] : std::exchange(gathers_, {})) {
        for (size_t from = 0; from < all.size(); from += kGathersPerMessage) {
            const size_t to = std::min(all.size(), from + kGathersPerMessage);
            std::vector<AskedGather> part(
                std::make_move_iterator(all.begin() + static_cast<std::ptrdiff_t>(from)),
                std::make_move_iterator(all.begin() + static_cast<std::ptrdiff_t>(to)));
            send_gather(node, std::move(part));
        }
    }
}

void Driver::send_gather(NodeId node, std::vector<AskedGather> asked) {
    wire::GatherT message;
    message.incarnation = incarnation_.value;
    for (const AskedGather& one : asked) {
        message.configs.push_back(
            std::make_unique<wire::ChunkGrantT>(to_wire(one.chunk, one.config)));
    }
    auto waiting = std::make_shared<std::vector<AskedGather>>(std::move(asked));
    outside_.call_node(node,
                       Method::gather,
                       wire::encode<wire::Gather>(message),
                       {},
                       kRpcTimeout,
                       [waiting](RpcReply rpc) {
                           auto reply = rpc.status.is_ok()
                                            ? wire::decode<wire::GatherReply>(rpc.body)
                                            : Result<wire::GatherReplyT>(rpc.status);
                           Status status = reply.status();
                           if (status.is_ok() && reply->chunks.size() != waiting->size()) {
                               status = Status(Errc::protocol, "a gather was answered in part");
                           }
                           for (size_t i = 0; i < waiting->size(); ++i) {
                               AskedGather& one = (*waiting)[i];
                               if (!status.is_ok() || !reply->chunks[i]) {
                                   one.done(status.is_ok() ? Status(Errc::protocol) : status);
                               } else {
                                   one.done(std::move(*reply->chunks[i]));
                               }
                           }
                       });
}

void Driver::send_commit_point(NodeId node, ChunkId chunk, const WriteName& name) {
    commit_points_[node].emplace_back(chunk.value, to_wire(name));
    at_end(&points_asked_, &Driver::send_commit_points);
}

void Driver::send_commit_points() {
    for (auto& [node, points] : std::exchange(commit_points_, {})) {
        wire::CommitPointsT message;
        message.incarnation = incarnation_.value;
        message.points = std::move(points);
        if (!outside_.push_node(node, Method::commit_point, wire::encode<wire::CommitPoints>(message))) {
            not_told(node);  // told again later
        }
    }
}

void Driver::report(ChunkId chunk, Epoch epoch, std::vector<NodeId> failed, Errc why) {
    ++stats_.reports;
    wire::MemberFailureT failure;
    failure.chunk = chunk.value;
    failure.epoch = epoch.value;
    for (NodeId node : failed) {
        LFS_LOG(warn,
                "chunk {} epoch {}: node {} fails us ({}); telling metad",
                chunk.value,
                epoch.value,
                node.value,
                errc_name(why));
        failure.failed.push_back(node.value);
    }
    failure.errc = static_cast<uint16_t>(why);
    reports_.push_back(std::move(failure));
    at_end(&reports_asked_, &Driver::send_reports);
}

void Driver::send_reports() {
    auto reports = std::exchange(reports_, {});
    constexpr size_t kPerMessage = 1000;
    for (size_t from = 0; from < reports.size(); from += kPerMessage) {
        wire::ReportMembersT message;
        message.node = options_.self.value;
        message.incarnation = incarnation_.value;
        for (size_t i = from; i < std::min(reports.size(), from + kPerMessage); ++i) {
            message.failures.push_back(
                std::make_unique<wire::MemberFailureT>(std::move(reports[i])));
        }
        wire::NodeOpUnion op;
        op.Set(std::move(message));
        tell_metad(std::move(op));
    }
}

void Driver::ask_config(ChunkId chunk) {
    configs_wanted_.push_back(chunk.value);
    at_end(&configs_asked_, &Driver::send_config_requests);
}

void Driver::send_config_requests() {
    wire::GetConfigsT message;
    message.node = options_.self.value;
    message.chunks = std::exchange(configs_wanted_, {});
    wire::NodeOpUnion op;
    op.Set(std::move(message));
    tell_metad(std::move(op));
}

// The answer is configurations.
void Driver::tell_metad(wire::NodeOpUnion op) {
    outside_.call_metad(
        std::move(op),
        kReportTimeout,
        [this, alive = std::weak_ptr<char>(alive_)](Result<wire::ConfigReplyT> reply) {
            if (alive.expired() || !started_ || !reply.is_ok()) return;
            adopt_all(*reply);
        });
}

}  // namespace lumeofs::replication
