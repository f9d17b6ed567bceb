// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/nng_link.h"

#include <nng/nng.h>

#include <algorithm>
#include <utility>

#include "common/base/assert.h"
#include "common/base/log.h"

namespace lumeofs {
namespace {

class NngLink final : public Link {
public:
    explicit NngLink(std::shared_ptr<NngConnection> connection)
        : connection_(std::move(connection)) {}
    ~NngLink() override { connection_->abandon(); }

    bool send(Frame frame) override { return connection_->send(std::move(frame)); }
    bool writable() const override { return connection_->writable(); }
    void close() override { connection_->close(); }
    const Hello& peer() const override { return connection_->peer(); }
    const std::string& peer_address() const override { return connection_->peer_address(); }
    void set_events(LinkEvents events) override { connection_->set_events(std::move(events)); }

private:
    std::shared_ptr<NngConnection> connection_;
};

void to_iov(const View* pieces, size_t count, nng_iov* parts) {
    for (size_t i = 0; i < count; ++i) {
        parts[i] = {const_cast<uint8_t*>(pieces[i].data()), pieces[i].size()};
    }
}

Status broken(int rv) {
    if (rv == NNG_ETIMEDOUT) return Status(Errc::timeout, "the peer takes or sends nothing");
    if (rv == NNG_ECONNSHUT) return Status(Errc::disconnected, "the peer closed the connection");
    return Status(Errc::disconnected, nng_strerror(rv));
}

// In the dialler's words: the other side's are in its own log.
Status refused(Errc why, const Hello& own, const Hello& peer) {
    if (why != Errc::config) return Status(why, "refused by " + describe(peer));
    return Status(why,
                  "wrong cluster: this is " + describe(own) +
                      ", who answers belongs to another: wrong address, or wrong data directory");
}

}  // namespace

void NngConnection::start(std::shared_ptr<NngHub> hub,
                          NngStreamPtr stream,
                          NngHandshake handshake) {
    auto connection =
        std::make_shared<NngConnection>(hub, std::move(stream), std::move(handshake));
    hub->add(connection->hub_id_, connection);
    if (connection->handshake_.dialler) {
        connection->send_hello();
    } else {
        connection->waiting_for_hello_ = true;
        ++hub->handshakes;
    }
    connection->receive_hello();
}

NngConnection::NngConnection(std::shared_ptr<NngHub> hub,
                             NngStreamPtr stream,
                             NngHandshake handshake)
    : hub_(std::move(hub)),
      stream_(std::move(stream)),
      handshake_(std::move(handshake)),
      hub_id_(hub_->next_id()),
      receive_(hub_, [this](int rv, size_t count, const NngStreamPtr&) { on_received(rv, count); }),
      send_(hub_, [this](int rv, size_t count, const NngStreamPtr&) { on_sent(rv, count); }) {}

NngConnection::~NngConnection() { hub_->remove(hub_id_); }

// --- operations -----------------------------------------------------------------------------------

Nanos NngConnection::left() const {
    return std::max<Nanos>(handshake_.deadline - hub_->loop.now(), kMillisecond);
}

void NngConnection::begin_receive(MutableView first, MutableView second, Nanos timeout) {
    nng_iov parts[2] = {{first.data(), first.size()}, {second.data(), second.size()}};
    receive_.begin(shared_from_this(), timeout);
    nng_aio_set_iov(receive_.get(), second.empty() ? 1 : 2, parts);
    nng_stream_recv(stream_.get(), receive_.get());
}

void NngConnection::begin_send(const View* pieces, size_t count, Nanos timeout) {
    nng_iov parts[FrameWriter::kMaxPieces];
    to_iov(pieces, count, parts);
    send_.begin(shared_from_this(), timeout);
    nng_aio_set_iov(send_.get(), static_cast<unsigned>(count), parts);
    nng_stream_send(stream_.get(), send_.get());
}

void NngConnection::on_received(int rv, size_t count) {
    if (state_ == State::closing || state_ == State::closed) return;
    if (rv != 0) {
        if (state_ == State::hello && rv == NNG_ETIMEDOUT) {
            return failed(Status(Errc::timeout, "no complete hello in time"));
        }
        return failed(broken(rv));
    }
    if (state_ == State::hello) return hello_received(count);
    Status status = reader_->filled(count, &arrived_);
    std::vector<Frame> frames = std::move(arrived_);
    arrived_.clear();
    for (Frame& frame : frames) {
        // Held for the call, so that a callback may replace the events or drop the link.
        auto events = events_;
        if (state_ != State::open || !events || !events->on_frame) break;
        events->on_frame(std::move(frame));
    }
    if (state_ != State::open) return;
    if (!status.is_ok()) return failed(status);
    frames.clear();
    arrived_ = std::move(frames);  // keeps the memory
    receive_frames();
}

void NngConnection::on_sent(int rv, size_t count) {
    if (state_ == State::closing || state_ == State::closed) return;
    if (rv != 0) return failed(broken(rv));
    if (hello_out_count_ < kMaxHelloBytes) {
        hello_out_count_ += count;
        if (hello_out_count_ < kMaxHelloBytes) return send_rest_of_hello();
        if (!refused_.is_ok()) return failed(refused_);
        if (state_ == State::hello && !handshake_.dialler) return opened();
    } else {
        writer_.sent(count);
    }
    if (state_ == State::open) send_frames();
}

// --- hello ----------------------------------------------------------------------------------------

void NngConnection::receive_hello() {
    begin_receive(MutableView(hello_in_).subspan(hello_in_count_), {}, left());
}

void NngConnection::send_hello() {
    hello_out_ = encode_hello(handshake_.own, refused_.code());
    send_rest_of_hello();
}

void NngConnection::send_rest_of_hello() {
    const View rest = View(hello_out_).subspan(hello_out_count_);
    begin_send(&rest, 1, left());
}

// A byte at a time does not help a slow sender: the deadline is one for the whole hello.
void NngConnection::hello_received(size_t count) {
    hello_in_count_ += count;
    if (Status status = check_hello_start(View(hello_in_).first(hello_in_count_)); !status.is_ok()) {
        return failed(status);
    }
    if (hello_in_count_ < kMaxHelloBytes) {
        if (hub_->loop.now() >= handshake_.deadline) {
            return failed(Status(Errc::timeout, "no complete hello in time"));
        }
        return receive_hello();
    }
    hello_complete();
}

void NngConnection::hello_complete() {
    auto message = decode_hello(hello_in_);
    if (!message.is_ok()) return failed(message.status());
    peer_ = message->hello;
    Status status = check_hello(handshake_.own, peer_);
    if (handshake_.dialler) {
        if (status.is_ok() && message->refusal != Errc::ok) {
            status = refused(message->refusal, handshake_.own, peer_);
        }
        if (!status.is_ok()) return failed(status);
        return opened();
    }
    if (status.is_ok() && handshake_.check) status = handshake_.check(peer_);
    if (state_ != State::hello) return;  // check() may have ended the transport
    refused_ = status;
    send_hello();
}

void NngConnection::opened() {
    state_ = State::open;
    if (std::exchange(waiting_for_hello_, false)) --hub_->handshakes;
    reader_.emplace();
    watch_socket();
    auto finished = std::exchange(handshake_.finished, nullptr);
    handshake_.check = nullptr;
    finished(std::shared_ptr<Link>(std::make_shared<NngLink>(shared_from_this())));
    if (state_ != State::open) return;
    receive_frames();
    send_frames();
}

// --- frames ---------------------------------------------------------------------------------------

void NngConnection::watch_socket() {
    if (!hub_->loop_reads || !socket_.open(stream_.get())) return;
    const bool watched = hub_->loop.watch(socket_.fd(), [weak = weak_from_this()] {
        if (auto self = std::static_pointer_cast<NngConnection>(weak.lock())) self->readable();
    });
    if (!watched) socket_.close();
}

// One read per task, so that every connection gets its turn.
void NngConnection::readable() {
    if (state_ != State::open || !socket_.is_open()) return;
    MutableView places[2];
    const size_t count = reader_->places(places);
    const ssize_t got = socket_.receive(places, count);
    if (got > 0) {
        on_received(0, static_cast<size_t>(got));
    } else if (got < 0) {
        on_received(got == NngDescriptor::kEnded ? NNG_ECONNSHUT : NNG_ECONNRESET, 0);
    }
}

void NngConnection::receive_frames() {
    if (socket_.is_open()) {
        return hub_->loop.post([self = shared_from_this()] { self->readable(); });
    }
    MutableView places[2];
    const size_t count = reader_->places(places);
    begin_receive(places[0], count > 1 ? places[1] : MutableView(), 0);
}

size_t NngConnection::try_send(const View* pieces, size_t count) {
    nng_iov parts[FrameWriter::kMaxPieces];
    to_iov(pieces, count, parts);
    return try_send_.send(stream_.get(), parts, count);
}

// What the socket takes at once costs no other thread. What it does not take, and a broken stream, is
// left to the operation that waits: so a failure is never told from inside send().
void NngConnection::send_frames() {
    while (!send_.busy() && !writer_.empty()) {
        View pieces[FrameWriter::kMaxPieces];
        const size_t count = writer_.gather(pieces);
        const size_t taken = socket_.is_open() ? socket_.send(pieces, count) : try_send(pieces, count);
        if (taken == 0) return begin_send(pieces, count, kSendStall);
        writer_.sent(taken);
    }
}

bool NngConnection::send(Frame frame) {
    LFS_ASSERT(frame.body.size() <= kMaxBodyBytes && frame.payload.size() <= kMaxPayloadBytes);
    if (state_ != State::open || !writable()) return false;
    const bool queued = !writer_.empty();
    writer_.push(std::move(frame));
    if (!hub_->held) {
        send_frames();
    } else if (!queued) {
        hub_->after_hold.push_back([self = shared_from_this()] {
            if (self->state_ == State::open) self->send_frames();
        });
    }
    return true;
}

void NngConnection::set_events(LinkEvents events) {
    events_ = std::make_shared<LinkEvents>(std::move(events));
}

// --- end ------------------------------------------------------------------------------------------

void NngConnection::shut() {
    if (state_ == State::closed) return;
    state_ = State::closed;
    if (std::exchange(waiting_for_hello_, false)) --hub_->handshakes;
    events_.reset();
    handshake_.finished = nullptr;
    if (socket_.is_open()) hub_->loop.unwatch(socket_.fd());
    socket_.close();
    nng_stream_close(stream_.get());
}

void NngConnection::abandon() {
    events_.reset();
    if (!hub_->gone()) shut();
}

void NngConnection::close() {
    if (state_ != State::open) return;
    state_ = State::closing;
    nng_stream_close(stream_.get());
    hub_->loop.post([self = shared_from_this()] {
        if (self->state_ == State::closing) {
            self->failed(Status(Errc::disconnected, "closed here"));
        }
    });
}

// Ends the connection and tells whoever waits: the dialler, the log, or the link's owner.
void NngConnection::failed(const Status& why) {
    const bool in_hello = state_ == State::hello;
    const bool told = state_ == State::closing;
    auto self = shared_from_this();
    auto events = std::move(events_);
    auto finished = std::move(handshake_.finished);
    shut();
    if (!told && (in_hello || why.code() == Errc::protocol || why.code() == Errc::corrupt)) {
        if (handshake_.dialler) {
            hub_->complain("connection to " + handshake_.peer_address + ": " + why.to_string());
        } else {
            hub_->complain("connection from " + handshake_.peer_address +
                           " closed: " + why.to_string());
        }
    }
    if (in_hello) {
        if (finished) finished(why);
    } else if (events && events->on_closed) {
        events->on_closed(why);
    }
}

}  // namespace lumeofs
