// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/chunk_store.h"

#include <doctest/doctest.h>

#include "tests/unit/chunkd/store/fixture.h"

namespace lumeofs::store {
namespace {

constexpr ChunkId kA{100};
constexpr ChunkId kB{101};

struct Opened : StoreFixture {
    Opened() {
        REQUIRE(open().is_ok());
        REQUIRE(create(kA).is_ok());
    }
};

TEST_CASE_FIXTURE(Opened, "what was written is read, small, large and partial") {
    Bytes model(3 << 20, 0);
    auto write = [&](uint64_t offset, size_t size) {
        const Bytes bytes = pattern(size, offset + size);
        std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(offset));
        REQUIRE(put(kA, offset, bytes).is_ok());
    };
    write(5000, 100);         // inside a block
    write(4096, 4096);        // whole block over it
    write(1 << 20, 1 << 20);  // large and fresh
    write((1 << 20) + 777, 10'000);
    write(3, 20'000);
    CHECK(*get(kA, 0, model.size()) == model);
    REQUIRE(store->checkpoint_now().is_ok());
    CHECK(*get(kA, 0, model.size()) == model);
    REQUIRE(reopen().is_ok());
    CHECK(*get(kA, 0, model.size()) == model);
    CHECK(store->meta(kA)->length == 2 << 20);
    CHECK(store->stats().bad_blocks_seen == 0);
}

TEST_CASE_FIXTURE(Opened, "large fresh writes go straight home, small ones through the log") {
    REQUIRE(put(kA, 0, pattern(1 << 20, 1)).is_ok());
    CHECK(store->stats().direct_bytes == 1 << 20);
    REQUIRE(put(kA, 0, pattern(1 << 20, 2)).is_ok());  // no longer fresh
    CHECK(store->stats().direct_bytes == 1 << 20);
    CHECK(store->stats().log_bytes > 1 << 20);
}

TEST_CASE_FIXTURE(Opened, "one batch of the loop costs one sync") {
    const uint64_t before = store->stats().log_syncs;
    int answered = 0;
    for (uint64_t i = 0; i < 16; ++i) {
        WriteRecord record = named(kA, RecordKind::data);
        record.offset = i * 10'000;
        record.length = 4096;
        Payload payload;
        payload.data = Buffer::copy_of(pattern(4096, i));
        REQUIRE(store->write(record, payload, [&](const Status&) { ++answered; }).is_ok());
    }
    CHECK(answered == 0);
    loop.run();
    CHECK(answered == 16);
    CHECK(store->stats().log_syncs == before + 1);
}

TEST_CASE_FIXTURE(Opened, "holes read as zeros and say so; zero and truncate make them") {
    REQUIRE(put(kA, 0, pattern(64 << 10, 1)).is_ok());
    CHECK(*store->allocated_bytes(kA) == 64 << 10);
    REQUIRE(zero(kA, 4096, 8192).is_ok());
    auto data = store->read(kA, 0, 16 << 10);
    CHECK(data->hole == std::vector<bool>{false, true, true, false});
    CHECK(*store->extents(kA, 0, kChunkSize) ==
          std::vector<Extent>{{0, 4096}, {12 << 10, 52 << 10}});
    REQUIRE(truncate(kA, 20'000).is_ok());
    CHECK(store->meta(kA)->length == 20'000);
    REQUIRE(put(kA, 30'000, pattern(10, 2)).is_ok());
    Bytes tail = *get(kA, 20'000, 10'000);
    CHECK(tail == Bytes(10'000, 0));
    REQUIRE(reopen().is_ok());
    CHECK(*get(kA, 20'000, 10'000) == Bytes(10'000, 0));
    CHECK(store->read(kA, 8 << 20, 4096)->hole.front());
}

TEST_CASE_FIXTURE(Opened, "zero of parts of blocks keeps the rest") {
    Bytes model = pattern(20'000, 9);
    REQUIRE(put(kA, 0, model).is_ok());
    REQUIRE(zero(kA, 100, 9'000).is_ok());
    std::fill(model.begin() + 100, model.begin() + 9'100, uint8_t{0});
    CHECK(*get(kA, 0, model.size()) == model);
    CHECK(store->read(kA, 4096, 4096)->hole.front());
}

TEST_CASE_FIXTURE(Opened, "the committed view shows nothing undecided, over checkpoints too") {
    const Bytes old = pattern(100'000, 1);
    const Bytes fresh = pattern(100'000, 2);
    REQUIRE(put(kA, 0, old).is_ok());
    store->note_commit(kA, {Epoch{1}, Incarnation{1}, sequence});
    REQUIRE(put(kA, 0, fresh).is_ok());
    REQUIRE(put(kA, 0, pattern(5000, 3)).is_ok());
    CHECK(*get(kA, 0, old.size(), ReadView::committed) == old);
    CHECK(*store->undecided(kA, 50'000, 1));
    REQUIRE(store->checkpoint_now().is_ok());
    REQUIRE(put(kA, 100, pattern(9, 5)).is_ok());
    REQUIRE(store->checkpoint_now().is_ok());
    CHECK(*get(kA, 0, old.size(), ReadView::committed) == old);
    store->note_commit(kA, {Epoch{1}, Incarnation{1}, sequence - 2});
    CHECK(*get(kA, 0, old.size(), ReadView::committed) == fresh);
    REQUIRE(truncate(kA, 10).is_ok());
    REQUIRE(store->checkpoint_now().is_ok());
    REQUIRE(put(kA, 1 << 20, pattern(1 << 20, 4)).is_ok());  // may not reuse what truncate freed
    CHECK(*get(kA, 0, old.size(), ReadView::committed) == fresh);
    store->note_commit(kA, {Epoch{1}, Incarnation{1}, sequence});
    CHECK(*get(kA, 10, 1000, ReadView::committed) == Bytes(1000, 0));
}

TEST_CASE_FIXTURE(Opened, "in-doubt lists and dedup state survive, by log and by index") {
    for (bool checkpoint : {false, true}) {
        WriteRecord record = named(kA, RecordKind::data);
        record.offset = 4096;
        record.length = 10;
        record.session = SessionId{9};
        record.write_no = sequence;
        record.lowest_outstanding = 1;
        record.version_vector = Bytes{1, 2, 3};
        record.blob = Bytes{4, 5};
        REQUIRE(apply(record, pattern(10, 1)).is_ok());
        if (checkpoint) REQUIRE(store->checkpoint_now().is_ok());
        REQUIRE(reopen().is_ok());
        CHECK(store->chunks_in_doubt() == std::vector<ChunkId>{kA});
        auto list = *store->in_doubt(kA);
        REQUIRE(!list.empty());
        CHECK(list.back().name.sequence == sequence);
        CHECK(list.back().write_no == record.write_no);
        CHECK(list.back().offset == 4096);
        auto sessions = *store->session_writes(kA);
        REQUIRE(sessions.size() == 1);
        CHECK(sessions[0].done.back() == record.write_no);
        CHECK(store->meta(kA)->version_vector == Bytes{1, 2, 3});
        CHECK(store->meta(kA)->blob == Bytes{4, 5});
    }
    WriteRecord point = named(kA, RecordKind::commit_point);
    point.commit_point = {Epoch{1}, Incarnation{1}, sequence - 1};
    REQUIRE(apply(point).is_ok());
    REQUIRE(reopen().is_ok());
    CHECK(store->chunks_in_doubt().empty());
    CHECK(store->in_doubt(kA)->empty());
}

TEST_CASE_FIXTURE(Opened, "records are refused before anything happens") {
    REQUIRE(put(kA, 0, pattern(10, 1)).is_ok());
    WriteRecord old = named(kA, RecordKind::data);
    old.name.sequence = 1;
    old.length = 10;
    CHECK(apply(old, pattern(10, 1)).code() == Errc::inval);
    CHECK(create(kA).code() == Errc::exist);
    CHECK(put(kB, 0, pattern(10, 1)).code() == Errc::not_found);
    CHECK(put(kA, kChunkSize - 5, pattern(10, 1)).code() == Errc::inval);
    WriteRecord record = named(kA, RecordKind::data);
    record.length = 10;
    Payload payload;
    payload.data = Buffer::copy_of(pattern(10, 2));
    payload.plain = {12345};
    CHECK(store->write(record, payload, {}).code() == Errc::corrupt);
    CHECK(*get(kA, 0, 10) == pattern(10, 1));
}

TEST_CASE_FIXTURE(Opened,
                  "removed chunks stay in the trash until purged, then the space comes back") {
    const uint64_t empty = store->disks()[0].space.used_bytes;
    REQUIRE(put(kA, 0, pattern(1 << 20, 1)).is_ok());
    Status answer(Errc::unavailable);
    REQUIRE(store->remove(kA, [&](const Status& status) { answer = status; }).is_ok());
    loop.run();
    CHECK(answer.is_ok());
    CHECK(!store->has(kA));
    REQUIRE(reopen().is_ok());
    CHECK(!store->has(kA));
    REQUIRE(store->trash(10).size() == 1);
    CHECK(store->trash(10)[0].used_bytes == 1 << 20);
    CHECK(*store->purge_trash(loop.wall_now(), 10, {}) == 0);  // too young
    REQUIRE(create(kA).is_ok());                               // a second life of the same id
    REQUIRE(put(kA, 0, pattern(5000, 2)).is_ok());
    CHECK(*store->purge_trash(INT64_MAX, 10, {}) == 1);
    loop.run();
    REQUIRE(store->checkpoint_now().is_ok());
    REQUIRE(reopen().is_ok());
    CHECK(store->trash(10).empty());
    CHECK(*get(kA, 0, 5000) == pattern(5000, 2));
    CHECK(store->disks()[0].space.used_bytes <= empty + 2 * 16384);
}

TEST_CASE_FIXTURE(Opened, "repair takes whole blocks, and leaves newer ones alone") {
    REQUIRE(put(kA, 0, pattern(3 * 4096, 1)).is_ok());
    REQUIRE(create(kB).is_ok());
    const WriteName as_of{Epoch{1}, Incarnation{1}, sequence};
    auto copy = store->read(kA, 0, 3 * 4096);
    store->track_writes(kB, true);
    WriteRecord record = named(kB, RecordKind::data);
    record.offset = 4096;
    record.length = 4096;
    REQUIRE(apply(record, pattern(4096, 7)).is_ok());
    REQUIRE(store->rewrite_blocks(kB, *copy, as_of, 3 * 4096, {}).is_ok());
    loop.run();
    Bytes expected = pattern(3 * 4096, 1);
    const Bytes newer = pattern(4096, 7);
    std::copy(newer.begin(), newer.end(), expected.begin() + 4096);
    CHECK(*get(kB, 0, expected.size()) == expected);
    store->track_writes(kB, false);
    CHECK(store->rewrite_blocks(kB, *copy, as_of, 0, {}).code() == Errc::conflict);
    auto sums_a = *store->block_checksums(kA, 0, 3);
    auto sums_b = *store->block_checksums(kB, 0, 3);
    CHECK(sums_a[0] != sums_b[0]);  // salted with the chunk's id
}

TEST_CASE_FIXTURE(Opened, "the log is recycled under load and everything is still there") {
    Bytes model(1 << 20, 0);
    for (uint64_t i = 0; i < 400; ++i) {
        const Bytes bytes = pattern(150'000, i);
        const uint64_t offset = i * 7919 % (model.size() - bytes.size());
        std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(offset));
        REQUIRE(put(kA, offset, bytes).is_ok());
        store->note_commit(kA, {Epoch{1}, Incarnation{1}, sequence});
        if (i % 10 == 0) loop.pass(kMillisecond);
    }
    CHECK(store->stats().checkpoints > 2);
    CHECK(store->stats().log_live_bytes <= options.wal_max_size);
    REQUIRE(reopen().is_ok());
    CHECK(*get(kA, 0, model.size()) == model);
}

TEST_CASE("what was carried home lately is read without the disk") {
    StoreOptions options = small_options();
    options.read_cache_bytes = 1 << 20;
    StoreFixture f(options);
    REQUIRE(f.open().is_ok());
    REQUIRE(f.create(kA).is_ok());
    REQUIRE(f.put(kA, 0, pattern(20'000, 1)).is_ok());
    REQUIRE(f.store->checkpoint_now().is_ok());
    f.disk.inject({sim::DiskOp::read, "/home/", Errc::io, 0, 1});
    CHECK(*f.get(kA, 0, 20'000) == pattern(20'000, 1));
    REQUIRE(f.put(kA, 100, pattern(10, 2)).is_ok());  // merged from memory too
    CHECK(f.store->usable());
    f.store->scrub(1000);  // looks at the disk itself
    CHECK(!f.store->usable());
}

TEST_CASE("idle time fills home space ahead") {
    StoreOptions options = small_options();
    options.fill_ahead = 4 << 20;
    StoreFixture f(options);
    REQUIRE(f.open().is_ok());
    REQUIRE(f.create(kA).is_ok());
    f.loop.pass(10 * kSecond);
    const uint64_t before = f.store->stats().home_syncs;
    REQUIRE(f.put(kA, 0, pattern(1 << 20, 1)).is_ok());
    CHECK(f.store->stats().home_syncs == before);  // the log's sync covered it
    CHECK(f.power_cycle(1).is_ok());
    CHECK(*f.get(kA, 0, 1 << 20) == pattern(1 << 20, 1));
}

}  // namespace
}  // namespace lumeofs::store
