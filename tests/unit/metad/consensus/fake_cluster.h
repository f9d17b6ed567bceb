// SPDX-License-Identifier: Apache-2.0
// Drivers in one thread on virtual time: a loop, a state machine and nodes with disks of their own.
// single-thread: tests.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/checksum.h"
#include "common/rpc/inproc_transport.h"
#include "common/rpc/server.h"
#include "common/wire/frame.h"
#include "metad/consensus/driver.h"
#include "tests/unit/metad/consensus/fake_disk.h"

namespace lumeofs::consensus_test {

class VirtualLoop final : public Loop {
public:
    Nanos now() const override { return now_; }
    Nanos wall_now() const override { return now_; }
    void post(Task task) override {
        tasks_.push_back(std::move(task));
        ++posted_;
    }
    TimerId after(Nanos delay, Task task) override {
        timers_[{now_ + delay, ++last_timer_}] = std::move(task);
        return last_timer_;
    }
    void cancel(TimerId timer) override {
        for (auto at = timers_.begin(); at != timers_.end(); ++at) {
            if (at->first.second == timer) {
                timers_.erase(at);
                return;
            }
        }
    }
    void at_end_of_batch(Task idle) override { idle_.push_back({posted_, std::move(idle)}); }

    // All that can run without time passing.
    void run_ready() {
        while (!tasks_.empty() || !idle_.empty()) {
            if (!idle_.empty() && idle_.front().first <= executed_) {
                Task task = std::move(idle_.front().second);
                idle_.pop_front();
                task();
                continue;
            }
            Task task = std::move(tasks_.front());
            tasks_.pop_front();
            ++executed_;
            task();
        }
    }
    void run_for(Nanos time) {
        const Nanos end = now_ + time;
        run_ready();
        while (!timers_.empty() && timers_.begin()->first.first <= end) {
            auto first = timers_.begin();
            now_ = std::max(now_, first->first.first);
            Task task = std::move(first->second);
            timers_.erase(first);
            task();
            run_ready();
        }
        now_ = end;
    }
    // Timers fire, but what they bring about waits: the network and the disk are slow.
    void fire_timers_for(Nanos time) {
        const Nanos end = now_ + time;
        while (!timers_.empty() && timers_.begin()->first.first <= end) {
            auto first = timers_.begin();
            now_ = std::max(now_, first->first.first);
            Task task = std::move(first->second);
            timers_.erase(first);
            task();
        }
        now_ = end;
    }
    // Time passes and nothing runs: the whole program was paused.
    void pause(Nanos time) { now_ += time; }

private:
    Nanos now_ = kSecond;
    std::deque<Task> tasks_;
    std::deque<std::pair<uint64_t, Task>> idle_;
    uint64_t posted_ = 0;
    uint64_t executed_ = 0;
    std::map<std::pair<Nanos, TimerId>, Task> timers_;
    TimerId last_timer_ = 0;
};

// Remembers all commands. Durable in /data/state.db as of the last checkpoint only.
class FakeState final : public ReplicatedState {
public:
    explicit FakeState(FakeDisk& disk) : disk_(disk) {
        Result<Bytes> bytes = read_file(disk_, "/data/state.db", uint64_t{1} << 30);
        if (bytes) load(*bytes);
    }
    LogIndex applied() const override { return applied_; }
    Result<std::vector<Bytes>> apply(LogIndex first, const std::vector<View>& commands) override {
        LFS_ASSERT(first.value == applied_.value + 1);
        ++batches;
        std::vector<Bytes> replies;
        for (const View& command : commands) {
            applied_.value += 1;
            if (command.empty()) {
                replies.emplace_back();
                continue;
            }
            const std::string text(as_text(command));
            log.push_back(text);
            const std::string reply = "did " + text.substr(0, 20);
            replies.emplace_back(reply.begin(), reply.end());
        }
        return replies;
    }
    Result<LogIndex> checkpoint() override {
        ++checkpoints;
        LFS_TRY(replace_file(disk_, "/data/state.db", image()));
        return applied_;
    }
    Result<std::unique_ptr<PinnedSnapshot>> pin_snapshot() override {
        LFS_TRY(checkpoint());
        return std::unique_ptr<PinnedSnapshot>(new Pinned(applied_, image()));
    }
    Status install_snapshot(const std::string& path) override {
        ++installs;
        LFS_ASSIGN(Bytes bytes, read_file(disk_, path, uint64_t{1} << 30));
        LFS_TRY(disk_.rename(path, "/data/state.db"));
        LFS_TRY(disk_.sync_dir("/data"));
        load(bytes);
        return Status();
    }

    std::vector<std::string> log;
    int checkpoints = 0;
    int installs = 0;
    int batches = 0;

private:
    struct Pinned : PinnedSnapshot {
        Pinned(LogIndex at, Bytes image) : index(at), bytes(std::move(image)) {}
        LogIndex applied() const override { return index; }
        uint64_t size_bytes() const override { return bytes.size(); }
        Result<Bytes> read(uint64_t offset, size_t length) override {
            return Bytes(bytes.begin() + static_cast<ptrdiff_t>(offset),
                         bytes.begin() + static_cast<ptrdiff_t>(offset + length));
        }
        LogIndex index;
        Bytes bytes;
    };
    Bytes image() const {
        Bytes bytes(8);
        put_le<uint64_t>(bytes.data(), applied_.value);
        for (const std::string& command : log) {
            bytes.resize(bytes.size() + 8);
            put_le<uint64_t>(bytes.data() + bytes.size() - 8, command.size());
            bytes.insert(bytes.end(), command.begin(), command.end());
        }
        return bytes;
    }
    void load(const Bytes& bytes) {
        applied_.value = get_le<uint64_t>(bytes.data());
        log.clear();
        for (size_t at = 8; at < bytes.size();) {
            const size_t size = get_le<uint64_t>(bytes.data() + at);
            log.emplace_back(reinterpret_cast<const char*>(bytes.data()) + at + 8, size);
            at += 8 + size;
        }
    }

