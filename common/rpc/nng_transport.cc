// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/nng_transport.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <nng/nng.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/rpc/nng_link.h"

namespace lumeofs {

using Done = std::function<void(Result<std::shared_ptr<Link>>)>;

// Frees diallers that have done their work. Not at once: nng_stream_dialer_free() waits for callbacks
// of the dialler that may still be queued for NNG's four task threads, one of which may be ours.
struct NngTransport::Diallers {
    std::vector<nng_stream_dialer*> used;

    void free_all() {
        for (nng_stream_dialer* dialler : std::exchange(used, {})) nng_stream_dialer_free(dialler);
    }
    ~Diallers() { free_all(); }
};

namespace {

constexpr int kMaxHandshakes = 1'024;          // accepted, no hello yet; more are closed at once
constexpr Nanos kAcceptPause = 100 * kMillisecond;  // after a failed accept (no descriptors left)

std::string url_of(const std::string& address) { return "tcp://" + address; }

Status nng_status(int rv, const std::string& what) {
    const Errc code = rv == NNG_ETIMEDOUT     ? Errc::timeout
                      : rv == NNG_EADDRINUSE  ? Errc::exist
                      : rv == NNG_EADDRINVAL  ? Errc::inval
                      : rv == NNG_EINVAL      ? Errc::inval
                      : rv == NNG_EPERM       ? Errc::acces
                      : rv == NNG_ENOFILES    ? Errc::mfile
                                              : Errc::disconnected;
    return Status(code, what + ": " + nng_strerror(rv));
}

std::string address_text(const nng_sockaddr& address) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (address.s_family == NNG_AF_INET) {
        inet_ntop(AF_INET, &address.s_in.sa_addr, text, sizeof text);
        return fmt::format("{}:{}", text, ntohs(address.s_in.sa_port));
    }
    if (address.s_family == NNG_AF_INET6) {
        inet_ntop(AF_INET6, &address.s_in6.sa_addr, text, sizeof text);
        return fmt::format("[{}]:{}", text, ntohs(address.s_in6.sa_port));
    }
    return text;
}

class Dial final : public NngClosable, public std::enable_shared_from_this<Dial> {
public:
    Dial(std::shared_ptr<NngHub> hub,
         nng_stream_dialer* dialler,
         std::function<void(nng_stream_dialer*)> release,
         NngHandshake handshake)
        : hub_(std::move(hub)),
          dialler_(dialler),
          release_(std::move(release)),
          handshake_(std::move(handshake)),
          hub_id_(hub_->next_id()),
          aio_(hub_, [this](int rv, size_t, NngStreamPtr stream) { ended(rv, std::move(stream)); }) {}
    ~Dial() override {
        hub_->remove(hub_id_);
        release_(dialler_);
    }

    void start() {
        hub_->add(hub_id_, weak_from_this());
        aio_.begin(shared_from_this(),
                   std::max<Nanos>(handshake_.deadline - hub_->loop.now(), kMillisecond));
        nng_stream_dialer_dial(dialler_, aio_.get());
    }
    void shut() override {
        handshake_.finished = nullptr;
        nng_stream_dialer_close(dialler_);
    }

private:
    void ended(int rv, NngStreamPtr stream) {
        if (!handshake_.finished) return;  // shut
        if (rv != 0) {
            auto finished = std::exchange(handshake_.finished, nullptr);
            return finished(nng_status(rv, "cannot connect to " + handshake_.peer_address));
        }
        NngConnection::start(hub_, std::move(stream), std::move(handshake_));
    }

    std::shared_ptr<NngHub> hub_;
    nng_stream_dialer* const dialler_;
    std::function<void(nng_stream_dialer*)> release_;
    NngHandshake handshake_;
    const uint64_t hub_id_;
    NngAio aio_;
};

class Acceptor final : public NngClosable, public std::enable_shared_from_this<Acceptor> {
public:
    Acceptor(std::shared_ptr<NngHub> hub,
             nng_stream_listener* listener,
             Hello own,
             Nanos handshake_timeout,
             std::function<Status(const Hello&)> check,
             std::function<void(std::shared_ptr<Link>)> on_link)
        : hub_(std::move(hub)),
          listener_(listener),
          own_(own),
          handshake_timeout_(handshake_timeout),
          check_(std::move(check)),
          on_link_(std::make_shared<std::function<void(std::shared_ptr<Link>)>>(std::move(on_link))),
          hub_id_(hub_->next_id()),
          aio_(hub_, [this](int rv, size_t, NngStreamPtr s) { accepted(rv, std::move(s)); }) {}
    ~Acceptor() override {
        hub_->remove(hub_id_);
        nng_stream_listener_free(listener_);
    }

