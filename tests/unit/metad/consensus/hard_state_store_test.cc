// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/hard_state_store.h"

#include <doctest/doctest.h>

#include "tests/unit/metad/consensus/fake_disk.h"

namespace lumeofs::consensus {
namespace {

using consensus_test::FakeDisk;

constexpr uint64_t kId = 5;

raft::HardState state(uint64_t term, uint64_t vote) { return {Term{term}, NodeId{vote}}; }

TEST_CASE("a power cut at every operation leaves the old or the new vote") {
    uint64_t operations = 0;
    for (uint64_t at = 0; at <= operations; ++at) {
        for (uint64_t seed = 0; seed < 20; ++seed) {
            FakeDisk disk;
            auto store = std::move(*HardStateStore::create(disk, "/hs", kId));
            const uint64_t begun = disk.operations();
            if (at > 0) disk.cut_power_at(begun + at);
            uint64_t saved = 0;
            for (uint64_t term = 1; term <= 4; ++term) {
                if (!store->save(state(term, term % 3), term * 10).is_ok()) break;
                saved = term;
            }
            if (at == 0) operations = disk.operations() - begun;
            Prng fate(at * 100 + seed);
            disk.restart(fate);
            Result<std::unique_ptr<HardStateStore>> again = HardStateStore::open(disk, "/hs", kId);
            REQUIRE(again.is_ok());
            const uint64_t term = (*again)->state().term.value;
            CHECK((term == saved || term == saved + 1));
            CHECK((*again)->state() == state(term, term % 3));
            CHECK((*again)->synced_batch() == term * 10);
        }
    }
}

TEST_CASE("either copy may rot, and the vote stays the newest") {
    for (size_t slot : {0, 1}) {
        FakeDisk disk;
        {
            auto store = std::move(*HardStateStore::create(disk, "/hs", kId));
            REQUIRE(store->save(state(3, 1), 0).is_ok());
            REQUIRE(store->save(state(4, 2), 0).is_ok());
        }
        disk.raw("/hs")[slot * 4096 + 25] ^= 4;
        {
            auto again = std::move(*HardStateStore::open(disk, "/hs", kId));
            CHECK(again->state() == state(4, 2));
        }
        // It was repaired: now the other one may rot.
        disk.raw("/hs")[(1 - slot) * 4096 + 25] ^= 4;
        CHECK((*HardStateStore::open(disk, "/hs", kId))->state() == state(4, 2));
    }
}

TEST_CASE("both copies bad, a foreign file, no file: no vote") {
    FakeDisk disk;
    CHECK_FALSE(HardStateStore::open(disk, "/hs", kId).is_ok());
    { REQUIRE(HardStateStore::create(disk, "/hs", kId).is_ok()); }
    CHECK(HardStateStore::open(disk, "/hs", kId + 1).code() == Errc::corrupt);
    disk.raw("/hs")[0] ^= 1;
    disk.raw("/hs")[4096] ^= 1;
    CHECK(HardStateStore::open(disk, "/hs", kId).code() == Errc::corrupt);
}

TEST_CASE("a failed sync poisons it") {
    FakeDisk disk;
    auto store = std::move(*HardStateStore::create(disk, "/hs", kId));
    disk.fail_syncs("/hs", 1);
    CHECK(store->save(state(2, 1), 0).code() == Errc::io);
    CHECK(store->save(state(3, 1), 0).code() == Errc::poisoned);
}

}  // namespace
}  // namespace lumeofs::consensus
