// SPDX-License-Identifier: Apache-2.0
// The client against a fake cluster: names, data, and what each operation costs in requests.
#include <doctest/doctest.h>

#include "tests/unit/client/fixture.h"

namespace lumeofs::client_test {
namespace {

TEST_CASE("a file is made, written, closed and read back") {
    for (uint64_t size : {uint64_t{0},
                          uint64_t{10},
                          uint64_t{4096},
                          uint64_t{4097},
                          uint64_t{300'000},
                          uint64_t{5} << 20}) {
        CAPTURE(size);
        Cluster cluster;
        TestClient client(cluster);
        client.start();
        auto file = client.create("f");
        REQUIRE(file.is_ok());
        const Bytes bytes = pattern(size, size);
        if (size > 0) REQUIRE(client.write(file->handle, 0, bytes).is_ok());
        CHECK(client.getattr(file->attr.ino)->size == size);
        CHECK(*client.read(file->handle, 0, size + 100) == bytes);
        REQUIRE(client.close(file->handle).is_ok());
        CHECK(cluster.state.inodes.at(file->attr.ino.value).attr.size == size);

        TestClient other(cluster, 8);
        other.start();
        auto found = other.lookup("f");
        REQUIRE(found.is_ok());
        CHECK(found->size == size);
        auto again = other.open(found->ino, 0);
        REQUIRE(again.is_ok());
        CHECK(*other.read(again->handle, 0, size + 100) == bytes);
    }
}

TEST_CASE("requests per operation (hops)") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    FakeMetad& metad = cluster.lead_metad();
    auto count = [&] { return metad.mutations + metad.queries + metad.session_requests; };
    auto chunk_count = [&] { return client.vfs->status().chunk_requests; };
    auto cost = [&](const std::function<void()>& what) {
        const uint64_t before = count();
        what();
        return count() - before;
    };
    Result<Opened> file(Errc::io);
    CHECK(cost([&] { file = client.create("small"); }) == 1);
    CHECK(cost([&] { REQUIRE(client.write(file->handle, 0, pattern(1, 1000)).is_ok()); }) == 0);
    CHECK(cost([&] { CHECK(client.getattr(file->attr.ino)->size == 1000); }) == 0);
    CHECK(cost([&] { CHECK(client.read(file->handle, 0, 1000)->size() == 1000); }) == 0);
    CHECK(cost([&] { CHECK(client.flush(file->handle).is_ok()); }) ==
          1);  // WriteInline with release
    CHECK(cost([&] { client.vfs->release(file->handle, [](const Status&) {}); }) == 0);
    CHECK(cost([&] { cluster.loop.run_for(10 * kMillisecond); }) ==
          1);  // Release, waited for by nobody
    CHECK(chunk_count() == 0);

    CHECK(cost([&] { file = client.open(file->attr.ino, 0); }) == 1);
    CHECK(cost([&] { CHECK(client.getattr(file->attr.ino)->size == 1000); }) == 0);
    CHECK(cost([&] { CHECK(client.read(file->handle, 0, 4096)->size() == 1000); }) == 0);
    CHECK(cost([&] { CHECK(client.close(file->handle).is_ok()); }) == 0);
    cluster.loop.run_for(10 * kMillisecond);

    CHECK(cost([&] { file = client.create("large"); }) == 1);
    const uint64_t chunks_before = chunk_count();
    CHECK(cost([&] {
              REQUIRE(client.write(file->handle, 0, pattern(2, 3 << 20)).is_ok());
              REQUIRE(client.fsync(file->handle).is_ok());
          }) == 2);  // Allocate, CommitWrite
    CHECK(chunk_count() - chunks_before <= 3);
    CHECK(cost([&] { REQUIRE(client.write(file->handle, 100, pattern(3, 10)).is_ok()); }) == 0);
    CHECK(cost([&] { CHECK(client.close(file->handle).is_ok()); }) ==
          1);  // CommitWrite with release

    cluster.loop.run_for(10 * kMillisecond);
    CHECK(cost([&] { CHECK(client.lookup("large").is_ok()); }) == 1);
    CHECK(cost([&] {
              CHECK(client
                        .wait<Attr>([&](Done<Attr> done) {
                            client.vfs->mkdir({}, kRootInode, "d", 0755, done);
                        })
                        .is_ok());
          }) <= 2);  // and the Release of before
    CHECK(cost([&] {
              CHECK(client
                        .status([&](StatusDone done) {
                            client.vfs->unlink({}, kRootInode, "large", done);
                        })
                        .is_ok());
          }) == 1);
}

TEST_CASE("directories list everything once, whatever the page size") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    for (int i = 0; i < 50; ++i)
        REQUIRE(client.close(client.create("name" + std::to_string(i))->handle).is_ok());
    for (bool plus : {false, true}) {
        for (uint32_t page : {100u, 1000u, 100'000u}) {
            auto dir = client.wait<HandleId>(
                [&](Done<HandleId> done) { client.vfs->opendir({}, kRootInode, done); });
            std::set<std::string> names;
            uint64_t cookie = 0;
            for (bool end = false; !end;) {
                auto got = client.wait<DirPage>([&](Done<DirPage> done) {
                    if (plus)
                        client.vfs->readdirplus({}, *dir, cookie, page, done);
                    else
                        client.vfs->readdir({}, *dir, cookie, page, done);
                });
                REQUIRE(got.is_ok());
                for (const DirEntry& entry : got->entries) {
                    CHECK(names.insert(entry.name).second);
                    cookie = entry.cookie;
                    if (plus && entry.name[0] == 'n') CHECK(entry.attr.has_value());
                }
                end = got->at_end || got->entries.empty();
            }
            CHECK(names.size() == 52);
            client.vfs->releasedir(*dir);
        }
    }
}

TEST_CASE("the end of a directory is known with its last page, and looked for again when asked again") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto dir = client.wait<HandleId>(
        [&](Done<HandleId> done) { client.vfs->opendir({}, kRootInode, done); });
    const auto queries = [&](const std::function<void()>& what) {
        const uint64_t before = cluster.lead_metad().queries;
        what();
        return cluster.lead_metad().queries - before;
    };
    const auto list = [&](uint64_t cookie) {
        auto page = client.wait<DirPage>(
            [&](Done<DirPage> done) { client.vfs->readdir({}, *dir, cookie, 4096, done); });
        REQUIRE(page.is_ok());
        return page->entries;
    };
    for (int files = 0; files < 2; ++files) {
        CAPTURE(files);
        std::vector<DirEntry> entries;
        CHECK(queries([&] { entries = list(0); }) == 1);
        REQUIRE(entries.size() == size_t(2 + files));  // "." and ".." too
        const uint64_t end = entries.back().cookie;
        CHECK(queries([&] { CHECK(list(end).empty()); }) == 0);
        REQUIRE(client.close(client.create("name" + std::to_string(files))->handle).is_ok());
        CHECK(queries([&] { CHECK(list(end).size() == 1); }) == 1);
    }
}

TEST_CASE("a directory that this client has removed can still be looked at, without links") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    const auto made = client.wait<Attr>(
        [&](Done<Attr> done) { client.vfs->mkdir({}, kRootInode, "d", 0750, done); });
    REQUIRE(made.is_ok());
    REQUIRE(client.status([&](StatusDone done) { client.vfs->rmdir({}, kRootInode, "d", done); }).is_ok());
    const auto removed = client.getattr(made->ino);
    REQUIRE(removed.is_ok());
    CHECK(removed->nlink == 0);
    CHECK(removed->mode == made->mode);
    CHECK(client.lookup("d").code() == Errc::noent);
}