    void start() {
        hub_->add(hub_id_, weak_from_this());
        accept();
    }
    void shut() override {
        if (std::exchange(closed_, true)) return;
        nng_stream_listener_close(listener_);
    }

private:
    void accept() {
        aio_.begin(shared_from_this(), 0);
        nng_stream_listener_accept(listener_, aio_.get());
    }
    void accepted(int rv, NngStreamPtr stream) {
        if (closed_) return;
        if (rv != 0) {
            hub_->complain(fmt::format("cannot accept a connection: {}", nng_strerror(rv)));
            hub_->loop.after(kAcceptPause, [weak = weak_from_this()] {
                auto self = weak.lock();
                if (self && !self->closed_) self->accept();
            });
            return;
        }
        accept();
        if (hub_->handshakes >= kMaxHandshakes) {
            hub_->complain("too many connections wait for their hello, the newest is closed");
            return;
        }
        nng_sockaddr address{};
        NngHandshake handshake;
        handshake.own = own_;
        handshake.deadline = hub_->loop.now() + handshake_timeout_;
        if (nng_stream_get_addr(stream.get(), NNG_OPT_REMADDR, &address) == 0) {
            handshake.peer_address = address_text(address);
        }
        handshake.check = [weak = weak_from_this()](const Hello& peer) {
            auto self = weak.lock();
            if (!self || self->closed_) return Status(Errc::shutting_down, "not listening any more");
            return self->check_ ? self->check_(peer) : ok_status();
        };
        handshake.finished = [weak = weak_from_this()](Result<std::shared_ptr<Link>> link) {
            auto self = weak.lock();
            if (!self || self->closed_ || !link.is_ok()) return;
            auto on_link = self->on_link_;
            (*on_link)(std::move(link).value());
        };
        NngConnection::start(hub_, std::move(stream), std::move(handshake));
    }

    std::shared_ptr<NngHub> hub_;
    nng_stream_listener* const listener_;
    const Hello own_;
    const Nanos handshake_timeout_;
    const std::function<Status(const Hello&)> check_;
    const std::shared_ptr<std::function<void(std::shared_ptr<Link>)>> on_link_;
    const uint64_t hub_id_;
    bool closed_ = false;
    NngAio aio_;
};

class NngListener final : public Listener {
public:
    NngListener(std::shared_ptr<Acceptor> acceptor, std::string address)
        : acceptor_(std::move(acceptor)), address_(std::move(address)) {}
    ~NngListener() override { acceptor_->shut(); }
    const std::string& address() const override { return address_; }

private:
    std::shared_ptr<Acceptor> acceptor_;
    const std::string address_;
};

}  // namespace

NngTransport::NngTransport(Loop& loop, Nanos handshake_timeout, bool loop_reads)
    : loop_(loop),
      handshake_timeout_(handshake_timeout),
      hub_(std::make_shared<NngHub>(loop)),
      used_(std::make_shared<Diallers>()) {
    hub_->loop_reads = loop_reads;
}

NngTransport::~NngTransport() { hub_->shut_and_wait(); }

void NngTransport::connect(const std::string& address,
                           const Hello& hello,
                           Nanos deadline,
                           Done done) {
    used_->free_all();
    nng_stream_dialer* dialler = nullptr;
    if (int rv = nng_stream_dialer_alloc(&dialler, url_of(address).c_str()); rv != 0) {
        loop_.post([done = std::move(done), status = nng_status(rv, "bad address " + address)] {
            done(status);
        });
        return;
    }
    nng_stream_dialer_set_bool(dialler, NNG_OPT_TCP_NODELAY, true);
    nng_stream_dialer_set_bool(dialler, NNG_OPT_TCP_KEEPALIVE, true);
    NngHandshake handshake;
    handshake.dialler = true;
    handshake.own = hello;
    handshake.deadline = deadline;
    handshake.peer_address = address;
    handshake.finished = std::move(done);
    auto release = [used = used_](nng_stream_dialer* old) { used->used.push_back(old); };
    std::make_shared<Dial>(hub_, dialler, release, std::move(handshake))->start();
}

Result<std::unique_ptr<Listener>> NngTransport::listen(
    const std::string& address,
    const Hello& hello,
    std::function<Status(const Hello&)> check,
    std::function<void(std::shared_ptr<Link>)> on_link) {
    nng_stream_listener* listener = nullptr;
    if (int rv = nng_stream_listener_alloc(&listener, url_of(address).c_str()); rv != 0) {
        return nng_status(rv, "bad address " + address);
    }
    nng_stream_listener_set_bool(listener, NNG_OPT_TCP_NODELAY, true);
    nng_stream_listener_set_bool(listener, NNG_OPT_TCP_KEEPALIVE, true);
    nng_sockaddr bound{};
    int rv = nng_stream_listener_listen(listener);
    if (rv == 0) rv = nng_stream_listener_get_addr(listener, NNG_OPT_LOCADDR, &bound);
    if (rv != 0) {
        nng_stream_listener_free(listener);
        return nng_status(rv, "cannot listen on " + address);
    }
    auto acceptor = std::make_shared<Acceptor>(
        hub_, listener, hello, handshake_timeout_, std::move(check), std::move(on_link));
    acceptor->start();
    return std::unique_ptr<Listener>(
        std::make_unique<NngListener>(std::move(acceptor), address_text(bound)));
}

void NngTransport::hold_sends(bool hold) {
    hub_->held = hold;
    if (hold) return;
    for (const auto& send : std::exchange(hub_->after_hold, {})) send();
}

}  // namespace lumeofs
