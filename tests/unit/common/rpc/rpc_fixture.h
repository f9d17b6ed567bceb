// SPDX-License-Identifier: Apache-2.0
// Two programs for the tests of the RPC layer: each has a real loop and a transport, over NNG on
// 127.0.0.1 or in process. Code of the layer runs on the loops through on(); a Count lets the test's
// thread wait for events without sleeping.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "common/base/log.h"
#include "common/env/real_loop.h"
#include "common/rpc/inproc_transport.h"
#include "common/rpc/nng_transport.h"
#include "common/rpc/peer.h"
#include "common/rpc/server.h"
#include "common/wire/frame.h"

namespace lumeofs::rpctest {

// Counts events from any thread.
class Count {
public:
    void add(int n = 1) {
        std::lock_guard lock(mutex_);
        value_ += n;
        changed_.notify_all();
    }
    int get() {
        std::lock_guard lock(mutex_);
        return value_;
    }
    // False if it did not get there within 20 s.
    bool reaches(int n) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return value_ >= n; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int value_ = 0;
};

inline Hello hello_of(Role role, uint64_t node = 1, uint64_t cluster = 77) {
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = role;
    hello.node = NodeId(node);
    hello.cluster_id_high = cluster;
    hello.cluster_id_low = cluster == 0 ? 0 : 1;
    return hello;
}

inline Bytes bytes_of(std::string_view text) { return Bytes(text.begin(), text.end()); }

// nng_waits: without the loop's own reading, as where the descriptor is not known.
enum class Kind { nng, nng_waits, inproc };
inline std::string name_of(Kind kind) {
    return kind == Kind::nng ? "nng" : kind == Kind::nng_waits ? "nng_waits" : "inproc";
}

struct Program {
    Program(Kind kind, const std::shared_ptr<InprocNetwork>& network) {
        if (kind != Kind::inproc) {
            const bool loop_reads = kind == Kind::nng;
            transport = std::make_unique<NngTransport>(loop, kHandshakeTimeout, loop_reads);
        } else {
            transport = std::make_unique<InprocTransport>(loop, network);
        }
    }
    void on(Task task) { REQUIRE(loop.run_and_wait(std::move(task))); }

    RealLoop loop;
    std::unique_ptr<Transport> transport;
};

// A server and a client that is connected to it. Members may be used on their loops only.
struct Pair {
    explicit Pair(Kind k) : kind(k) {}
    ~Pair() { end(); }
    // Takes all apart, so that nothing refers to the locals of a test any more.
    void end() {
        if (!client.transport) return;
        client.on([this] { peer.reset(); });
        server.on([this] { rpc.reset(); });
        // Both transports first: in-process links post to the other loop.
        client.on([this] { client.transport.reset(); });
        server.on([this] { server.transport.reset(); });
    }

    std::string address() const { return kind == Kind::inproc ? "server:0" : "127.0.0.1:0"; }

    void serve(RpcServerEvents events, const Hello& hello = hello_of(Role::metad)) {
        server.on([&] {
            rpc = std::make_unique<RpcServer>(server.loop, *server.transport, std::move(events));
            Status status = rpc->listen(address(), hello);
            REQUIRE_MESSAGE(status.is_ok(), status.to_string());
            listening = rpc->address();
        });
    }

    Status connect(const Hello& hello = hello_of(Role::client, 0), RpcHandlers handlers = {}) {
        Count done;
        Status status;
        client.on([&] {
            client.transport->connect(
                listening, hello, client.loop.now() + 20 * kSecond, [&](Result<std::shared_ptr<Link>> link) {
                    status = link.status();
                    if (link.is_ok()) {
                        peer = RpcPeer::create(
                            client.loop, std::move(link).value(), std::move(handlers));
                    }
                    done.add();
                });
        });
        REQUIRE(done.reaches(1));
        client.on([] {});  // the task above has ended
        return status;
    }

    // Calls and waits for the answer.
    RpcReply ask(uint16_t method, Bytes body, Buffer payload = {}, Nanos timeout = 20 * kSecond) {
        Count done;
        RpcReply result;
        client.on([&] {
            peer->call(method, std::move(body), std::move(payload), timeout, [&](RpcReply reply) {
                result = std::move(reply);
                done.add();
            });
        });
        REQUIRE(done.reaches(1));
        client.on([] {});
        return result;
    }

    const Kind kind;
    std::shared_ptr<InprocNetwork> network = std::make_shared<InprocNetwork>();
    Program server{kind, network};
    Program client{kind, network};
    std::unique_ptr<RpcServer> rpc;
    std::string listening;
    std::shared_ptr<RpcPeer> peer;
};

// Runs `test` over both transports.
template <typename Test>
void over_both(Test test) {
    for (Kind kind : {Kind::nng, Kind::nng_waits, Kind::inproc}) {
        CAPTURE(name_of(kind));
        Pair pair(kind);
        test(pair);
    }
}

}  // namespace lumeofs::rpctest
