// SPDX-License-Identifier: Apache-2.0
// Whole chunkd servers on one virtual loop, each with a simulated disk of its own, and a metad that
// knows just enough: registrations, leases, configurations with acknowledged removals, joins, fences.
// single-thread.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "chunkd/replication/driver.h"
#include "chunkd/server.h"
#include "common/rpc/inproc_transport.h"
#include "common/rpc/server.h"
#include "common/wire/codec.h"
#include "common/wire/frame.h"
#include "tests/sim/sim_disk.h"
#include "tests/unit/client/fake_loop.h"

namespace lumeofs::replication_test {

using client_test::FakeLoop;

inline constexpr Nanos kLease = kNodeLease;
inline constexpr uint32_t kMinWriteReplicas = 2;

class FakeMetad {
public:
    struct Node {
        uint64_t incarnation = 0;
        uint64_t attempt = 0;
        std::string address;
        Nanos lease_until = 0;
        std::map<uint64_t, bool> removals;
        uint64_t acked_fence = 0;
    };
    struct Change {
        wire::ChunkGrantT grant;
        std::vector<uint64_t> lost;
        std::function<void()> done;
    };

    FakeMetad(FakeLoop& loop, const std::shared_ptr<InprocNetwork>& network)
        : loop_(loop), transport_(loop, network) {
        RpcServerEvents on;
        on.on_request = [this](RpcPeer&, RpcRequest request) { handle(request); };
        server_ = std::make_unique<RpcServer>(loop, transport_, std::move(on));
        Hello hello;
        hello.protocol_revision = kProtocolRevision;
        hello.role = Role::metad;
        hello.node = NodeId{1};
        REQUIRE(server_->listen("metad:9100", hello).is_ok());
    }

    wire::ChunkGrantT& chunk(uint64_t id, std::vector<uint64_t> members) {
        wire::ChunkGrantT& row = rows[id];
        row.chunk = id;
        row.epoch = 1;
        row.members = std::move(members);
        return row;
    }
    void fence(uint64_t session) { fences.push_back(session); }
    // metad has found out that a node is dead: its lease must be over, then the next member leads.
    void remove_member(uint64_t id, uint64_t node, std::function<void()> done = {}) {
        wire::ChunkGrantT next = rows[id];
        ++next.epoch;
        std::erase(next.members, node);
        rows[id] = next;
        nodes[node].removals[id] = false;
        waiting.push_back({next, {node}, std::move(done)});
        settle_changes();
    }
    // A new configuration with the same members or others, in force at once.
    void change_members(uint64_t id, std::vector<uint64_t> members) {
        rows[id].members = std::move(members);
        ++rows[id].epoch;
    }
    void order_fill(uint64_t id, uint64_t joiner) {
        rows[id].joiner = joiner;
        wire::OrderT order;
        order.number = ++last_order_;
        order.kind = wire::OrderKind::fill_joiner;
        order.term = 1;
        order.node = joiner;
        order.grant = std::make_unique<wire::ChunkGrantT>(rows[id]);
        orders.push_back(order);
    }
    void settle_changes() {
        for (size_t i = 0; i < waiting.size();) {
            bool over = true;
            for (uint64_t node : waiting[i].lost) {
                Node& one = nodes[node];
                over = over && (one.removals[waiting[i].grant.chunk] || one.lease_until <= loop_.now());
            }
            if (!over) {
                ++i;
                continue;
            }
            Change change = std::move(waiting[i]);
            waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
            if (change.done) change.done();
        }
        if (!waiting.empty()) {
            loop_.after(50 * kMillisecond, [this] { settle_changes(); });
        }
    }

