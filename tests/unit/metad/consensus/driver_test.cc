// SPDX-License-Identifier: Apache-2.0
// Three drivers in one thread: proposals, restarts, snapshots, compaction, reads, failures, hops.
#include "metad/consensus/driver.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "common/base/log.h"
#include "tests/unit/metad/consensus/fake_cluster.h"

namespace lumeofs::consensus {
namespace {

using consensus_test::FakeCluster;

struct Quiet {
    Quiet() {
        if (std::getenv("LUMEO_TEST_LOG") == nullptr) {
            set_log_hook([](LogLevel, std::string_view) {});
        }
    }
} quiet;

std::string text(const Result<Bytes>& reply) {
    return reply ? std::string(as_text(*reply)) : reply.status().to_string();
}

uint64_t other_than(uint64_t a, uint64_t b = 0) {
    for (uint64_t id = 1; id <= 3; ++id) {
        if (id != a && id != b) return id;
    }
    return 0;
}

TEST_CASE("a lone metad leads at once and survives a restart") {
    FakeCluster cluster(1);
    cluster.start_all();
    REQUIRE(cluster.wait_for_leader(kSecond / 2) == 1);
    CHECK(text(cluster.propose(1, "a")) == "did a");
    CHECK(text(cluster.propose(1, "b")) == "did b");
    CHECK(cluster.barrier(1).is_ok());
    CHECK(cluster.driver(1).quorum_contact() >= 0);
    cluster.power_cut(1, 7);
    REQUIRE(cluster.start(1).is_ok());
    REQUIRE(cluster.wait_for_leader() == 1);
    CHECK(cluster.node(1).state->log == std::vector<std::string>{"a", "b"});
}

TEST_CASE("three agree; the leader stops and the others go on; it comes back") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t first = cluster.wait_for_leader();
    REQUIRE(first != 0);
    CHECK(text(cluster.propose(first, "one")) == "did one");
    CHECK(cluster.node(first).leadership == std::vector<bool>{true});
    const uint64_t follower = other_than(first);
    CHECK(cluster.propose(follower, "x").code() == Errc::not_leader);
    CHECK(cluster.driver(follower).leader() == NodeId{first});
    CHECK(cluster.driver(follower).leader_address() == FakeCluster::address(first));

    cluster.stop(first);
    const uint64_t second = cluster.wait_for_leader();
    REQUIRE(second != 0);
    REQUIRE(second != first);
    CHECK(cluster.driver(second).term() > Term{0});
    CHECK(text(cluster.propose(second, "two")) == "did two");
    REQUIRE(cluster.start(first).is_ok());
    cluster.loop.run_for(2 * kSecond);
    for (uint64_t id = 1; id <= 3; ++id) {
        CHECK(cluster.node(id).state->log == std::vector<std::string>{"one", "two"});
    }
    CHECK(cluster.driver(second).is_ready_leader());
    const ConsensusStatus status = cluster.driver(second).status();
    CHECK(status.members.size() == 3);
    CHECK(status.role == RaftRole::leader);
    CHECK(status.trouble.empty());
    for (const ConsensusStatus::Member& member : status.members) CHECK(member.match == status.last);
}

TEST_CASE("power cuts of single nodes and of all lose no answered proposal") {
    int installs = 0;
    // LUMEO_SEEDS=5000 for a longer run by hand.
    const char* wanted = std::getenv("LUMEO_SEEDS");
    const uint64_t seeds = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 40;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
        CAPTURE(seed);
        FakeCluster cluster(3, seed);
        for (uint64_t id = 1; id <= 3 && seed % 2 == 0; ++id) {  // compaction all the time
            cluster.node(id).options.segment_bytes = 32 << 10;
            cluster.node(id).options.log_bytes_max = 24 << 10;
            cluster.node(id).options.log_bytes_kept = 4 << 10;
        }
        cluster.start_all();
        Prng prng(seed);
        std::vector<std::string> answered;
        for (int round = 0; round < 8; ++round) {
            const uint64_t leader = cluster.wait_for_leader(20 * kSecond);
            REQUIRE(leader != 0);
            for (uint64_t i = prng.below(5); i-- > 0;) {
                const std::string command = fmt::format("r{} c{}", round, i);
                if (cluster.propose(leader, command).is_ok()) answered.push_back(command);
            }
            // One more is on its way when the power goes, at some operation of the disk.
            const bool all = prng.chance(1, 3);
            const uint64_t only = 1 + prng.below(3);
            if (prng.chance(1, 3)) {  // somebody misses some, and may need a snapshot afterwards
                const uint64_t absent = other_than(leader);
                cluster.stop(absent);
                for (int i = 0; i < 8; ++i) {
                    const std::string command = fmt::format("r{} a{}", round, i);
                    if (cluster.propose(leader, command).is_ok()) answered.push_back(command);
                }
                REQUIRE(cluster.start(absent).is_ok());
            }
            for (uint64_t id = 1; id <= 3; ++id) {
                auto& disk = cluster.node(id).disk;
                if (all || id == only) disk.cut_power_at(disk.operations() + prng.below(4));
            }
            cluster.loop.post([&] { cluster.driver(leader).propose(Bytes(10, 'u'), [](auto) {}); });
            cluster.loop.run_for(prng.below(3) * 40 * kMillisecond);
            for (uint64_t id = 1; id <= 3; ++id) {
                if (!all && id != only) continue;
                cluster.power_cut(id, prng.next());
                const Status status = cluster.start(id);
                if (!status.is_ok()) FAIL(status.to_string());
            }
        }
        REQUIRE(cluster.wait_for_leader(20 * kSecond) != 0);
        cluster.loop.run_for(5 * kSecond);
        for (uint64_t id = 1; id <= 3; ++id) {
            std::vector<std::string> kept;
            for (const std::string& c : cluster.node(id).state->log) {
                if (c[0] == 'r') kept.push_back(c);
            }
            CHECK(kept == answered);
            installs += cluster.node(id).state->installs;
            CHECK(cluster.node(id).state->log == cluster.node(1).state->log);
        }
    }
    CHECK(installs >= 5);
}

