// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/chunkd/replication/fixture.h"

using namespace lumeofs;
using namespace lumeofs::replication_test;

namespace {

constexpr uint64_t kX = 77;

std::string fill(char byte, size_t count = 6000) { return std::string(count, byte); }

}  // namespace

TEST_CASE("an answered write is on every member and read at each") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    CHECK(c.write(kX, 1000, fill('a')) == Errc::ok);
    for (uint64_t node : {11, 12, 13}) CHECK(c.raw(node, kX, 1000, 6000) == fill('a'));
    c.run_for(kSecond);  // the idle primary tells its commit point
    for (uint64_t node : {11, 12, 13}) {
        auto read = c.read(node, kX, 0, 8192);
        CHECK(read.errc == Errc::ok);
        CHECK(read.bytes == std::string(1000, '\0') + fill('a') + std::string(1192, '\0'));
        CHECK(!*c.servers[node]->store()->undecided(ChunkId{kX}, 0, 8192));
    }
}

TEST_CASE("a chunk that nobody wrote reads as zeros") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    CHECK(c.read(12, kX, 0, 100).redirect == 11);
    CHECK(c.read(11, kX, 0, 100).bytes == std::string(100, '\0'));
}

TEST_CASE("small writes are forwarded to the primary, large ones redirected") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    auto small = c.send(12, c.grant(kX, 100), 0, fill('a'));
    c.run_for(kSecond);
    REQUIRE(small->answered);
    CHECK(small->errc() == Errc::ok);
    auto large = c.send(12, c.grant(kX, 100), 0, fill('b', 70'000));
    c.run_for(kSecond);
    CHECK(large->reply.redirect == 11);
    CHECK(c.raw(13, kX, 0, 6000) == fill('a'));
}

TEST_CASE("a dead secondary: writes go on after its lease, without it") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    CHECK(c.write(kX, 0, fill('a')) == Errc::ok);
    c.kill(13);
    const Nanos before = c.loop.now();
    CHECK(c.write(kX, 0, fill('b')) == Errc::ok);
    CHECK(c.loop.now() - before <= 5 * kSecond);
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 12});
    CHECK(c.raw(12, kX, 0, 6000) == fill('b'));
}

TEST_CASE("a dead primary: the promoted member has what was answered") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    CHECK(c.write(kX, 0, fill('a')) == Errc::ok);
    auto lost = c.send(11, c.grant(kX, 100), 100, fill('b', 200));
    c.loop.step();
    c.kill(11);
    bool removed = false;
    c.metad.remove_member(kX, 11, [&] { removed = true; });
    CHECK(c.loop.run_until([&] { return removed; }, 6 * kSecond));
    CHECK(c.write(kX, 6000, fill('c')) == Errc::ok);
    c.run_for(kSecond);
    CHECK(c.raw(12, kX, 0, 12000) == c.raw(13, kX, 0, 12000));
    CHECK(c.read(12, kX, 6000, 6000).bytes == fill('c'));
    CHECK(c.read(13, kX, 0, 100).bytes == fill('a', 100));
}

TEST_CASE("power cuts of the primary at every step of a write: copies end equal") {
    for (int steps = 1; steps <= 45; steps += 2) {
        Cluster c;
        c.metad.chunk(kX, {11, 12, 13});
        REQUIRE(c.write(kX, 0, fill('a', 8192)) == Errc::ok);
        auto cut = c.send(11, c.grant(kX, 100), 4096, fill('b', 4096));
        for (int i = 0; i < steps; ++i) c.loop.step();
        const bool answered = cut->answered && cut->errc() == Errc::ok;
        c.power_cut(11, static_cast<uint64_t>(steps));
        c.start(11);
        c.wait_serving(11);
        auto read = c.read(11, kX, 0, 8192);
        INFO("steps " << steps);
        CHECK(read.errc == Errc::ok);
        CHECK(read.bytes.substr(0, 4096) == fill('a', 4096));
        CHECK((read.bytes[5000] == 'b' || (!answered && read.bytes[5000] == 'a')));
        c.run_for(2 * kSecond);
        for (uint64_t node : {11, 12, 13}) CHECK(c.raw(node, kX, 0, 8192) == read.bytes);
        // The client repeats what was not answered: it must take effect.
        if (!answered) {
            auto again = c.send(11, c.grant(kX, 100), 4096, fill('b', 4096), c.last_write);
            c.loop.run_until([&] { return again->answered; }, 5 * kSecond);
            CHECK(again->errc() == Errc::ok);
            for (uint64_t node : {11, 12, 13}) CHECK(c.raw(node, kX, 4096, 4096) == fill('b', 4096));
        }
    }
}