TEST_CASE("truncate, punch, seek") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    const Bytes bytes = pattern(9, 200'000);
    REQUIRE(client.write(file->handle, 0, bytes).is_ok());
    REQUIRE(client.truncate(file->attr.ino, 100'000, file->handle).is_ok());
    REQUIRE(client.truncate(file->attr.ino, 150'000, file->handle).is_ok());
    Bytes expected(bytes.begin(), bytes.begin() + 100'000);
    expected.resize(150'000);
    CHECK(*client.read(file->handle, 0, 300'000) == expected);
    REQUIRE(client.punch(file->handle, kFallocatePunchHole | kFallocateKeepSize, 5'000, 20'000)
                .is_ok());
    std::fill(expected.begin() + 5'000, expected.begin() + 25'000, 0);
    CHECK(*client.read(file->handle, 0, 300'000) == expected);
    REQUIRE(client.punch(file->handle, 0, 140'000, 60'000).is_ok());
    expected.resize(200'000);
    CHECK(*client.read(file->handle, 0, 300'000) == expected);
    REQUIRE(client.truncate(file->attr.ino, uint64_t{200} << 20, file->handle).is_ok());
    REQUIRE(client.write(file->handle, uint64_t{130} << 20, bytes).is_ok());
    CHECK(*client.seek(file->handle, 200'000, Seek::data) == uint64_t{130} << 20);
    CHECK(*client.seek(file->handle, 0, Seek::hole) >= 100'000);
    CHECK(client.seek(file->handle, uint64_t{300} << 20, Seek::data).code() == Errc::nxio);
    REQUIRE(client
                .punch(file->handle,
                       kFallocatePunchHole | kFallocateKeepSize,
                       uint64_t{64} << 20,
                       uint64_t{128} << 20)
                .is_ok());
    CHECK(cluster.state.inodes.at(file->attr.ino.value).chunks.size() == 1);
    CHECK(*client.read(file->handle, uint64_t{130} << 20, 1000) == Bytes(1000, 0));
}

// What was written beyond the new end has never been asked room for: the commit before the cut must
// not claim a size that only those bytes would have given.
TEST_CASE("a cut after an unwritten growth commits no size of its own") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto made = client.create("f");
    REQUIRE(client.write(made->handle, 0, pattern(1, 200'000)).is_ok());
    REQUIRE(client.close(made->handle).is_ok());  // gives the right to grow back
    auto file = client.open(made->attr.ino);
    REQUIRE(client.read(file->handle, 0, 100).is_ok());
    REQUIRE(client.write(file->handle, 190'000, pattern(2, 50'000)).is_ok());
    REQUIRE(client.truncate(made->attr.ino, 10'000, file->handle).is_ok());
    CHECK(client.getattr(made->attr.ino)->size == 10'000);
    REQUIRE(client.truncate(made->attr.ino, 100'000, file->handle).is_ok());
    CHECK(client.write(file->handle, 90'000, pattern(3, 100)).is_ok());
    CHECK(client.close(file->handle).is_ok());
    // A cut that is refused leaves what was written before it.
    file = client.open(made->attr.ino);
    REQUIRE(client.write(file->handle, 100'000, pattern(4, 50'000)).is_ok());
    cluster.state.refuse_setattr = true;
    CHECK(client.truncate(made->attr.ino, 0, file->handle).code() == Errc::acces);
    CHECK(*client.read(file->handle, 100'000, 60'000) == pattern(4, 50'000));
    CHECK(client.close(file->handle).is_ok());
}

TEST_CASE("an open that may not cut fails, and nothing stays open") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    const InodeId ino = client.written("f", pattern(1, 1'000));
    cluster.state.refuse_setattr = true;
    CHECK(client.open(ino, 2 | OpenMode::kTruncate).code() == Errc::acces);
    CHECK(client.vfs->status().open_handles == 0);
    auto file = client.open(ino);
    CHECK(*client.read(file->handle, 0, 2'000) == pattern(1, 1'000));
}

TEST_CASE("appends take the end of the file, whoever moved it") {
    Cluster cluster;
    TestClient one(cluster, 1), two(cluster, 2);
    one.start();
    two.start();
    auto a = one.create("log", 1 | OpenMode::kAppend);
    CHECK(a->direct_io);
    auto b = two.open(a->attr.ino, 1 | OpenMode::kAppend);
    Bytes expected;
    for (uint64_t i = 0; i < 20; ++i) {
        const Bytes line = pattern(i, 400);
        REQUIRE(
            (i % 2 == 0 ? one.write(a->handle, 0, line) : two.write(b->handle, 0, line)).is_ok());
        expected.insert(expected.end(), line.begin(), line.end());
    }
    auto reader = two.open(a->attr.ino, 0);
    CHECK(*two.read(reader->handle, 0, 100'000) == expected);
}

TEST_CASE("metad is told which chunks hold data before any of it counts as synced") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.truncate(file->attr.ino, 3 * kChunkSize, file->handle).is_ok());
    auto written = [&](uint32_t index) {
        const auto& chunks = cluster.state.inodes.at(file->attr.ino.value).chunks;
        auto it = chunks.find(index);
        return it != chunks.end() && cluster.state.chunks.at(it->second).grant.written;
    };
    REQUIRE(client.write(file->handle, kChunkSize + 5, pattern(1, 5000)).is_ok());
    auto data_only = [&] {
        return client.status([&](StatusDone done) {
            client.vfs->fsync(client.caller, file->handle, true, std::move(done));
        });
    };
    REQUIRE(data_only().is_ok());  // the size is as before: nothing else would be committed
    CHECK(written(1));
    CHECK(!written(0));
    CHECK(!written(2));
    const uint64_t mutations = cluster.lead_metad().mutations;
    REQUIRE(client.write(file->handle, kChunkSize + 5, pattern(2, 5000)).is_ok());
    REQUIRE(data_only().is_ok());
    CHECK(cluster.lead_metad().mutations == mutations);  // once is enough
    REQUIRE(client.write(file->handle, 2 * kChunkSize, pattern(3, 10)).is_ok());
    REQUIRE(client.close(file->handle).is_ok());
    CHECK(written(2));
}

TEST_CASE("a write by one who is not root clears setuid") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    SetAttrs attrs;
    attrs.mode = 06755;
    REQUIRE(client
                .wait<Attr>([&](Done<Attr> done) {
                    client.vfs->setattr({}, file->attr.ino, 0, attrs, done);
                })
                .is_ok());
    client.caller.uid = 1000;
    REQUIRE(client.write(file->handle, 0, pattern(1, 10)).is_ok());
    CHECK((client.getattr(file->attr.ino)->mode & 07000) == 0);
}

SetAttrs mode_only(uint32_t mode) {
    SetAttrs attrs;
    attrs.mode = mode;
    return attrs;
}
SetAttrs mtime_only(int64_t mtime_ns) {
    SetAttrs attrs;
    attrs.mtime_ns = mtime_ns;
    return attrs;
}

TEST_CASE("mode, owner and times that are set while a new file is written go with its data") {
    for (size_t size : {0ul, 1000ul, 100'000ul}) {
        CAPTURE(size);
        Cluster cluster;
        TestClient client(cluster);
        client.start();
        const auto file = client.create("f");
        const wire::AttrT& committed = cluster.state.inodes.at(file->attr.ino.value).attr;
        const auto set = [&](const SetAttrs& attrs) {
            const uint64_t before = cluster.lead_metad().mutations;
            const auto now = client.wait<Attr>([&](Done<Attr> done) {
                client.vfs->setattr({}, file->attr.ino, file->handle, attrs, done);
            });
            REQUIRE(now.is_ok());
            CHECK(cluster.lead_metad().mutations == before);
            return *now;
        };
        if (size > 0) REQUIRE(client.write(file->handle, 0, pattern(1, size)).is_ok());
        SetAttrs owner;
        owner.uid = 77;
        CHECK(set(mtime_only(5'000)).mtime_ns == 5'000);
        CHECK(set(owner).uid == 77);
        const Attr shown = set(mode_only(0640));
        CHECK((shown.mode & 07777) == 0640);
        CHECK(shown.uid == 77);
        CHECK(shown.mtime_ns == 5'000);
        CHECK(client.getattr(file->attr.ino)->mode == shown.mode);
        CHECK((committed.mode & 07777) != 0640);
        REQUIRE(client.close(file->handle).is_ok());
        CHECK((committed.mode & 07777) == 0640);
        CHECK(committed.uid == 77);
        CHECK(committed.mtime_ns == 5'000);
        CHECK(committed.size == size);
    }
}

TEST_CASE("another client sees what was gathered, and a fsync commits it") {
    Cluster cluster;
    TestClient one(cluster, 1), two(cluster, 2);
    one.start();
    two.start();
    const auto set = [&](InodeId ino, HandleId handle, const SetAttrs& attrs) {
        REQUIRE(one.wait<Attr>([&](Done<Attr> done) {
                       one.vfs->setattr({}, ino, handle, attrs, done);
                   }).is_ok());
    };
    const auto seen = one.create("seen");
    set(seen->attr.ino, seen->handle, mode_only(0600));
    CHECK((two.lookup("seen")->mode & 07777) == 0600);

    const auto synced = one.create("synced");
    REQUIRE(one.write(synced->handle, 0, pattern(1, 10)).is_ok());
    set(synced->attr.ino, synced->handle, mode_only(0600));
    REQUIRE(one.fsync(synced->handle).is_ok());
    const FakeInode& inode = cluster.state.inodes.at(synced->attr.ino.value);
    CHECK((inode.attr.mode & 07777) == 0600);
    // Its data can be seen now: from here on a mode must be there before later data is.
    set(synced->attr.ino, synced->handle, mode_only(0644));
    CHECK((inode.attr.mode & 07777) == 0644);
    set(synced->attr.ino, synced->handle, mtime_only(9'000));  // times hide nothing
    CHECK(inode.attr.mtime_ns != 9'000);
    REQUIRE(one.close(synced->handle).is_ok());
    CHECK(inode.attr.mtime_ns == 9'000);
}

TEST_CASE("a write after its times were set counts as the later change") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    const auto file = client.create("f");
    REQUIRE(client.wait<Attr>([&](Done<Attr> done) {
                      client.vfs->setattr({}, file->attr.ino, file->handle, mtime_only(5'000), done);
                  }).is_ok());
    REQUIRE(client.write(file->handle, 0, pattern(1, 10)).is_ok());
    CHECK(client.getattr(file->attr.ino)->mtime_ns > 5'000);
    REQUIRE(client.close(file->handle).is_ok());
    CHECK(cluster.state.inodes.at(file->attr.ino.value).attr.mtime_ns > 5'000);
}

TEST_CASE("a clean stop writes back, gives back and closes the session") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(1, 100'000)).is_ok());
    CHECK(client.status([&](StatusDone done) { client.vfs->stop(10 * kSecond, done); }).is_ok());
    CHECK(cluster.state.inodes.at(file->attr.ino.value).attr.size == 100'000);
    CHECK(cluster.state.sessions.empty());
}

TEST_CASE("a stop without a cluster ends when its patience does, and says that data is lost") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(1, 100'000)).is_ok());
    for (auto& metad : cluster.metads) metad->crash();
    for (auto& chunkd : cluster.chunkds) chunkd->crash();
    const Nanos began = cluster.loop.now();
    CHECK(client.status([&](StatusDone done) { client.vfs->stop(10 * kSecond, done); }).code() ==
          Errc::io);
    CHECK(cluster.loop.now() - began >= 10 * kSecond);
    CHECK(cluster.loop.now() - began < 12 * kSecond);
}

TEST_CASE("pages of the kernel outlive a close while nobody changes the file") {
    Cluster cluster;
    TestClient one(cluster, 1), two(cluster, 2);
    one.start();
    two.start();
    const uint32_t read_only = 0;
    const auto made = one.create("f");
    REQUIRE(one.write(made->handle, 0, pattern(1, 10'000)).is_ok());
    REQUIRE(one.close(made->handle).is_ok());
    cluster.loop.run_for(kSecond);  // given back
    auto look = [&] {
        const auto file = one.open(made->attr.ino, read_only);
        const bool kept = file->keep_cache;
        CHECK(one.read(file->handle, 0, 10'000).is_ok());
        CHECK(one.close(file->handle).is_ok());
        return kept;
    };
    CHECK_FALSE(look());  // it was written since the kernel has read it
    CHECK(look());        // under the lease that lingers
    cluster.loop.run_for(kSecond);
    CHECK(look());  // under another one
    auto write = [&](TestClient& client, uint32_t flags) {
        const auto file = client.open(made->attr.ino, flags);
        REQUIRE(client.write(file->handle, 0, pattern(4, 100)).is_ok());
        REQUIRE(client.close(file->handle).is_ok());
        cluster.loop.run_for(kSecond);
    };
    write(two, 2);
    CHECK_FALSE(look());
    CHECK(look());
    write(one, 1);  // past the pages
    CHECK_FALSE(look());
    CHECK(look());
    const auto changed = two.open(made->attr.ino);
    REQUIRE(two.write(changed->handle, 0, pattern(2, 100)).is_ok());
    CHECK_FALSE(look());  // shared: nothing is known
    REQUIRE(two.close(changed->handle).is_ok());
    cluster.loop.run_for(kSecond);
    CHECK_FALSE(look());
    CHECK(look());
    const auto own = one.open(made->attr.ino);
    REQUIRE(one.write(own->handle, 0, pattern(3, 100)).is_ok());
    CHECK_FALSE(look());  // not all of it is written
    REQUIRE(one.close(own->handle).is_ok());
    cluster.loop.run_for(kSecond);
    CHECK_FALSE(look());
    CHECK(look());
}

TEST_CASE("old dirty data goes out by itself") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto file = client.create("f");
    REQUIRE(client.write(file->handle, 0, pattern(1, 100)).is_ok());
    cluster.loop.run_for(kDirtyAgeMax + kSecond);
    CHECK(cluster.state.inodes.at(file->attr.ino.value).attr.size == 100);
    CHECK(client.vfs->status().dirty_bytes == 0);
}

TEST_CASE("paths, links and what is not allowed") {
    Cluster cluster;
    TestClient client(cluster);
    client.start();
    auto dir = client.wait<Attr>(
        [&](Done<Attr> done) { client.vfs->mkdir({}, kRootInode, "d", 0755, done); });
    REQUIRE(client
                .wait<Attr>(
                    [&](Done<Attr> done) { client.vfs->symlink({}, kRootInode, "l", "d", done); })
                .is_ok());
    auto walked = client.wait<Attr>(
        [&](Done<Attr> done) { client.vfs->resolve_path({}, kRootInode, "/l", true, done); });
    CHECK(walked->ino == dir->ino);
    REQUIRE(client
                .wait<Attr>(
                    [&](Done<Attr> done) { client.vfs->symlink({}, kRootInode, "x", "x", done); })
                .is_ok());
    CHECK(client
              .wait<Attr>([&](Done<Attr> done) {
                  client.vfs->resolve_path({}, kRootInode, "x", true, done);
              })
              .code() == Errc::loop);
    CHECK(client.lookup(std::string(256, 'n')).code() == Errc::nametoolong);
    CHECK(client.create("l/x").code() == Errc::inval);
    CHECK(client.create("d", 2 | OpenMode::kExclusive).code() == Errc::exist);
    CHECK(client
              .status([&](StatusDone done) {
                  client.vfs->setxattr({}, kRootInode, "trusted.x", {}, 0, done);
              })
              .code() == Errc::opnotsupp);
    ClientOptions options;
    options.read_only = true;
    options.subdir = "/d";
    TestClient reader(cluster, 9, options);
    reader.start();
    CHECK(reader.vfs->root() == dir->ino);
    CHECK(reader.create("y").code() == Errc::rofs);
}

}  // namespace
}  // namespace lumeofs::client_test