// What a node has synced, written to others and applied, between two moments.
struct Work {
    uint64_t syncs = 0, disk_syncs = 0, frames = 0;
    int batches = 0;
};
Work work_of(FakeCluster& cluster, uint64_t id) {
    return {cluster.driver(id).syncs(),
            cluster.node(id).disk.syncs(),
            cluster.driver(id).frames_sent(),
            cluster.node(id).state->batches};
}
Work operator-(const Work& a, const Work& b) {
    return {a.syncs - b.syncs,
            a.disk_syncs - b.disk_syncs,
            a.frames - b.frames,
            a.batches - b.batches};
}

// Proposals that arrive together; run until nothing is left to do, without any time passing.
int propose_together(FakeCluster& cluster, uint64_t leader, int count) {
    auto answered = std::make_shared<int>(0);
    for (int i = 0; i < count; ++i) {
        cluster.loop.post([&cluster, leader, answered] {
            cluster.driver(leader).propose(Bytes(100, 'x'), [answered](const Result<Bytes>& reply) {
                *answered += reply.is_ok() ? 1 : 0;
            });
        });
    }
    cluster.loop.run_ready();
    return *answered;
}

// The follower that is asked first: the one that syncs before any time has passed.
uint64_t asked_first(FakeCluster& cluster, uint64_t leader) {
    const uint64_t one = other_than(leader);
    const Work before = work_of(cluster, one);
    REQUIRE(propose_together(cluster, leader, 1) == 1);
    const bool is_one = (work_of(cluster, one) - before).syncs == 1;
    cluster.loop.run_for(kAskLater);
    return is_one ? one : other_than(leader, one);
}

// Three nodes, their leader, and whom it asks first.
struct Led {
    FakeCluster cluster{3};
    uint64_t leader = lead();
    uint64_t first = asked_first(cluster, leader);
    uint64_t later = other_than(leader, first);

private:
    uint64_t lead() {
        cluster.start_all();
        const uint64_t id = cluster.wait_for_leader();
        REQUIRE(cluster.propose(id, "warm").is_ok());
        cluster.loop.run_for(kSecond);
        return id;
    }
};

