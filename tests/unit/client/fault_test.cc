// SPDX-License-Identifier: Apache-2.0
// What the client does when leaders change, answers are lost, leases are recalled, sessions end and
// chunkds fail.
#include <doctest/doctest.h>

#include "common/base/planted_bug.h"
#include "tests/unit/client/fixture.h"

namespace lumeofs::client_test {
namespace {

// Starts an operation and leaves it to the caller to turn the loop.
template <typename T>
std::shared_ptr<std::optional<Result<T>>> begin(const std::function<void(Done<T>)>& call) {
    auto answer = std::make_shared<std::optional<Result<T>>>();
    call([answer](Result<T> got) {
        LFS_ASSERT(!answer->has_value());
        *answer = std::move(got);
    });
    return answer;
}

TEST_CASE("a request whose answer is lost is carried out once") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    int lost = 0;
    cluster.meta_faults.swallow = [&](const wire::MutationT&) { return lost++ % 2 == 0; };
    for (int i = 0; i < 10; ++i) {
        auto made = client.create("f" + std::to_string(i), 2 | OpenMode::kExclusive);
        REQUIRE(made.is_ok());
        REQUIRE(client.write(made->handle, 0, pattern(1, 100)).is_ok());
        REQUIRE(client.close(made->handle).is_ok());
    }
    CHECK(lost > 10);
    CHECK(cluster.state.applied == 20);
}

TEST_CASE("a change of leader is a pause, not an error; leases and opens are declared again") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(1, 100)).is_ok());
    cluster.lead(1);
    const Nanos before = cluster.loop.now();
    auto made = client.create("g", 2 | OpenMode::kExclusive);
    REQUIRE(made.is_ok());
    CHECK(cluster.loop.now() - before < kSecond);
    CHECK(cluster.lead_metad().is_open(file->attr.ino.value));
    CHECK(cluster.lead_metad().holder(file->attr.ino.value) == client.vfs->status().session);
    REQUIRE(client.write(file->handle, 100, pattern(2, 5000)).is_ok());
    cluster.metads[1]->crash();
    cluster.lead(0);
    REQUIRE(client.close(file->handle).is_ok());
    CHECK(cluster.state.inodes.at(file->attr.ino.value).attr.size == 5100);
}

TEST_CASE("a leader that hangs is left for the one that calls") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    cluster.meta_faults.swallow = [](const wire::MutationT&) { return true; };
    auto made = begin<Opened>([&](Done<Opened> done) {
        client.vfs->create({}, kRootInode, "f", 0644, 2 | OpenMode::kExclusive, done);
    });
    cluster.loop.run_for(100 * kMillisecond);
    CHECK(!made->has_value());
    cluster.meta_faults.swallow = nullptr;
    cluster.lead(1);
    REQUIRE(cluster.loop.run_until([&] { return made->has_value(); }, kSecond));
    CHECK((*made)->is_ok());
    CHECK(cluster.state.applied == 1);
}