TEST_CASE("what only the others have of a write is settled by the next start, without anybody's use") {
    int differed = 0;
    for (uint64_t seed = 1; seed <= 6; ++seed) {
        INFO("seed " << seed);
        Cluster c;
        c.metad.chunk(kX, {11, 12, 13});
        REQUIRE(c.write(kX, 0, fill('a', 8192)) == Errc::ok);
        c.run_for(kSecond);
        c.metad.chunk(kX + 1, {11, 12, 13});
        REQUIRE(c.write(kX + 1, 0, fill('z')) == Errc::ok);  // with it goes what is known as committed
        c.disks[11]->inject({sim::DiskOp::sync, "/wal/", Errc::io, 0, 1});
        c.send(11, c.grant(kX, 100), 4096, fill('b', 4096));
        c.run_for(100 * kMillisecond);
        c.metad.silent = true;
        c.power_cut(11, seed);
        for (uint64_t node : {12, 13}) c.kill(node);
        for (uint64_t node : {11, 12, 13}) c.start(node);
        c.run_for(kSecond);  // they see each other
        differed += c.raw(12, kX, 0, 8192) != c.raw(11, kX, 0, 8192) ? 1 : 0;
        c.metad.silent = false;
        // The primary is registered first: the others cannot answer it yet.
        c.metad.only = 11;
        c.wait_serving(11);
        c.run_for(kSecond);
        c.metad.only = 0;
        for (uint64_t node : {12, 13}) c.wait_serving(node);
        c.run_for(3 * kSecond);
        for (uint64_t node : {12, 13}) CHECK(c.raw(node, kX, 0, 8192) == c.raw(11, kX, 0, 8192));
    }
    CHECK(differed > 0);
}

TEST_CASE("power cuts of a secondary at every step of several writes") {
    for (int steps = 1; steps <= 60; steps += 5) {
        Cluster c;
        c.metad.chunk(kX, {11, 12, 13});
        REQUIRE(c.write(kX, 0, fill('a', 8192)) == Errc::ok);
        std::vector<std::shared_ptr<Cluster::Write>> sent;
        for (uint64_t i = 0; i < 4; ++i) {
            sent.push_back(c.send(11, c.grant(kX, 100), i * 2000, fill('b', 2000)));
        }
        for (int i = 0; i < steps; ++i) c.loop.step();
        c.power_cut(12, static_cast<uint64_t>(steps));
        c.start(12);
        c.run_for(10 * kSecond);
        INFO("steps " << steps);
        for (auto& one : sent) {
            CHECK(one->answered);
            CHECK(one->errc() == Errc::ok);
        }
        for (uint64_t node : {11, 12, 13}) CHECK(c.raw(node, kX, 0, 8000) == fill('b', 8000));
    }
}

TEST_CASE("a joiner is filled under writes and becomes a member") {
    Cluster c(4);
    c.metad.chunk(kX, {11, 12, 13});
    for (uint64_t i = 0; i < 8; ++i) {
        REQUIRE(c.write(kX, i * 300'000, fill(static_cast<char>('a' + i), 300'000)) == Errc::ok);
    }
    c.metad.order_fill(kX, 14);
    uint64_t writes = 0;
    while (c.metad.joins == 0 && writes < 500) {
        REQUIRE(c.write(kX, (writes % 24) * 100'000 + 50, fill('z', 500)) == Errc::ok);
        ++writes;
        c.run_for(kMillisecond);
        if (writes > 100) c.run_for(100 * kMillisecond);
    }
    CHECK(c.metad.joins == 1);
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 12, 13, 14});
    REQUIRE(c.write(kX, 0, fill('q', 100)) == Errc::ok);
    CHECK(c.raw(14, kX, 0, 2'400'000) == c.raw(11, kX, 0, 2'400'000));
    c.run_for(kSecond);
    CHECK(c.read(14, kX, 0, 100).bytes == fill('q', 100));
}