TEST_CASE("hops: one sync at a quorum and one frame to one follower, whatever the size of the batch") {
    Led led;
    auto& [cluster, leader, first, later] = led;
    cluster.loop.run_for(kSecond);
    for (int batch : {1, 100}) {
        CAPTURE(batch);
        Work before[4], after[4];
        for (uint64_t id = 1; id <= 3; ++id) before[id] = work_of(cluster, id);
        CHECK(propose_together(cluster, leader, batch) == batch);
        for (uint64_t id = 1; id <= 3; ++id) after[id] = work_of(cluster, id) - before[id];
        CHECK(after[leader].batches == 1);
        for (uint64_t id : {leader, first}) {
            CHECK(after[id].syncs == 1);
            CHECK(after[id].disk_syncs == 1);
        }
        CHECK(after[leader].frames <= 2);  // the commit index rides on later messages
        CHECK(after[first].frames == 1);
        CHECK(after[later].syncs == 0);
        CHECK(after[later].frames == 0);
        cluster.loop.run_for(kAskLater);
        CHECK(cluster.driver(later).syncs() - before[later].syncs == 1);
    }
}

TEST_CASE("who is not asked first gets many batches in one frame and syncs once") {
    Led led;
    auto& [cluster, leader, first, later] = led;
    const Work before = work_of(cluster, later);
    for (int i = 0; i < 20; ++i) CHECK(propose_together(cluster, leader, 1) == 1);
    cluster.loop.run_for(kAskLater);
    const Work done = work_of(cluster, later) - before;
    CHECK(done.syncs == 1);
    CHECK(done.frames == 1);
    cluster.loop.run_for(kSecond);
    CHECK(cluster.node(later).state->log == cluster.node(leader).state->log);
}

TEST_CASE("a follower that is asked first and falls silent costs one short wait, then the other is") {
    Led led;
    auto& [cluster, leader, silent, other] = led;
    cluster.node(silent).deaf = true;
    const LogIndex last = cluster.driver(leader).status().last;
    CHECK(propose_together(cluster, leader, 1) == 0);
    CHECK(cluster.driver(leader).status().applied == last);
    cluster.loop.run_for(kAskLater);
    CHECK(cluster.driver(leader).status().applied == last + 1);
    // From the next answer on the other one is asked at once.
    for (int i = 0; i < 3; ++i) CHECK(propose_together(cluster, leader, 1) == 1);
}

TEST_CASE("what is proposed while a batch is on its way is one batch after it, unless it is much") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    REQUIRE(cluster.propose(leader, "warm").is_ok());
    cluster.loop.run_for(kSecond);
    for (uint64_t id = 1; id <= 3; ++id) {
        if (id != leader) cluster.stop(id);  // nothing comes to be committed
    }
    RaftDriver& driver = cluster.driver(leader);
    int answered = 0;
    auto propose = [&] {
        driver.propose(Bytes(100, 'x'), [&](const Result<Bytes>&) { ++answered; });
        cluster.loop.run_ready();
    };
    const uint64_t before = driver.syncs();
    for (int i = 0; i < 10; ++i) propose();
    CHECK(driver.syncs() - before == 1);
    for (int i = 0; i < 60; ++i) propose();
    CHECK(driver.syncs() - before == 2);
    CHECK(answered == 0);
    cluster.loop.run_for(10 * kSecond);  // the leadership ends, and nobody is left waiting
    CHECK(answered == 70);
}

