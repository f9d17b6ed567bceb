// SPDX-License-Identifier: Apache-2.0
// Connector: keeps a link to ONE address alive for as long as it lives.
//
// Connects at start(), and again after every failure or loss: at once after a link that had lasted
// for 1 s, else after a back-off that doubles from 10 ms to 1 s, each wait drawn from [half, whole]
// so that a thousand clients do not come back in step. A link that lasted starts the back-off over.
// Nothing is queued while the link is down: call() then gives Errc::disconnected (from a later task),
// push() false; retrying, and whom to ask instead, is the caller's business.
//
// on_up comes after the hello was checked, before any frame of the peer; on_down once per on_up,
// after the `done` of every pending call. stop() and the destructor end the link without an event.
// single-thread: the loop. May be destroyed from inside its own callbacks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/base/prng.h"
#include "common/env/loop.h"
#include "common/env/transport.h"
#include "common/rpc/peer.h"

namespace lumeofs {

struct ConnectorOptions {
    std::string address;             // "host:port"
    std::function<Hello()> hello;    // asked before each attempt (an incarnation may be new by then)
    Nanos backoff_min = 10 * kMillisecond;
    Nanos backoff_max = 1 * kSecond;
    Nanos connect_timeout = kHandshakeTimeout;
};

// Any of them may be empty.
struct ConnectorEvents {
    std::function<void(RpcPeer&)> on_up;
    std::function<void(const Status&)> on_down;        // a link that was up has ended
    std::function<void(const Status&)> on_failure;     // an attempt to connect failed
    std::function<void(RpcRequest)> on_request;        // asked by the other side
    std::function<void(RpcPush)> on_push;
};

class Connector {
public:
    Connector(Loop& loop,
              Transport& transport,
              Prng prng,
              ConnectorOptions options,
              ConnectorEvents events);
    ~Connector();
    Connector(const Connector&) = delete;
    Connector& operator=(const Connector&) = delete;

    void start();  // harmless if it was started
    void stop();   // pending calls get Errc::disconnected; start() may follow
    // Drops the link (on_down follows) or the waiting and connects now; after a change of address or
    // when the peer does not answer any more.
    void reconnect();
    void set_address(std::string address);  // used from the next attempt on

    bool is_up() const { return peer_ && peer_->is_open(); }
    // Null while down. Do not keep it beyond the task; a shared_from_this() may be kept.
    RpcPeer* peer() const { return is_up() ? peer_.get() : nullptr; }
    const std::string& address() const { return options_.address; }

    // As RpcPeer's.
    void call(uint16_t method, Bytes body, Buffer payload, Nanos timeout, RpcDone done);
    bool push(uint16_t method, Bytes body, Buffer payload = {});

private:
    void attempt();
    void attempt_ended(Result<std::shared_ptr<Link>> link);
    void link_ended(const Status& why);
    void schedule();

    Loop& loop_;
    Transport& transport_;
    Prng prng_;
    ConnectorOptions options_;
    std::shared_ptr<ConnectorEvents> events_;  // counted: a callback may destroy the connector
    std::shared_ptr<char> alive_;              // goes with us; the attempt's callback looks at it
    bool started_ = false;
    bool connecting_ = false;
    bool again_at_once_ = false;               // reconnect() closed the link
    uint64_t attempt_ = 0;                     // numbers attempts, so that a late one is recognised
    Nanos backoff_ = 0;
    Nanos up_since_ = 0;
    std::shared_ptr<RpcPeer> peer_;
    std::map<uint64_t, std::shared_ptr<RpcPeer>> ending_;  // of stop(), until their links have ended
    Timer timer_;
};

}  // namespace lumeofs
