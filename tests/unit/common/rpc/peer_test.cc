// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/peer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "common/base/prng.h"
#include "tests/unit/common/rpc/rpc_fixture.h"

using namespace lumeofs;
using namespace lumeofs::rpctest;

namespace {

// Answers each request with its own body and payload.
RpcServerEvents echo() {
    RpcServerEvents events;
    events.on_request = [](RpcPeer&, RpcRequest request) {
        request.responder.reply_ok(std::move(request.body), std::move(request.payload));
    };
    return events;
}

// Keeps the requests for the test to answer.
struct Held {
    Count count;
    std::vector<RpcRequest> requests;

    RpcServerEvents events() {
        RpcServerEvents out;
        out.on_request = [this](RpcPeer&, RpcRequest request) {
            requests.push_back(std::move(request));
            count.add();
        };
        return out;
    }
};

Buffer pattern(size_t size, uint64_t seed) {
    Buffer buffer = Buffer::allocate(size);
    Prng prng(seed);
    for (size_t i = 0; i + 8 <= size; i += 8) put_le(buffer.mutable_data() + i, prng.next());
    for (size_t i = size / 8 * 8; i < size; ++i) buffer.mutable_data()[i] = static_cast<uint8_t>(i);
    return buffer;
}

bool same(const Buffer& a, const Buffer& b) {
    return std::equal(a.view().begin(), a.view().end(), b.view().begin(), b.view().end());
}

}  // namespace

TEST_CASE("a request is answered with body and payload") {
    over_both([](Pair& pair) {
        pair.serve(echo());
        REQUIRE(pair.connect().is_ok());
        RpcReply reply = pair.ask(3, bytes_of("question"), Buffer::copy_of(as_view("payload")));
        CHECK(reply.status.is_ok());
        CHECK(as_text(reply.body) == "question");
        CHECK(as_text(reply.payload.view()) == "payload");
        CHECK(pair.peer->hello().role == Role::metad);
        pair.end();
    });
}

TEST_CASE("errors carry their text, or the body that was given with them") {
    over_both([](Pair& pair) {
        RpcServerEvents events;
        events.on_request = [](RpcPeer&, RpcRequest request) {
            Status status(Errc::not_leader, "ask metad 3");
            if (request.method == 1) request.responder.reply(status);
            if (request.method == 2) request.responder.reply(status, bytes_of("hint"));
            if (request.method == 3) request.responder.reply(Status(Errc::noent));
        };
        pair.serve(std::move(events));
        REQUIRE(pair.connect().is_ok());
        RpcReply text = pair.ask(1, {});
        CHECK(text.status.to_string() == "not_leader: ask metad 3");
        CHECK(text.body.empty());
        RpcReply body = pair.ask(2, {});
        CHECK(body.status.to_string() == "not_leader");
        CHECK(as_text(body.body) == "hint");
        CHECK(pair.ask(3, {}).status.to_string() == "noent");
        CHECK(pair.ask(4, {}).status.code() == Errc::unavailable);  // the responder was dropped
        pair.end();
    });
}

TEST_CASE("without a handler requests get nosys") {
    over_both([](Pair& pair) {
        pair.serve({});
        REQUIRE(pair.connect().is_ok());
        CHECK(pair.ask(1, {}).status.code() == Errc::nosys);
        pair.end();
    });
}

TEST_CASE("requests and pushes go both ways, in order") {
    over_both([](Pair& pair) {
        Count pushes;
        std::string seen;
        RpcServerEvents events;
        events.on_request = [](RpcPeer& from, RpcRequest request) {
            for (char c = 'a'; c <= 'e'; ++c) CHECK(from.push(9, Bytes{static_cast<uint8_t>(c)}));
            from.call(8, bytes_of("back"), {}, kSecond, [request](RpcReply reply) {
                request.responder.reply_ok(std::move(reply.body));
            });
        };
        pair.serve(std::move(events));
        RpcHandlers handlers;
        handlers.on_push = [&](RpcPush push) {
            seen += as_text(push.body);
            pushes.add();
        };
        handlers.on_request = [](RpcRequest request) {
            request.responder.reply_ok(bytes_of("from the client"));
        };
        REQUIRE(pair.connect(hello_of(Role::client), std::move(handlers)).is_ok());
        CHECK(as_text(pair.ask(1, {}).body) == "from the client");
        CHECK(pushes.get() == 5);
        CHECK(seen == "abcde");
        pair.end();
    });
}