TEST_CASE("a member of two that lost its copy is filled again, and no write is answered before") {
    for (const bool primary : {false, true}) {
        INFO("the primary loses it: " << primary);
        Cluster c;
        c.metad.chunk(kX, {11, 12});
        REQUIRE(c.write(kX, 0, fill('a', 200'000)) == Errc::ok);
        const uint64_t lost = primary ? 11 : 12;
        const uint64_t other = primary ? 12 : 11;
        c.lose_disk(lost);
        c.start(lost);
        c.wait_serving(lost);
        c.run_for(2 * kSecond);
        auto first = c.send(11, c.grant(kX, 100), 5000, fill('b'));  // here it is noticed
        CHECK(c.loop.run_until(
            [&] { return c.metad.rows[kX].members == std::vector<uint64_t>{other}; }, 10 * kSecond));
        c.run_for(kSecond);
        CHECK(first->answered);
        CHECK(first->errc() != Errc::ok);
        CHECK(c.read(other, kX, 0, 10).bytes == fill('a', 10));
        auto write = c.send(other, c.grant(kX, 100), 5000, fill('b'));
        auto repeat = c.send(other, c.grant(kX, 100), 5000, fill('b'), c.last_write - 1);
        c.run_for(5 * kSecond);
        CHECK(!write->answered);
        CHECK(!repeat->answered);
        c.metad.order_fill(kX, lost);
        REQUIRE(c.joined(1));
        c.run_for(kSecond);
        CHECK(c.write(kX, 0, fill('c')) == Errc::ok);
        CHECK(c.raw(lost, kX, 0, 200'000) == c.raw(other, kX, 0, 200'000));
    }
}

TEST_CASE("writes that wait for members take no place from the others, and are bounded too") {
    Cluster c;
    const uint64_t kY = kX + 1;
    c.metad.chunk(kX, {11, 12});
    c.metad.chunk(kY, {11, 12, 13});
    c.kill(11);
    c.max_concurrent_writes = 4;
    c.start(11);
    c.wait_serving(11);
    c.run_for(3 * kSecond);
    REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
    c.metad.change_members(kX, {11});
    std::vector<std::shared_ptr<Cluster::Write>> sent;
    for (int i = 0; i < 6; ++i) sent.push_back(c.send(11, c.grant(kX, 100), 0, fill('b')));
    c.run_for(kSecond);
    for (size_t i = 0; i < sent.size(); ++i) {
        CHECK(sent[i]->answered == (i >= 4));
        if (i >= 4) CHECK(sent[i]->errc() == Errc::busy);
    }
    for (int i = 0; i < 8; ++i) CHECK(c.write(kY, 0, fill('c')) == Errc::ok);
    c.metad.order_fill(kX, 12);
    REQUIRE(c.joined(1));
    c.run_for(kSecond);
    for (const auto& one : sent) CHECK(one->answered);  // stale_epoch: to be repeated
    for (int i = 0; i < 8; ++i) CHECK(c.write(kX, 0, fill('d')) == Errc::ok);
}

TEST_CASE("a copy that was filled and then lost is not made up of what comes next") {
    Cluster c;
    c.metad.chunk(kX, {11, 12});
    REQUIRE(c.write(kX, 0, fill('a', 200'000)) == Errc::ok);
    c.run_for(kSecond);
    c.metad.order_fill(kX, 13);
    REQUIRE(c.joined(1));
    c.run_for(kSecond);  // the primary has begun anew with it: it knows no write by its name
    c.lose_disk(13);
    c.start(13);
    c.wait_serving(13);
    c.run_for(3 * kSecond);
    REQUIRE(c.write(kX, 5000, fill('b')) == Errc::ok);
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 12});
    CHECK(!c.servers[13]->store()->has(ChunkId{kX}));
}

TEST_CASE("a disk that fails is no copy: a secondary's is left out, a primary hands over") {
    for (const uint64_t fails : {11, 13}) {
        INFO("chunkd " << fails);
        Cluster c(3, {"/one", "/two"});
        c.metad.chunk(kX, {11, 12, 13});
        REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
        c.run_for(kSecond);
        const auto where = c.servers[fails]->store()->list(ChunkId{}, 1).front().disk;
        c.disks[fails]->inject(
            {sim::DiskOp::sync, c.data_dirs[where] + "/store/wal/", Errc::io, 0, 1});
        CHECK(c.write(kX, 0, fill('b')) == Errc::ok);
        CHECK(!c.servers[fails]->store()->has(ChunkId{kX}));
        std::vector<uint64_t> left{11, 12, 13};
        std::erase(left, fails);
        CHECK(c.metad.rows[kX].members == left);
        for (uint64_t node : left) CHECK(c.raw(node, kX, 0, 6000) == fill('b'));
    }
}

TEST_CASE("a chunk that lost every copy is not made from nothing, one that was never written is") {
    for (const bool written : {true, false}) {
        INFO("written: " << written);
        Cluster c;
        c.metad.chunk(kX, {11, 12});
        REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
        c.metad.rows[kX].written = written;  // its data was committed
        c.run_for(kSecond);
        for (uint64_t node : {11, 12}) {
            c.lose_disk(node);
            c.start(node);
            c.wait_serving(node);
        }
        c.run_for(5 * kSecond);
        const Errc expected = written ? Errc::nodata : Errc::ok;
        CHECK(c.read(11, kX, 0, 10).errc == expected);
        auto write = c.send(11, c.grant(kX, 100), 0, fill('b'));
        c.run_for(kSecond);
        CHECK(write->answered);
        CHECK(write->errc() == expected);
        CHECK(c.servers[11]->store()->has(ChunkId{kX}) == !written);
        CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 12});
    }
}

TEST_CASE("the last copy of a chunk is waited for, and serves when it is back") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a', 9000)) == Errc::ok);
    c.metad.rows[kX].written = true;
    c.run_for(kSecond);
    c.kill(13);
    for (uint64_t node : {11, 12}) {
        c.lose_disk(node);
        c.start(node);
        c.wait_serving(node);
    }
    auto write = c.send(11, c.grant(kX, 100), 9000, fill('b', 10));
    c.run_for(30 * kSecond);
    CHECK(!write->answered);
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 12, 13});
    c.start(13);
    c.wait_serving(13);
    c.run_for(10 * kSecond);
    for (int i = 0; i < 10 && c.metad.rows[kX].members.front() != 13; ++i) {
        const uint64_t primary = c.metad.rows[kX].members.front();
        c.send(primary, c.grant(kX, 100), 9000, fill('b', 10));  // so that it learns that it is one
        c.run_for(5 * kSecond);
    }
    CHECK(c.metad.rows[kX].members.front() == 13);
    CHECK((c.read(13, kX, 0, 9000).bytes == fill('a', 9000)));
}

