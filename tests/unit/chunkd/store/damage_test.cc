// SPDX-License-Identifier: Apache-2.0
// Bits that change on the disk: every one is met with an error or was in no use; no reader ever
// gets other bytes than were written.
#include <doctest/doctest.h>

#include "common/base/log.h"
#include "tests/unit/chunkd/store/oracle.h"

namespace lumeofs::store {
namespace {

constexpr ChunkId kA{1};
constexpr uint64_t kEnd = 400'000;

struct Filled : StoreFixture {
    Filled() {
        REQUIRE(open().is_ok());
        REQUIRE(create(kA).is_ok());
        REQUIRE(put(kA, 0, pattern(300'000, 1)).is_ok());
        REQUIRE(put(kA, 1000, pattern(50'000, 2)).is_ok());
        store->note_commit(kA, {Epoch{1}, Incarnation{1}, sequence});
        REQUIRE(put(kA, 390'000, pattern(10, 3)).is_ok());
        model = *get(kA, 0, kEnd);
    }
    // Every block is as it was or refused; returns how many were refused.
    int check() {
        int refused = 0;
        for (uint64_t from = 0; from + 4096 <= kEnd; from += 4096) {
            std::vector<uint32_t> bad;
            auto data = store->read(kA, from, 4096, ReadView::newest, &bad);
            if (!data.is_ok()) {
                REQUIRE(data.code() == Errc::corrupt);
                REQUIRE(bad == std::vector<uint32_t>{static_cast<uint32_t>(from / 4096)});
                ++refused;
                continue;
            }
            REQUIRE(std::equal(model.begin() + static_cast<ptrdiff_t>(from),
                               model.begin() + static_cast<ptrdiff_t>(from + 4096),
                               data->data.view().begin()));
        }
        return refused;
    }
    std::string file(const std::string& part) {
        for (const std::string& path : disk.files()) {
            if (path.find(part) != std::string::npos) return path;
        }
        return "";
    }
    Bytes model;
};

TEST_CASE_FIXTURE(Filled, "a flipped bit at home is met, repaired, and leaves the list") {
    REQUIRE(store->checkpoint_now().is_ok());
    const auto copy = store->read(kA, 0, 300'000);
    const WriteName as_of = store->meta(kA)->applied;
    for (uint64_t at = 0; at < 300'000; at += 50'021) REQUIRE(disk.flip_bit(file("/home/"), at, 3));
    CHECK(check() == 6);
    CHECK(store->quarantine().size() == 6);
    // A small write into such a block must not bury the damage.
    std::vector<uint32_t> bad;
    CHECK(put(kA, 5, pattern(1, 1)).code() == Errc::corrupt);
    WriteRecord record = named(kA, RecordKind::data);
    record.offset = 7;
    record.length = 1;
    CHECK(submit(record, pattern(1, 1), nullptr, &bad).code() == Errc::corrupt);
    CHECK(bad == std::vector<uint32_t>{0});
    REQUIRE(store->rewrite_blocks(kA, *copy, as_of, 0, {}).is_ok());
    loop.run();
    CHECK(check() == 0);
    CHECK(store->quarantine().empty());
}

TEST_CASE_FIXTURE(Filled, "scrub finds what nobody reads") {
    REQUIRE(store->checkpoint_now().is_ok());
    REQUIRE(disk.flip_bit(file("/home/"), 123'456, 0));
    std::vector<BadBlock> found;
    while (store->scrub_rounds() == 0) {
        for (const BadBlock& bad : store->scrub(16)) found.push_back(bad);
    }
    CHECK(found.size() == 1);
    CHECK(store->quarantine() == found);
}

TEST_CASE_FIXTURE(Filled, "swapped and misplaced blocks do not verify") {
    REQUIRE(store->checkpoint_now().is_ok());
    auto opened = disk.open(file("/home/"), {});
    Bytes one(4096);
    REQUIRE((*opened)->read_at(0, one).is_ok());
    REQUIRE((*opened)->write_at(8192, one).is_ok());
    CHECK(check() == 1);
}

TEST_CASE("every kind of flip in log and index is met or harmless") {
    set_log_hook([](LogLevel, std::string_view) {});
    int refused_open = 0;
    int refused_reads = 0;
    for (uint64_t round = 0; round < 300; ++round) {
        CAPTURE(round);
        Filled f;
        if (round % 2 == 0) REQUIRE(f.store->checkpoint_now().is_ok());
        REQUIRE(f.put(kA, 200'000, pattern(20'000, 9)).is_ok());
        REQUIRE(f.put(kA, 50'000, pattern(20'000, 10)).is_ok());
        REQUIRE(f.put(kA, 1, pattern(1, 11)).is_ok());  // vouches for the batches before
        f.model = *f.get(kA, 0, kEnd);
        const Bytes before_last = [&] {
            Bytes bytes = f.model;
            return bytes;
        }();
        f.store.reset();
        f.loop.drop_all();
        f.disk.kill_process();
        const std::string path = f.file(round % 3 == 0 ? "/index/" : "/wal/");
        Prng random(round);
        const uint64_t size = round % 3 == 0 ? 6'000 : 500'000;
        if (!f.disk.flip_bit(path, random.below(size), static_cast<int>(random.below(8)))) continue;
        const Status opened = f.open();
        if (!opened.is_ok()) {
            CHECK(opened.code() == Errc::corrupt);
            ++refused_open;
            continue;
        }
        // The very last batch may have been taken for a torn one: nothing vouches for it yet. All
        // else is there or refused.
        if (f.store->meta(kA).is_ok() && f.store->meta(kA)->applied.sequence < f.sequence) {
            REQUIRE(f.store->meta(kA)->applied.sequence == f.sequence - 1);
            continue;
        }
        refused_reads += f.check() > 0 ? 1 : 0;
    }
    set_log_hook({});
    CHECK(refused_open > 5);
    CHECK(refused_reads > 5);
}

TEST_CASE("a damaged disk is left out, the other one serves") {
    set_log_hook([](LogLevel, std::string_view) {});
    StoreOptions options = small_options();
    options.dirs = {"/one", "/two"};
    StoreFixture f(options);
    REQUIRE(f.open().is_ok());
    REQUIRE(f.create(ChunkId{1}).is_ok());
    REQUIRE(f.put(ChunkId{1}, 0, pattern(10, 1)).is_ok());
    REQUIRE(f.put(ChunkId{1}, 0, pattern(10, 2)).is_ok());
    const bool on_one = f.store->disks()[0].chunks == 1;
    const std::string dir = on_one ? "/one" : "/two";
    f.store.reset();
    REQUIRE(f.disk.flip_bit(dir + "/wal/0000", 70, 1));  // the first record, vouched for since
    REQUIRE(f.open().is_ok());
    const auto disks = f.store->disks();
    CHECK(disks[on_one ? 0 : 1].state == DiskState::damaged);
    CHECK(disks[on_one ? 0 : 1].reason.find("lost on this disk") != std::string::npos);
    CHECK(disks[on_one ? 1 : 0].state == DiskState::ok);
    REQUIRE(f.create(ChunkId{2}).is_ok());
    REQUIRE(f.put(ChunkId{2}, 0, pattern(10, 2)).is_ok());
    set_log_hook({});
}

}  // namespace
}  // namespace lumeofs::store