TEST_CASE("1,000 requests under way, answered in the opposite order") {
    over_both([](Pair& pair) {
        constexpr int kCalls = 1000;
        Held held;
        pair.serve(held.events());
        REQUIRE(pair.connect().is_ok());
        Count answers;
        int wrong = 0;
        pair.client.on([&] {
            for (int i = 0; i < kCalls; ++i) {
                std::string body = std::to_string(i);
                pair.peer->call(1, bytes_of(body), {}, 20 * kSecond, [&, body](RpcReply reply) {
                    if (!reply.status.is_ok() || as_text(reply.body) != body) ++wrong;
                    answers.add();
                });
            }
        });
        REQUIRE(held.count.reaches(kCalls));
        pair.server.on([&] {
            std::reverse(held.requests.begin(), held.requests.end());
            for (auto& request : held.requests) request.responder.reply_ok(request.body);
        });
        REQUIRE(answers.reaches(kCalls));
        CHECK(wrong == 0);
        pair.client.on([&] { CHECK(pair.peer->calls_pending() == 0); });
        pair.server.on([&] { held.requests.clear(); });
        pair.end();
    });
}

TEST_CASE("more calls than may be under way wait and are all answered") {
    over_both([](Pair& pair) {
        constexpr int kCalls = static_cast<int>(kMaxInFlightPerLink) + 500;
        Held held;
        pair.serve(held.events());
        REQUIRE(pair.connect().is_ok());
        Count answers;
        pair.client.on([&] {
            for (int i = 0; i < kCalls; ++i) {
                pair.peer->call(1, {}, {}, 0, [&](RpcReply reply) {
                    if (reply.status.is_ok()) answers.add();
                });
            }
        });
        REQUIRE(held.count.reaches(kMaxInFlightPerLink));
        pair.server.on([&] { CHECK(held.requests.size() == kMaxInFlightPerLink); });
        pair.server.on([&] {
            for (auto& request : held.requests) request.responder.reply_ok();
            held.requests.clear();
        });
        REQUIRE(held.count.reaches(kCalls));
        pair.server.on([&] {
            for (auto& request : held.requests) request.responder.reply_ok();
            held.requests.clear();
        });
        CHECK(answers.reaches(kCalls));
        pair.end();
    });
}

TEST_CASE("too many waiting calls are refused") {
    Pair pair(Kind::inproc);
    Held held;
    pair.serve(held.events());
    REQUIRE(pair.connect().is_ok());
    Count busy;
    bool inside = true;
    pair.client.on([&] {
        for (uint32_t i = 0; i < 5 * kMaxInFlightPerLink + 10; ++i) {
            pair.peer->call(1, {}, {}, 0, [&](RpcReply reply) {
                CHECK_FALSE(inside);
                if (reply.status.code() == Errc::busy) busy.add();
            });
        }
        inside = false;
    });
    CHECK(busy.reaches(10));
    pair.end();
}

TEST_CASE("a call without an answer times out, a late answer is dropped") {
    over_both([](Pair& pair) {
        Held held;
        pair.serve(held.events());
        REQUIRE(pair.connect().is_ok());
        CHECK(pair.ask(1, {}, {}, 20 * kMillisecond).status.code() == Errc::timeout);
        REQUIRE(held.count.reaches(1));
        pair.server.on([&] {
            CHECK(held.requests[0].deadline != 0);
            CHECK(held.requests[0].deadline <= pair.server.loop.now() + 20 * kMillisecond);
            held.requests[0].responder.reply_ok(bytes_of("late"));
            held.requests.clear();
        });
        Count answers;
        pair.client.on([&] {
            pair.peer->call(2, bytes_of("next"), {}, 20 * kSecond, [&](RpcReply reply) {
                CHECK(as_text(reply.body) == "now");
                answers.add();
            });
        });
        REQUIRE(held.count.reaches(2));
        pair.server.on([&] {
            held.requests[0].responder.reply_ok(bytes_of("now"));
            held.requests.clear();
        });
        CHECK(answers.reaches(1));
        pair.end();
    });
}

