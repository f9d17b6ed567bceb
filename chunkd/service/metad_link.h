// SPDX-License-Identifier: Apache-2.0
// MetadLink: this chunkd's way to the metad leader.
//
// A connection to every metad; requests go to the one that was the leader last, then to whom a refusal
// names, then to the next one. Registers with a number drawn for this start (a retry gets the same
// incarnation) until a leader answers, then sends a heartbeat every beat and at once when there is
// something to say; one is under way at a time.
// The node lease counts from the SEND of the heartbeat that a leader answered, by our own clock, and
// is shortened for drift [26, 35]. What a reply orders (fences, removals) is handed on before its
// lease counts.
// single-thread: the chunkd loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/base/result.h"
#include "common/rpc/connector.h"
#include "common/wire/messages.h"

namespace lumeofs::chunkd {

struct MetadLinkOptions {
    std::vector<std::string> addresses;
    Nanos beat = kBeat;
    std::function<Hello()> hello;
};

struct MetadLinkEvents {
    std::function<void(wire::RegisterT*)> fill_register;
    std::function<void(const wire::RegisterReplyT&)> on_registered;
    std::function<void(const Status&)> on_refused;  // registration, for good (foreign cluster, config)
    std::function<void(wire::HeartbeatT*)> fill_heartbeat;
    std::function<void(const wire::HeartbeatReplyT&)> on_beat;
    std::function<void()> on_beat_lost;  // what that heartbeat said may not have arrived
};

class MetadLink {
public:
    MetadLink(Loop& loop,
              Transport& transport,
              Prng prng,
              MetadLinkOptions options,
              MetadLinkEvents events);
    ~MetadLink();

    void start();
    // Heartbeats end; with `goodbye` a last one says that nothing is served any more. `done` comes
    // when it was answered or half a second later.
    void stop(bool goodbye, std::function<void()> done);

    bool registered() const { return registered_; }
    bool lease_valid() const { return registered_ && !stopping_ && loop_.now() < lease_until_; }
    void beat_soon();
    // One operation, repeated at whoever leads until `timeout`. `done` exactly once unless stopped.
    void call(wire::NodeOpUnion op,
              Nanos timeout,
              std::function<void(Result<wire::ConfigReplyT>)> done);

private:
    template <typename Reply>
    void ask(std::shared_ptr<Bytes> body,
             Nanos deadline,
             std::function<void(Result<typename Reply::NativeTableType>)> done);
    void try_register();
    void registered(Result<wire::RegisterReplyT> reply);
    void beat();
    void beaten(Result<wire::HeartbeatReplyT> reply);
    size_t pick() const;
    void hint(uint64_t leader, const std::string& address);

    Loop& loop_;
    Prng prng_;
    MetadLinkOptions options_;
    MetadLinkEvents events_;
    std::vector<std::unique_ptr<Connector>> links_;
    size_t leader_ = 0;
    uint64_t attempt_ = 0;
    bool started_ = false;
    bool registered_ = false;
    bool stopping_ = false;
    bool beating_ = false;
    bool beat_again_ = false;
    Nanos lease_until_ = 0;
    Timer timer_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace lumeofs::chunkd