TEST_CASE("a member without a copy of a chunk that was never written lacks nothing") {
    Cluster c;
    c.metad.chunk(kX, {11, 12});
    c.metad.order_fill(kX, 13);
    REQUIRE(c.joined(1));
    c.kill(11);
    c.metad.change_members(kX, {13, 12});  // a copy that was filled from nothing, and none
    CHECK(c.write(kX, 0, fill('a')) == Errc::ok);
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{13, 12});
    for (uint64_t node : {12, 13}) CHECK(c.raw(node, kX, 0, 6000) == fill('a'));
}

TEST_CASE("a joiner whose primary dies without a word asks what has become of it") {
    for (const bool made_member : {true, false}) {
        Cluster c;
        c.metad.chunk(kX, {11, 12});
        REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
        c.metad.order_fill(kX, 13);
        REQUIRE(c.loop.run_until([&] { return c.replica(13, kX) != nullptr; }, 10 * kSecond));
        if (made_member) REQUIRE(c.joined(1));
        c.kill(11);
        c.kill(12);
        if (!made_member) c.metad.rows[kX].joiner = 0;  // it was given up
        REQUIRE(c.replica(13, kX)->role() == replication::Role::joiner);
        c.run_for(replication::kJoinerPatience + kSecond);
        CHECK(c.replica(13, kX)->role() ==
              (made_member ? replication::Role::member : replication::Role::outside));
        CHECK(c.replica(13, kX)->config().epoch == Epoch{made_member ? 2u : 1u});
    }
}

TEST_CASE("a check finds a copy that was lost after it had acknowledged what is under way") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
    c.run_for(kSecond);
    c.kill(12);
    auto write = c.send(11, c.grant(kX, 100), 0, fill('b'));
    REQUIRE(c.loop.run_until([&] { return c.raw(13, kX, 0, 1) == "b"; }, kSecond));
    c.run_for(10 * kMillisecond);
    REQUIRE(!write->answered);  // 12 does not have it
    c.lose_disk(13);
    c.start(13);
    c.wait_serving(13);
    c.servers[11]->driver()->check_copies(c.metad.rows[kX], [](const Status&) {});
    c.start(12);
    CHECK(c.loop.run_until([&] { return c.metad.rows[kX].members.size() == 2; }, 5 * kSecond));
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 12});
}