TEST_CASE("two clients see each other's writes at once") {
    Cluster cluster;
    TestClient one(cluster, 1), two(cluster, 2);
    one.start();
    two.start();
    auto a = one.create("f");
    REQUIRE(one.write(a->handle, 0, pattern(1, 100)).is_ok());
    CHECK(two.lookup("f")->size == 100);  // flushed by a recall, the lease stays
    CHECK(cluster.lead_metad().holder(a->attr.ino.value) == one.vfs->status().session);
    REQUIRE(one.write(a->handle, 100, pattern(2, 100'000)).is_ok());
    auto b = two.open(a->attr.ino);
    CHECK(two.read(b->handle, 100, 200'000).value() == pattern(2, 100'000));
    for (uint64_t i = 0; i < 6; ++i) {
        REQUIRE(one.write(a->handle, i * 1000, pattern(i, 500)).is_ok());
        CHECK(*two.read(b->handle, i * 1000, 500) == pattern(i, 500));
        REQUIRE(two.write(b->handle, i * 1000 + 100, pattern(i + 50, 300)).is_ok());
        CHECK(*one.read(a->handle, i * 1000 + 100, 300) == pattern(i + 50, 300));
        CHECK(one.getattr(a->attr.ino)->mtime_ns == two.getattr(a->attr.ino)->mtime_ns);
    }
    REQUIRE(two.truncate(a->attr.ino, 10).is_ok());
    CHECK(one.read(a->handle, 0, 1000)->size() == 10);
    REQUIRE(one.close(a->handle).is_ok());
    cluster.loop.run_for(2 * kSecond);
    // Alone again: after a while the lease is kept.
    REQUIRE(two.write(b->handle, 0, pattern(5, 50)).is_ok());
    CHECK(cluster.lead_metad().holder(a->attr.ino.value) == two.vfs->status().session);
}

TEST_CASE("a recall during a stream of writes loses nothing") {
    Cluster cluster;
    cluster.chunk_faults.delay_max_us = 20'000;
    TestClient one(cluster, 1), two(cluster, 2);
    one.start();
    two.start();
    auto a = one.create("f");
    Bytes expected;
    std::vector<std::shared_ptr<std::optional<Result<uint64_t>>>> writes;
    std::shared_ptr<std::optional<Result<Opened>>> opened;
    for (uint64_t i = 0; i < 40; ++i) {
        const Bytes bytes = pattern(i, 100'000);
        writes.push_back(begin<uint64_t>([&](Done<uint64_t> done) {
            one.vfs->write({}, a->handle, i * 100'000, Buffer::copy_of(bytes), done);
        }));
        expected.insert(expected.end(), bytes.begin(), bytes.end());
        if (i == 20)
            opened =
                begin<Opened>([&](Done<Opened> done) { two.vfs->open({}, a->attr.ino, 0, done); });
        cluster.loop.run_for(kMillisecond);
    }
    REQUIRE(cluster.loop.run_until([&] {
        return opened->has_value() &&
               std::all_of(writes.begin(), writes.end(), [](auto& w) { return w->has_value(); });
    }));
    CHECK(*two.read((*opened)->value().handle, 0, 5'000'000) == expected);
    for (auto& chunkd : cluster.chunkds) CHECK(chunkd->overlaps == 0);
}

// A lease that is granted while a cut is on its way may be of the file before it.
TEST_CASE("an open waits for a cut of the file that is on its way") {
    for (const bool by_name : {false, true}) {
        CAPTURE(by_name);
        Cluster cluster;
        TestClient client(cluster);
        client.start();
        const InodeId ino = client.written("f", pattern(1, 100'000));
        cluster.loop.run_for(kSecond);  // given back
        cluster.meta_faults.delay_once = 300 * kMillisecond;
        SetAttrs attrs;
        attrs.size = 10;
        const auto cut = begin<Attr>([&](Done<Attr> done) {
            client.vfs->setattr({}, ino, 0, attrs, std::move(done));
        });
        const auto opened = begin<Opened>([&](Done<Opened> done) {
            if (by_name) {
                client.vfs->create({}, kRootInode, "f", 0644, 2, std::move(done));
            } else {
                client.vfs->open({}, ino, 2, std::move(done));
            }
        });
        cluster.loop.run_for(200 * kMillisecond);
        CHECK(!cut->has_value());
        CHECK(!opened->has_value());
        REQUIRE(cluster.loop.run_until([&] { return opened->has_value(); }));
        REQUIRE((*opened)->is_ok());
        CHECK(cut->has_value());
        const Opened file = (*opened)->value();
        CHECK(file.attr.size == 10);
        CHECK(client.read(file.handle, 0, 100)->size() == 10);
        REQUIRE(client.write(file.handle, 10, pattern(2, 5'000)).is_ok());
        CHECK(client.close(file.handle).is_ok());
        CHECK(cluster.state.inodes.at(ino.value).attr.size == 5'010);
    }
}

TEST_CASE("overlapping writes of one client are never under way together") {
    Cluster cluster;
    cluster.chunk_faults.delay_max_us = 50'000;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(0, 100'000)).is_ok());
    Bytes expected = pattern(0, 100'000);
    std::vector<std::shared_ptr<std::optional<Result<bool>>>> syncs;
    for (uint64_t i = 1; i < 60; ++i) {
        const uint64_t at = (i * 7919) % 90'000;
        const Bytes bytes = pattern(i, 9'000);
        REQUIRE(client.write(file->handle, at, bytes).is_ok());
        std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<ptrdiff_t>(at));
        syncs.push_back(begin<bool>([&](Done<bool> done) {
            client.vfs->fsync(
                {}, file->handle, false, [done](const Status& status) { done(status.is_ok()); });
        }));
        cluster.loop.run_for(5 * kMillisecond);
        CHECK(*client.read(file->handle, 0, 200'000) == expected);
    }
    REQUIRE(client.close(file->handle).is_ok());
    for (auto& sync : syncs) CHECK(sync->has_value());
    for (auto& chunkd : cluster.chunkds) CHECK(chunkd->overlaps == 0);
    TestClient other(cluster, 9);
    other.start();
    auto again = other.open(file->attr.ino, 0);
    CHECK(*other.read(again->handle, 0, 200'000) == expected);
}

// With the named bug planted (none: nullptr), do two clients see a state from before? Each scenario
// is right without it: the tests below would be worth nothing if they could not fail.
TEST_CASE("a recall and an attach wait until the kernel may use no name any more") {
    Cluster cluster;
    cluster.metads[0]->keeps = cluster.metads[1]->keeps = true;
    ClientOptions options;
    options.kernel_time = kKernelTime;
    TestClient one(cluster, 1), mount(cluster, 2, options);
    one.start();
    mount.start();
    REQUIRE(one.close(one.create("f")->handle).is_ok());
    cluster.loop.run_for(kSecond);
    const auto seen = mount.lookup("f");
    REQUIRE(seen.is_ok());
    CHECK(seen->name_time == kKernelTime);
    CHECK(seen->attr_time == kKernelTime);
    CHECK(one.lookup("f")->name_time == 0);  // no kernel, nothing to keep
    FakeMetad& leader = cluster.lead_metad();
    const uint64_t session = mount.vfs->status().session;
    for (const InodeId ino : {kRootInode, seen->ino}) {
        const Nanos asked = cluster.loop.now();
        REQUIRE(mount.lookup("f").is_ok());
        leader.drop(session, ino.value);
        cluster.loop.run_for(kSecond);
        CHECK(leader.dropped_at - asked >= kKernelTime);
        CHECK(leader.dropped_at - asked < 2 * kKernelTime);
    }
    // What was not told lately is given back at once.
    REQUIRE(mount.lookup("f").is_ok());
    cluster.loop.run_for(kSecond);
    Nanos asked = cluster.loop.now();
    leader.drop(session, seen->ino.value);
    cluster.loop.run_for(kSecond);
    CHECK(leader.dropped_at - asked < 10 * kMillisecond);
    asked = cluster.loop.now();
    CHECK(mount.lookup("f")->name_time == kKernelTime);
    cluster.lead(1);
    cluster.loop.run_for(kSecond);
    CHECK(cluster.lead_metad().attached_at - asked >= kKernelTime);
}

struct Planted {
#if LUMEO_PLANTED_BUGS
    explicit Planted(const char* name) { set_planted_bug(name); }
    ~Planted() { set_planted_bug(nullptr); }
    static constexpr bool kBuilt = true;
#else
    explicit Planted(const char*) {}
    static constexpr bool kBuilt = false;
#endif
};

// A file "f" that `two` has written and closed.
struct Written {
    Cluster cluster;
    TestClient one{cluster, 1}, two{cluster, 2};
    Result<Opened> made = write();

private:
    Result<Opened> write() {
        one.start();
        two.start();
        auto file = two.create("f");
        LFS_ASSERT(two.write(file->handle, 0, pattern(1, 100)).is_ok());
        LFS_ASSERT(two.close(file->handle).is_ok());
        return file;
    }
};

bool grant_overtaken_by_recall_is_stale(const char* bug) {
    Planted planted(bug);
    Written written;
    auto& [cluster, one, two, made] = written;
    cluster.loop.run_for(kSecond / 10);
    // The answer of the open, with its grant, is slow; the recall of that grant is not [27].
    cluster.meta_faults.delay_once = 300 * kMillisecond;
    auto slow = begin<Opened>(
        [&](Done<Opened> done) { one.vfs->open({}, made->attr.ino, 0, std::move(done)); });
    cluster.loop.run_for(kMillisecond);
    auto writer = two.open(made->attr.ino);
    LFS_ASSERT(cluster.loop.run_until([&] { return slow->has_value(); }));
    LFS_ASSERT(two.write(writer->handle, 0, pattern(2, 100)).is_ok());
    return one.read((*slow)->value().handle, 0, 100).value() != pattern(2, 100);
}

// By name, so that it goes past what keeps requests about one inode in order.
bool grant_of_a_create_after_a_release_is_stale() {
    Written written;
    auto& [cluster, one, two, made] = written;
    cluster.loop.run_for(kSecond);
    cluster.meta_faults.delay_once = 500 * kMillisecond;
    auto slow = begin<Opened>(
        [&](Done<Opened> done) { one.vfs->create({}, kRootInode, "f", 0644, 2, std::move(done)); });
    cluster.loop.run_for(kMillisecond);
    auto other = one.open(made->attr.ino);
    LFS_ASSERT(one.close(other->handle).is_ok());
    cluster.loop.run_for(200 * kMillisecond);  // the leader is told of the close
    auto writer = two.open(made->attr.ino);
    LFS_ASSERT(two.write(writer->handle, 0, pattern(2, 100)).is_ok());
    LFS_ASSERT(!slow->has_value());
    LFS_ASSERT(cluster.loop.run_until([&] { return slow->has_value(); }));
    return one.read((*slow)->value().handle, 0, 100).value() != pattern(2, 100);
}

bool grant_kept_after_the_lease_is_stale(const char* bug) {
    Planted planted(bug);
    Cluster cluster;
    TestClient one(cluster, 1), two(cluster, 2);
    one.start();
    two.start();
    auto a = one.create("f");
    LFS_ASSERT(one.write(a->handle, 0, pattern(1, 10'000)).is_ok());
    LFS_ASSERT(one.fsync(a->handle).is_ok());
    auto b = two.open(a->attr.ino);
    LFS_ASSERT(two.write(b->handle, 10'000, pattern(2, 5'000)).is_ok());
    return one.read(a->handle, 10'000, 5'000).value() != pattern(2, 5'000);
}

uint64_t overlaps_under_way(const char* bug) {
    Planted planted(bug);
    Cluster cluster;
    cluster.chunk_faults.delay_max_us = 50'000;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    for (uint64_t i = 0; i < 20; ++i) {
        LFS_ASSERT(client.write(file->handle, 0, pattern(i, 9'000)).is_ok());
        client.vfs->fsync({}, file->handle, false, [](const Status&) {});
        cluster.loop.run_for(kMillisecond);
    }
    cluster.loop.run_for(5 * kSecond);
    uint64_t overlaps = 0;
    for (auto& chunkd : cluster.chunkds) overlaps += chunkd->overlaps;
    return overlaps;
}

TEST_CASE(
    "a grant that its recall overtook is void; nothing outlives a lease; writes never overlap") {
    CHECK_FALSE(grant_overtaken_by_recall_is_stale(nullptr));
    CHECK_FALSE(grant_of_a_create_after_a_release_is_stale());
    CHECK_FALSE(grant_kept_after_the_lease_is_stale(nullptr));
    CHECK(overlaps_under_way(nullptr) == 0);
    if (!Planted::kBuilt) return;
    CHECK(grant_overtaken_by_recall_is_stale("client.grant_after_recall"));
    CHECK(grant_kept_after_the_lease_is_stale("client.keep_grant_after_lease"));
    CHECK(overlaps_under_way("client.overlapping_writes") > 0);
}

TEST_CASE("an ended session fails what was dirty, once, and old handles for ever") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    auto clean = client.create("g", 0);
    REQUIRE(client.write(file->handle, 0, pattern(1, 100'000)).is_ok());
    const uint64_t old = client.vfs->status().session;
    cluster.lead_metad().end_session(old);
    REQUIRE(cluster.loop.run_until(
        [&] { return client.vfs->status().session != old && client.vfs->status().lease_valid; }));
    CHECK(client.fsync(file->handle).code() == Errc::io);
    CHECK(client.read(file->handle, 0, 10).code() == Errc::io);
    CHECK(client.write(file->handle, 0, pattern(1, 10)).code() == Errc::io);
    CHECK(client.read(clean->handle, 0, 10).code() == Errc::io);
    CHECK(client.getattr(file->attr.ino, file->handle).code() == Errc::io);
    CHECK(client.close(file->handle).code() == Errc::io);
    auto again = client.open(file->attr.ino);
    REQUIRE(again.is_ok());
    REQUIRE(client.write(again->handle, 0, pattern(2, 50)).is_ok());
    CHECK(client.close(again->handle).is_ok());
    CHECK(cluster.state.inodes.at(file->attr.ino.value).attr.size == 50);
    CHECK(client.vfs->status().sessions_lost == 1);
    CHECK(client.vfs->status().dirty_bytes == 0);
}

TEST_CASE("a request in doubt when the session ends is EIO, one that was not sent goes on") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    cluster.meta_faults.swallow = [](const wire::MutationT&) { return true; };
    auto doubt = begin<Opened>(
        [&](Done<Opened> done) { client.vfs->create({}, kRootInode, "a", 0644, 2, done); });
    cluster.loop.run_for(100 * kMillisecond);
    cluster.metads[0]->resign();  // nobody leads: what is asked for now waits here
    cluster.loop.run_for(kSecond);
    auto fresh = begin<Opened>(
        [&](Done<Opened> done) { client.vfs->create({}, kRootInode, "b", 0644, 2, done); });
    cluster.loop.run_for(kSecond);
    cluster.meta_faults.swallow = nullptr;
    cluster.state.sessions.clear();
    cluster.lead(1);
    REQUIRE(cluster.loop.run_until([&] { return doubt->has_value() && fresh->has_value(); }));
    CHECK((*doubt)->code() == Errc::io);
    CHECK((*fresh)->is_ok());
}

TEST_CASE("no space is told once to each handle, at the next write, fsync or close") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(1, 50'000)).is_ok());
    for (auto& chunkd : cluster.chunkds) chunkd->full = true;
    CHECK(client.fsync(file->handle).code() == Errc::nospc);
    CHECK(client.fsync(file->handle).is_ok());
    for (auto& chunkd : cluster.chunkds) chunkd->full = false;
    REQUIRE(client.write(file->handle, 0, pattern(1, 50'000)).is_ok());
    CHECK(client.close(file->handle).is_ok());
}

TEST_CASE("reads move on from dead, silent and corrupt members; no bad byte is returned") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    const Bytes bytes = pattern(3, 3 << 20);
    REQUIRE(client.write(file->handle, 0, bytes).is_ok());
    REQUIRE(client.close(file->handle).is_ok());
    auto reader = client.open(file->attr.ino, 0);
    cluster.chunkds[0]->corrupts = true;
    for (uint64_t at = 0; at < 3 << 20; at += 1 << 20) {
        CHECK(*client.read(reader->handle, at, 5000) ==
              Bytes(bytes.begin() + static_cast<ptrdiff_t>(at),
                    bytes.begin() + static_cast<ptrdiff_t>(at) + 5000));
    }
    cluster.chunkds[0]->corrupts = false;
    cluster.chunkds[1]->mute = true;
    cluster.chunkds[2]->crash();
    const Nanos before = cluster.loop.now();
    auto fresh = client.open(file->attr.ino, 0);
    CHECK(*client.read(fresh->handle, 0, 4 << 20) == bytes);
    CHECK(cluster.loop.now() - before < kSecond);
}

TEST_CASE("a write goes on without a dead primary, under the same number") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(1, 50'000)).is_ok());
    REQUIRE(client.fsync(file->handle).is_ok());
    cluster.chunkds[0]->crash();
    REQUIRE(client.write(file->handle, 10, pattern(2, 50'000)).is_ok());
    CHECK(client.fsync(file->handle).is_ok());
    CHECK(cluster.state.chunks.begin()->second.grant.members.size() == 2);
    cluster.chunk_faults.lose_reply_percent = 60;
    for (uint64_t i = 0; i < 10; ++i) {
        REQUIRE(client.write(file->handle, i * 100, pattern(i, 1000)).is_ok());
        REQUIRE(client.fsync(file->handle).is_ok());
    }
    cluster.chunk_faults.lose_reply_percent = 0;
    CHECK(cluster.chunkds[1]->repeats > 0);
    CHECK(*client.read(file->handle, 900, 1000) == pattern(9, 1000));
}

TEST_CASE("a signal ends a wait after the patience; what was not begun does not happen") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    cluster.metads[0]->resign();
    Caller caller;
    caller.op = client.vfs->new_op();
    auto found =
        begin<Attr>([&](Done<Attr> done) { client.vfs->lookup(caller, kRootInode, "f", done); });
    client.vfs->interrupt(caller.op);
    cluster.loop.run_for(kSecond);
    CHECK(!found->has_value());
    auto status = client.vfs->status();
    REQUIRE(status.waiting.size() == 1);
    CHECK(status.waiting[0].waits_for.find("metadata leader") != std::string::npos);
    cluster.loop.run_for(2 * kSecond);
    REQUIRE(found->has_value());
    CHECK((*found)->code() == Errc::intr);
}

TEST_CASE("soft mounts give up") {
    Cluster cluster;
    ClientOptions options;
    options.soft = true;
    options.timeo = 3 * kSecond;
    TestClient client(cluster, 3, options);
    client.start();
    cluster.metads[0]->resign();
    const Nanos before = cluster.loop.now();
    CHECK(client.lookup("f").code() == Errc::timedout);
    CHECK(cluster.loop.now() - before < 5 * kSecond);
}

TEST_CASE("more operations than slots: the rest waits, flushes have slots of their own") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(1, 100)).is_ok());
    cluster.meta_faults.delay_max_us = 100'000;
    std::vector<std::shared_ptr<std::optional<Result<Attr>>>> made;
    for (int i = 0; i < 500; ++i) {
        made.push_back(begin<Attr>([&](Done<Attr> done) {
            client.vfs->mkdir({}, kRootInode, "d" + std::to_string(i), 0755, done);
        }));
    }
    CHECK(client.fsync(file->handle).is_ok());
    CHECK(std::count_if(made.begin(), made.end(), [](auto& m) { return m->has_value(); }) < 400);
    REQUIRE(cluster.loop.run_until([&] {
        return std::all_of(
            made.begin(), made.end(), [](auto& m) { return m->has_value() && (*m)->is_ok(); });
    }));
    CHECK(cluster.state.inodes.at(1).entries.size() == 501);
}

}  // namespace
}  // namespace lumeofs::client_test
