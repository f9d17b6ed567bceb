// SPDX-License-Identifier: Apache-2.0
// Exactly-once slots [21], sessions, malformed commands, checkpoints and snapshots [12, 31].
#include "metad/namespace/state_machine.h"

#include <cstdlib>
#include <filesystem>

#include "common/base/prng.h"
#include "common/env/file_system.h"
#include "common/env/posix_file_system.h"
#include "tests/unit/metad/namespace/fixture.h"

namespace lumeofs::metad {

namespace {

struct Folder {
    Folder() {
        char name[] = "/tmp/lumeofs-namespace-XXXXXX";
        path = mkdtemp(name);
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    std::string path;
};

StateMachineOptions on_file(const Folder& folder, FileSystem* files, const char* name = "meta.db") {
    StateMachineOptions options;
    options.path = folder.path + "/" + name;
    options.files = files;
    return options;
}

}  // namespace

TEST_CASE("slots: a repeat gets the first answer and has no second effect [21]") {
    Cluster fs;
    wire::MakeT op;
    op.parent = kRoot;
    op.name = "d";
    op.mode = S_IFDIR | 0755;
    op.exclusive = true;
    const auto request = fs.mutation(op);
    auto first = fs.command(request);
    auto second = fs.command(request);
    CHECK(first.errc == 0);
    CHECK(second.errc == 0);
    CHECK(second.attr->ino == first.attr->ino);
    CHECK(fs.attr(kRoot).nlink == 3);
    wire::MetaReplyT stored;
    const SessionId id{fs.as};
    CHECK(fs.sm->check_slot(id, 0, fs.sequence, &stored) == SlotCheck::repeat);
    CHECK(stored.attr->ino == first.attr->ino);
    CHECK(fs.sm->check_slot(id, 0, fs.sequence + 1, &stored) == SlotCheck::fresh);
    CHECK(fs.sm->check_slot(id, 5, 1, &stored) == SlotCheck::fresh);
    fs.file(kRoot, "next");
    CHECK(fs.sm->check_slot(id, 0, fs.sequence - 1, &stored) == SlotCheck::superseded);
    CHECK_ERRC(fs.command(request), superseded);
}

TEST_CASE("slots: an error is remembered like a success") {
    Cluster fs;
    wire::UnlinkT op;
    op.parent = kRoot;
    op.name = "later";
    const auto request = fs.mutation(op);
    CHECK_ERRC(fs.command(request), noent);
    fs.slot = 1;
    fs.file(kRoot, "later");
    CHECK_ERRC(fs.command(request), noent);
    CHECK(fs.lookup(kRoot, "later").errc == 0);
}

TEST_CASE("sessions: the same client id gets the same session while it lives") {
    Cluster fs;
    CHECK(fs.session(1) == fs.as);
    const uint64_t other = fs.session(2);
    CHECK(other != fs.as);
    CHECK(fs.sm->sessions().size() == 2);
    CHECK(fs.sm->session(SessionId{other})->client_low == 2);
    fs.fence(other);
    const uint64_t again = fs.session(2);
    CHECK(again != other);
    CHECK(fs.end(other).errc == 0);
    CHECK(fs.sm->totals().sessions == 2);
    CHECK(fs.session(2) == again);
}

TEST_CASE("commands: nothing before the bootstrap, and only one cluster id") {
    Machine fs;
    CHECK_ERRC(fs.command(wire::ApplyOpenSessionT()), unavailable);
    CHECK_ERRC(fs.make(kRoot, "x", S_IFREG), unavailable);
    CHECK(!fs.sm->is_bootstrapped());
    fs.boot();
    fs.boot();
    wire::ApplyBootstrapT other;
    other.cluster_id_low = 99;
    other.default_replicas = 1;
    other.min_write_replicas = 1;
    CHECK_ERRC(fs.command(other), exist);
    CHECK(fs.sm->cluster().cluster_id_high == 7);
}

TEST_CASE("commands: a new generation stands in new ids and epochs [18]") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 100);
    wire::ApplyBootstrapT op;
    op.cluster_id_high = 7;
    op.cluster_id_low = 8;
    op.generation = 2;
    op.default_replicas = 3;
    op.min_write_replicas = 2;
    CHECK(fs.command(op).errc == 0);
    const uint64_t g = fs.file(kRoot, "g");
    CHECK(g == make_id(0, 2, (f & kCounterMask) + 1));
    fs.truncate(f, 50);
    CHECK(fs.sm->chunk_at(InodeId{f}, 0)->epoch == make_epoch(2, 2));
}