    std::map<uint64_t, wire::ChunkGrantT> rows;
    std::map<uint64_t, Node> nodes;
    std::vector<uint64_t> fences;
    std::vector<wire::OrderT> orders;
    std::vector<Change> waiting;
    bool silent = false;
    uint64_t only = 0;  // not 0: nobody else can register
    int joins = 0;

private:
    template <typename Table>
    void reply(const RpcRequest& to, const typename Table::NativeTableType& message) {
        to.responder.reply_ok(wire::encode<Table>(message));
    }
    void handle(RpcRequest& request) {
        if (silent) {
            held_.push_back(request.responder);
            return;
        }
        auto message = wire::decode<wire::NodeRequest>(request.body);
        REQUIRE(message.is_ok());
        if (const auto* op = message->op.AsRegister()) return on_register(request, *op);
        if (const auto* op = message->op.AsHeartbeat()) return on_heartbeat(request, *op);
        if (const auto* op = message->op.AsReportMembers()) return on_report(request, *op);
        if (const auto* op = message->op.AsJoinDone()) return on_join(request, *op);
        wire::ConfigReplyT answer;
        if (const auto* op = message->op.AsGetConfigs()) {
            for (uint64_t id : op->chunks) {
                answer.grants.push_back(std::make_unique<wire::ChunkGrantT>(rows[id]));
            }
        }
        reply<wire::ConfigReply>(request, answer);
    }
    void add_nodes(std::vector<std::unique_ptr<wire::NodeAddressT>>* out) {
        for (auto& [id, node] : nodes) {
            auto one = std::make_unique<wire::NodeAddressT>();
            one->node = id;
            one->address = node.address;
            one->role = static_cast<uint8_t>(Role::chunkd);
            out->push_back(std::move(one));
        }
    }
    void on_register(const RpcRequest& request, const wire::RegisterT& op) {
        if (only != 0 && op.node != only) {
            held_.push_back(request.responder);
            return;
        }
        Node& node = nodes[op.node];
        if (node.attempt != op.attempt) {
            node.incarnation = ++last_incarnation_;
            node.attempt = op.attempt;
            node.lease_until = loop_.now();
        }
        node.address = op.address;
        wire::RegisterReplyT answer;
        answer.incarnation = node.incarnation;
        answer.cluster_id_high = 1;
        answer.cluster_id_low = 2;
        answer.fenced_sessions = fences;
        answer.fence_number = fences.size();
        answer.min_write_replicas = kMinWriteReplicas;
        answer.nodes_version = nodes.size();
        answer.last_chunk = rows.empty() ? 0 : rows.rbegin()->first;
        add_nodes(&answer.nodes);
        reply<wire::RegisterReply>(request, answer);
    }
    void on_heartbeat(const RpcRequest& request, const wire::HeartbeatT& op) {
        Node& node = nodes[op.node];
        wire::HeartbeatReplyT answer;
        if (node.incarnation != op.incarnation) {
            answer.errc = static_cast<uint16_t>(Errc::fenced);
            return reply<wire::HeartbeatReply>(request, answer);
        }
        for (uint64_t id : op.acked_removals) node.removals[id] = true;
        node.acked_fence = op.acked_fence;
        std::erase_if(orders, [&op](const wire::OrderT& order) {
            return std::find(op.done_orders.begin(), op.done_orders.end(), order.number) !=
                   op.done_orders.end();
        });
        answer.sent_ns = op.sent_ns;
        answer.term = 1;
        answer.nodes_version = nodes.size();
        if (op.nodes_version != nodes.size()) add_nodes(&answer.nodes);
        answer.fence_number = fences.size();
        answer.fenced_sessions = fences;
        for (auto& [id, acked] : node.removals) {
            if (!acked) answer.removals.push_back(std::make_unique<wire::ChunkGrantT>(rows[id]));
        }
        for (const wire::OrderT& order : orders) {
            if (order.grant->members.front() == op.node) {
                answer.orders.push_back(std::make_unique<wire::OrderT>(order));
            }
        }
        if (op.goodbye) {
            node.lease_until = loop_.now();
        } else {
            answer.lease_ns = static_cast<uint64_t>(kLease);
            node.lease_until = loop_.now() + kLease;
        }
        reply<wire::HeartbeatReply>(request, answer);
        settle_changes();
    }
    void on_report(const RpcRequest& request, const wire::ReportMembersT& op) {
        for (const auto& failure : op.failures) {
            const wire::ChunkGrantT& row = rows[failure->chunk];
            const bool lost = static_cast<Errc>(failure->errc) == Errc::not_found;
            const bool current = row.epoch == failure->epoch &&
                                 (lost || row.members.size() > kMinWriteReplicas);
            if (current) {
                remove_member(failure->chunk,
                              failure->failed.front(),
                              [this, id = failure->chunk, responder = request.responder] {
                                  wire::ConfigReplyT answer;
                                  answer.grants.push_back(
                                      std::make_unique<wire::ChunkGrantT>(rows[id]));
                                  responder.reply_ok(wire::encode<wire::ConfigReply>(answer));
                              });
            } else {
                wire::ConfigReplyT answer;
                answer.grants.push_back(std::make_unique<wire::ChunkGrantT>(row));
                reply<wire::ConfigReply>(request, answer);
            }
        }
    }
    void on_join(const RpcRequest& request, const wire::JoinDoneT& op) {
        wire::ChunkGrantT& row = rows[op.chunk];
        if (row.epoch == op.epoch && row.joiner == op.joiner) {
            row.joiner = 0;
            if (op.ok) {
                row.members.push_back(op.joiner);
                ++row.epoch;
                ++joins;
                orders.clear();
            }
        }
        wire::ConfigReplyT answer;
        answer.grants.push_back(std::make_unique<wire::ChunkGrantT>(row));
        reply<wire::ConfigReply>(request, answer);
    }