TEST_CASE("a check does not go by what was answered before it") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
    REQUIRE(c.write(kX, 65536, fill('b')) == Errc::ok);  // so that the first is known to be everywhere
    c.run_for(kSecond);
    c.kill(11);
    c.kill(13);
    c.start(11);
    c.run_for(kSecond);  // 12 has told 11 that it has a copy; 13 is missing
    REQUIRE(c.replica(11, kX)->role() == replication::Role::recovering);
    c.lose_disk(12);
    c.start(12);
    c.run_for(kSecond);
    c.servers[11]->driver()->check_copies(c.metad.rows[kX], [](const Status&) {});
    c.start(13);
    CHECK(c.loop.run_until([&] { return c.metad.rows[kX].members.size() == 2; }, 5 * kSecond));
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 13});
}

TEST_CASE("a check is done only by the primary, and not by one that is replaced meanwhile") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
    Status member = Status(Errc::unavailable), replaced = member, primary = member;
    auto into = [](Status* where) { return [where](const Status& status) { *where = status; }; };
    c.servers[12]->driver()->check_copies(c.metad.rows[kX], into(&member));
    c.run_for(kSecond);
    CHECK(member.code() == Errc::not_member);
    c.servers[11]->driver()->check_copies(c.metad.rows[kX], into(&primary));
    c.run_for(kSecond);
    CHECK(primary.is_ok());
    c.kill(13);
    c.servers[11]->driver()->check_copies(c.metad.rows[kX], into(&replaced));
    c.metad.change_members(kX, {12, 11});
    c.servers[11]->driver()->adopt(c.metad.rows[kX], {});
    c.run_for(kSecond);
    CHECK(replaced.code() == Errc::canceled);
}

