// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/identity.h"

#include <doctest/doctest.h>

#include "tests/unit/metad/consensus/fake_disk.h"

namespace lumeofs::consensus {
namespace {

using consensus_test::FakeDisk;

TEST_CASE("an identity comes back, and any changed byte is seen") {
    FakeDisk disk;
    CHECK(load_identity(disk, "/id").code() == Errc::noent);
    Identity identity;
    identity.cluster = {0x0123456789abcdef, 7};
    identity.node = NodeId{3};
    identity.node_uuid = {8, 9};
    identity.log_id = 10;
    identity.ready = true;
    REQUIRE(save_identity(disk, "/id", identity).is_ok());
    Result<Identity> got = load_identity(disk, "/id");
    REQUIRE(got.is_ok());
    CHECK(got->cluster == identity.cluster);
    CHECK(got->node == identity.node);
    CHECK(got->node_uuid == identity.node_uuid);
    CHECK(got->log_id == 10);
    CHECK(got->ready);
    const size_t size = disk.raw("/id").size();
    for (size_t i = 0; i < size; ++i) {
        disk.raw("/id")[i] ^= 2;
        CHECK(load_identity(disk, "/id").code() == Errc::corrupt);
        disk.raw("/id")[i] ^= 2;
    }
}

TEST_CASE("a foreign directory says what was expected and found") {
    Identity found;
    found.node = NodeId{3};
    found.cluster = {1, 1};
    CHECK(check_identity(found, "/data", NodeId{3}, {1, 1}).is_ok());
    CHECK(check_identity(found, "/data", NodeId{3}, {}).is_ok());
    const Status node = check_identity(found, "/data", NodeId{4}, {});
    CHECK(node.code() == Errc::config);
    CHECK(node.text().find("expected node_id 4, found 3") != std::string_view::npos);
    const Status cluster = check_identity(found, "/data", NodeId{3}, {2, 2});
    CHECK(cluster.code() == Errc::config);
    CHECK(cluster.text().find("another cluster") != std::string_view::npos);
}

TEST_CASE("peers are remembered by the uuid of their disk") {
    FakeDisk disk;
    {
        KnownPeers peers(disk, "/peers");
        REQUIRE(peers.load().is_ok());
        CHECK(*peers.check(NodeId{1}, {1, 1}));
        CHECK(*peers.check(NodeId{2}, {2, 2}));
        CHECK_FALSE(*peers.check(NodeId{1}, {3, 3}));
    }
    Prng fate(1);
    disk.restart(fate);
    KnownPeers peers(disk, "/peers");
    REQUIRE(peers.load().is_ok());
    CHECK(*peers.check(NodeId{1}, {1, 1}));
    CHECK_FALSE(*peers.check(NodeId{2}, {3, 3}));
    REQUIRE(peers.forget(NodeId{2}).is_ok());
    CHECK(*peers.check(NodeId{2}, {3, 3}));
    disk.raw("/peers")[0] ^= 1;
    KnownPeers damaged(disk, "/peers");
    CHECK(damaged.load().code() == Errc::corrupt);
}

}  // namespace
}  // namespace lumeofs::consensus
