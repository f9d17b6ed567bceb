// SPDX-License-Identifier: Apache-2.0
// The Raft log on disk: power cut at every operation, torn batches, recycled segments, bit rot.
#include "metad/consensus/log_store.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/unit/metad/consensus/fake_disk.h"

namespace lumeofs::consensus {
namespace {

using consensus_test::FakeDisk;

constexpr uint64_t kSegment = 64 * 1024;

LogStoreOptions options() { return {.dir = "/log", .log_id = 77, .segment_bytes = kSegment}; }

raft::Entry entry(uint64_t index, uint64_t term, size_t size) {
    raft::Entry e;
    e.index = LogIndex{index};
    e.term = Term{term};
    e.kind = size > 0 ? raft::EntryKind::command : raft::EntryKind::empty;
    if (size > 0) {
        Bytes bytes(size);
        for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(index + term * 7 + i);
        e.payload = std::make_shared<const Bytes>(std::move(bytes));
    }
    return e;
}

raft::SnapshotDescriptor floor_at(uint64_t index, uint64_t term) {
    raft::SnapshotDescriptor floor;
    floor.index = LogIndex{index};
    floor.term = Term{term};
    floor.membership.members = {{NodeId{1}, raft::MemberRole::voter, "a:1"}};
    return floor;
}

// What a log holds, for comparing.
struct Content {
    uint64_t floor = 0;
    std::vector<std::pair<uint64_t, size_t>> entries;  // term, payload size
    bool operator==(const Content&) const = default;
    uint64_t last() const { return floor + entries.size(); }
    void cut(uint64_t index) {
        entries.erase(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(index - floor));
        floor = index;
    }
};

Content read_back(LogStore& log) {
    Content content{log.floor().index.value, {}};
    for (LogIndex next = log.floor().index + 1; next <= log.last();) {
        Result<std::vector<raft::Entry>> some = log.load_entries(next, log.last(), 5000);
        REQUIRE(some.is_ok());
        REQUIRE(!some->empty());
        for (const raft::Entry& e : *some) {
            REQUIRE(e.index == next);
            const size_t size = e.payload ? e.payload->size() : 0;
            const raft::Entry wanted = entry(next.value, e.term.value, size);
            if (size > 0) REQUIRE(*e.payload == *wanted.payload);
            content.entries.emplace_back(e.term.value, size);
            next = next + 1;
        }
    }
    return content;
}

// A log and what it may hold after a power cut: one of the states since the last sync.
struct Workload {
    FakeDisk& disk;
    Prng prng;
    std::unique_ptr<LogStore> log;
    Content now;
    std::vector<Content> possible;

    Workload(FakeDisk& on, uint64_t seed) : disk(on), prng(seed) {}

