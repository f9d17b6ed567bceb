// SPDX-License-Identifier: Apache-2.0
// Transport: the seam to the network. Frames travel over links; a link is a connection between two
// programs that have exchanged their hellos. Three implementations: NNG byte streams
// (common/rpc/nng_transport), in one process (common/rpc/inproc_transport), and the simulator's,
// which also loses, repeats, delays and reorders frames.
//
// A frame = fixed header, small encoded body (FlatBuffers), raw payload. The payload is one counted
// buffer, aligned to a page, that can be written to disk or sent on as it came; it is never inside
// the encoded part, and its checksums travel in the body.
//
// All callbacks run on the Loop that was given; send() and close() are called on it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/env/loop.h"

namespace lumeofs {

enum class Role : uint8_t { metad = 1, chunkd = 2, client = 3, admin = 4 };

// The first thing either side says. A receiver closes the link, with one clear line in its log, if
// the magic, the protocol revision or the cluster id do not fit.
struct Hello {
    uint16_t protocol_revision = 0;  // kProtocolRevision of common/wire/frame.h
    Role role = Role::client;
    NodeId node;                     // 0 for clients
    Incarnation incarnation;         // chunkd: of this start, 0 if not yet known
    uint64_t cluster_id_high = 0;    // 128-bit cluster id; 0,0 = "tell me yours"
    uint64_t cluster_id_low = 0;
};

enum class FrameKind : uint8_t { request = 1, reply = 2, push = 3 };

struct Frame {
    FrameKind kind = FrameKind::push;
    uint16_t method = 0;       // common/wire/method.h
    uint16_t status = 0;       // Errc number; replies only
    uint64_t request_id = 0;   // chosen by the requester, unique on its side of the link
    uint32_t deadline_ms = 0;  // how long the requester waits; 0 = for ever
    Bytes body;
    Buffer payload;
};

class Link;

// Events of one link, called on the loop. on_closed is the last one and comes exactly once.
struct LinkEvents {
    std::function<void(Frame)> on_frame;
    std::function<void(const Status&)> on_closed;
};

class Link {
public:
    virtual ~Link() = default;
    // Queues the frame; frames arrive in order or the link closes. False (nothing queued) if the link
    // is closed or more than kMaxQueuedBytesPerLink wait to be sent.
    virtual bool send(Frame frame) = 0;
    // False while send() would refuse a frame because too much waits; the sender asks again later.
    virtual bool writable() const { return true; }
    virtual void close() = 0;  // on_closed follows, never from inside this call
    virtual const Hello& peer() const = 0;
    virtual const std::string& peer_address() const = 0;
    virtual void set_events(LinkEvents events) = 0;  // at once after the link was handed over
};

class Listener {
public:
    virtual ~Listener() = default;  // stops listening; links that it made live on
    virtual const std::string& address() const = 0;  // with the real port
};

class Transport {
public:
    virtual ~Transport() = default;
    // "host:port". `done` is called exactly once on the loop: a link whose hello was checked, or why
    // not. The deadline, a point of time of now(), covers connecting and the hello.
    virtual void connect(const std::string& address,
                         const Hello& hello,
                         Nanos deadline,
                         std::function<void(Result<std::shared_ptr<Link>>)> done) = 0;
    // `on_link` is called for each peer whose hello was accepted by `check` (an error closes it).
    virtual Result<std::unique_ptr<Listener>> listen(
        const std::string& address,
        const Hello& hello,
        std::function<Status(const Hello&)> check,
        std::function<void(std::shared_ptr<Link>)> on_link) = 0;
    // From true to false the frames that links are given wait, and leave together then: several
    // answers to one peer cost one system call and wake it once. Only within one task.
    virtual void hold_sends(bool /*hold*/) {}
};

}  // namespace lumeofs