TEST_CASE("the log is compacted and a laggard gets a snapshot in several pieces") {
    FakeCluster cluster(3);
    for (uint64_t id = 1; id <= 3; ++id) {
        cluster.node(id).options.log_bytes_max = 1 << 20;
        cluster.node(id).options.log_bytes_kept = 256 << 10;
    }
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    const uint64_t laggard = other_than(leader);
    REQUIRE(cluster.propose(leader, "first").is_ok());
    cluster.stop(laggard);
    for (int i = 0; i < 40; ++i) {
        REQUIRE(
            cluster.propose(leader, std::string(100'000, static_cast<char>('a' + i % 26))).is_ok());
    }
    CHECK(cluster.node(leader).state->checkpoints > 0);
    CHECK(cluster.driver(leader).log().live_bytes() < 1'600'000);
    CHECK(cluster.driver(leader).status().first > LogIndex{10});
    REQUIRE(cluster.start(laggard).is_ok());
    cluster.loop.run_for(10 * kSecond);
    CHECK(cluster.node(laggard).state->installs == 1);
    CHECK(cluster.node(laggard).state->log == cluster.node(leader).state->log);
    CHECK(cluster.driver(laggard).log().floor().index >= LogIndex{10});
    CHECK(cluster.propose(leader, "after").is_ok());
    cluster.loop.run_for(kSecond);
    cluster.power_cut(laggard, 3);
    REQUIRE(cluster.start(laggard).is_ok());
    cluster.loop.run_for(3 * kSecond);
    CHECK(cluster.node(laggard).state->log == cluster.node(leader).state->log);
    CHECK(cluster.node(laggard).state->log.back() == "after");
}

TEST_CASE("a snapshot install is cut short at every disk operation and ends well") {
    uint64_t operations = 1;
    for (uint64_t at = 0; at <= operations; ++at) {
        CAPTURE(at);
        FakeCluster cluster(3);
        cluster.start_all();
        const uint64_t leader = cluster.wait_for_leader();
        const uint64_t laggard = other_than(leader);
        REQUIRE(cluster.propose(leader, "first").is_ok());
        cluster.loop.run_for(kSecond);
        cluster.stop(laggard);
        for (int i = 0; i < 10; ++i)
            REQUIRE(cluster.propose(leader, fmt::format("c{}", i)).is_ok());
        cluster.loop.post([&] { CHECK((*cluster.driver(leader).compact(true)).value > 5); });
        cluster.loop.run_for(kSecond);
        auto& disk = cluster.node(laggard).disk;
        REQUIRE(cluster.start(laggard).is_ok());
        const uint64_t begun = disk.operations();
        if (at > 0) disk.cut_power_at(begun + at);
        cluster.loop.run_for(5 * kSecond);
        if (at == 0) {
            operations = disk.operations() - begun;
            CHECK(cluster.node(laggard).state->installs == 1);
            CHECK(operations >= 12);
        } else {
            cluster.power_cut(laggard, at);
            const Status status = cluster.start(laggard);
            if (!status.is_ok()) FAIL(status.to_string());
            cluster.loop.run_for(10 * kSecond);
        }
        CHECK(cluster.node(laggard).state->log == cluster.node(leader).state->log);
        CHECK(cluster.node(laggard).state->log.size() == 11);
    }
}

TEST_CASE("a read barrier passes at once under the leader's lease, and never beyond it") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    REQUIRE(cluster.propose(leader, "x").is_ok());
    CHECK(cluster.barrier(leader).is_ok());
    CHECK(cluster.barrier(other_than(leader)).code() == Errc::not_leader);
    const uint64_t frames = cluster.driver(leader).frames_sent();
    cluster.loop.post([&] {
        bool answered = false;
        cluster.driver(leader).read_barrier([&](Status status) { answered = status.is_ok(); });
        CHECK(answered);
    });
    cluster.loop.run_for(0);
    CHECK(cluster.driver(leader).frames_sent() == frames);
    // Cut off from both: it still believes that it leads, but when the others may elect another
    // leader no barrier passes any more.
    for (uint64_t id = 1; id <= 3; ++id) {
        if (id != leader) cluster.stop(id);
    }
    CHECK(cluster.driver(leader).is_ready_leader());
    const Nanos contact = cluster.driver(leader).quorum_contact();
    CHECK(contact >= 0);
    cluster.loop.run_for(contact + kElectionTimeoutMin * 3 / 4 - cluster.loop.now());
    CHECK(cluster.driver(leader).is_ready_leader());
    CHECK_FALSE(cluster.barrier(leader, 10 * kSecond).is_ok());
    CHECK(cluster.driver(leader).quorum_contact() == -1);
    CHECK_FALSE(cluster.driver(leader).is_ready_leader());
    CHECK(cluster.node(leader).leadership == std::vector<bool>{true, false});
}

TEST_CASE("quorum contact is when the answered round was sent") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    for (int i = 0; i < 20; ++i) {
        cluster.loop.run_for(50 * kMillisecond);
        const Nanos age = cluster.loop.now() - cluster.driver(leader).quorum_contact();
        CHECK(age >= 0);
        CHECK(age <= kRaftHeartbeat + kRaftTick);
    }
    // The answers take 300 ms: they prove nothing about these 300 ms.
    cluster.loop.fire_timers_for(kRaftHeartbeat);
    cluster.loop.pause(300 * kMillisecond);
    cluster.loop.run_ready();
    REQUIRE(cluster.driver(leader).quorum_contact() >= 0);
    const Nanos age = cluster.loop.now() - cluster.driver(leader).quorum_contact();
    CHECK(age >= 300 * kMillisecond);
    CHECK(age <= 300 * kMillisecond + kRaftHeartbeat + kRaftTick);
}

TEST_CASE("a leader that was paused gives up its leadership") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    const Term term = cluster.driver(leader).term();
    cluster.loop.pause(5 * kSecond);  // all of them, as a paused host would
    cluster.loop.run_for(kRaftTick);
    CHECK_FALSE(cluster.driver(leader).is_ready_leader());
    const uint64_t next = cluster.wait_for_leader();
    REQUIRE(next != 0);
    CHECK(cluster.driver(next).term() > term);
}

