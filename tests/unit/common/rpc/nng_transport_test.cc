// SPDX-License-Identifier: Apache-2.0
// What only a real socket can do: strangers, slow and half-closed peers, refusals, restarts.
#include "common/rpc/nng_transport.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "common/rpc/connector.h"
#include "tests/unit/common/rpc/rpc_fixture.h"

using namespace lumeofs;
using namespace lumeofs::rpctest;

namespace {

// A plain blocking socket that says what a test wants.
class RawClient {
public:
    explicit RawClient(const std::string& address) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
        fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        timeval limit{20, 0};
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
    }
    ~RawClient() { close(fd_); }
    void say(View bytes) {
        // An error is fine: the other side may have had enough.
        if (send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return;
    }
    void no_more() { shutdown(fd_, SHUT_WR); }
    Bytes hear(size_t count) {
        Bytes bytes(count);
        bytes.resize(static_cast<size_t>(std::max<ssize_t>(0, recv(fd_, bytes.data(), count, MSG_WAITALL))));
        return bytes;
    }
    bool has_something() {
        uint8_t byte = 0;
        return recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    }
    // True if the other side ends the connection.
    bool is_ended() {
        uint8_t byte = 0;
        ssize_t n = 0;
        while ((n = recv(fd_, &byte, 1, 0)) > 0) {
        }
        return n == 0 || errno == ECONNRESET;
    }
    HelloMessage introduce(const Hello& hello) {
        say(encode_hello(hello));
        auto answer = decode_hello(hear(kMaxHelloBytes));
        REQUIRE(answer.is_ok());
        return *answer;
    }

private:
    int fd_;
};

// The lines of the log while it lives.
struct Lines {
    Lines() {
        set_log_hook([this](LogLevel level, std::string_view line) {
            if (level >= LogLevel::warn) lines.emplace_back(line);
        });
    }
    ~Lines() { set_log_hook({}); }
    bool has(std::string_view part) const {
        for (auto& line : lines) {
            if (line.find(part) != std::string::npos) return true;
        }
        return false;
    }
    std::vector<std::string> lines;
};

RpcServerEvents echo(Count* peers = nullptr, Count* gone = nullptr) {
    RpcServerEvents events;
    events.on_request = [](RpcPeer&, RpcRequest request) {
        request.responder.reply_ok(std::move(request.body), std::move(request.payload));
    };
    events.on_peer = [peers](RpcPeer&) {
        if (peers) peers->add();
    };
    events.on_gone = [gone](RpcPeer&, const Status&) {
        if (gone) gone->add();
    };
    return events;
}

void check_alive(Pair& pair) {
    pair.client.on([&] { pair.peer.reset(); });
    REQUIRE(pair.connect().is_ok());
    CHECK(as_text(pair.ask(1, bytes_of("alive")).body) == "alive");
}

}  // namespace