    FakeLoop& loop_;
    InprocTransport transport_;
    std::unique_ptr<RpcServer> server_;
    uint64_t last_incarnation_ = 0;
    uint64_t last_order_ = 0;
    std::vector<Responder> held_;
};

struct Cluster {
    FakeLoop loop;
    std::shared_ptr<InprocNetwork> network = std::make_shared<InprocNetwork>();
    FakeMetad metad{loop, network};
    InprocTransport transport{loop, network};
    std::map<uint64_t, std::unique_ptr<sim::SimDisk>> disks;
    std::map<uint64_t, std::unique_ptr<chunkd::ChunkdServer>> servers;
    const std::vector<std::string> data_dirs;
    uint64_t last_write = 0;
    uint64_t starts = 0;
    uint32_t max_concurrent_writes = 100;  // of those that start from now on

    explicit Cluster(uint64_t nodes = 3, std::vector<std::string> dirs = {"/data"})
        : data_dirs(std::move(dirs)) {
        for (uint64_t id = 11; id < 11 + nodes; ++id) {
            disks[id] = std::make_unique<sim::SimDisk>();
            start(id);
        }
        for (uint64_t id = 11; id < 11 + nodes; ++id) wait_serving(id);
        run_for(3 * kSecond);  // all links are up
    }
    ~Cluster() { servers.clear(); }

    void start(uint64_t id) {
        chunkd::ChunkdConfig config;
        config.node_id = NodeId{id};
        config.address = "c" + std::to_string(id);
        config.data_dirs = data_dirs;
        config.masters = {"metad:9100"};
        config.reserve_percent = 0;
        config.wal_max_size = 64 << 20;
        config.wal_segment_size = 5 << 20;
        config.home_file_size = 8 << 20;
        config.home_step = 4 << 20;
        config.fill_ahead = 0;
        config.reserve_min_bytes = 1 << 20;
        config.max_concurrent_writes = max_concurrent_writes;
        chunkd::ChunkdEnv env{loop, *disks[id], transport, ++starts * 1000 + id, {}};
        servers[id] = std::make_unique<chunkd::ChunkdServer>(env, config);
        const Status status = servers[id]->start();
        INFO(status.to_string());
        REQUIRE(status.is_ok());
    }
    void wait_serving(uint64_t id) {
        REQUIRE(loop.run_until([&] { return servers[id]->serving(); }, 20 * kSecond));
    }
    void kill(uint64_t id) {
        servers.erase(id);
        disks[id]->kill_process();
    }
    void power_cut(uint64_t id, uint64_t seed) {
        disks[id]->power_cut(seed);
        servers.erase(id);
        disks[id]->power_on();
    }
    void lose_disk(uint64_t id) {
        servers.erase(id);
        disks[id] = std::make_unique<sim::SimDisk>();
    }
    bool joined(int count) {
        return loop.run_until([&] { return metad.joins == count; }, 20 * kSecond);
    }
    void run_for(Nanos time) { loop.run_for(time); }
    replication::ChunkReplica* replica(uint64_t id, uint64_t chunk) {
        return servers[id]->driver()->find(ChunkId{chunk});
    }

