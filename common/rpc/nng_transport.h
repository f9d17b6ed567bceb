// SPDX-License-Identifier: Apache-2.0
// The Transport of real programs: TCP through NNG's byte streams (nng_stream_dialer / _listener) with
// the framing of common/wire/frame.h. NNG's message patterns are not used: they cost two to three
// times the latency, and retry, order and back-pressure would not be ours.
//
// Connecting, accepting, hellos, and whatever has to wait to be sent are NNG's operations: its
// callbacks post to the loop, and a RealLoop that is free is run by the calling thread. What comes
// later the loop reads from the socket itself. Anything that fails its hello, or is not a frame,
// ends the connection with one line in the log (at most one per second, a flood is counted).
// Traps of NNG 1.5.2 that shape this code: see nng_aio.h; and one dialler per attempt, freed later
// from the loop, since nng_stream_dialer_free() waits for callbacks that need NNG's task threads.
// A process must not fork after the first call (daemonise before).
//
// Destroy on the loop, or after the loop has stopped; links that are left end without an event. The
// loop must outlive it; listeners and links may outlive it.
// single-thread: the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/env/transport.h"

struct nng_stream_dialer;

namespace lumeofs {

class NngHub;

class NngTransport final : public Transport {
public:
    // Who connects to us has so long to say a whole hello.
    // `loop_reads`: the loop waits for the sockets and reads them itself (nng_descriptor.h).
    explicit NngTransport(Loop& loop,
                          Nanos handshake_timeout = kHandshakeTimeout,
                          bool loop_reads = true);
    ~NngTransport() override;
    NngTransport(const NngTransport&) = delete;
    NngTransport& operator=(const NngTransport&) = delete;

    void connect(const std::string& address,
                 const Hello& hello,
                 Nanos deadline,
                 std::function<void(Result<std::shared_ptr<Link>>)> done) override;
    Result<std::unique_ptr<Listener>> listen(
        const std::string& address,
        const Hello& hello,
        std::function<Status(const Hello&)> check,
        std::function<void(std::shared_ptr<Link>)> on_link) override;
    void hold_sends(bool hold) override;

private:
    struct Diallers;

    Loop& loop_;
    const Nanos handshake_timeout_;
    std::shared_ptr<NngHub> hub_;
    std::shared_ptr<Diallers> used_;  // diallers whose attempt is over, to be freed
};

}  // namespace lumeofs