TEST_CASE("commands: damaged bytes are answered corrupt and change nothing but the index") {
    Cluster fs;
    fs.file(kRoot, "f");
    const Bytes good = fs.log.back();
    const uint64_t inodes = fs.sm->totals().inodes;
    Prng prng(5);
    int corrupt = 0;
    for (int round = 0; round < 3000; ++round) {
        Bytes bad = good;
        if (round % 3 == 0) bad.resize(1 + prng.below(bad.size()));
        for (int i = 0; i < 4; ++i) bad[prng.below(bad.size())] = static_cast<uint8_t>(prng.next());
        if (errc(fs.raw(bad)) == Errc::corrupt) ++corrupt;
    }
    CHECK(corrupt > 100);
    CHECK(fs.sm->totals().inodes < inodes + 500);
    wire::CommandT none;
    CHECK_ERRC(fs.raw(wire::encode<wire::Command>(none)), corrupt);
    CHECK_ERRC(fs.command(wire::ApplyMutationT()), corrupt);
    auto empty = fs.sm->apply(LogIndex{fs.sm->applied().value + 1}, {View()});
    REQUIRE(empty.is_ok());
    CHECK(empty->front().empty());
}

TEST_CASE("nodes: one incarnation for each start, the same for a repeat [4]") {
    Cluster fs;
    wire::ApplyNodeT op;
    op.node = 11;
    op.role = 2;
    op.uuid_high = 1;
    op.address = "127.0.0.1:1";
    op.new_incarnation = true;
    op.attempt = 77;
    const uint64_t first = fs.command(op).value;
    const uint64_t version = fs.sm->nodes_version();
    CHECK(first != 0);
    CHECK(fs.command(op).value == first);
    CHECK(fs.sm->nodes_version() == version);
    op.attempt = 78;
    CHECK(fs.command(op).value > first);
    CHECK(fs.sm->nodes_version() == fs.sm->applied().value);
    op.uuid_high = 2;
    CHECK_ERRC(fs.command(op), conflict);
    wire::ApplyNodeT state;
    state.node = 11;
    state.state = 3;
    CHECK(fs.command(state).errc == 0);
    CHECK(fs.sm->node(NodeId{11})->address == "127.0.0.1:1");
    CHECK(fs.sm->node(NodeId{11})->state == 3);
    CHECK(fs.query(wire::GetNodesT()).nodes.size() == 1);
}

TEST_CASE("commands share a transaction; what a crash loses of it is applied again alike [12]") {
    Folder folder;
    auto files = std::make_unique<PosixFileSystem>();
    StateMachineOptions options = on_file(folder, files.get());
    options.commands_per_commit = 8;
    options.exclusive = false;
    Machine a(options);
    a.boot();
    a.as = a.session();
    for (int i = 0; i < 11; ++i) a.file(kRoot, "f" + std::to_string(i));
    const uint64_t applied = a.sm->applied().value;
    // As a crash leaves the files: what the open transaction has written is not among them.
    for (const char* suffix : {"", "-wal"}) {
        std::filesystem::copy_file(options.path + suffix, folder.path + "/copy.db" + suffix);
    }
    Machine b(on_file(folder, files.get(), "copy.db"));
    const uint64_t kept = b.sm->applied().value;
    CHECK(kept < applied);
    CHECK(kept == applied / 8 * 8);
    for (uint64_t index = kept; index < applied; ++index) b.raw(a.log[index]);
    CHECK(b.digest() == a.digest());
    CHECK(b.sm->history() == a.sm->history());
    // An orderly end keeps all.
    a.reopen();
    CHECK(a.sm->applied().value == applied);
    CHECK(a.digest() == b.digest());
}

