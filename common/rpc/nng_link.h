// SPDX-License-Identifier: Apache-2.0
// One connection of the NNG transport: hello, then frames both ways.
//
// NngConnection is the working part, held by its operations under way (see nng_aio.h) and by the
// NngLink that is given out; dropping the link closes the connection. Once the hello is through
// the loop reads the socket itself when something has come (nng_descriptor.h), or else exactly one
// receive of NNG is under way; what is not read stops the sender through TCP. One send at a time;
// frames pushed meanwhile leave with the next. A peer that takes nothing for kSendStall is taken for dead.
// Before the hello is accepted a connection costs a few hundred bytes, whatever it sends.
// single-thread: the loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/env/transport.h"
#include "common/rpc/frame_stream.h"
#include "common/rpc/nng_aio.h"
#include "common/rpc/nng_descriptor.h"
#include "common/wire/frame.h"

namespace lumeofs {

struct NngHandshake {
    bool dialler = false;
    Hello own;
    Nanos deadline = 0;  // of now()
    std::string peer_address;
    std::function<Status(const Hello&)> check;                    // listener; may be empty
    std::function<void(Result<std::shared_ptr<Link>>)> finished;  // exactly once
};

class NngConnection final : public NngClosable,
                            public std::enable_shared_from_this<NngConnection> {
public:
    static constexpr Nanos kSendStall = 30 * kSecond;

    static void start(std::shared_ptr<NngHub> hub, NngStreamPtr stream, NngHandshake handshake);
    NngConnection(std::shared_ptr<NngHub> hub, NngStreamPtr stream, NngHandshake handshake);
    ~NngConnection() override;

    // For NngLink.
    bool send(Frame frame);
    bool writable() const { return writer_.bytes() <= kMaxQueuedBytesPerLink; }
    void close();
    void abandon();  // the link was dropped: close without an event
    void set_events(LinkEvents events);
    const Hello& peer() const { return peer_; }
    const std::string& peer_address() const { return handshake_.peer_address; }

    void shut() override;

private:
    enum class State { hello, open, closing, closed };

    Nanos left() const;
    void begin_receive(MutableView first, MutableView second, Nanos timeout);
    void begin_send(const View* pieces, size_t count, Nanos timeout);
    void receive_hello();
    void send_hello();
    void send_rest_of_hello();
    void hello_received(size_t count);
    void hello_complete();
    void opened();
    void receive_frames();
    void readable();
    void watch_socket();
    void send_frames();
    size_t try_send(const View* pieces, size_t count);
    void on_received(int rv, size_t count);
    void on_sent(int rv, size_t count);
    void failed(const Status& why);

    std::shared_ptr<NngHub> hub_;
    NngStreamPtr stream_;
    NngHandshake handshake_;
    const uint64_t hub_id_;
    State state_ = State::hello;
    bool waiting_for_hello_ = false;  // counted in NngHub::handshakes
    Hello peer_;
    std::shared_ptr<LinkEvents> events_;
    Status refused_;                  // we refuse the peer and say so in our hello
    HelloBytes hello_in_{};
    HelloBytes hello_out_{};
    size_t hello_in_count_ = 0;
    size_t hello_out_count_ = 0;
    std::optional<FrameReader> reader_;  // only after the hello
    FrameWriter writer_;
    std::vector<Frame> arrived_;
    NngAio receive_;
    NngAio send_;
    NngTrySend try_send_;
    NngDescriptor socket_;  // open: the loop reads and writes by itself
};

}  // namespace lumeofs
