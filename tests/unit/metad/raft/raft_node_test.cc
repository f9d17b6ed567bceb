// SPDX-License-Identifier: Apache-2.0
// One node driven by hand: the violations that other implementations were measured to commit, as
// named regression tests (A, B, C and the membership bug), and what restore() refuses.
#include <doctest/doctest.h>

#include "metad/raft/membership.h"
#include "tests/unit/metad/raft/group.h"

namespace lumeofs::raft::testing {
namespace {

// A node whose disk holds entries of the given terms, 1, 2, ...
struct Single {
    TestDisk disk;
    std::unique_ptr<RaftNode> node;
    Update last;

    Single(uint64_t term, std::initializer_list<uint64_t> entry_terms, const Membership& who) {
        disk.hard_state = HardState{Term{term}, NodeId{}};
        disk.floor.membership = who;
        for (uint64_t t : entry_terms) {
            disk.log.push_back({disk.last() + 1, Term{t}, EntryKind::command, payload("x")});
        }
        restart();
    }
    void restart() {
        Options options;
        options.id = NodeId{1};
        options.election_ticks = 10;
        options.heartbeat_ticks = 1;
        options.start_pause_ticks = 0;
        const Restored restored{disk.hard_state, disk.floor, disk.last(), disk.checkpoint.applied};
        node = RaftNode::restore(options, restored, &disk).value();
    }
    Update step(const Event& event) {
        last = node->step(event);
        if (last.persist_id != 0) {
            disk.writes.push_back(
                {last.persist_id, last.hard_state, last.truncate_from, last.append, {}, {}});
        }
        return last;
    }
    Update persist() {
        uint64_t id = 0;
        while (!disk.writes.empty()) id = disk.complete_one().persist_id;
        return step(Persisted{id});
    }
    Update receive(MessageType type, uint64_t from, uint64_t term, Message message = {}) {
        message.type = type;
        message.from = NodeId{from};
        message.to = NodeId{1};
        message.term = Term{term};
        return step(Received{message});
    }
    // Leader of the next term by the votes of these.
    void lead(std::initializer_list<uint64_t> voters) {
        step(Campaign{});
        const uint64_t term = node->status().term.value + 1;
        for (uint64_t id : voters) receive(MessageType::pre_vote_response, id, term);
        persist();
        for (uint64_t id : voters) receive(MessageType::vote_response, id, term);
        REQUIRE(node->status().role == Role::leader);
    }
};

Message acknowledge(uint64_t index) {
    Message message;
    message.index = LogIndex{index};
    return message;
}

Message asks(uint64_t index, uint64_t log_term, bool transfer) {
    Message message;
    message.index = LogIndex{index};
    message.log_term = Term{log_term};
    message.transfer = transfer;
    return message;
}

const Message* answer(const Update& update) {
    if (!update.send_now.empty()) return &update.send_now.front();
    if (!update.send_after_persist.empty()) return &update.send_after_persist.front();
    return nullptr;
}

TEST_CASE("A: an entry of an older term is not committed by counting replicas") {
    Single one(3, {1, 2}, members({1, 2, 3}));
    one.lead({2});
    one.persist();
    // Entry 2 of term 2 is on two of three; the leader's own entry 3 of term 4 is not.
    one.receive(MessageType::append_response, 2, 4, acknowledge(2));
    CHECK(one.node->status().commit == LogIndex{0});
    CHECK(one.last.commit.empty());
    // With its own entry the older ones are committed too.
    one.receive(MessageType::append_response, 2, 4, acknowledge(3));
    CHECK(one.node->status().commit == LogIndex{3});
}

TEST_CASE("B: a follower acknowledges and commits only what this message verified") {
    Single one(1, {1, 1, 1, 1, 1, 1, 1, 1}, members({1, 2, 3}));
    Message append;
    append.index = LogIndex{5};
    append.log_term = Term{1};
    append.commit = LogIndex{8};
    one.receive(MessageType::append_request, 2, 2, append);
    const Message* reply = answer(one.last);
    REQUIRE(reply != nullptr);
    CHECK(!reply->reject);
    CHECK(reply->index == LogIndex{5});  // not 8: the suffix 6..8 may be another leader's
    CHECK(one.node->status().commit == LogIndex{5});
    one.receive(MessageType::heartbeat, 2, 2);
    CHECK(answer(one.last)->type == MessageType::heartbeat_response);
    CHECK(answer(one.last)->index == LogIndex{0});
}

TEST_CASE("C: one vote per term, also during a transfer and after a restart") {
    Single one(4, {1}, members({1, 2, 3}));
    one.receive(MessageType::heartbeat, 2, 4);
    one.receive(MessageType::vote_request, 3, 5, asks(1, 1, true));
    REQUIRE(answer(one.last) != nullptr);
    CHECK(!answer(one.last)->reject);
    CHECK(one.last.send_now.empty());  // I1: not before the vote is on the disk
    CHECK(one.last.hard_state == HardState{Term{5}, NodeId{3}});
    one.receive(MessageType::vote_request, 2, 5, asks(1, 1, true));
    CHECK(answer(one.last)->reject);
    one.persist();
    one.restart();
    one.receive(MessageType::vote_request, 2, 5, asks(1, 1, true));
    CHECK(answer(one.last)->reject);
    one.receive(MessageType::vote_request, 3, 5, asks(1, 1, true));
    CHECK(!answer(one.last)->reject);  // its answer was lost; the same vote again
}

TEST_CASE("membership bug: a change needs an entry of the own term to be committed first") {
    // raft-dev 2015: 1 adds 5 and nobody hears of it; 2 leads the next term and removes 1, which
    // two of {2,3,4} make durable; then 1 is elected by {1,4,5} and overwrites that.
    Group group;
    group.options.election_ticks = 10;
    group.options.start_pause_ticks = 0;
    group.leases_matter = false;
    for (uint64_t id = 1; id <= 4; ++id) group.add_node(NodeId{id}, members({1, 2, 3, 4}));
    group.add_node(NodeId{5}, Membership{});
    const auto settle = [&](std::initializer_list<uint64_t> among) {
        const auto in = [&](NodeId id) {
            return std::find(among.begin(), among.end(), id.value) != among.end();
        };
        for (bool busy = true; busy;) {
            busy = false;
            for (uint64_t id : among) busy |= group.persist_one(NodeId{id});
            std::deque<Envelope> now;
            now.swap(group.wire);
            for (Envelope& envelope : now) {
                if (!in(envelope.from) || !in(envelope.to)) continue;  // lost
                group.deliver(std::move(envelope));
                busy = true;
            }
        }
    };
    const auto silence = [&](std::initializer_list<uint64_t> ids) {
        for (uint64_t id : ids) {
            for (int i = 0; i < 10; ++i) group.step(NodeId{id}, Tick{});
        }
        group.wire.clear();
    };
    group.step(NodeId{1}, Campaign{});
    settle({1, 2, 3, 4});
    REQUIRE(group.leader() == NodeId{1});
    using Kind = MembershipProposed::Kind;
    group.step(NodeId{1}, MembershipProposed{Kind::add_voter, {NodeId{5}, MemberRole::voter, ""}});
    settle({1});
    silence({2, 3, 4});
    group.step(NodeId{2}, Campaign{});
    std::optional<Errc> early;
    group.on_update = [&](TestNode& node, const Update& update) {
        if (node.id != NodeId{2} || !update.soft_state || early ||
            update.soft_state->role != Role::leader) {
            return;
        }
        early = Errc::ok;  // asked below, once: not from inside the step
    };
    for (int i = 0; i < 1000 && !early; ++i) {
        for (uint64_t id : {2, 3, 4}) group.persist_one(NodeId{id});
        if (group.wire.empty()) continue;
        Envelope envelope = std::move(group.wire.front());
        group.wire.pop_front();
        if (envelope.to != NodeId{1}) group.deliver(std::move(envelope));
    }
    const MembershipProposed removal{Kind::remove, {NodeId{1}, MemberRole::voter, ""}};
    CHECK(group.step(NodeId{2}, removal).proposal->code == Errc::unavailable);
    settle({2, 3, 4});  // the empty entry commits on a majority of the OLD membership
    CHECK(group.step(NodeId{2}, removal).proposal->code == Errc::ok);
    settle({2, 3});
    CHECK(group.nodes.at(NodeId{2}).raft->status().membership == members({2, 3, 4}));
    silence({1, 3, 4, 5});
    for (int i = 0; i < 3; ++i) {
        group.step(NodeId{1}, Campaign{});
        settle({1, 4, 5});
        silence({4, 5});
    }
    CHECK(group.nodes.at(NodeId{1}).raft->status().role != Role::leader);
    CHECK(group.first_violation() == "");
}

TEST_CASE("votes of others do not make a leader before the own vote is durable") {
    Single one(0, {}, members({1, 2, 3}));
    one.step(Campaign{});
    one.receive(MessageType::pre_vote_response, 2, 1);
    CHECK(one.last.send_now.empty());
    CHECK(one.last.send_after_persist.size() == 2);
    one.receive(MessageType::vote_response, 2, 1);
    one.receive(MessageType::vote_response, 3, 1);
    CHECK(one.node->status().role == Role::candidate);
    one.persist();
    CHECK(one.node->status().role == Role::leader);
}

TEST_CASE("damaged or foreign messages change nothing") {
    Single one(1, {1, 1}, members({1, 2, 3}));
    Message gap;
    gap.index = LogIndex{2};
    gap.log_term = Term{1};
    gap.entries.push_back({LogIndex{4}, Term{1}, EntryKind::command, nullptr});
    one.receive(MessageType::append_request, 2, 1, gap);
    CHECK(one.node->status().last == LogIndex{2});
    Message falling = gap;
    falling.entries = {{LogIndex{3}, Term{0}, EntryKind::command, nullptr}};
    one.receive(MessageType::append_request, 2, 1, falling);
    Message membership = gap;
    membership.entries = {{LogIndex{3}, Term{1}, EntryKind::membership, payload("junk")}};
    one.receive(MessageType::append_request, 2, 1, membership);
    CHECK(one.node->status().last == LogIndex{2});
    Message beyond;
    beyond.commit = LogIndex{100};
    one.receive(MessageType::heartbeat, 2, 1, beyond);
    CHECK(one.node->status().commit == LogIndex{0});
    one.receive(static_cast<MessageType>(77), 2, 1);
    CHECK(answer(one.last) == nullptr);
}

TEST_CASE("restore refuses a disk that cannot be this node's past") {
    TestDisk disk;
    disk.hard_state = HardState{Term{2}, NodeId{1}};
    disk.floor.membership = members({1, 2, 3});
    disk.log = {{LogIndex{1}, Term{1}, EntryKind::command, nullptr},
                {LogIndex{2}, Term{2}, EntryKind::command, nullptr}};
    Options options;
    options.id = NodeId{1};
    const auto restore = [&](uint64_t applied) {
        const Restored restored{disk.hard_state, disk.floor, disk.last(), LogIndex{applied}};
        return RaftNode::restore(options, restored, &disk).code();
    };
    CHECK(restore(0) == Errc::ok);
    CHECK(restore(2) == Errc::ok);
    CHECK(restore(3) == Errc::corrupt);  // the log lost entries that were applied
    disk.hard_state = HardState{Term{1}, NodeId{1}};
    CHECK(restore(0) == Errc::corrupt);  // the vote of term 2 is lost
    disk.hard_state = HardState{Term{2}, NodeId{1}};
    disk.log[1] = {LogIndex{2}, Term{0}, EntryKind::command, nullptr};
    CHECK(restore(0) == Errc::corrupt);  // a term falls
    disk.log[1] = {LogIndex{3}, Term{2}, EntryKind::command, nullptr};
    CHECK(restore(0) == Errc::corrupt);  // a gap
    disk.log[1] = {LogIndex{2}, Term{2}, EntryKind::membership, payload("?")};
    CHECK(restore(0) == Errc::corrupt);
}

TEST_CASE("the same events give the same updates") {
    const auto run = [] {
        std::string text;
        Single one(1, {1}, members({1, 2, 3}));
        for (int i = 0; i < 100; ++i) {
            for (const std::string& line : to_lines(NodeId{1}, one.step(Tick{}))) text += line;
            for (const Message& message : one.last.send_now) text += to_text(message);
        }
        return text;
    };
    CHECK(run() == run());
    CHECK(run().find("pre-vote") != std::string::npos);
}

}  // namespace
}  // namespace lumeofs::raft::testing