TEST_CASE("deadlines expire in their own order, whatever order the calls had") {
    over_both([](Pair& pair) {
        Held held;
        pair.serve(held.events());
        REQUIRE(pair.connect().is_ok());
        std::string order;
        Count ended;
        pair.client.on([&] {
            for (auto [delay, name] : {std::pair{60, 'c'}, {20, 'a'}, {40, 'b'}}) {
                pair.peer->call(1, {}, {}, delay * kMillisecond, [&, name = name](RpcReply reply) {
                    CHECK(reply.status.code() == Errc::timeout);
                    order += name;
                    ended.add();
                });
            }
        });
        REQUIRE(ended.reaches(3));
        CHECK(order == "abc");
        pair.server.on([&] { held.requests.clear(); });
        pair.end();
    });
}

TEST_CASE("4 MiB come through intact and aligned to a page") {
    over_both([](Pair& pair) {
        RpcServerEvents events;
        bool aligned = false;
        events.on_request = [&](RpcPeer&, RpcRequest request) {
            aligned = reinterpret_cast<uintptr_t>(request.payload.data()) % 4096 == 0;
            request.responder.reply_ok(std::move(request.body), std::move(request.payload));
        };
        pair.serve(std::move(events));
        REQUIRE(pair.connect().is_ok());
        Buffer out = pattern(4u << 20, 1);
        for (int round = 0; round < 3; ++round) {
            RpcReply reply = pair.ask(1, bytes_of("head"), out);
            CHECK(reply.status.is_ok());
            CHECK(same(reply.payload, out));
            CHECK(aligned);
            CHECK(reinterpret_cast<uintptr_t>(reply.payload.data()) % 4096 == 0);
        }
        pair.end();
    });
}

TEST_CASE("bodies and payloads of all sizes, many at a time") {
    over_both([](Pair& pair) {
        pair.serve(echo());
        REQUIRE(pair.connect().is_ok());
        Count answers;
        int wrong = 0;
        constexpr int kCalls = 300;
        pair.client.on([&] {
            Prng prng(5);
            for (int i = 0; i < kCalls; ++i) {
                Bytes body(prng.below(uint64_t{1} << prng.below(18)), static_cast<uint8_t>(i));
                Buffer payload = pattern(prng.below(uint64_t{1} << prng.below(20)), i + 1);
                auto sent = std::make_shared<std::pair<Bytes, Buffer>>(body, payload);
                pair.peer->call(1, body, payload, 0, [&, sent](RpcReply reply) {
                    if (reply.body != sent->first || !same(reply.payload, sent->second)) ++wrong;
                    answers.add();
                });
            }
        });
        REQUIRE(answers.reaches(kCalls));
        CHECK(wrong == 0);
        pair.end();
    });
}

TEST_CASE("the largest frame passes, a larger one is refused without harm") {
    over_both([](Pair& pair) {
        pair.serve(echo());
        REQUIRE(pair.connect().is_ok());
        Buffer payload = pattern(kMaxPayloadBytes, 2);
        RpcReply reply = pair.ask(1, Bytes(kMaxBodyBytes, 7), payload);
        CHECK(reply.status.is_ok());
        CHECK(reply.body.size() == kMaxBodyBytes);
        CHECK(same(reply.payload, payload));
        CHECK(pair.ask(1, Bytes(kMaxBodyBytes + 1)).status.code() == Errc::toobig);
        CHECK(pair.ask(1, {}, Buffer::allocate(kMaxPayloadBytes + 1)).status.code() == Errc::toobig);
        CHECK(pair.ask(1, bytes_of("x")).status.is_ok());
        pair.end();
    });
}

TEST_CASE("more answers than a link queues: all come, or a plain busy") {
    over_both([](Pair& pair) {
        constexpr int kCalls = 40;  // 160 MiB of answers, the link takes 64 and the peer 64 more
        Buffer big = pattern(4u << 20, 3);
        RpcServerEvents events;
        events.on_request = [&](RpcPeer&, RpcRequest request) { request.responder.reply_ok({}, big); };
        pair.serve(std::move(events));
        REQUIRE(pair.connect().is_ok());
        Count answers;
        int whole = 0;
        int busy = 0;
        pair.client.on([&] {
            for (int i = 0; i < kCalls; ++i) {
                pair.peer->call(1, {}, {}, 0, [&](RpcReply reply) {
                    if (same(reply.payload, big)) ++whole;
                    if (reply.status.code() == Errc::busy) ++busy;
                    answers.add();
                });
            }
        });
        CHECK(answers.reaches(kCalls));
        pair.client.on([&] {
            CHECK(whole >= 30);
            CHECK(whole + busy == kCalls);
        });
        pair.end();
    });
}

