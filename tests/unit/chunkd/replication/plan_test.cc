// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "chunkd/replication/version_vector.h"
#include "chunkd/replication/write_plan.h"
#include "common/base/limits.h"

using namespace lumeofs;
using namespace lumeofs::replication;

namespace {

Configuration config_of(uint64_t epoch, std::vector<ShrinkMark> marks = {}) {
    Configuration config;
    config.epoch = Epoch{epoch};
    config.members = {NodeId{1}, NodeId{2}, NodeId{3}};
    config.marks = std::move(marks);
    return config;
}

struct Facts {
    Configuration ours = config_of(5);
    Configuration grant = config_of(5);
    OwnFacts own{NodeId{1}, nullptr, Role::serving, true, false, false};
    WriteFacts write;
    ReadFacts read;

    Facts() {
        write.range = read.range = {0, 4096};
        write.write_limit = 8192;
        write.payload_bytes = 4096;
        write.checksum_count = 1;
        write.write_no = 7;
        write.lowest_outstanding = 7;
        read.has_chunk = true;
    }
    Plan plan() {
        own.config = &ours;
        write.grant = &grant;
        return plan_write(own, write);
    }
    Plan plan_a_read() {
        own.config = &ours;
        read.grant = &grant;
        return plan_read(own, read);
    }
    Errc refused() {
        const Plan made = plan();
        CHECK(made.step == Step::refuse);
        return made.errc;
    }
};

}  // namespace

TEST_CASE("a write that fits is accepted by a serving primary") {
    CHECK(Facts().plan().step == Step::accept);
}

TEST_CASE("what refuses a write") {
    Facts f;
    SUBCASE("no lease") { f.own.lease_valid = false; CHECK(f.refused() == Errc::unavailable); }
    SUBCASE("fenced, even with a newer epoch") {
        f.own.session_fenced = true;
        f.grant = config_of(6);
        CHECK(f.refused() == Errc::fenced);
    }
    SUBCASE("older epoch") {
        f.grant = config_of(4);
        CHECK(f.refused() == Errc::stale_epoch);
        CHECK(f.plan().send_config);
    }
    SUBCASE("older epoch, cut since: metad must be asked") {
        f.grant = config_of(4);
        f.ours = config_of(5, {{Epoch{5}, 100}});
        CHECK(f.refused() == Errc::stale_epoch);
        CHECK(!f.plan().send_config);
    }
    SUBCASE("not a member") { f.own.self = NodeId{9}; CHECK(f.refused() == Errc::not_member); }
    SUBCASE("sealed") { f.ours.sealed = true; CHECK(f.refused() == Errc::stale_epoch); }
    SUBCASE("beyond the limit") { f.write.write_limit = 4095; CHECK(f.refused() == Errc::inval); }
    SUBCASE("payload of another size") { f.write.payload_bytes = 1; CHECK(f.refused() == Errc::corrupt); }
    SUBCASE("too few checksums") { f.write.checksum_count = 0; CHECK(f.refused() == Errc::corrupt); }
    SUBCASE("a member is full") { f.write.free_bytes = 100; CHECK(f.refused() == Errc::nospc); }
    SUBCASE("too much waits") { f.write.full_up = true; CHECK(f.refused() == Errc::busy); }
    SUBCASE("answered long ago") {
        f.write.known_lowest = 8;
        CHECK(f.refused() == Errc::superseded);
    }
}

TEST_CASE("repeats, roles and newer configurations") {
    Facts f;
    SUBCASE("done") { f.write.known_done = true; CHECK(f.plan().step == Step::done_already); }
    SUBCASE("under way") { f.write.under_way = true; CHECK(f.plan().step == Step::join); }
    SUBCASE("recovering") { f.own.role = Role::recovering; CHECK(f.plan().step == Step::wait); }
    SUBCASE("newer epoch") { f.grant = config_of(6); CHECK(f.plan().step == Step::adopt); }
    SUBCASE("small at a secondary") { f.own.role = Role::member; f.own.self = NodeId{2}; CHECK(f.plan().step == Step::forward); }
    SUBCASE("large at a secondary") {
        f.own.role = Role::member;
        f.own.self = NodeId{2};
        f.write.range.length = f.write.payload_bytes = f.write.write_limit = kForwardMax + 1;
        f.write.checksum_count = piece_count(0, kForwardMax + 1);
        CHECK(f.plan().step == Step::redirect);
    }
}