TEST_CASE("snapshot: pinned while the machine goes on, installed elsewhere, equal digests [31]") {
    Folder folder;
    auto files = std::make_unique<PosixFileSystem>();
    Machine a(on_file(folder, files.get()));
    a.boot();
    a.as = a.session();
    for (int i = 0; i < 200; ++i) a.write_inline(a.file(kRoot, "f" + std::to_string(i)), 0, "data");
    const uint64_t digest = a.digest();
    auto pin = a.sm->pin_snapshot();
    REQUIRE(pin.is_ok());
    CHECK((*pin)->applied() == a.sm->applied());
    for (int i = 0; i < 400; ++i) a.file(kRoot, "g" + std::to_string(i));
    CHECK(a.sm->checkpoint()->value == (*pin)->applied().value);  // refused: somebody reads
    CHECK(a.sm->bytes_since_checkpoint() > 0);
    const std::string copy = folder.path + "/copy";
    Bytes whole;
    while (whole.size() < (*pin)->size_bytes()) {
        auto piece = (*pin)->read(whole.size(), 10'000);
        REQUIRE(piece.is_ok());
        whole.insert(whole.end(), piece->begin(), piece->end());
    }
    REQUIRE(replace_file(*files, copy, whole).is_ok());
    Machine b(on_file(folder, files.get(), "b.db"));
    b.boot();
    auto old_pin = b.sm->pin_snapshot();
    REQUIRE(b.sm->install_snapshot(copy).is_ok());
    CHECK((*old_pin)->read(0, 10).code() == Errc::stale);
    CHECK(b.digest() == digest);
    CHECK(b.sm->applied() == (*pin)->applied());
    pin->reset();
    CHECK(*a.sm->checkpoint() == a.sm->applied());
    CHECK(a.sm->bytes_since_checkpoint() == 0);
    // b goes on from there with the rest of the log.
    for (uint64_t i = b.sm->applied().value; i < a.log.size(); ++i) b.raw(a.log[i]);
    CHECK(b.digest() == a.digest());
    b.reopen();
    CHECK(b.digest() == a.digest());
    b.check();
}

TEST_CASE("snapshot: a file that is no database is refused, and then nothing is served") {
    Folder folder;
    auto files = std::make_unique<PosixFileSystem>();
    Machine a(on_file(folder, files.get()));
    a.boot();
    REQUIRE(replace_file(*files, folder.path + "/junk", as_view("this is no database")).is_ok());
    CHECK(a.sm->install_snapshot(folder.path + "/junk").code() == Errc::corrupt);
    CHECK(!a.sm->apply(LogIndex{1}, {View()}).is_ok());
    CHECK(a.query(wire::GetAttrT()).errc != 0);
}

TEST_CASE("snapshot: in memory too") {
    Folder folder;
    auto files = std::make_unique<PosixFileSystem>();
    Cluster a;
    a.file(kRoot, "f");
    auto pin = a.sm->pin_snapshot();
    auto image = (*pin)->read(0, (*pin)->size_bytes());
    REQUIRE(replace_file(*files, folder.path + "/image", *image).is_ok());
    Machine b;
    REQUIRE(b.sm->install_snapshot(folder.path + "/image").is_ok());
    CHECK(b.digest() == a.digest());
}

TEST_CASE("file: what was applied is there after a restart without a checkpoint") {
    Folder folder;
    auto files = std::make_unique<PosixFileSystem>();
    Machine a(on_file(folder, files.get()));
    a.boot();
    a.as = a.session();
    const uint64_t f = a.file(kRoot, "f");
    const uint64_t digest = a.digest();
    a.reopen();
    CHECK(a.digest() == digest);
    CHECK(a.lookup(kRoot, "f").attr->ino == f);
    CHECK(a.file(kRoot, "g") == f + 1);
    a.check();
}

TEST_CASE("configs: compare and swap, absent replicas, write-offs") {
    Cluster fs;
    const uint64_t f = fs.big_file(kRoot, "f", 100);
    auto row = [&] { return *fs.sm->chunk_at(InodeId{f}, 0); };
    auto change = [&](std::vector<uint64_t> members,
                      uint64_t joiner,
                      bool raise,
                      std::vector<uint64_t> written_off = {}) {
        wire::ApplyConfigChangesT op;
        op.changes.push_back(std::make_unique<wire::ConfigChangeT>());
        auto& c = *op.changes[0];
        c.chunk = row().id.value;
        c.epoch = row().epoch.value;
        c.members = std::move(members);
        c.joiner = joiner;
        c.raise_epoch = raise;
        c.written_off = std::move(written_off);
        return fs.command(op).value;
    };
    CHECK(change({}, 0, true) == 0);
    CHECK(change({11, 11}, 0, true) == 0);
    CHECK(change({11, 14}, 0, true) == 0);  // a stranger
    CHECK(change({12, 11}, 0, true) == 1);
    CHECK(row().members == std::vector<NodeId>{NodeId{12}, NodeId{11}});
    CHECK(row().absent == std::vector<NodeId>{NodeId{13}});
    CHECK(fs.sm->totals().under_replicated == 1);
    CHECK(fs.sm->under_replicated(2, ChunkId{}, 9).size() == 1);
    CHECK(fs.sm->under_replicated(1, ChunkId{}, 9).empty());
    const Epoch epoch = row().epoch;
    CHECK(change({12, 11}, 14, false) == 1);
    CHECK(row().epoch == epoch);
    CHECK(change({11, 12}, 14, false) == 0);  // the order needs an epoch
    CHECK(change({12, 11}, 14, false, {13}) == 0);
    CHECK(change({12, 11, 14}, 0, true, {13}) == 1);
    CHECK(row().absent.empty());
    CHECK(fs.sm->garbage_of_node(NodeId{13}, ChunkId{}, 9).size() == 1);
    CHECK(fs.sm->garbage_of_node(NodeId{13}, ChunkId{}, 9)[0].epoch == epoch);
    CHECK(fs.sm->is_garbage(row().id));
    CHECK(fs.sm->totals().under_replicated == 0);
    CHECK(change({12, 11, 14}, 13, false) == 1);  // comes back: its old copy may stay
    CHECK(!fs.sm->is_garbage(row().id));
    CHECK(fs.sm->chunks_of_node(NodeId{13}, ChunkId{}, 9).size() == 1);
    CHECK(fs.sm->chunk_count_of_node(NodeId{11}) == 1);
    CHECK(row().length == 100);
    CHECK(fs.sm->chunks(ChunkId{}, 9).size() == 1);
}

TEST_CASE("condemn: only copies of chunks that were given and deleted become garbage [18, 19]") {
    Cluster fs;
    const uint64_t gone = fs.big_file(kRoot, "gone", 100);
    const uint64_t kept = fs.big_file(kRoot, "kept", 100);
    const ChunkId deleted = fs.sm->chunk_at(InodeId{gone}, 0)->id;
    const ChunkId live = fs.sm->chunk_at(InodeId{kept}, 0)->id;
    CHECK(fs.unlink(kRoot, "gone").errc == 0);
    for (uint64_t node : fs.nodes) {
        wire::ApplyGarbageDoneT done;
        done.node = node;
        done.chunks = {deleted.value};
        CHECK(fs.command(done).value == 1);
    }
    CHECK(fs.sm->totals().garbage == 0);
    CHECK(fs.sm->was_deleted(deleted));
    CHECK(!fs.sm->was_deleted(live));
    wire::ApplyCondemnT op;
    op.node = 13;
    op.chunks = {deleted.value, live.value, live.value + 1000, make_id(0, 9, 1)};
    op.epochs = {5, 5, 5, 5};
    CHECK(fs.command(op).value == 1);
    const auto garbage = fs.sm->garbage_of_node(NodeId{13}, ChunkId{}, 9);
    REQUIRE(garbage.size() == 1);
    CHECK(garbage[0].chunk == deleted);
    CHECK(garbage[0].epoch == Epoch{5});
}

}  // namespace lumeofs::metad
