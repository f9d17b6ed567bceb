// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/snapshot_store.h"

#include <doctest/doctest.h>

#include "common/base/checksum.h"
#include "tests/unit/metad/consensus/fake_cluster.h"

namespace lumeofs::consensus {
namespace {

using consensus_test::FakeDisk;
using consensus_test::VirtualLoop;

// A snapshot of three and a half pieces, cut as a sender does it.
struct Source {
    Source() : bytes(kSnapshotPieceBytes * 7 / 2) {
        Prng prng(3);
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(prng.next());
        head.sender = {{1, 1}, NodeId{1}, {2, 2}, ""};
        head.term = Term{4};
        head.stream = 1;
        head.snapshot.index = LogIndex{50};
        head.snapshot.term = Term{3};
        head.snapshot.membership.members = {{NodeId{1}, raft::MemberRole::voter, "a:1"}};
        head.size = bytes.size();
    }
    View piece(size_t number) {
        const size_t offset = number * kSnapshotPieceBytes;
        const View all(bytes);
        uint64_t chain = 0;
        for (size_t i = 0; i <= number; ++i) {
            const size_t at = i * kSnapshotPieceBytes;
            chain = checksum_seeded(
                all.subspan(at, std::min<size_t>(kSnapshotPieceBytes, bytes.size() - at)), chain);
        }
        const View view =
            all.subspan(offset, std::min<size_t>(kSnapshotPieceBytes, bytes.size() - offset));
        head.offset = offset;
        head.checksum = checksum(view);
        head.chain = chain;
        return view;
    }
    Bytes bytes;
    SnapshotPieceHead head;
};

struct Rig {
    SnapshotStore::Outcome put(size_t number) {
        const View view = source.piece(number);
        return *store.put(source.head, view);
    }
    Result<raft::SnapshotDescriptor> finish() {
        std::optional<Result<raft::SnapshotDescriptor>> result;
        store.finish([&](Result<raft::SnapshotDescriptor> r) { result = std::move(r); });
        loop.run_ready();
        return *result;
    }
    VirtualLoop loop;
    FakeDisk disk;
    SnapshotStore store{loop, disk, "/raft/snapshot", "/raft/install"};
    Source source;
};

TEST_CASE("pieces in order, repeats and gaps are answered with what is wanted") {
    Rig rig;
    CHECK(rig.put(2).next_offset == 0);  // nothing yet: from the start
    CHECK(rig.put(0).next_offset == kSnapshotPieceBytes);
    CHECK(rig.put(0).next_offset == kSnapshotPieceBytes);
    CHECK(rig.put(2).next_offset == kSnapshotPieceBytes);
    CHECK(rig.put(1).next_offset == 2 * kSnapshotPieceBytes);
    CHECK(rig.put(2).next_offset == 3 * kSnapshotPieceBytes);
    CHECK(rig.put(3).complete);
    Result<raft::SnapshotDescriptor> snapshot = rig.finish();
    REQUIRE(snapshot.is_ok());
    CHECK(snapshot->index == LogIndex{50});
    CHECK(rig.disk.raw(rig.store.path_of(snapshot->id)) == rig.source.bytes);
    CHECK_FALSE(rig.store.receiving());
    // Durable: it is still there after a power cut, though a start without `install` removes it.
    Prng fate(1);
    rig.disk.restart(fate);
    CHECK(rig.disk.raw(rig.store.path_of(snapshot->id)) == rig.source.bytes);
    REQUIRE(rig.store.open().is_ok());
    CHECK(rig.disk.paths("/raft/snapshot").empty());
}

TEST_CASE("another stream starts over; a chain that does not fit starts over") {
    Rig rig;
    rig.put(0);
    rig.source.head.stream = 2;
    CHECK(rig.put(1).next_offset == 0);
    CHECK(rig.put(0).next_offset == kSnapshotPieceBytes);
    rig.source.bytes[5] ^= 1;  // the sender's file changed under it
    CHECK(rig.put(1).next_offset == 0);
    CHECK_FALSE(rig.store.receiving());
}

TEST_CASE("what rots between network and disk is found before it is used") {
    Rig rig;
    for (size_t i = 0; i < 4; ++i) rig.put(i);
    rig.disk.raw("/raft/snapshot/incoming")[kSnapshotPieceBytes + 17] ^= 1;
    CHECK(rig.finish().code() == Errc::corrupt);
    CHECK(rig.put(0).next_offset == kSnapshotPieceBytes);  // again from the start
}

TEST_CASE("an install that was decided is found at the next start; a damaged one is refused") {
    Rig rig;
    for (size_t i = 0; i < 4; ++i) rig.put(i);
    const raft::SnapshotDescriptor snapshot = *rig.finish();
    REQUIRE(rig.store.begin_install(snapshot).is_ok());
    Prng fate(2);
    rig.disk.restart(fate);
    Result<std::optional<PendingInstall>> pending = rig.store.open();
    REQUIRE(pending.is_ok());
    REQUIRE(pending->has_value());
    CHECK((*pending)->snapshot == snapshot);
    CHECK(rig.disk.raw((*pending)->path) == rig.source.bytes);
    rig.disk.raw("/raft/install")[20] ^= 1;
    CHECK(rig.store.open().code() == Errc::corrupt);
    rig.disk.raw("/raft/install")[20] ^= 1;
    REQUIRE(rig.store.end_install().is_ok());
    CHECK_FALSE((*rig.store.open()).has_value());
}

}  // namespace
}  // namespace lumeofs::consensus
