// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/server.h"

#include <doctest/doctest.h>

#include <vector>

#include "tests/unit/common/rpc/rpc_fixture.h"

using namespace lumeofs;
using namespace lumeofs::rpctest;

TEST_CASE("peers are listed in the order in which they came, and can be pushed to") {
    over_both([](Pair& pair) {
        Count gone;
        RpcServerEvents events;
        events.on_gone = [&](RpcPeer&, const Status&) { gone.add(); };
        pair.serve(std::move(events));
        Count pushes;
        std::vector<std::shared_ptr<RpcPeer>> peers;
        for (uint64_t node = 1; node <= 5; ++node) {
            RpcHandlers handlers;
            handlers.on_push = [&](RpcPush) { pushes.add(); };
            REQUIRE(pair.connect(hello_of(Role::chunkd, node), std::move(handlers)).is_ok());
            pair.client.on([&] { peers.push_back(std::move(pair.peer)); });
        }
        pair.client.on([&] { peers[2].reset(); });
        REQUIRE(gone.reaches(1));
        std::vector<uint64_t> nodes;
        pair.server.on([&] {
            pair.rpc->for_each_peer([&](RpcPeer& peer) {
                nodes.push_back(peer.hello().node.value);
                CHECK(peer.push(1, {}));
            });
        });
        CHECK(nodes == std::vector<uint64_t>{1, 2, 4, 5});
        CHECK(pushes.reaches(4));
        pair.client.on([&] { peers.clear(); });
        CHECK(gone.reaches(5));
        pair.server.on([&] { CHECK(pair.rpc->peer_count() == 0); });
        pair.end();
    });
}

TEST_CASE("what on_peer sends comes after on_up and before anything else") {
    over_both([](Pair& pair) {
        RpcServerEvents events;
        events.on_peer = [](RpcPeer& peer) { CHECK(peer.push(7, bytes_of("welcome"))); };
        pair.serve(std::move(events));
        Count pushes;
        RpcHandlers handlers;
        handlers.on_push = [&](RpcPush push) {
            CHECK(as_text(push.body) == "welcome");
            pushes.add();
        };
        REQUIRE(pair.connect(hello_of(Role::client), std::move(handlers)).is_ok());
        CHECK(pushes.reaches(1));
        pair.end();
    });
}

TEST_CASE("a refused hello reaches neither on_peer nor the list") {
    over_both([](Pair& pair) {
        Count peers;
        RpcServerEvents events;
        events.check = [](const Hello&) { return Status(Errc::not_member, "who are you"); };
        events.on_peer = [&](RpcPeer&) { peers.add(); };
        pair.serve(std::move(events));
        CHECK(pair.connect().code() == Errc::not_member);
        CHECK(pair.connect(hello_of(Role::client, 1, 5)).code() == Errc::config);
        pair.server.on([&] { CHECK(pair.rpc->peer_count() == 0); });
        CHECK(peers.get() == 0);
        pair.end();
    });
}
