// SPDX-License-Identifier: Apache-2.0
// What one RPC costs: server and client are two processes on 127.0.0.1, over the NNG transport.
//
//     rpc_bench [seconds per figure, default 2]
//
// Prints the round trip with 1 request under way (p50, p99), requests per second with 64 under way
// (64-byte bodies), and MB/s of requests that carry 1 MiB (4 under way).
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "common/base/assert.h"
#include "common/env/real_loop.h"
#include "common/rpc/connector.h"
#include "common/rpc/nng_transport.h"
#include "common/rpc/server.h"
#include "common/wire/frame.h"

namespace {

using namespace lumeofs;

Hello hello_of(Role role) {
    Hello hello;
    hello.protocol_revision = kProtocolRevision;
    hello.role = role;
    return hello;
}

void serve(int port_pipe) {
    RealLoop loop;
    NngTransport transport(loop);
    RpcServerEvents events;
    events.on_request = [](RpcPeer&, RpcRequest request) {
        request.responder.reply_ok(std::move(request.body));
    };
    RpcServer server(loop, transport, std::move(events));
    loop.run_and_wait([&] {
        LFS_ASSERT(server.listen("127.0.0.1:0", hello_of(Role::metad)).is_ok());
        const std::string& address = server.address();
        LFS_ASSERT(write(port_pipe, address.data(), address.size()) > 0);
    });
    loop.run_until_stopped();  // until it is killed
}

struct Run {
    int window = 1;
    size_t payload = 0;
    Nanos duration = 0;
    bool keep_times = false;
};

struct Outcome {
    uint64_t count = 0;
    double seconds = 0;
    std::vector<Nanos> times;
};

class Client {
public:
    explicit Client(const std::string& address) {
        ConnectorOptions options;
        options.address = address;
        options.hello = [] { return hello_of(Role::client); };
        ConnectorEvents events;
        events.on_up = [this](RpcPeer&) { signal(); };
        loop_.run_and_wait([&] {
            connector_ = std::make_unique<Connector>(
                loop_, transport_, Prng(1), std::move(options), std::move(events));
            connector_->start();
        });
        wait();
    }
    ~Client() {
        loop_.run_and_wait([&] { connector_.reset(); });
    }

    Outcome measure(const Run& run) {
        outcome_ = {};
        run_ = run;
        pending_ = 0;
        payload_ = Buffer::allocate(run.payload);
        std::fill_n(payload_.mutable_data(), run.payload, uint8_t{1});
        loop_.run_and_wait([&] {
            started_ = loop_.now();
            for (int i = 0; i < run.window; ++i) ask();
        });
        wait();
        return std::move(outcome_);
    }

private:
    void ask() {
        ++pending_;
        const Nanos sent = loop_.now();
        connector_->call(1, Bytes(64), payload_, 10 * kSecond, [this, sent](RpcReply reply) {
            LFS_ASSERT(reply.status.is_ok());
            --pending_;
            ++outcome_.count;
            const Nanos now = loop_.now();
            if (run_.keep_times) outcome_.times.push_back(now - sent);
            if (now - started_ < run_.duration) {
                ask();
            } else if (pending_ == 0) {
                outcome_.seconds = static_cast<double>(now - started_) / 1e9;
                signal();
            }
        });
    }
    void signal() {
        std::lock_guard lock(mutex_);
        ready_ = true;
        changed_.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return ready_; });
        ready_ = false;
    }

    RealLoop loop_;
    NngTransport transport_{loop_};
    std::unique_ptr<Connector> connector_;
    Run run_;
    Outcome outcome_;
    Buffer payload_;
    int pending_ = 0;
    Nanos started_ = 0;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ready_ = false;
};

void measure_all(const std::string& address, Nanos duration) {
    Client client(address);
    client.measure({.window = 16, .payload = 1 << 20, .duration = duration / 10});  // warms memory

    Outcome one = client.measure({.window = 1, .duration = duration, .keep_times = true});
    std::sort(one.times.begin(), one.times.end());
    const size_t last = one.times.size() - 1;
    std::printf("1 under way:   p50 %.1f us, p99 %.1f us, %.0f requests/s\n",
                static_cast<double>(one.times[last / 2]) / 1e3,
                static_cast<double>(one.times[last * 99 / 100]) / 1e3,
                static_cast<double>(one.count) / one.seconds);

    for (int window : {64, 1024}) {
        Outcome many = client.measure({.window = window, .duration = duration});
        std::printf("%d under way: %.0f requests/s\n",
                    window,
                    static_cast<double>(many.count) / many.seconds);
    }

    Outcome bulk = client.measure({.window = 4, .payload = 1 << 20, .duration = duration});
    std::printf("1 MiB, 4 under way: %.0f MB/s\n",
                static_cast<double>(bulk.count) * 1.048576 / bulk.seconds);
}

}  // namespace

int main(int argc, char** argv) {
    const Nanos duration = (argc > 1 ? std::atoi(argv[1]) : 2) * lumeofs::kSecond;
    int port_pipe[2];
    LFS_ASSERT(pipe(port_pipe) == 0);
    const pid_t child = fork();  // before the first call of NNG, which does not survive a fork
    if (child == 0) {
        serve(port_pipe[1]);
        return 0;
    }
    char address[64] = {};
    LFS_ASSERT(read(port_pipe[0], address, sizeof address - 1) > 0);
    measure_all(address, duration);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    return 0;
}