    Status create() {
        Result<std::unique_ptr<LogStore>> made = LogStore::create(disk, options(), floor_at(0, 0));
        if (!made) return made.status();
        log = std::move(*made);
        possible = {now};
        return Status();
    }
    Status append() {
        std::optional<LogIndex> truncate;
        if (prng.chance(1, 6) && !now.entries.empty()) {
            const uint64_t keep = prng.below(now.entries.size());
            now.entries.resize(keep);
            truncate = LogIndex{now.last() + 1};
        }
        std::vector<raft::Entry> entries;
        const uint64_t count = truncate ? prng.below(4) : prng.between(1, 5);
        const uint64_t term = (now.entries.empty() ? 0 : now.entries.back().first) + prng.below(2);
        for (uint64_t i = 0; i < count; ++i) {
            const size_t size =
                prng.chance(1, 5) ? 0 : prng.below(prng.chance(1, 10) ? 20'000 : 1'500);
            entries.push_back(entry(now.last() + 1, term, size));
            now.entries.emplace_back(term, size);
        }
        // One write is one or more batches; each is a state of its own.
        Content partial = now;
        partial.entries.resize(now.entries.size() - count);
        for (uint64_t i = 0; i <= count; ++i) {
            if (i > 0) partial.entries.push_back(now.entries[now.entries.size() - count + i - 1]);
            possible.push_back(partial);
        }
        return log->write(truncate, entries);
    }
    Status sync() {
        LFS_TRY(log->sync());
        possible = {now};
        return Status();
    }
    Status cut() {
        if (now.entries.empty()) return Status();
        const uint64_t index = prng.between(now.floor, now.last());
        const uint64_t term = index == now.floor ? 0 : now.entries[index - now.floor - 1].first;
        now.cut(index);
        possible.push_back(now);
        LFS_TRY(log->cut(floor_at(index, term)));
        possible = {now};
        return Status();
    }
    Status reset() {
        now = Content{now.last() + prng.below(10), {}};
        possible.push_back(now);
        LFS_TRY(log->reset(floor_at(now.floor, 9)));
        possible = {now};
        return Status();
    }
    Status run(int steps) {
        for (int i = 0; i < steps; ++i) {
            LFS_TRY(append());
            if (prng.chance(2, 3)) LFS_TRY(sync());
            if (prng.chance(1, 10)) {
                LFS_TRY(sync());
                LFS_TRY(cut());
            }
            if (prng.chance(1, 40)) LFS_TRY(reset());
            if (prng.chance(1, 4)) log->prepare_spare(16 * 1024);
        }
        return sync();
    }
};

TEST_CASE("what was written comes back, over many segments") {
    FakeDisk disk;
    Workload work(disk, 1);
    REQUIRE(work.create().is_ok());
    REQUIRE(work.run(300).is_ok());
    CHECK(read_back(*work.log) == work.now);
    work.log.reset();
    Result<std::unique_ptr<LogStore>> again = LogStore::open(disk, options(), 0);
    REQUIRE(again.is_ok());
    CHECK(read_back(**again) == work.now);
}

TEST_CASE("power cut at every disk operation: synced entries stay, the rest is a clean tail") {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        uint64_t operations = 0;
        {
            FakeDisk disk;
            Workload work(disk, seed);
            REQUIRE(work.create().is_ok());
            REQUIRE(work.run(60).is_ok());
            operations = disk.operations();
        }
        for (uint64_t at = 1; at <= operations; ++at) {
            CAPTURE(seed);
            CAPTURE(at);
            FakeDisk disk;
            disk.cut_power_at(at);
            Workload work(disk, seed);
            if (!work.create().is_ok()) continue;  // a first start that did not end begins again
            REQUIRE_FALSE(work.run(60).is_ok());
            Prng fate(seed * 1000 + at);
            work.log.reset();
            disk.restart(fate);
            Result<std::unique_ptr<LogStore>> again = LogStore::open(disk, options(), 0);
            if (!again) FAIL(again.status().to_string());
            const Content found = read_back(**again);
            REQUIRE(std::count(work.possible.begin(), work.possible.end(), found) > 0);
            // It goes on from there, and survives the next cut too.
            work.log = std::move(*again);
            work.now = found;
            work.possible = {found};
            REQUIRE(work.run(5).is_ok());
            work.log.reset();
            disk.restart(fate);
            Result<std::unique_ptr<LogStore>> third = LogStore::open(disk, options(), 0);
            if (!third) FAIL(third.status().to_string());
            REQUIRE(read_back(**third) == work.now);
        }
    }
}

TEST_CASE("bit rot below the end is damage, never a shorter or another log") {
    FakeDisk disk;
    std::vector<Content> states;  // after each batch
    {
        auto log = std::move(*LogStore::create(disk, options(), floor_at(0, 0)));
        Content now;
        for (uint64_t i = 1; i <= 8; ++i) {
            REQUIRE(log->write({}, {entry(i, 1, 700)}).is_ok());
            REQUIRE(log->sync().is_ok());
            now.entries.emplace_back(1, 700);
            states.push_back(now);
        }
    }
    const std::string path = disk.paths("/log/")[0];
    const Bytes good = disk.raw(path);
    // Block 0: segment header, 1: floor batch, 2..9: entries 1..8, then zeros.
    int refused = 0;
    for (uint64_t block = 0; block <= 9; ++block) {
        for (uint64_t byte : {0, 6, 9, 20, 30, 33, 41, 45, 50, 60, 70, 300}) {
            if (block == 0 && byte >= 64) continue;  // only the first 64 bytes mean something
            CAPTURE(block);
            CAPTURE(byte);
            disk.raw(path) = good;
            disk.raw(path)[block * 4096 + byte] ^= 0x10;
            Result<std::unique_ptr<LogStore>> log = LogStore::open(disk, options(), 0);
            if (block == 1 && byte >= 300) {  // padding
                CHECK(log.is_ok());
            } else if (block < 9) {
                REQUIRE_FALSE(log.is_ok());
                CHECK(log.code() == Errc::corrupt);
                CHECK(log.status().text().find("damaged") != std::string_view::npos);
                ++refused;
            } else {
                // The very last batch has no witness in the log itself …
                REQUIRE(log.is_ok());
                CHECK(read_back(**log) == states[6]);
            }
        }
    }
    CHECK(refused > 80);
    // … but a hint from beside it tells.
    disk.raw(path) = good;
    disk.raw(path)[9 * 4096 + 70] ^= 1;
    CHECK(LogStore::open(disk, options(), 9).code() == Errc::corrupt);
    // After one more start the mark is the witness.
    disk.raw(path) = good;
    CHECK(LogStore::open(disk, options(), 0).is_ok());
    disk.raw(path)[9 * 4096 + 70] ^= 1;
    CHECK(LogStore::open(disk, options(), 0).code() == Errc::corrupt);
}

TEST_CASE("a missing or foreign segment is refused") {
    FakeDisk disk;
    Workload work(disk, 3);
    REQUIRE(work.create().is_ok());
    for (int i = 0; i < 100; ++i) REQUIRE(work.append().is_ok());
    REQUIRE(work.sync().is_ok());
    REQUIRE(work.log->segment_count() >= 3);
    work.log.reset();
    LogStoreOptions foreign = options();
    foreign.log_id = 78;
    CHECK(LogStore::open(disk, foreign, 0).code() == Errc::corrupt);
    const std::vector<std::string> segments = disk.paths(".seg");
    REQUIRE(disk.remove(segments[1]).is_ok());
    CHECK(LogStore::open(disk, options(), 0).code() == Errc::corrupt);
    for (const std::string& path : disk.paths(".seg")) REQUIRE(disk.remove(path).is_ok());
    Result<std::unique_ptr<LogStore>> gone = LogStore::open(disk, options(), 0);
    CHECK(gone.code() == Errc::corrupt);
}

TEST_CASE("segments are recycled and one sync covers a batch of writes") {
    FakeDisk disk;
    Workload work(disk, 5);
    REQUIRE(work.create().is_ok());
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 20; ++i) REQUIRE(work.append().is_ok());
        REQUIRE(work.sync().is_ok());
        const raft::SnapshotDescriptor all = floor_at(work.now.last(), 1);
        work.now.cut(work.now.last());
        REQUIRE(work.log->cut(all).is_ok());
        CHECK(work.log->live_bytes() == 0);
        CHECK(work.log->segment_count() == 1);
    }
    CHECK(disk.paths(".seg").size() == 1);
    CHECK(disk.paths("/log/").size() <= 3);
    const uint64_t before = disk.syncs();
    for (uint64_t i = 1; i <= 3; ++i) {
        REQUIRE(work.log->write({}, {entry(work.now.last() + i, 3, 10)}).is_ok());
    }
    REQUIRE(work.log->sync().is_ok());
    REQUIRE(work.log->sync().is_ok());  // nothing new: no second one
    CHECK(disk.syncs() - before <= 2);  // two if a segment began
}

TEST_CASE("a failed write or sync is final") {
    FakeDisk disk;
    auto log = std::move(*LogStore::create(disk, options(), floor_at(0, 0)));
    disk.fail_syncs("/log/", 1);
    REQUIRE(log->write({}, {entry(1, 1, 10)}).is_ok());
    CHECK(log->sync().code() == Errc::io);
    CHECK(log->sync().code() == Errc::poisoned);
    CHECK(log->write({}, {entry(2, 1, 10)}).code() == Errc::poisoned);
    CHECK(log->failure().code() == Errc::io);
}

TEST_CASE("the index before a tail of so many bytes") {
    FakeDisk disk;
    auto log = std::move(*LogStore::create(disk, options(), floor_at(0, 0)));
    for (uint64_t i = 1; i <= 10; ++i) REQUIRE(log->write({}, {entry(i, 1, 100)}).is_ok());
    REQUIRE(log->sync().is_ok());
    CHECK(log->live_bytes() == 10 * 4096);
    CHECK(log->index_before_tail(3 * 4096) == LogIndex{7});
    CHECK(log->index_before_tail(1 << 20) == LogIndex{0});
    CHECK(log->index_before_tail(0) == LogIndex{10});
}

}  // namespace
}  // namespace lumeofs::consensus
