// SPDX-License-Identifier: Apache-2.0
// Random changes, checkpoints, kills and clean starts against a store in plain memory.
#include <doctest/doctest.h>

#include "tests/unit/chunkd/store/oracle.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t kEnd = 600'000;

void check_all(StoreFixture& f, const std::map<ChunkId, ChunkModel>& model) {
    for (const auto& [id, chunk] : model) {
        auto found = f.get(id, 0, kEnd);
        REQUIRE_MESSAGE(found.is_ok(), found.status().to_string());
        REQUIRE(*found == chunk.bytes);
        REQUIRE(f.store->meta(id)->length == chunk.length);
    }
    REQUIRE(f.store->chunk_count() == model.size());
}

void run_model(uint64_t seed, int steps) {
    CAPTURE(seed);
    Prng random(seed);
    StoreOptions options = small_options();
    options.direct_min = 32 * 1024;
    options.cache_bytes = 64 * 1024;  // images and tables leave memory often
    options.read_cache_bytes = seed % 2 == 0 ? 0 : 200'000;
    StoreFixture f(options);
    REQUIRE(f.open().is_ok());
    std::map<ChunkId, ChunkModel> model;
    for (int step = 0; step < steps; ++step) {
        const ChunkId id{1 + random.below(6)};
        const uint64_t what = random.below(100);
        if (model.count(id) == 0) {
            REQUIRE(f.create(id).is_ok());
            model.emplace(id, ChunkModel(kEnd));
        } else if (what < 80) {
            Change change = random_change(random, kEnd, f, id);
            if (random.below(2) == 0) change.record.commit_point = f.store->meta(id)->applied;
            const Status status = f.apply(change.record, change.data);
            REQUIRE_MESSAGE(status.is_ok(), status.to_string());
            model.at(id).apply(change.record, change.data);
        } else if (what < 90) {
            const uint64_t offset = random.below(kEnd);
            const uint64_t length = random.below(kEnd - offset);
            auto found = f.get(id, offset, length);
            REQUIRE(found.is_ok());
            const auto at = model.at(id).bytes.begin() + static_cast<ptrdiff_t>(offset);
            REQUIRE(std::equal(found->begin(), found->end(), at));
        } else if (what < 94) {
            REQUIRE(f.store->checkpoint_now().is_ok());
        } else if (what < 96) {
            REQUIRE(f.reopen().is_ok());
            check_all(f, model);
        } else if (what < 97) {
            REQUIRE(f.power_cycle(random.next()).is_ok());
            check_all(f, model);
        } else if (what < 98) {
            REQUIRE(f.store->remove(id, {}).is_ok());
            f.loop.run();
            model.erase(id);
        } else {
            REQUIRE(f.store->purge_trash(INT64_MAX, 2, {}).is_ok());
            f.loop.run();
        }
        if (random.below(10) == 0) f.loop.pass(kMillisecond);
    }
    check_all(f, model);
    uint64_t used = 0;
    for (const auto& [id, chunk] : model) used += *f.store->allocated_bytes(id);
    REQUIRE(f.store->checkpoint_now().is_ok());
    while (*f.store->purge_trash(INT64_MAX, 100, {}) > 0) f.loop.run();
    f.loop.run();
    REQUIRE(f.store->checkpoint_now().is_ok());
    // No unit leaks: at most three blocks of a unit are unused.
    CHECK(f.store->disks()[0].space.used_bytes >= used);
    CHECK(f.store->disks()[0].space.used_bytes <= 4 * used);
    f.store->scrub(1'000'000);
    CHECK(f.store->quarantine().empty());
}

TEST_CASE("random changes agree with the model") {
    for (uint64_t seed = 1; seed <= 12; ++seed) run_model(seed, 400);
}

}  // namespace
}  // namespace lumeofs::store
