// SPDX-License-Identifier: Apache-2.0
// RpcPeer: requests, replies and pushes over one Link, the same from both sides.
//
// Either side may ask; answers may come in any order and long after. A request that is answered with
// an error carries the Status' text in the reply's body (when the body would be empty), so the asker
// sees the same Status that the responder gave.
//
// Promises: `done` of call() comes exactly once, never from inside call(); it is Errc::timeout when
// nothing came in time, Errc::disconnected when the link ended (in both cases the effect is unknown),
// Errc::busy when too many calls wait here (not sent). At most kMaxInFlightPerLink requests are on
// their way, more wait at the sender in order. A late answer to a call that timed out is dropped.
// on_closed comes once and last, after every call's `done`; never from inside close().
// Destroying a peer closes its link and drops what is pending without calling anything: call close()
// and wait for on_closed if the answers matter.
//
// Deadlines cost one timer per peer, not one per call.
// single-thread: the loop. May be destroyed from inside any of its own callbacks.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/env/loop.h"
#include "common/env/transport.h"

namespace lumeofs {

class RpcPeer;

struct RpcReply {
    Status status;
    Bytes body;      // with an error: what the responder gave beside the status, mostly empty
    Buffer payload;
};

// The right to answer one request, at most once, now or later, on the loop. Copies share that right;
// when the last copy goes without an answer the asker gets Errc::unavailable. Harmless when the peer
// is gone by then.
class Responder {
public:
    Responder() = default;
    void reply(const Status& status, Bytes body = {}, Buffer payload = {}) const;
    void reply_ok(Bytes body = {}, Buffer payload = {}) const {
        reply(Status(), std::move(body), std::move(payload));
    }
    // False once it was answered, or when the peer has gone (nobody waits for the work any more).
    bool wanted() const;

private:
    friend class RpcPeer;
    struct State;
    explicit Responder(std::shared_ptr<State> state) : state_(std::move(state)) {}
    std::shared_ptr<State> state_;
};

struct RpcRequest {
    uint16_t method = 0;
    Bytes body;
    Buffer payload;
    Nanos deadline = 0;  // a point of time of this loop's now(), counted from arrival; 0 = none
    Responder responder;
};

struct RpcPush {
    uint16_t method = 0;
    Bytes body;
    Buffer payload;
};

// A handler that is not set: requests are answered Errc::nosys, pushes are dropped.
struct RpcHandlers {
    std::function<void(RpcRequest)> on_request;
    std::function<void(RpcPush)> on_push;
    std::function<void(const Status&)> on_closed;
};

using RpcDone = std::function<void(RpcReply)>;

class RpcPeer : public std::enable_shared_from_this<RpcPeer> {
public:
    // Takes a link that was just handed over by a Transport. Frames that arrive wait for the next
    // task of the loop at the earliest.
    static std::shared_ptr<RpcPeer> create(Loop& loop,
                                           std::shared_ptr<Link> link,
                                           RpcHandlers handlers);
    ~RpcPeer();
    RpcPeer(const RpcPeer&) = delete;
    RpcPeer& operator=(const RpcPeer&) = delete;

    // Asks. `timeout` is a duration from now, 0 = for ever; the other side learns what is left of it.
    void call(uint16_t method, Bytes body, Buffer payload, Nanos timeout, RpcDone done);
    // One way. False if it was not queued (link closed, or too much waits to be sent).
    bool push(uint16_t method, Bytes body, Buffer payload = {});
    // Ends the link: pending calls get Errc::disconnected, then on_closed, from a later task.
    void close();
    // Replaces the handlers, for example once it is known what the peer is.
    void set_handlers(RpcHandlers handlers);

    bool is_open() const { return !closed_; }
    const Hello& hello() const;           // the peer's
    const std::string& address() const;   // the peer's
    size_t calls_pending() const { return calls_.size(); }
    size_t requests_pending() const { return requests_pending_; }  // asked by the peer, unanswered

private:
    friend class Responder;
    struct Call {
        RpcDone done;
        Nanos deadline = 0;  // 0 = none
        bool sent = false;
    };

    RpcPeer(Loop& loop, std::shared_ptr<Link> link, RpcHandlers handlers);
    void attach();
    void on_frame(Frame frame);
    void on_request(Frame frame);
    void on_link_closed(const Status& why);
    void send_waiting();
    void watch(Nanos deadline);
    void expire();
    void finish(uint64_t id, RpcReply reply);
    void fail_later(Status status, RpcDone done);
    void send_reply(
        uint64_t id, uint16_t method, const Status& status, Bytes body, Buffer payload);
    void send_reply_frame(
        uint64_t id, uint16_t method, const Status& status, Bytes body, Buffer payload);

    Loop& loop_;
    std::shared_ptr<Link> link_;
    std::shared_ptr<RpcHandlers> handlers_;  // counted: a handler may replace itself while it runs
    bool closed_ = false;
    uint64_t last_id_ = 0;
    std::map<uint64_t, Call> calls_;                  // by id: sent or waiting; end in this order
    std::set<std::pair<Nanos, uint64_t>> deadlines_;  // of calls_
    std::deque<Frame> waiting_;                       // requests not sent yet
    size_t sent_ = 0;                                 // calls that were, <= kMaxInFlightPerLink
    size_t requests_pending_ = 0;
    std::deque<Frame> replies_;                       // answers that the link had no room for
    uint64_t replies_bytes_ = 0;
    Nanos watched_ = 0;                               // what deadline_timer_ stands at, 0 = off
    Timer deadline_timer_;
    Timer retry_timer_;
};

}  // namespace lumeofs
