// SPDX-License-Identifier: Apache-2.0
// Random operations against an oracle in memory, through one or two clients, with every fault that
// must not show: lost answers, changes of leader, dead and corrupt chunkds, recalls at any moment.
#include <doctest/doctest.h>

#include <cstdlib>

#include "client/write_buffer.h"
#include "common/base/planted_bug.h"
#include "tests/unit/client/fixture.h"

namespace lumeofs::client_test {
namespace {

uint64_t rounds(uint64_t usual) {
    const char* factor = std::getenv("LUMEO_TEST_FACTOR");
    return factor == nullptr ? usual : usual * std::strtoull(factor, nullptr, 10);
}

TEST_CASE("the write buffer shows the newest bytes and never sends overlapping pieces") {
    for (uint64_t seed = 1; seed <= rounds(30); ++seed) {
        CAPTURE(seed);
        Prng prng(seed);
        client::WriteBuffer buffer;
        Bytes oracle(3 << 20), below(3 << 20);  // what a reader sees; what has been sent
        std::vector<client::WriteBuffer::Piece> flying;
        for (int step = 0; step < 300; ++step) {
            const uint64_t size =
                prng.chance(1, 10) ? prng.between(1, 700'000) : prng.between(1, 9'000);
            const uint64_t at = prng.chance(1, 3) && step > 0
                                    ? buffer.last_write() * 1000 % 2'000'000
                                    : prng.below(oracle.size() - size);
            switch (prng.below(6)) {
                case 0:
                case 1: {
                    const Bytes bytes = pattern(prng.next(), std::min(size, oracle.size() - at));
                    buffer.write(at, Buffer::copy_of(bytes), step);
                    std::copy(
                        bytes.begin(), bytes.end(), oracle.begin() + static_cast<ptrdiff_t>(at));
                    break;
                }
                case 2:
                case 3: {
                    auto piece = prng.chance(1, 2) ? buffer.take_full()
                                                   : buffer.take_any(buffer.last_write());
                    if (!piece) break;
                    CHECK(piece->offset / kChunkSize == (piece->end() - 1) / kChunkSize);
                    for (const auto& other : flying) {
                        CHECK((piece->end() <= other.offset || other.end() <= piece->offset));
                    }
                    flying.push_back(*piece);
                    break;
                }
                case 4:
                    if (flying.empty()) break;
                    {
                        const size_t one = prng.below(flying.size());
                        const auto piece = flying[one];
                        std::memcpy(
                            below.data() + piece.offset, piece.data.data(), piece.data.size());
                        buffer.finish(piece.offset);
                        flying.erase(flying.begin() + static_cast<ptrdiff_t>(one));
                    }
                    break;
                default: {
                    Bytes seen(below.begin() + static_cast<ptrdiff_t>(at),
                               below.begin() + static_cast<ptrdiff_t>(
                                                   std::min<uint64_t>(at + size, below.size())));
                    uint64_t last = at;
                    for (const auto& piece : buffer.overlay(at, seen.size())) {
                        CHECK(piece.offset >= last);
                        last = piece.end();
                        std::memcpy(seen.data() + (piece.offset - at),
                                    piece.data.data(),
                                    piece.data.size());
                    }
                    CHECK(std::equal(
                        seen.begin(), seen.end(), oracle.begin() + static_cast<ptrdiff_t>(at)));
                }
            }
        }
        while (!buffer.empty()) {
            while (auto piece = buffer.take_any(buffer.last_write())) flying.push_back(*piece);
            REQUIRE(!flying.empty());
            std::memcpy(
                below.data() + flying[0].offset, flying[0].data.data(), flying[0].data.size());
            buffer.finish(flying[0].offset);
            flying.erase(flying.begin());
        }
        CHECK(below == oracle);
        CHECK(buffer.bytes() == 0);
        CHECK(buffer.clean_up_to(buffer.last_write()));
    }
}

struct World {
    World(uint64_t seed, size_t clients, bool faults)
        : cluster(seed), prng(seed * 77 + 1), with_faults(faults) {
        for (size_t i = 0; i < clients; ++i) {
            all.push_back(std::make_unique<TestClient>(cluster, seed * 10 + i));
            all.back()->start();
        }
        // Near the border of two chunks in half of the runs.
        base = prng.chance(1, 2) ? 0 : kChunkSize - 150'000;
        auto made = all[0]->create("f");
        REQUIRE(made.is_ok());
        ino = made->attr.ino;
        handles.push_back(made->handle);
        for (size_t i = 1; i < clients; ++i) handles.push_back(all[i]->open(ino)->handle);
        if (faults) {
            cluster.meta_faults.delay_max_us = 3000;
            cluster.chunk_faults.delay_max_us = 3000;
            cluster.meta_faults.lose_reply_percent = prng.below(4);
            cluster.chunk_faults.lose_reply_percent = prng.below(10);
        }
    }

