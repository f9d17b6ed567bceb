// SPDX-License-Identifier: Apache-2.0
// Disks that fail or are full, and directories that belong to somebody else.
#include <doctest/doctest.h>

#include "common/base/log.h"
#include "tests/unit/chunkd/store/oracle.h"

namespace lumeofs::store {
namespace {

constexpr ChunkId kA{1};
constexpr ChunkId kB{2};

struct Quiet {
    Quiet() {
        set_log_hook([](LogLevel, std::string_view) {});
    }
    ~Quiet() { set_log_hook({}); }
};

StoreOptions two_disks() {
    StoreOptions options = small_options();
    options.dirs = {"/one", "/two"};
    return options;
}

TEST_CASE("a failed sync takes the disk out for good and says so") {
    Quiet quiet;
    StoreOptions options = small_options();
    int told = 0;
    options.on_disk_failed = [&](uint32_t disk, const Status& why) {
        ++told;
        CHECK(disk == 0);
        CHECK(why.code() == Errc::io);
    };
    StoreFixture f(options);
    REQUIRE(f.open().is_ok());
    REQUIRE(f.create(kA).is_ok());
    f.disk.inject(
        {sim::DiskOp::sync, "/wal/", Errc::io, 0, 1});  // once: the next one would succeed
    CHECK(f.put(kA, 0, pattern(100, 1)).code() == Errc::io);
    CHECK(told == 1);
    CHECK(!f.store->usable());
    CHECK(f.put(kA, 0, pattern(100, 1)).code() == Errc::io);
    CHECK(f.store->read(kA, 0, 10).code() == Errc::io);
    CHECK(f.store->disks()[0].state == DiskState::failed);
    REQUIRE(f.power_cycle(1).is_ok());
    CHECK(f.store->has(kA));
}

TEST_CASE("an error while reading, writing home or checkpointing takes the disk out too") {
    Quiet quiet;
    const std::vector<std::pair<sim::DiskOp, std::string>> faults = {
        {sim::DiskOp::read, "/home/"},
        {sim::DiskOp::write, "/home/"},
        {sim::DiskOp::sync, "/home/"},
        {sim::DiskOp::write, "/wal/"},
        {sim::DiskOp::write, "/index/"},
        {sim::DiskOp::sync, "/index/"}};
    for (const auto& [op, path] : faults) {
        CAPTURE(path);
        StoreFixture f;
        REQUIRE(f.open().is_ok());
        REQUIRE(f.create(kA).is_ok());
        const Bytes data = pattern(200'000, 1);
        REQUIRE(f.put(kA, 0, data).is_ok());
        f.disk.inject({op, path, Errc::io, 0, 1});
        ignore(f.put(kA, 300'000, pattern(100'000, 2)), "may fail");
        ignore(f.store->read(kA, 0, 100'000), "may fail");
        ignore(f.store->checkpoint_now(), "may fail");
        CHECK(!f.store->usable());
        f.disk.clear_faults();
        REQUIRE(f.reopen().is_ok());
        CHECK(*f.get(kA, 0, data.size()) == data);
    }
}

TEST_CASE("one disk fails, the other goes on") {
    Quiet quiet;
    StoreFixture f(two_disks());
    REQUIRE(f.open().is_ok());
    f.disk.inject({sim::DiskOp::sync, "/one/wal/", Errc::io, 0, 1});
    int ok = 0;
    for (uint64_t id = 1; id <= 4; ++id) ok += f.create(ChunkId{id}).is_ok() ? 1 : 0;
    CHECK(ok >= 3);
    CHECK(f.store->usable());
    CHECK(f.store->disks()[0].state == DiskState::failed);
}

TEST_CASE("a failed disk holds nothing, and what was copied anew is not shadowed when it works again") {
    Quiet quiet;
    StoreFixture f(two_disks());
    REQUIRE(f.open().is_ok());
    for (uint64_t id = 1; id <= 4; ++id) {
        REQUIRE(f.create(ChunkId{id}).is_ok());
        REQUIRE(f.put(ChunkId{id}, 0, pattern(5000, id)).is_ok());
    }
    std::vector<ChunkId> on_one;
    for (const ChunkListing& one : f.store->list(ChunkId{}, 100)) {
        if (one.disk == 0) on_one.push_back(one.chunk);
    }
    REQUIRE(!on_one.empty());
    const ChunkId chunk = on_one.front();
    f.disk.inject({sim::DiskOp::sync, "/one/wal/", Errc::io, 0, 1});
    CHECK(f.put(chunk, 0, pattern(5000, 9)).code() == Errc::io);
    CHECK(!f.store->has(chunk));
    CHECK(f.store->lost(chunk));
    CHECK(f.store->list(ChunkId{}, 100).size() == 4 - on_one.size());
    CHECK(f.store->read(chunk, 0, 10).code() == Errc::io);
    // Filled again, under a later configuration, on the disk that works.
    f.epoch = Epoch{3};
    REQUIRE(f.create(chunk).is_ok());
    REQUIRE(f.put(chunk, 0, pattern(5000, 7)).is_ok());
    CHECK(f.store->has(chunk));
    for (int i = 0; i < 2; ++i) {
        REQUIRE(f.power_cycle(1).is_ok());  // the other one works again
        CHECK(f.store->disks()[0].state == DiskState::ok);
        CHECK(f.store->list(ChunkId{}, 100).size() == 4);
        CHECK(*f.get(chunk, 0, 5000) == pattern(5000, 7));
        CHECK(f.store->meta(chunk)->epoch == Epoch{3});
    }
}

TEST_CASE("a full disk refuses before anything happens, and deleting makes room again") {
    Quiet quiet;
    StoreFixture f;
    f.disk.set_capacity(uint64_t{80} << 20);
    REQUIRE(f.open().is_ok());
    std::map<ChunkId, Bytes> model;
    Status status;
    uint64_t id = 1;
    for (; id < 200; ++id) {
        REQUIRE(f.create(ChunkId{id}).is_ok());
        const Bytes data = pattern(1 << 20, id);
        status = f.put(ChunkId{id}, 0, data);
        if (!status.is_ok()) break;
        model[ChunkId{id}] = data;
    }
    CHECK(status.code() == Errc::nospc);
    CHECK(model.size() > 20);
    CHECK(f.store->read(ChunkId{id}, 0, 4096)->hole.front());
    CHECK(f.store->meta(ChunkId{id})->length == 0);
    // Overwrites need no new space, and the log has its own.
    for (int i = 0; i < 100; ++i) {
        const Bytes data = pattern(200'000, 1000 + static_cast<uint64_t>(i));
        std::copy(data.begin(), data.end(), model[ChunkId{1}].begin());
        REQUIRE(f.put(ChunkId{1}, 0, data).is_ok());
    }
    REQUIRE(f.truncate(ChunkId{2}, 0).is_ok());
    model.erase(ChunkId{2});
    REQUIRE(f.store->remove(ChunkId{3}, {}).is_ok());
    f.loop.run();
    model.erase(ChunkId{3});
    REQUIRE(f.store->purge_trash(INT64_MAX, 10, {}).is_ok());
    f.loop.run();
    f.store->note_commit(ChunkId{2}, {Epoch{1}, Incarnation{1}, f.sequence});
    REQUIRE(f.store->checkpoint_now().is_ok());
    REQUIRE(f.put(ChunkId{id}, 0, pattern(1 << 20, 77)).is_ok());
    model[ChunkId{id}] = pattern(1 << 20, 77);
    REQUIRE(f.power_cycle(5).is_ok());
    for (const auto& [chunk, data] : model) CHECK(*f.get(chunk, 0, data.size()) == data);
}

TEST_CASE("recycled space never shows what was there") {
    StoreFixture f;
    f.disk.set_capacity(uint64_t{80} << 20);
    REQUIRE(f.open().is_ok());
    for (uint64_t id = 1; id <= 30; ++id) {
        REQUIRE(f.create(ChunkId{id}).is_ok());
        REQUIRE(f.put(ChunkId{id}, 0, pattern(1 << 20, id)).is_ok());
        // Partial blocks and units in recycled space.
        REQUIRE(f.put(ChunkId{id}, (1 << 20) + 5, pattern(3, id)).is_ok());
        Bytes around = *f.get(ChunkId{id}, 1 << 20, 64 << 10);
        const Bytes put = pattern(3, id);
        CHECK(std::equal(put.begin(), put.end(), around.begin() + 5));
        std::fill(around.begin() + 5, around.begin() + 8, uint8_t{0});
        CHECK(around == Bytes(64 << 10, 0));
        REQUIRE(f.store->remove(ChunkId{id}, {}).is_ok());
        f.loop.run();
        REQUIRE(f.store->purge_trash(INT64_MAX, 10, {}).is_ok());
        f.loop.run();
        REQUIRE(f.store->checkpoint_now().is_ok());
    }
    CHECK(f.disk.used_bytes() < uint64_t{60} << 20);
}

// --- identity ------------------------------------------------------------------------------------

TEST_CASE("a directory of another cluster or node is refused with both names") {
    Quiet quiet;
    StoreFixture f;
    REQUIRE(f.open().is_ok());
    f.options.cluster_id_low = 99;
    Status status = f.open();
    CHECK(status.code() == Errc::config);
    CHECK(status.to_string().find("expected cluster 00000000000000010000000000000063, found "
                                  "00000000000000010000000000000002") != std::string::npos);
    f.options.cluster_id_low = 2;
    f.options.node = NodeId{4};
    status = f.open();
    CHECK(status.code() == Errc::config);
    CHECK(status.to_string().find("expected node 4, found 3") != std::string::npos);
    f.options.node = NodeId{0};
    CHECK(f.open().is_ok());
}

TEST_CASE("a directory with somebody's files, or a damaged identity, is refused and left alone") {
    StoreFixture f;
    REQUIRE(f.disk.make_dirs("/disk").is_ok());
    REQUIRE(replace_file(f.disk, "/disk/photo.jpg", as_view("precious")).is_ok());
    CHECK(f.open().code() == Errc::config);
    CHECK(f.disk.files() == std::vector<std::string>{"/disk/photo.jpg"});
    REQUIRE(f.disk.remove("/disk/photo.jpg").is_ok());
    REQUIRE(f.open().is_ok());
    f.store.reset();
    REQUIRE(f.disk.flip_bit("/disk/identity", 30, 0));
    CHECK(f.open().code() == Errc::corrupt);
}

TEST_CASE("a disk that the node has had is missing, not empty") {
    Quiet quiet;
    StoreOptions options = two_disks();
    options.record_path = "/node/disks";
    StoreFixture f(options);
    REQUIRE(f.disk.make_dirs("/node").is_ok());
    REQUIRE(f.open().is_ok());
    f.store.reset();
    f.options.dirs = {"/one"};
    Status status = f.open();
    CHECK(status.code() == Errc::config);
    CHECK(status.to_string().find("disk missing") != std::string::npos);
    f.options.dirs = {"/one", "/two"};
    f.disk.lose_tree("/two");
    status = f.open();
    CHECK(status.code() == Errc::config);
    CHECK(status.to_string().find("disk missing: /two should hold disk") != std::string::npos);
    f.options.dirs = {"/one", "/one"};
    CHECK(!f.open().is_ok());
    // What the message says helps: the node goes on without the disk, and remembers the new one.
    f.options.dirs = {"/one", "/two"};
    f.options.seed = 99;  // as at every start: the new disk gets a number of its own
    CHECK(status.to_string().find("delete the records") != std::string::npos);
    for (const char* record : {"/one/disks", "/two/disks", "/node/disks"}) {
        CHECK(status.to_string().find(record) != std::string::npos);
        ignore(f.disk.remove(record), "the lost disk took its own with it");
    }
    status = f.open();
    INFO(status.to_string());
    REQUIRE(status.is_ok());
    f.store.reset();
    f.options.dirs = {"/one"};
    CHECK(f.open().to_string().find("disk missing") != std::string::npos);
    // With the record outside the disks even the only disk is missed.
    StoreOptions one = small_options();
    one.record_path = "/node/disks";
    StoreFixture g(one);
    REQUIRE(g.disk.make_dirs("/node").is_ok());
    REQUIRE(g.open().is_ok());
    g.store.reset();
    g.disk.lose_tree("/disk");
    CHECK(g.open().to_string().find("disk missing") != std::string::npos);
}

TEST_CASE("a second process is refused while the first lives") {
    StoreFixture f;
    REQUIRE(f.open().is_ok());
    auto second = ChunkStore::open(f.disk, f.loop, f.options);
    CHECK(second.code() == Errc::busy);
    f.store.reset();
    CHECK(f.open().is_ok());
}

TEST_CASE("an index that vanished is damage, not a new disk") {
    Quiet quiet;
    StoreFixture f;
    REQUIRE(f.open().is_ok());
    f.store.reset();
    f.disk.lose_tree("/disk/index");
    REQUIRE(f.disk.make_dirs("/disk/index").is_ok());
    CHECK(f.open().code() == Errc::corrupt);
}

}  // namespace
}  // namespace lumeofs::store