TEST_CASE("with fewer members than min_write_replicas nothing is done, nor said to be done") {
    Facts few;
    few.own.few_members = true;
    CHECK(few.plan().step == Step::wait);
    few.write.known_done = true;
    CHECK(few.plan().step == Step::wait);
    few.write.full_up = true;
    CHECK(few.refused() == Errc::busy);
    CHECK(few.plan_a_read().step == Step::serve);
}

TEST_CASE("reads: undecided ranges only at the primary, older epochs if nothing was cut") {
    Facts f;
    CHECK(f.plan_a_read().step == Step::serve);
    f.read.undecided = true;
    CHECK(f.plan_a_read().step == Step::serve);
    f.own.role = Role::recovering;
    CHECK(f.plan_a_read().step == Step::wait);
    f.own.role = Role::member;
    f.own.self = NodeId{2};
    CHECK(f.plan_a_read().step == Step::redirect);
    f.read.undecided = false;
    CHECK(f.plan_a_read().step == Step::serve);
    f.grant = config_of(4);
    CHECK(f.plan_a_read().step == Step::serve);
    f.read.shrunk_since_grant = true;
    CHECK(f.plan_a_read().errc == Errc::stale_epoch);
    f.read.shrunk_since_grant = false;
    f.own.lease_valid = false;
    CHECK(f.plan_a_read().errc == Errc::unavailable);
}

TEST_CASE("messages of a primary") {
    const Configuration ours = config_of(5);
    OwnFacts own{NodeId{2}, &ours, Role::member, false, false};
    Configuration theirs = config_of(5);
    ReplicaFacts message{&theirs, NodeId{1}, {Epoch{5}, Incarnation{3}}, {Epoch{5}, Incarnation{3}}, false};
    CHECK(plan_replica(own, message).step == Step::accept);
    message.sender_is.incarnation = Incarnation{2};  // an earlier start
    CHECK(plan_replica(own, message).errc == Errc::stale_epoch);
    message.sender_is.incarnation = Incarnation{4};
    message.sender = NodeId{3};
    CHECK(plan_replica(own, message).errc == Errc::protocol);
    message.sender = NodeId{1};
    theirs.epoch = Epoch{4};
    CHECK(plan_replica(own, message).errc == Errc::stale_epoch);
    theirs.epoch = Epoch{6};
    CHECK(plan_replica(own, message).step == Step::adopt);
}

TEST_CASE("shrink marks: the smallest of a later epoch, once") {
    const std::vector<ShrinkMark> marks{{Epoch{6}, 50}, {Epoch{7}, 70}};
    CHECK(shrink_step(marks, Epoch{5})->truncate_to == 50);
    CHECK(shrink_step(marks, Epoch{6})->truncate_to == 70);
    CHECK(shrink_step(marks, Epoch{5})->newest == Epoch{7});
    CHECK(!shrink_step(marks, Epoch{7}).has_value());
}

TEST_CASE("the chunk record survives encoding and damage is found") {
    ReplicaRecord record;
    record.config = config_of(5, {{Epoch{4}, 100}});
    record.config.epoch = Epoch{};
    record.config.joiner = NodeId{4};
    record.complete = record.from_start = true;
    record.voids = {{SessionId{8}, 99}};
    Bytes bytes = encode_record(record);
    auto back = decode_record(bytes);
    REQUIRE(back.is_ok());
    CHECK(back->config == record.config);
    CHECK(back->complete);
    CHECK(back->from_start);
    CHECK(back->voids == record.voids);
    bytes.pop_back();
    CHECK(decode_record(bytes).code() == Errc::corrupt);
    CHECK(decode_record({}).code() == Errc::corrupt);
}

TEST_CASE("version vectors") {
    VersionVector a, b;
    a.record(NodeId{1}, Incarnation{1}, 5);
    b.record(NodeId{1}, Incarnation{1}, 5);
    CHECK(a.compare(b) == VectorOrder::equal);
    b.record(NodeId{2}, Incarnation{2}, 1);
    CHECK(a.compare(b) == VectorOrder::before);
    CHECK(b.compare(a) == VectorOrder::after);
    a.record(NodeId{1}, Incarnation{3}, 6);
    CHECK(a.compare(b) == VectorOrder::concurrent);
    CHECK(VersionVector::decode(a.encode()).compare(a) == VectorOrder::equal);
}