TEST_CASE("a joiner knows of the undecided writes whose bytes it was filled with") {
    Cluster c;
    c.metad.chunk(kX, {11, 12});
    REQUIRE(c.write(kX, 0, fill('a', 100'000)) == Errc::ok);
    REQUIRE(c.write(kX, 90'000, fill('a', 100)) == Errc::ok);  // says that the first is committed
    c.kill(12);
    auto write = c.send(11, c.grant(kX, 100), 10'000, fill('b'));
    c.run_for(kSecond);
    REQUIRE(!write->answered);
    c.metad.order_fill(kX, 13);
    REQUIRE(c.joined(1));
    c.kill(11);  // before it settled anything with the new member
    CHECK(c.raw(13, kX, 10'000, 6000) == fill('b'));
    c.start(12);
    c.wait_serving(12);
    c.run_for(3 * kSecond);
    c.metad.change_members(kX, {12, 13});
    CHECK(c.write(kX, 50'000, fill('c')) == Errc::ok);
    CHECK(c.raw(12, kX, 10'000, 6000) == fill('a'));  // nobody was promised the other bytes
    CHECK(c.raw(12, kX, 0, 100'000) == c.raw(13, kX, 0, 100'000));
}

TEST_CASE("a late message does not make a removed chunk again [19]") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    bool removed = false;
    c.servers[13]->driver()->remove_chunk(
        ChunkId{kX}, Epoch{c.metad.rows[kX].epoch}, [&](const Status& status) {
            removed = status.is_ok();
        });
    CHECK(removed);  // there was nothing here yet
    CHECK(c.write(kX, 0, fill('a', 5000)) == Errc::ok);
    CHECK(!c.servers[13]->driver()->store().has(ChunkId{kX}));
    CHECK(c.metad.rows[kX].members == std::vector<uint64_t>{11, 12});
}

TEST_CASE("an older write of the same client never lands on a newer one [10]") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    const auto grant = c.grant(kX, 100);
    auto run = [&](const std::shared_ptr<Cluster::Write>& write) {
        c.loop.run_until([&] { return write->answered; }, 5 * kSecond);
        return write->errc();
    };
    CHECK(run(c.send(11, grant, 0, fill('1'), 1, 1)) == Errc::ok);
    CHECK(run(c.send(11, grant, 0, fill('1'), 1, 1)) == Errc::ok);  // a repeat
    CHECK(run(c.send(11, grant, 0, fill('2'), 2, 2)) == Errc::ok);
    CHECK(run(c.send(11, grant, 0, fill('1'), 1, 1)) != Errc::ok);  // the one that hung
    for (uint64_t node : {11, 12, 13}) CHECK(c.raw(node, kX, 0, 6000) == fill('2'));
}

TEST_CASE("a fenced session is refused everywhere, also after a restart") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    CHECK(c.write(kX, 0, fill('a'), 100) == Errc::ok);
    c.metad.fence(100);
    CHECK(c.loop.run_until(
        [&] {
            return c.metad.nodes[11].acked_fence == 1 && c.metad.nodes[12].acked_fence == 1 &&
                   c.metad.nodes[13].acked_fence == 1;
        },
        5 * kSecond));
    CHECK(c.write(kX, 0, fill('b'), 100) == Errc::fenced);
    CHECK(c.write(kX, 0, fill('c'), 101) == Errc::ok);
    c.kill(11);
    c.start(11);
    c.wait_serving(11);
    CHECK(c.write(kX, 0, fill('b'), 100) == Errc::fenced);
}

TEST_CASE("older epochs are refused with the newer configuration; shrink marks are obeyed once") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a', 8000)) == Errc::ok);
    const auto old = c.grant(kX, 100);
    c.metad.rows[kX].epoch = 2;
    c.metad.rows[kX].marks = {wire::Mark(2, 5000)};
    REQUIRE(c.write(kX, 0, fill('b', 10)) == Errc::ok);
    for (uint64_t node : {11, 12, 13}) {
        CHECK(c.raw(node, kX, 0, 8000) == fill('b', 10) + fill('a', 4990) + std::string(3000, '\0'));
    }
    auto late = c.send(11, old, 5000, fill('x'));
    c.run_for(kSecond);
    CHECK(late->errc() == Errc::stale_epoch);
    CHECK(!late->reply.grant);  // cut since: metad must be asked
    c.metad.rows[kX].epoch = 3;
    const auto second = c.grant(kX, 100);
    REQUIRE(c.write(kX, 5000, fill('c', 100)) == Errc::ok);
    CHECK(c.raw(13, kX, 5000, 100) == fill('c', 100));  // the mark of epoch 2 is not applied again
    auto older = second;
    older.epoch = 2;
    late = c.send(11, older, 0, fill('x'));
    c.run_for(kSecond);
    CHECK(late->errc() == Errc::stale_epoch);
    REQUIRE(late->reply.grant);
    CHECK(late->reply.grant->epoch == 3);
}

TEST_CASE("without the node lease nothing is served") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
    c.run_for(kSecond);
    c.metad.silent = true;
    c.run_for(kNodeLease);
    CHECK(!c.servers[12]->serving());
    CHECK(c.read(12, kX, 0, 100).errc == Errc::unavailable);
    auto write = c.send(11, c.grant(kX, 100), 0, fill('b'));
    c.run_for(100 * kMillisecond);
    CHECK(write->errc() == Errc::unavailable);
}

TEST_CASE("a removed member that lives acknowledges, and refuses from then on") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a')) == Errc::ok);
    c.run_for(kSecond);
    bool removed = false;
    c.metad.remove_member(kX, 13, [&] { removed = true; });
    CHECK(c.loop.run_until([&] { return removed; }, 2 * kSecond));  // long before its lease ends
    CHECK(c.metad.nodes[13].lease_until > c.loop.now());
    CHECK(c.read(13, kX, 0, 100).errc == Errc::not_member);
}

TEST_CASE("a bad block is never served and heals from another member") {
    Cluster c;
    c.metad.chunk(kX, {11, 12, 13});
    REQUIRE(c.write(kX, 0, fill('a', 1 << 20)) == Errc::ok);
    c.run_for(kSecond);
    bool flipped = false;
    for (const std::string& path : c.disks[12]->files()) {
        if (path.find("/home/") == std::string::npos) continue;
        for (uint64_t at = 0; at < (1 << 20); at += 65536) {
            flipped = c.disks[12]->flip_bit(path, at, 3) || flipped;
        }
    }
    REQUIRE(flipped);
    auto read = c.read(12, kX, 0, 1 << 20);
    if (read.errc == Errc::ok) {
        CHECK(read.bytes == fill('a', 1 << 20));  // from memory
    } else {
        CHECK(read.errc == Errc::corrupt);
        c.run_for(5 * kSecond);
        CHECK(c.read(12, kX, 0, 1 << 20).bytes == fill('a', 1 << 20));
    }
}