TEST_CASE("when the peer goes, every call ends once, in order, and then on_closed comes") {
    over_both([](Pair& pair) {
        Held held;
        pair.serve(held.events());
        std::string order;
        Count ended;
        RpcHandlers handlers;
        handlers.on_closed = [&](const Status&) {
            order += '.';
            ended.add();
        };
        REQUIRE(pair.connect(hello_of(Role::client), std::move(handlers)).is_ok());
        pair.client.on([&] {
            for (char name : {'a', 'b', 'c'}) {
                pair.peer->call(1, {}, {}, 20 * kSecond, [&, name](RpcReply reply) {
                    CHECK(reply.status.code() == Errc::disconnected);
                    order += name;
                });
            }
        });
        REQUIRE(held.count.reaches(3));
        pair.server.on([&] { pair.rpc.reset(); });
        REQUIRE(ended.reaches(1));
        CHECK(order == "abc.");
        CHECK(pair.ask(1, {}).status.code() == Errc::disconnected);
        pair.client.on([&] { CHECK_FALSE(pair.peer->push(1, {})); });
        pair.server.on([&] {
            CHECK_FALSE(held.requests[0].responder.wanted());
            held.requests[0].responder.reply_ok();  // nobody hears it
            held.requests.clear();
        });
        pair.end();
    });
}

TEST_CASE("close is not answered from inside, both sides learn it once") {
    over_both([](Pair& pair) {
        Count gone;
        Count closed;
        RpcServerEvents events;
        events.on_gone = [&](RpcPeer&, const Status&) { gone.add(); };
        pair.serve(std::move(events));
        bool inside = false;
        RpcHandlers handlers;
        handlers.on_closed = [&](const Status&) {
            CHECK_FALSE(inside);
            closed.add();
        };
        REQUIRE(pair.connect(hello_of(Role::client), std::move(handlers)).is_ok());
        pair.client.on([&] {
            inside = true;
            pair.peer->close();
            pair.peer->close();
            inside = false;
        });
        CHECK(closed.reaches(1));
        CHECK(gone.reaches(1));
        pair.client.on([&] { CHECK_FALSE(pair.peer->is_open()); });
        CHECK(closed.get() == 1);
        CHECK(gone.get() == 1);
        pair.end();
    });
}

TEST_CASE("a peer may be dropped from inside an answer, a push and a timeout") {
    over_both([](Pair& pair) {
        RpcServerEvents events;
        std::vector<Responder> kept;
        events.on_request = [&](RpcPeer& from, RpcRequest request) {
            if (request.method == 1) request.responder.reply_ok();
            if (request.method == 2) from.push(1, {});
            kept.push_back(request.responder);
        };
        pair.serve(std::move(events));
        for (uint16_t method = 1; method <= 3; ++method) {
            Count dropped;
            RpcHandlers handlers;
            handlers.on_push = [&](RpcPush) {
                pair.peer.reset();
                dropped.add();
            };
            REQUIRE(pair.connect(hello_of(Role::client), std::move(handlers)).is_ok());
            pair.client.on([&] {
                int ended = 0;
                auto drop = [&, ended](RpcReply) mutable {
                    CHECK(++ended == 1);
                    pair.peer.reset();
                    dropped.add();
                };
                // The second call is pending when the peer goes: it must not be called any more.
                const Nanos timeout = method == 3 ? 20 * kMillisecond : 20 * kSecond;
                pair.peer->call(method, {}, {}, timeout, drop);
                pair.peer->call(3, {}, {}, timeout + 1, [](RpcReply) { CHECK(false); });
            });
            CHECK(dropped.reaches(1));
            pair.client.on([] {});
        }
        pair.server.on([&] { kept.clear(); });
        pair.end();
    });
}

TEST_CASE("a server may end peers, and itself, from inside a request") {
    over_both([](Pair& pair) {
        RpcServerEvents events;
        events.on_request = [&](RpcPeer&, RpcRequest) { pair.rpc.reset(); };
        pair.serve(std::move(events));
        REQUIRE(pair.connect().is_ok());
        CHECK(pair.ask(1, {}).status.code() == Errc::disconnected);
        pair.end();
    });
}