TEST_CASE("a failed sync fences the node and the others go on") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    REQUIRE(cluster.propose(leader, "x").is_ok());
    cluster.node(leader).disk.fail_syncs("/log/", 1);
    CHECK_FALSE(cluster.propose(leader, "lost").is_ok());
    CHECK(cluster.node(leader).failures.size() == 1);
    CHECK(cluster.node(leader).failures[0].code() == Errc::io);
    CHECK(cluster.driver(leader).status().trouble.find("io") != std::string::npos);
    CHECK_FALSE(cluster.driver(leader).is_ready_leader());
    CHECK(cluster.driver(leader).quorum_contact() == -1);
    CHECK(cluster.propose(leader, "y").code() == Errc::unavailable);
    CHECK(cluster.barrier(leader).code() == Errc::unavailable);
    const uint64_t frames = cluster.driver(leader).frames_sent();
    const uint64_t next = cluster.wait_for_leader();
    REQUIRE(next != 0);
    REQUIRE(next != leader);
    CHECK(cluster.propose(next, "z").is_ok());
    CHECK(cluster.driver(leader).frames_sent() == frames);  // no vote, no answer
}

TEST_CASE("a full disk fences a follower") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    const uint64_t full = other_than(leader);
    cluster.node(full).disk.fail_writes("/log/", Errc::nospc);
    CHECK(cluster.propose(leader, "x").is_ok());
    cluster.loop.run_for(kSecond);
    REQUIRE(cluster.node(full).failures.size() == 1);
    CHECK(cluster.node(full).failures[0].code() == Errc::nospc);
}

TEST_CASE("a foreign directory and a damaged log refuse the start") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    for (int i = 0; i < 5; ++i) REQUIRE(cluster.propose(leader, "x").is_ok());
    cluster.loop.run_for(kSecond);
    cluster.stop(1);
    auto& node = cluster.node(1);

    node.options.node = NodeId{2};
    Status status = cluster.start(1);
    CHECK(status.code() == Errc::config);
    CHECK(status.text().find("expected node_id 2, found 1") != std::string_view::npos);
    node.options.node = NodeId{1};
    node.options.cluster = {1, 2};
    CHECK(cluster.start(1).code() == Errc::config);
    node.options.cluster = {};

    const std::string segment = node.disk.paths("/log/")[0];
    node.disk.raw(segment)[2 * 4096 + 70] ^= 1;
    status = cluster.start(1);
    CHECK(status.code() == Errc::corrupt);
    CHECK(status.text().find("damaged") != std::string_view::npos);
    node.disk.raw(segment)[2 * 4096 + 70] ^= 1;
    REQUIRE(cluster.start(1).is_ok());
    cluster.stop(1);

    // A log that is gone or an identity that is gone is not a first start.
    REQUIRE(node.disk.rename("/data/raft/identity", "/data/raft/elsewhere").is_ok());
    CHECK(cluster.start(1).code() == Errc::corrupt);
    REQUIRE(node.disk.rename("/data/raft/elsewhere", "/data/raft/identity").is_ok());
    REQUIRE(node.disk.remove(segment).is_ok());
    CHECK(cluster.start(1).code() == Errc::corrupt);
}

TEST_CASE("two processes do not share a directory") {
    FakeCluster cluster(1);
    cluster.start_all();
    consensus_test::FakeState state(cluster.node(1).disk);
    auto second = RaftDriver::open({cluster.loop, cluster.node(1).disk, *cluster.node(1).transport},
                                   cluster.node(1).options,
                                   state);
    CHECK(second.code() == Errc::busy);
}