    void fault() {
        if (!with_faults || !prng.chance(1, 12)) return;
        const uint64_t which = prng.below(5);
        if (which == 0) cluster.lead(prng.below(2));
        if (which == 1) {
            const size_t at = prng.below(2);
            cluster.metads[at]->crash();
            cluster.lead(1 - at);
            cluster.metads[at]->listen();
        }
        if (which == 2 && cluster.state.dead.empty()) {
            // Restarts later; a configuration without it stays so.
            auto& one = cluster.chunkds[prng.below(3)];
            one->crash();
            cluster.loop.after(static_cast<Nanos>(prng.below(5)) * kSecond,
                               [&one] { one->start(); });
        }
        if (which == 3) {
            auto& one = *cluster.chunkds[prng.below(3)];
            for (auto& chunkd : cluster.chunkds) chunkd->corrupts = false;
            one.corrupts = true;
        }
        if (which == 4) cluster.loop.run_for(static_cast<Nanos>(prng.below(6)) * kSecond);
    }

    void step() {
        const size_t who = prng.below(all.size());
        TestClient& client = *all[who];
        const HandleId handle = handles[who];
        const uint64_t limit = 300'000;
        const uint64_t size = prng.chance(1, 4) ? prng.between(1, 60'000) : prng.between(1, 5'000);
        const uint64_t at =
            (prng.chance(1, 3) ? 0 : base) + prng.below(prng.chance(1, 4) ? limit : 6'000);
        switch (prng.below(12)) {
            case 0:
            case 1:
            case 2:
            case 3: {
                const Bytes bytes = pattern(prng.next(), size);
                REQUIRE(client.write(handle, at, bytes).is_ok());
                if (oracle.size() < at + size) oracle.resize(at + size);
                std::copy(bytes.begin(), bytes.end(), oracle.begin() + static_cast<ptrdiff_t>(at));
                break;
            }
            case 4:
            case 5:
            case 6: {
                auto got = client.read(handle, at, size);
                REQUIRE(got.is_ok());
                Bytes expected;
                if (at < oracle.size()) {
                    expected.assign(oracle.begin() + static_cast<ptrdiff_t>(at),
                                    oracle.begin() + static_cast<ptrdiff_t>(std::min<uint64_t>(
                                                         at + size, oracle.size())));
                }
                REQUIRE(*got == expected);
                break;
            }
            case 7: {
                const uint64_t to = prng.chance(1, 4) ? 0 : at;
                REQUIRE(client.truncate(ino, to, prng.chance(1, 2) ? handle : 0).is_ok());
                oracle.resize(to);
                break;
            }
            case 8: {
                const bool keep = prng.chance(2, 3);
                const uint32_t mode =
                    keep ? kFallocatePunchHole | kFallocateKeepSize : kFallocateZeroRange;
                REQUIRE(client.punch(handle, mode, at, size).is_ok());
                if (!keep && oracle.size() < at + size) oracle.resize(at + size);
                for (uint64_t i = at; i < std::min<uint64_t>(at + size, oracle.size()); ++i)
                    oracle[i] = 0;
                break;
            }
            case 9:
                REQUIRE(client.fsync(handle).is_ok());
                break;
            case 10: {
                REQUIRE(client.close(handle).is_ok());
                auto again = client.open(ino);
                REQUIRE(again.is_ok());
                handles[who] = again->handle;
                break;
            }
            default:
                REQUIRE(client.getattr(ino)->size == oracle.size());
        }
    }

    Cluster cluster;
    Prng prng;
    bool with_faults;
    std::vector<std::unique_ptr<TestClient>> all;
    std::vector<HandleId> handles;
    InodeId ino;
    uint64_t base = 0;
    Bytes oracle;
};

void run_world(uint64_t seed, size_t clients, bool faults, int steps) {
    CAPTURE(seed);
    CAPTURE(clients);
    World world(seed, clients, faults);
    for (int i = 0; i < steps; ++i) {
        world.fault();
        world.step();
    }
    world.cluster.meta_faults.lose_reply_percent = 0;
    world.cluster.chunk_faults.lose_reply_percent = 0;
    for (auto& chunkd : world.cluster.chunkds) chunkd->corrupts = false;
    for (size_t i = 0; i < clients; ++i) REQUIRE(world.all[i]->close(world.handles[i]).is_ok());
    TestClient fresh(world.cluster, 999);
    fresh.start();
    auto file = fresh.open(world.ino, 0);
    REQUIRE(file.is_ok());
    CHECK(*fresh.read(file->handle, 0, world.oracle.size() + 10) == world.oracle);
    CHECK(world.cluster.lead_metad().refused_attaches.empty());
    for (auto& chunkd : world.cluster.chunkds) CHECK(chunkd->overlaps == 0);
}

TEST_CASE("random operations of one client") {
    for (uint64_t seed = 1; seed <= rounds(20); ++seed) run_world(seed, 1, false, 150);
}

TEST_CASE("random operations of one client under faults") {
    for (uint64_t seed = 1; seed <= rounds(20); ++seed) run_world(seed, 1, true, 150);
}

TEST_CASE("random operations of two clients on one file") {
    for (uint64_t seed = 1; seed <= rounds(20); ++seed) run_world(seed, 2, false, 150);
}

TEST_CASE("random operations of two clients under faults") {
    for (uint64_t seed = 1; seed <= rounds(20); ++seed) run_world(seed, 2, true, 150);
}

}  // namespace
}  // namespace lumeofs::client_test