    FakeDisk& disk_;
    LogIndex applied_;
};

class FakeCluster {
public:
    struct Node {
        FakeDisk disk;
        std::unique_ptr<InprocTransport> transport;
        std::unique_ptr<FakeState> state;
        std::unique_ptr<consensus::RaftDriver> driver;
        std::unique_ptr<RpcServer> server;
        consensus::DriverOptions options;
        std::vector<Status> failures;
        std::vector<bool> leadership;
        int starts = 0;
        bool deaf = false;  // hears nothing of the others, without a closed link
    };

    explicit FakeCluster(size_t count, uint64_t seed = 1)
        : seed_(seed), network_(std::make_shared<InprocNetwork>()) {
        for (uint64_t id = 1; id <= count; ++id) {
            peers_.push_back({NodeId{id}, raft::MemberRole::voter, address(id)});
        }
        for (uint64_t id = 1; id <= count; ++id) add(id, peers_);
    }
    ~FakeCluster() {
        for (auto& [id, node] : nodes_) stop(id);
        loop.run_ready();
    }

    static std::string address(uint64_t id) { return "metad" + std::to_string(id) + ":9100"; }

    Node& add(uint64_t id, const std::vector<raft::Member>& peers) {
        Node& node = *(nodes_[id] = std::make_unique<Node>());
        node.options.data_dir = "/data";
        node.options.node = NodeId{id};
        node.options.address = address(id);
        node.options.peers = peers;
        node.options.join = peers.empty();
        node.options.segment_bytes = 256 * 1024;
        return node;
    }
    Node& node(uint64_t id) { return *nodes_.at(id); }
    consensus::RaftDriver& driver(uint64_t id) { return *node(id).driver; }

    Status start(uint64_t id) {
        Node& n = node(id);
        n.options.seed = seed_ * 1000 + id * 100 + static_cast<uint64_t>(++n.starts);
        Hello hello;
        hello.protocol_revision = kProtocolRevision;
        hello.role = Role::metad;
        hello.node = NodeId{id};
        n.options.hello = [hello] { return hello; };
        n.options.on_failure = [&n](const Status& why) { n.failures.push_back(why); };
        n.transport = std::make_unique<InprocTransport>(loop, network_);
        n.state = std::make_unique<FakeState>(n.disk);
        auto opened =
            consensus::RaftDriver::open({loop, n.disk, *n.transport}, n.options, *n.state);
        if (!opened) return opened.status();
        n.driver = std::move(*opened);
        n.driver->on_leadership([&n](bool ready) { n.leadership.push_back(ready); });
        RpcServerEvents events;
        events.on_request = [&n](RpcPeer& peer, RpcRequest request) {
            n.driver->on_request(peer.hello(), std::move(request));
        };
        events.on_push = [&n](RpcPeer& peer, RpcPush push) {
            if (!n.deaf) n.driver->on_push(peer.hello(), push);
        };
        n.server = std::make_unique<RpcServer>(loop, *n.transport, std::move(events));
        LFS_TRY(n.server->listen(address(id), hello));
        n.driver->start();
        return Status();
    }
    void start_all() {
        for (auto& [id, n] : nodes_) LFS_ASSERT(start(id).is_ok());
    }
    void stop(uint64_t id) {
        Node& n = node(id);
        n.server.reset();
        n.driver.reset();
        n.state.reset();
        n.disk.forget_locks();
    }
    // The process and the power go.
    void power_cut(uint64_t id, uint64_t fate) {
        stop(id);
        Prng prng(fate);
        node(id).disk.restart(prng);
    }

    // The ready leader, 0 if there is none within `limit`.
    uint64_t wait_for_leader(Nanos limit = 10 * kSecond) {
        for (Nanos waited = 0; waited < limit; waited += 50 * kMillisecond) {
            for (auto& [id, n] : nodes_) {
                if (n->driver && n->driver->is_ready_leader()) return id;
            }
            loop.run_for(50 * kMillisecond);
        }
        return 0;
    }
    // Proposes and runs until it is answered.
    Result<Bytes> propose(uint64_t id, const std::string& command) {
        std::shared_ptr<Result<Bytes>> reply;
        loop.post([&, this] {
            driver(id).propose(Bytes(command.begin(), command.end()), [&reply](Result<Bytes> r) {
                reply = std::make_shared<Result<Bytes>>(std::move(r));
            });
        });
        for (int i = 0; i < 400 && !reply; ++i) loop.run_for(10 * kMillisecond);
        return reply ? *reply : Result<Bytes>(Errc::timeout);
    }
    Status barrier(uint64_t id, Nanos limit = 5 * kSecond) {
        auto answer = std::make_shared<std::pair<bool, Status>>(false, Status());
        loop.post([this, id, answer] {
            driver(id).read_barrier([answer](Status status) { *answer = {true, status}; });
        });
        for (Nanos t = 0; t < limit && !answer->first; t += 10 * kMillisecond) {
            loop.run_for(10 * kMillisecond);
        }
        return answer->first ? answer->second : Status(Errc::timeout);
    }

    VirtualLoop loop;

private:
    uint64_t seed_;
    std::shared_ptr<InprocNetwork> network_;
    std::vector<raft::Member> peers_;
    std::map<uint64_t, std::unique_ptr<Node>> nodes_;
};

}  // namespace lumeofs::consensus_test
