// SPDX-License-Identifier: Apache-2.0
// Power cuts at every disk operation of a trace: what was acknowledged is there, what was not is,
// per block, as before or as after, and the store goes on.
#include <doctest/doctest.h>

#include <cstdlib>

#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "tests/unit/chunkd/store/oracle.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t kEnd = 300'000;

#if LUMEO_PLANTED_BUGS
// LUMEO_BUG=store.ack_before_sync unit_store: the cases of this file must then fail.
const bool kBugChosen = [] {
    set_planted_bug(std::getenv("LUMEO_BUG"));
    return true;
}();
#endif

// Every cut takes a disk out with a line in the log.
struct Quiet {
    Quiet() {
        set_log_hook([](LogLevel, std::string_view) {});
    }
    ~Quiet() { set_log_hook({}); }
};

StoreOptions crash_options(uint64_t seed) {
    StoreOptions options = small_options();
    options.direct_min = 32 * 1024;
    options.home_step = 256 * 1024;
    options.cache_bytes = 64 * 1024;
    options.fill_ahead = seed % 2 == 0 ? 0 : 1 << 20;
    options.read_cache_bytes = seed % 3 == 0 ? 100'000 : 0;
    return options;
}

// What may be there: the acknowledged state, then each unacknowledged change in order.
struct Expectation {
    std::map<ChunkId, std::vector<ChunkModel>>
        states;  // front: acknowledged; behind: one change more each
};

// Runs changes until the power fails or `steps` are done. Returns what may be found afterwards.
Expectation run_trace(StoreFixture& f, uint64_t seed, int steps) {
    Prng random(seed);
    Expectation expected;
    for (int step = 0; step < steps && f.store->usable(); ++step) {
        // One batch: several changes, one sync.
        std::map<ChunkId, std::vector<ChunkModel>> after;
        auto answers = std::make_shared<std::vector<Status>>();
        const uint64_t count = 1 + random.below(3);
        size_t submitted = 0;
        for (uint64_t i = 0; i < count; ++i) {
            const ChunkId id{1 + random.below(2)};
            auto done = [answers](const Status& status) { answers->push_back(status); };
            const bool known = expected.states.count(id) != 0 || after.count(id) != 0;
            Change change;
            if (!known) {
                change.record = f.named(id, RecordKind::create);
            } else {
                change = random_change(random, kEnd, f, id);
                auto meta = f.store->meta(id);
                if (meta.is_ok()) change.record.commit_point = meta->applied;
            }
            Payload payload;
            payload.data = Buffer::copy_of(change.data);
            if (!f.store->write(change.record, payload, done).is_ok()) break;
            ++submitted;
            if (after.count(id) == 0) {
                if (known) {
                    after[id] = {expected.states.at(id).back()};
                } else {
                    after[id] = {};  // absent is one of the states
                }
            }
            ChunkModel next = after[id].empty() ? ChunkModel(kEnd) : after[id].back();
            next.apply(change.record, change.data);
            after[id].push_back(std::move(next));
        }
        f.loop.run();
        const bool ok = answers->size() == submitted &&
                        std::all_of(answers->begin(), answers->end(), [](const Status& s) {
                            return s.is_ok();
                        });
        for (auto& [id, states] : after) {
            if (ok) {
                expected.states.insert_or_assign(id, std::vector<ChunkModel>{states.back()});
            } else {
                auto& list = expected.states[id];
                list = states;
            }
        }
        if (!ok) break;
        if (step % 7 == 3 && !f.store->checkpoint_now().is_ok()) break;
        if (step % 5 == 0) f.loop.pass(kMillisecond);
    }
    return expected;
}

bool block_matches(const Bytes& found, const std::vector<ChunkModel>& states, uint64_t from) {
    const uint64_t to = std::min(from + kBlockSize, kEnd);
    return std::any_of(states.begin(), states.end(), [&](const ChunkModel& state) {
        return std::equal(found.begin() + static_cast<ptrdiff_t>(from),
                          found.begin() + static_cast<ptrdiff_t>(to),
                          state.bytes.begin() + static_cast<ptrdiff_t>(from));
    });
}

void check(StoreFixture& f, const Expectation& expected) {
    for (const auto& [id, states] : expected.states) {
        if (!f.store->has(id)) {
            // Only a chunk whose creation was not acknowledged may be missing: its list then starts
            // with the state just created.
            REQUIRE(states.front().length == 0);
            continue;
        }
        auto found = f.get(id, 0, kEnd);
        REQUIRE_MESSAGE(found.is_ok(), found.status().to_string());
        if (states.size() == 1) {
            REQUIRE(*found == states.front().bytes);
            REQUIRE(f.store->meta(id)->length == states.front().length);
        }
        for (uint64_t from = 0; from < kEnd; from += kBlockSize)
            REQUIRE(block_matches(*found, states, from));
    }
}

// Returns false when the trace ends before operation `op`.
bool crash_at(uint64_t seed, uint64_t op, uint64_t cut_seed, int steps) {
    CAPTURE(seed);
    CAPTURE(op);
    CAPTURE(cut_seed);
    StoreFixture f(crash_options(seed));
    f.disk.fail_power_after(op);
    const Status opened = f.open();
    Expectation expected;
    if (opened.is_ok()) expected = run_trace(f, seed, steps);
    const bool reached = f.disk.changes() >= op;
    const Status status = f.power_cycle(cut_seed);
    REQUIRE_MESSAGE(status.is_ok(), status.to_string());
    check(f, expected);
    // It goes on: write, cut again, read.
    if (!f.store->has(ChunkId{9})) REQUIRE(f.create(ChunkId{9}).is_ok());
    REQUIRE(f.put(ChunkId{9}, 0, pattern(100'000, seed)).is_ok());
    REQUIRE(f.store->checkpoint_now().is_ok());
    REQUIRE(f.put(ChunkId{9}, 50'000, pattern(100, seed)).is_ok());
    const Status again = f.power_cycle(cut_seed + 1);
    REQUIRE_MESSAGE(again.is_ok(), again.to_string());
    check(f, expected);
    CHECK(*f.get(ChunkId{9}, 50'000, 100) == pattern(100, seed));
    CHECK(f.store->stats().bad_blocks_seen == 0);
    return reached;
}

TEST_CASE("a power cut at every disk operation of a trace") {
    Quiet quiet;
    uint64_t crashes = 0;
    for (uint64_t seed = 1; seed <= 3; ++seed) {
        for (uint64_t op = 1; crash_at(seed, op, seed * 1'000'000 + op, 25); ++op) ++crashes;
    }
    CHECK(crashes > 200);
}

TEST_CASE("many random traces, cut somewhere") {
    Quiet quiet;
    const char* soak = std::getenv("LUMEO_SOAK");  // so many more traces
    const uint64_t last = 300 + (soak ? std::strtoull(soak, nullptr, 10) : 0);
    for (uint64_t seed = 100; seed < last; ++seed) {
        Prng random(seed);
        crash_at(seed, 1 + random.below(300), seed, 60);
    }
}

TEST_CASE("traces long enough to recycle the log") {
    Quiet quiet;
    const char* soak = std::getenv("LUMEO_SOAK");
    const uint64_t last = 1012 + (soak ? std::strtoull(soak, nullptr, 10) / 20 : 0);
    for (uint64_t seed = 1000; seed < last; ++seed) {
        Prng random(seed);
        crash_at(seed, 200 + random.below(1600), seed, 400);
    }
}

}  // namespace
}  // namespace lumeofs::store
