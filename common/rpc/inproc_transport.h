// SPDX-License-Identifier: Apache-2.0
// Transport inside one process: embedded mode and tests. Frames are handed over as they are, by a
// post to the receiver's loop; nothing is copied or encoded.
//
// InprocNetwork is the registry of addresses; each program has an InprocTransport on its own loop
// (several may share one). Addresses are free names; "name:0" gets a number that is not in use.
// Hellos are checked as on the wire, limits too. Requires: every loop outlives the transports, the
// listeners and the links that were made with it on either side.
// InprocNetwork: thread-safe. The rest: single-thread: its loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "common/env/transport.h"

namespace lumeofs {

class InprocListener;

class InprocNetwork {
public:
    // The state of one listening address; shared with those who are just connecting.
    struct Port {
        Loop& loop;
        Hello hello;
        std::function<Status(const Hello&)> check;
        std::function<void(std::shared_ptr<Link>)> on_link;
        bool open = true;  // on the listener's loop
    };

private:
    friend class InprocTransport;
    friend class InprocListener;
    Result<std::string> add(const std::string& address, std::shared_ptr<Port> port);
    void remove(const std::string& address);
    std::shared_ptr<Port> find(const std::string& address);

    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Port>> ports_;
    uint64_t last_number_ = 0;
};

class InprocTransport final : public Transport {
public:
    InprocTransport(Loop& loop, std::shared_ptr<InprocNetwork> network)
        : loop_(loop), network_(std::move(network)) {}

    void connect(const std::string& address,
                 const Hello& hello,
                 Nanos deadline,
                 std::function<void(Result<std::shared_ptr<Link>>)> done) override;
    Result<std::unique_ptr<Listener>> listen(
        const std::string& address,
        const Hello& hello,
        std::function<Status(const Hello&)> check,
        std::function<void(std::shared_ptr<Link>)> on_link) override;

private:
    Loop& loop_;
    std::shared_ptr<InprocNetwork> network_;
};

}  // namespace lumeofs
