// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/connector.h"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "tests/unit/common/rpc/rpc_fixture.h"

using namespace lumeofs;
using namespace lumeofs::rpctest;

namespace {

RpcServerEvents echo() {
    RpcServerEvents events;
    events.on_request = [](RpcPeer&, RpcRequest request) {
        request.responder.reply_ok(std::move(request.body));
    };
    return events;
}

struct Watch {
    Count up;
    Count down;
    Count failures;

    ConnectorEvents events() {
        ConnectorEvents out;
        out.on_up = [this](RpcPeer&) { up.add(); };
        out.on_down = [this](const Status&) { down.add(); };
        out.on_failure = [this](const Status&) { failures.add(); };
        return out;
    }
};

std::unique_ptr<Connector> make(Pair& pair, ConnectorEvents events, std::string address = "") {
    ConnectorOptions options;
    options.address = address.empty() ? pair.listening : address;
    options.hello = [] { return hello_of(Role::client); };
    return std::make_unique<Connector>(
        pair.client.loop, *pair.client.transport, Prng(1), std::move(options), std::move(events));
}

Errc ask(Pair& pair, Connector& connector) {
    Count done;
    Errc code = Errc::ok;
    bool inside = true;
    pair.client.on([&] {
        connector.call(1, bytes_of("x"), {}, 20 * kSecond, [&](RpcReply reply) {
            CHECK_FALSE(inside);
            code = reply.status.code();
            done.add();
        });
        inside = false;
    });
    REQUIRE(done.reaches(1));
    pair.client.on([] {});
    return code;
}

}  // namespace

TEST_CASE("connects, serves calls, says so; down it refuses at once") {
    over_both([](Pair& pair) {
        pair.serve(echo());
        Watch watch;
        std::unique_ptr<Connector> connector;
        pair.client.on([&] { connector = make(pair, watch.events()); });
        CHECK(ask(pair, *connector) == Errc::disconnected);
        pair.client.on([&] { connector->start(); });
        REQUIRE(watch.up.reaches(1));
        CHECK(ask(pair, *connector) == Errc::ok);
        pair.client.on([&] { connector->stop(); });
        CHECK(ask(pair, *connector) == Errc::disconnected);
        CHECK(watch.down.get() == 0);
        pair.client.on([&] { connector->start(); });
        REQUIRE(watch.up.reaches(2));
        pair.client.on([&] { connector.reset(); });
        pair.end();
    });
}

TEST_CASE("tries again until somebody listens, and after each loss") {
    over_both([](Pair& pair) {
        pair.serve(echo());
        const std::string address = pair.listening;
        pair.server.on([&] { pair.rpc->stop(); });
        Watch watch;
        std::unique_ptr<Connector> connector;
        pair.client.on([&] {
            connector = make(pair, watch.events(), address);
            connector->start();
        });
        REQUIRE(watch.failures.reaches(3));
        for (int round = 1; round <= 3; ++round) {
            pair.server.on([&] { REQUIRE(pair.rpc->listen(address, hello_of(Role::metad)).is_ok()); });
            REQUIRE(watch.up.reaches(round));
            CHECK(ask(pair, *connector) == Errc::ok);
            pair.server.on([&] { pair.rpc->stop(); });
            REQUIRE(watch.down.reaches(round));
        }
        pair.client.on([&] { connector.reset(); });
        pair.end();
    });
}

TEST_CASE("pending calls end before on_down") {
    over_both([](Pair& pair) {
        std::vector<RpcRequest> held;
        Count arrived;
        RpcServerEvents events;
        events.on_request = [&](RpcPeer&, RpcRequest request) {
            held.push_back(std::move(request));
            arrived.add();
        };
        pair.serve(std::move(events));
        std::string order;
        Count down;
        Count up;
        ConnectorEvents watch;
        watch.on_up = [&](RpcPeer& peer) {
            peer.call(1, {}, {}, 0, [&](RpcReply reply) {
                CHECK(reply.status.code() == Errc::disconnected);
                order += 'a';
            });
            up.add();
        };
        watch.on_down = [&](const Status&) {
            order += 'b';
            down.add();
        };
        std::unique_ptr<Connector> connector;
        pair.client.on([&] {
            connector = make(pair, std::move(watch));
            connector->start();
        });
        REQUIRE(arrived.reaches(1));
        pair.server.on([&] { pair.rpc.reset(); });
        REQUIRE(down.reaches(1));
        CHECK(order == "ab");
        pair.client.on([&] { connector.reset(); });
        pair.server.on([&] { held.clear(); });
        pair.end();
    });
}

TEST_CASE("stop ends pending calls with an answer") {
    over_both([](Pair& pair) {
        std::vector<RpcRequest> held;
        Count arrived;
        RpcServerEvents events;
        events.on_request = [&](RpcPeer&, RpcRequest request) {
            held.push_back(std::move(request));
            arrived.add();
        };
        pair.serve(std::move(events));
        Watch watch;
        std::unique_ptr<Connector> connector;
        pair.client.on([&] {
            connector = make(pair, watch.events());
            connector->start();
        });
        REQUIRE(watch.up.reaches(1));
        Count ended;
        pair.client.on([&] {
            connector->call(1, {}, {}, 0, [&](RpcReply reply) {
                CHECK(reply.status.code() == Errc::disconnected);
                ended.add();
            });
        });
        REQUIRE(arrived.reaches(1));
        pair.client.on([&] { connector->stop(); });
        CHECK(ended.reaches(1));
        pair.client.on([&] { connector.reset(); });
        pair.server.on([&] { held.clear(); });
        pair.end();
    });
}

TEST_CASE("reconnect makes a new link at once") {
    over_both([](Pair& pair) {
        pair.serve(echo());
        Watch watch;
        std::unique_ptr<Connector> connector;
        pair.client.on([&] {
            connector = make(pair, watch.events());
            connector->start();
        });
        REQUIRE(watch.up.reaches(1));
        pair.client.on([&] { connector->reconnect(); });
        REQUIRE(watch.up.reaches(2));
        CHECK(watch.down.get() == 1);
        CHECK(ask(pair, *connector) == Errc::ok);
        pair.client.on([&] { connector.reset(); });
        pair.end();
    });
}

TEST_CASE("a connector may be destroyed from inside each of its events") {
    over_both([](Pair& pair) {
        pair.serve(echo());
        const std::string address = pair.listening;
        for (char where : {'u', 'f', 'd', 'p'}) {
            CAPTURE(where);
            std::unique_ptr<Connector> connector;
            Count destroyed;
            auto destroy = [&] {
                connector.reset();
                destroyed.add();
            };
            ConnectorEvents events;
            events.on_up = [&](RpcPeer& peer) {
                if (where == 'u') destroy();
                if (where == 'd') peer.close();
                if (where == 'p') peer.call(1, {}, {}, 0, [&](RpcReply) { destroy(); });
            };
            events.on_down = [&](const Status&) { destroy(); };
            events.on_failure = [&](const Status&) { destroy(); };
            if (where == 'f') pair.server.on([&] { pair.rpc->stop(); });
            pair.client.on([&] {
                connector = make(pair, std::move(events), address);
                connector->start();
            });
            CHECK(destroyed.reaches(1));
            pair.client.on([] {});
            CHECK(destroyed.get() == 1);
            if (where == 'f') {
                pair.server.on([&] { REQUIRE(pair.rpc->listen(address, hello_of(Role::metad)).is_ok()); });
            }
        }
        pair.end();
    });
}