TEST_CASE("strangers are turned away with a line in the log, at once") {
    Pair pair(Kind::nng);
    Count peers;
    Lines lines;
    pair.serve(echo(&peers));
    {
        RawClient http(pair.listening);
        http.say(as_view("GET / HTTP/1.1\r\n\r\n"));
        CHECK(http.is_ended());
    }
    {
        RawClient zeros(pair.listening);
        zeros.say(Bytes(100'000));
        CHECK(zeros.is_ended());
    }
    {
        RawClient silent(pair.listening);
        silent.no_more();
        CHECK(silent.is_ended());
    }
    {
        HelloBytes hello = encode_hello(hello_of(Role::client));
        hello[50] ^= 1;
        RawClient damaged(pair.listening);
        damaged.say(hello);
        CHECK(damaged.is_ended());
    }
    check_alive(pair);
    CHECK(peers.get() == 1);
    pair.end();
    CHECK(lines.has("does not speak LumeoFS: its first bytes are 'GET / HT'"));
    CHECK(lines.lines.size() <= 4);
}

TEST_CASE("garbage after a good hello ends the connection") {
    Pair pair(Kind::nng);
    Count peers;
    Count gone;
    pair.serve(echo(&peers, &gone));
    Frame frame;
    frame.kind = FrameKind::request;
    frame.body = bytes_of("body");
    auto oversized = encode_frame_header(frame);
    put_le<uint32_t>(&oversized[16], kMaxPayloadBytes + 1);
    auto damaged = encode_frame_header(frame);
    damaged[24] ^= 1;
    Bytes damaged_frame(damaged.size() + frame.body.size());
    std::memcpy(damaged_frame.data(), damaged.data(), damaged.size());
    std::memcpy(damaged_frame.data() + damaged.size(), frame.body.data(), frame.body.size());
    int expected = 0;
    for (const Bytes& bytes : {Bytes(1000, 'x'),
                               Bytes(oversized.begin(), oversized.end()),
                               damaged_frame}) {
        RawClient raw(pair.listening);
        CHECK(raw.introduce(hello_of(Role::client)).refusal == Errc::ok);
        raw.say(bytes);
        CHECK(raw.is_ended());
        CHECK(gone.reaches(++expected));
    }
    check_alive(pair);
    pair.end();
}

TEST_CASE("answers that are held leave when they are let go, in order") {
    Pair pair(Kind::nng);
    RawClient* listener = nullptr;
    std::vector<Responder> waiting;
    bool left_early = true;
    RpcServerEvents events;
    events.on_request = [&](RpcPeer&, const RpcRequest& request) {
        waiting.push_back(request.responder);
        if (waiting.size() < 2) return;
        pair.server.transport->hold_sends(true);
        for (const Responder& responder : waiting) responder.reply_ok(bytes_of("answer"));
        left_early = listener->has_something();
        pair.server.transport->hold_sends(false);
    };
    pair.serve(std::move(events));
    RawClient raw(pair.listening);
    listener = &raw;
    CHECK(raw.introduce(hello_of(Role::client)).refusal == Errc::ok);
    for (uint64_t id : {7u, 8u}) {
        Frame frame;
        frame.kind = FrameKind::request;
        frame.request_id = id;
        const auto header = encode_frame_header(frame);
        raw.say({header.data(), header.size()});
    }
    for (uint64_t id : {7u, 8u}) {
        const Bytes header = raw.hear(kFrameHeaderBytes);
        REQUIRE(header.size() == kFrameHeaderBytes);
        const auto head = decode_frame_header(header);
        REQUIRE(head.is_ok());
        CHECK(head->frame.request_id == id);
        CHECK(as_text(raw.hear(head->body_bytes)) == "answer");
    }
    pair.end();  // its loop's last word on left_early
    CHECK_FALSE(left_early);
}

TEST_CASE("a wrong cluster is refused on both sides, with both names") {
    Pair pair(Kind::nng);
    Lines lines;
    pair.serve(echo());
    Status status = pair.connect(hello_of(Role::client, 5, 78));
    CHECK(status.code() == Errc::config);
    CHECK(std::string(status.text()).find("wrong cluster") == 0);
    CHECK(pair.connect(hello_of(Role::client, 5, 0)).is_ok());  // "tell me yours"
    pair.client.on([&] { CHECK(pair.peer->hello().cluster_id_high == 77); });
    pair.end();
    CHECK(lines.has("wrong cluster: it is client 5 of cluster 000000000000004e"));
}

TEST_CASE("another revision and the server's own refusal reach the dialler") {
    Pair pair(Kind::nng);
    RpcServerEvents events = echo();
    events.check = [](const Hello& hello) {
        return hello.role == Role::admin ? Status(Errc::fenced, "no") : ok_status();
    };
    pair.serve(std::move(events));
    CHECK(pair.connect(hello_of(Role::admin)).code() == Errc::fenced);
    Hello newer = hello_of(Role::client);
    newer.protocol_revision = 2;
    CHECK_FALSE(pair.connect(newer).is_ok());
    check_alive(pair);
    pair.end();
}

TEST_CASE("a slow hello is given up, and the server goes on meanwhile") {
    constexpr Nanos kLimit = 1 * kSecond;
    Pair pair(Kind::nng);
    pair.server.on([&] {
        pair.server.transport = std::make_unique<NngTransport>(pair.server.loop, kLimit);
    });
    Count peers;
    pair.serve(echo(&peers));
    const Nanos started = pair.server.loop.now();
    RawClient slow(pair.listening);
    auto hello = encode_hello(hello_of(Role::client));
    for (size_t i = 0; i < 20; ++i) {  // a byte every 80 ms: each receive ends well in time
        slow.say(View(hello).subspan(i, 1));
        if (i == 3) check_alive(pair);
        poll(nullptr, 0, 80);
    }
    CHECK(slow.is_ended());
    CHECK(pair.server.loop.now() - started >= kLimit);
    CHECK(peers.get() == 1);
    pair.end();
}

TEST_CASE("a half-closed connection is a closed one") {
    Pair pair(Kind::nng);
    Count peers;
    Count gone;
    pair.serve(echo(&peers, &gone));
    RawClient raw(pair.listening);
    raw.introduce(hello_of(Role::client));
    REQUIRE(peers.reaches(1));
    raw.no_more();
    CHECK(gone.reaches(1));
    CHECK(raw.is_ended());
    pair.end();
}

TEST_CASE("a peer that dies in the middle of a payload") {
    Pair pair(Kind::nng);
    Count gone;
    pair.serve(echo(nullptr, &gone));
    {
        RawClient raw(pair.listening);
        raw.introduce(hello_of(Role::client));
        Frame frame;
        frame.kind = FrameKind::request;
        frame.payload = Buffer::allocate(1 << 20);
        std::memset(frame.payload.mutable_data(), 1, frame.payload.size());
        raw.say(encode_frame_header(frame));
        raw.say(frame.payload.view().first(100'000));
    }
    CHECK(gone.reaches(1));
    check_alive(pair);
    pair.end();
}

TEST_CASE("connecting to nobody fails soon, to a silent listener at the deadline") {
    Pair pair(Kind::nng);
    pair.listening = "127.0.0.1:1";
    CHECK(pair.connect().code() == Errc::disconnected);
    pair.listening = "not an address";
    CHECK_FALSE(pair.connect().is_ok());
    const int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(silent, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(listen(silent, 5) == 0);
    socklen_t size = sizeof at;
    REQUIRE(getsockname(silent, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    Count done;
    Status status;
    pair.client.on([&] {
        pair.client.transport->connect("127.0.0.1:" + std::to_string(ntohs(at.sin_port)),
                                       hello_of(Role::client),
                                       pair.client.loop.now() + 100 * kMillisecond,
                                       [&](Result<std::shared_ptr<Link>> link) {
                                           status = link.status();
                                           done.add();
                                       });
    });
    REQUIRE(done.reaches(1));
    CHECK(status.code() == Errc::timeout);
    close(silent);
    pair.end();
}

TEST_CASE("a port is taken once, and can be taken again right after") {
    Pair pair(Kind::nng);
    pair.serve(echo());
    REQUIRE(pair.connect().is_ok());
    const std::string address = pair.listening;
    CHECK(address.find("127.0.0.1:") == 0);
    pair.server.on([&] {
        RpcServer other(pair.server.loop, *pair.server.transport, {});
        CHECK(other.listen(address, hello_of(Role::metad)).code() == Errc::exist);
        for (int round = 0; round < 5; ++round) {
            pair.rpc->stop();
            Status status = pair.rpc->listen(address, hello_of(Role::metad));
            REQUIRE_MESSAGE(status.is_ok(), status.to_string());
        }
    });
    check_alive(pair);
    pair.end();
}

TEST_CASE("transports go away with everything under way, many times") {
    for (int round = 0; round < 30; ++round) {
        Pair pair(Kind::nng);
        pair.serve(echo());
        REQUIRE(pair.connect().is_ok());
        pair.client.on([&] {
            for (int i = 0; i < 20; ++i) {
                pair.peer->call(1, {}, Buffer::allocate(100'000), 0, [](RpcReply) {});
            }
            for (int i = 0; i < 5; ++i) {
                pair.client.transport->connect(pair.listening,
                                               hello_of(Role::client),
                                               pair.client.loop.now() + kSecond,
                                               [](Result<std::shared_ptr<Link>>) {});
            }
        });
        if (round % 3 == 0) {
            pair.client.loop.stop();  // links and transport end without a running loop
            pair.client.loop.run_until_stopped();
            pair.peer.reset();
            pair.client.transport.reset();
            pair.server.on([&] {
                pair.rpc.reset();
                pair.server.transport.reset();
            });
        } else {
            pair.end();
        }
    }
}

TEST_CASE("200 connections broken during the hello leave the listener alive") {
    Pair pair(Kind::nng);
    pair.serve(echo());
    auto hello = encode_hello(hello_of(Role::client));
    for (size_t i = 0; i < 200; ++i) {
        RawClient raw(pair.listening);
        raw.say(View(hello).first(i % kMaxHelloBytes));
    }
    check_alive(pair);
    pair.end();
}