TEST_CASE("a wiped node is not listened to under its old id") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    const uint64_t wiped = other_than(leader);
    const uint64_t third = other_than(leader, wiped);
    REQUIRE(cluster.propose(leader, "x").is_ok());
    cluster.stop(wiped);
    cluster.node(wiped).disk.wipe();
    REQUIRE(cluster.start(wiped).is_ok());
    cluster.stop(third);
    // Leader and wiped node are two of three, but the wiped one's answers do not count.
    CHECK_FALSE(cluster.propose(leader, "y").is_ok());
    CHECK(cluster.wait_for_leader(5 * kSecond) == 0);
    REQUIRE(cluster.start(third).is_ok());
    CHECK(cluster.wait_for_leader() != 0);
}

TEST_CASE("a new node joins with an empty log and is promoted; one is removed") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    REQUIRE(cluster.propose(leader, "x").is_ok());
    cluster.loop.post([&] { REQUIRE(cluster.driver(leader).compact(true).is_ok()); });
    cluster.add(4, {});
    REQUIRE(cluster.start(4).is_ok());
    const auto change = [&](raft::MembershipProposed::Kind kind, uint64_t id) {
        auto result = std::make_shared<Status>(Errc::timeout);
        cluster.loop.post([&, result, kind, id] {
            cluster.driver(leader).change_membership(
                {kind, {NodeId{id}, raft::MemberRole::learner, FakeCluster::address(id)}},
                [result](const Status& status) { *result = status; });
        });
        cluster.loop.run_for(5 * kSecond);
        return *result;
    };
    using Kind = raft::MembershipProposed::Kind;
    CHECK(change(Kind::add_learner, 4).is_ok());
    CHECK(cluster.node(4).state->log == std::vector<std::string>{"x"});
    CHECK(cluster.driver(4).status().role == RaftRole::learner);
    CHECK(cluster.driver(4).cluster() == cluster.driver(leader).cluster());
    CHECK(change(Kind::promote, 4).is_ok());
    const uint64_t removed = other_than(leader);
    CHECK(change(Kind::remove, removed).is_ok());
    cluster.stop(removed);
    cluster.stop(other_than(leader, removed));
    CHECK(text(cluster.propose(leader, "y")) == "did y");  // leader and 4 of {leader, other, 4}
    cluster.loop.run_for(kSecond);
    CHECK(cluster.node(4).state->log == std::vector<std::string>{"x", "y"});
}

TEST_CASE("leadership is handed over") {
    FakeCluster cluster(3);
    cluster.start_all();
    const uint64_t leader = cluster.wait_for_leader();
    const uint64_t target = other_than(leader);
    cluster.loop.post(
        [&] { CHECK(cluster.driver(leader).transfer_leadership(NodeId{target}).is_ok()); });
    cluster.loop.run_for(kSecond / 2);
    CHECK(cluster.wait_for_leader() == target);
    CHECK(cluster.propose(target, "x").is_ok());
}

TEST_CASE("bounds: too large, too many") {
    FakeCluster cluster(1);
    cluster.node(1).options.proposals_max = 3;
    cluster.start_all();
    cluster.wait_for_leader();
    CHECK(cluster.propose(1, std::string(300'000, 'x')).code() == Errc::toobig);  // segment 256 KiB
    std::vector<Errc> codes;
    cluster.loop.post([&] {
        for (int i = 0; i < 5; ++i) {
            cluster.driver(1).propose(Bytes(1, 'x'),
                                      [&](const Result<Bytes>& r) { codes.push_back(r.code()); });
        }
    });
    cluster.loop.run_ready();
    CHECK(codes == std::vector<Errc>{Errc::busy, Errc::busy, Errc::ok, Errc::ok, Errc::ok});
}

TEST_CASE("the same seed gives the same run") {
    std::vector<uint64_t> frames[2];
    for (auto& run : frames) {
        FakeCluster cluster(3, 42);
        cluster.start_all();
        const uint64_t leader = cluster.wait_for_leader();
        for (int i = 0; i < 10; ++i) REQUIRE(cluster.propose(leader, "x").is_ok());
        cluster.stop(leader);
        run.push_back(cluster.wait_for_leader());
        for (uint64_t id = 1; id <= 3; ++id) {
            if (id != leader) run.push_back(cluster.driver(id).frames_sent());
            run.push_back(cluster.node(id).disk.operations());
        }
    }
    CHECK(frames[0] == frames[1]);
}

}  // namespace
}  // namespace lumeofs::consensus