    wire::ChunkGrantT grant(uint64_t chunk, uint64_t session) {
        wire::ChunkGrantT grant = metad.rows[chunk];
        grant.session = session;
        grant.write_limit = kChunkSize;
        return grant;
    }
    struct Write {
        bool answered = false;
        wire::ChunkReplyT reply;
        Errc errc() const { return static_cast<Errc>(reply.errc); }
    };
    std::shared_ptr<Write> send(uint64_t node,
                                const wire::ChunkGrantT& with,
                                uint64_t offset,
                                const std::string& bytes,
                                uint64_t number = 0,
                                uint64_t lowest = 0) {
        wire::WriteChunkT request;
        request.grant = std::make_unique<wire::ChunkGrantT>(with);
        request.session = with.session;
        request.write_no = number != 0 ? number : ++last_write;
        request.lowest_outstanding = lowest != 0 ? lowest : request.write_no;
        request.offset = offset;
        request.length = bytes.size();
        Buffer payload = Buffer::copy_of(as_view(bytes));
        request.checksums = replication::piece_checksums(offset, payload.view());
        auto write = std::make_shared<Write>();
        servers[node]->driver()->write(std::move(request),
                                       std::move(payload),
                                       false,
                                       0,
                                       [write](wire::ChunkReplyT reply, const Buffer&) {
                                           write->answered = true;
                                           write->reply = std::move(reply);
                                       });
        return write;
    }
    // As a client: repeats under one number until it is done; the primary is asked each time.
    Errc write(uint64_t chunk, uint64_t offset, const std::string& bytes, uint64_t session = 100) {
        const uint64_t number = ++last_write;
        for (int tries = 0; tries < 400; ++tries) {
            const wire::ChunkGrantT with = grant(chunk, session);
            const uint64_t node = with.members.front();
            if (servers.contains(node) && servers[node]->driver() != nullptr) {
                auto sent = send(node, with, offset, bytes, number);
                loop.run_until([&] { return sent->answered; }, 10 * kSecond);
                if (sent->answered && sent->errc() == Errc::ok) return Errc::ok;
                if (sent->answered && (sent->errc() == Errc::fenced || sent->errc() == Errc::inval ||
                                       sent->errc() == Errc::nospc)) {
                    return sent->errc();
                }
            }
            run_for(50 * kMillisecond);
        }
        return Errc::timeout;
    }
    struct Read {
        Errc errc = Errc::timeout;
        uint64_t redirect = 0;
        std::string bytes;
    };
    Read read(uint64_t node,
              uint64_t chunk,
              uint64_t offset,
              uint64_t length,
              const wire::ChunkGrantT* with = nullptr) {
        wire::ReadChunkT request;
        request.grant =
            std::make_unique<wire::ChunkGrantT>(with != nullptr ? *with : grant(chunk, 100));
        request.session = 100;
        request.offset = offset;
        request.length = length;
        auto got = std::make_shared<Read>();
        bool done = false;
        servers[node]->driver()->read(
            request, loop.now() + 5 * kSecond, [got, &done](const wire::ChunkReplyT& reply, Buffer b) {
                got->errc = static_cast<Errc>(reply.errc);
                got->redirect = reply.redirect;
                got->bytes = std::string(as_text(b.view()));
                done = true;
            });
        loop.run_until([&] { return done; }, 10 * kSecond);
        REQUIRE(done);
        return *got;
    }
    // The bytes of a member's own copy, whatever its role.
    std::string raw(uint64_t node, uint64_t chunk, uint64_t offset, uint64_t length) {
        auto blocks = servers[node]->store()->read(ChunkId{chunk}, offset, length);
        REQUIRE(blocks.is_ok());
        const uint64_t start = offset - blocks->first_block * kBlockSize;
        return std::string(
            as_text(blocks->data.view().subspan(static_cast<size_t>(start), length)));
    }
};

}  // namespace lumeofs::replication_test
