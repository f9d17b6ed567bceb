// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/peer.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/assert.h"
#include "common/wire/frame.h"

namespace lumeofs {
namespace {

constexpr size_t kMaxWaitingCalls = size_t{4} * kMaxInFlightPerLink;
// What a peer may have asked and not got answered. Twice what an honest one has under way: a call
// that timed out over there may still be worked on here.
constexpr size_t kMaxRequestsPending = size_t{2} * kMaxInFlightPerLink;
constexpr size_t kMaxStatusTextBytes = 1024;
constexpr Nanos kRetryDelay = 1 * kMillisecond;  // while the link has no room

bool too_big(const Bytes& body, const Buffer& payload) {
    return body.size() > kMaxBodyBytes || payload.size() > kMaxPayloadBytes;
}

// How long the asker still waits, rounded up; 0 stands for "for ever" and is never the result.
uint32_t left_ms(Nanos deadline, Nanos now) {
    const Nanos left = std::max<Nanos>(deadline - now, 1);
    return static_cast<uint32_t>(
        std::min<Nanos>((left + kMillisecond - 1) / kMillisecond, UINT32_MAX));
}

RpcReply reply_of(Frame frame) {
    RpcReply reply;
    reply.payload = std::move(frame.payload);
    if (frame.status == 0) {
        reply.body = std::move(frame.body);
        return reply;
    }
    if (!errc_known(frame.status)) {
        reply.status = Status(Errc::protocol, fmt::format("unknown error {}", frame.status));
        return reply;
    }
    const auto code = static_cast<Errc>(frame.status);
    if (frame.deadline_ms == kReplyBodyIsText) {
        reply.status = Status(code, as_text(frame.body));
    } else {
        reply.status = Status(code);
        reply.body = std::move(frame.body);
    }
    return reply;
}

}  // namespace

// --- Responder ------------------------------------------------------------------------------------

struct Responder::State {
    std::weak_ptr<RpcPeer> peer;
    uint64_t id = 0;
    uint16_t method = 0;
    bool answered = false;

    void answer(const Status& status, Bytes body, Buffer payload) {
        if (answered) return;
        answered = true;
        if (auto target = peer.lock()) {
            target->send_reply(id, method, status, std::move(body), std::move(payload));
        }
    }
    ~State() {
        if (!answered) answer(Status(Errc::unavailable, "the request was dropped"), {}, {});
    }
};

void Responder::reply(const Status& status, Bytes body, Buffer payload) const {
    LFS_ASSERT(state_ && !state_->answered);
    state_->answer(status, std::move(body), std::move(payload));
}

bool Responder::wanted() const {
    if (!state_ || state_->answered) return false;
    auto peer = state_->peer.lock();
    return peer && peer->is_open();
}

// --- life -----------------------------------------------------------------------------------------

std::shared_ptr<RpcPeer> RpcPeer::create(Loop& loop,
                                         std::shared_ptr<Link> link,
                                         RpcHandlers handlers) {
    std::shared_ptr<RpcPeer> peer(new RpcPeer(loop, std::move(link), std::move(handlers)));
    peer->attach();
    return peer;
}

RpcPeer::RpcPeer(Loop& loop, std::shared_ptr<Link> link, RpcHandlers handlers)
    : loop_(loop),
      link_(std::move(link)),
      handlers_(std::make_shared<RpcHandlers>(std::move(handlers))),
      deadline_timer_(loop),
      retry_timer_(loop) {}

RpcPeer::~RpcPeer() { link_->set_events({}); }

// The link's events hold us weakly, and strongly only while one runs: so a callback may drop the
// last reference to this peer.
void RpcPeer::attach() {
    std::weak_ptr<RpcPeer> weak = weak_from_this();
    LinkEvents events;
    events.on_frame = [weak](Frame frame) {
        if (auto self = weak.lock()) self->on_frame(std::move(frame));
    };
    events.on_closed = [weak](const Status& why) {
        if (auto self = weak.lock()) self->on_link_closed(why);
    };
    link_->set_events(std::move(events));
}

const Hello& RpcPeer::hello() const { return link_->peer(); }
const std::string& RpcPeer::address() const { return link_->peer_address(); }

void RpcPeer::set_handlers(RpcHandlers handlers) {
    handlers_ = std::make_shared<RpcHandlers>(std::move(handlers));
}

void RpcPeer::close() {
    if (!closed_) link_->close();
}

void RpcPeer::on_link_closed(const Status& why) {
    if (closed_) return;
    closed_ = true;
    deadline_timer_.stop();
    retry_timer_.stop();
    deadlines_.clear();
    waiting_.clear();
    replies_.clear();
    replies_bytes_ = 0;
    sent_ = 0;
    std::map<uint64_t, Call> calls = std::move(calls_);
    calls_.clear();
    // Held by the link's event (attach), so we live on; but when nobody else does any more, our owner
    // is gone and what the callbacks refer to may be gone with it.
    auto self = shared_from_this();
    constexpr long kOurOwn = 2;  // `self` and the one in attach()
    const Status status = Status(Errc::disconnected, why.text().empty() ? "link closed" : why.text());
    for (auto& [id, call] : calls) {
        if (self.use_count() <= kOurOwn) return;
        call.done(RpcReply{status, {}, {}});
    }
    if (self.use_count() <= kOurOwn) return;
    auto handlers = handlers_;
    if (handlers->on_closed) handlers->on_closed(why);
}

// --- asking ---------------------------------------------------------------------------------------

void RpcPeer::fail_later(Status status, RpcDone done) {
    loop_.post([weak = weak_from_this(), status = std::move(status), done = std::move(done)] {
        if (auto self = weak.lock()) done(RpcReply{status, {}, {}});
    });
}

void RpcPeer::call(uint16_t method, Bytes body, Buffer payload, Nanos timeout, RpcDone done) {
    LFS_ASSERT(timeout >= 0);
    if (closed_) return fail_later(Status(Errc::disconnected, "link closed"), std::move(done));
    if (too_big(body, payload)) {
        return fail_later(Status(Errc::toobig, "request exceeds the limits of a frame"),
                          std::move(done));
    }
    if (waiting_.size() >= kMaxWaitingCalls) {
        return fail_later(Status(Errc::busy, "too many calls wait for this link"), std::move(done));
    }
    const uint64_t id = ++last_id_;
    const Nanos deadline = timeout == 0 ? 0 : loop_.now() + timeout;
    calls_.emplace_hint(calls_.end(), id, Call{std::move(done), deadline, false});
    if (deadline != 0) {
        deadlines_.emplace(deadline, id);
        watch(deadline);
    }
    Frame frame;
    frame.kind = FrameKind::request;
    frame.method = method;
    frame.request_id = id;
    frame.body = std::move(body);
    frame.payload = std::move(payload);
    waiting_.push_back(std::move(frame));
    send_waiting();
}

bool RpcPeer::push(uint16_t method, Bytes body, Buffer payload) {
    if (closed_ || too_big(body, payload)) return false;
    Frame frame;
    frame.kind = FrameKind::push;
    frame.method = method;
    frame.body = std::move(body);
    frame.payload = std::move(payload);
    return link_->send(std::move(frame));
}

void RpcPeer::send_waiting() {
    while (!closed_ && !replies_.empty() && link_->writable()) {
        Frame frame = std::move(replies_.front());
        replies_.pop_front();
        replies_bytes_ -= frame.body.size() + frame.payload.size();
        link_->send(std::move(frame));
    }
    while (!closed_ && !waiting_.empty() && sent_ < kMaxInFlightPerLink && link_->writable()) {
        Frame frame = std::move(waiting_.front());
        waiting_.pop_front();
        auto found = calls_.find(frame.request_id);
        if (found == calls_.end()) continue;  // timed out while it waited
        Call& call = found->second;
        if (call.deadline != 0) frame.deadline_ms = left_ms(call.deadline, loop_.now());
        call.sent = true;
        ++sent_;
        // If this is refused the link is closing, and on_link_closed will end the call.
        link_->send(std::move(frame));
    }
    const bool no_room = !closed_ && !link_->writable() && !(waiting_.empty() && replies_.empty());
    if (no_room && !retry_timer_.running()) {
        retry_timer_.start(kRetryDelay, [this] { send_waiting(); });
    }
}

// The timer stands at the earliest deadline it ever had to; calls that end in time do not touch it.
void RpcPeer::watch(Nanos deadline) {
    if (watched_ != 0 && watched_ <= deadline) return;
    watched_ = deadline;
    deadline_timer_.start(deadline - loop_.now(), [this] { expire(); });
}

void RpcPeer::expire() {
    auto self = shared_from_this();
    watched_ = 0;
    const Nanos now = loop_.now();
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
        if (self.use_count() == 1) return;  // a callback dropped us; see on_link_closed
        finish(deadlines_.begin()->second, RpcReply{Status(Errc::timeout, "no answer"), {}, {}});
    }
    if (!deadlines_.empty()) watch(deadlines_.begin()->first);
    send_waiting();
}

void RpcPeer::finish(uint64_t id, RpcReply reply) {
    auto found = calls_.find(id);
    if (found == calls_.end()) return;  // a late or repeated answer
    Call call = std::move(found->second);
    calls_.erase(found);
    if (call.deadline != 0) deadlines_.erase({call.deadline, id});
    if (call.sent) --sent_;
    call.done(std::move(reply));
}

// --- frames that came -----------------------------------------------------------------------------

void RpcPeer::on_frame(Frame frame) {
    if (closed_) return;
    switch (frame.kind) {
        case FrameKind::request:
            on_request(std::move(frame));
            break;
        case FrameKind::reply: {
            const uint64_t id = frame.request_id;
            finish(id, reply_of(std::move(frame)));
            if (!waiting_.empty() || !replies_.empty()) send_waiting();
            break;
        }
        case FrameKind::push: {
            auto handlers = handlers_;
            if (!handlers->on_push) break;
            handlers->on_push({frame.method, std::move(frame.body), std::move(frame.payload)});
            break;
        }
    }
}

void RpcPeer::on_request(Frame frame) {
    auto state = std::make_shared<Responder::State>();
    state->peer = weak_from_this();
    state->id = frame.request_id;
    state->method = frame.method;
    Responder responder(std::move(state));
    ++requests_pending_;
    auto handlers = handlers_;
    if (!handlers->on_request) {
        responder.reply(Status(Errc::nosys, "nobody answers requests here"));
        return;
    }
    if (requests_pending_ > kMaxRequestsPending || replies_bytes_ > kMaxQueuedBytesPerLink) {
        responder.reply(Status(Errc::busy, "too many requests of this peer are unanswered"));
        return;
    }
    RpcRequest request;
    request.method = frame.method;
    request.body = std::move(frame.body);
    request.payload = std::move(frame.payload);
    if (frame.deadline_ms != 0) request.deadline = loop_.now() + frame.deadline_ms * kMillisecond;
    request.responder = std::move(responder);
    handlers->on_request(std::move(request));
}

void RpcPeer::send_reply(uint64_t id,
                         uint16_t method,
                         const Status& status,
                         Bytes body,
                         Buffer payload) {
    --requests_pending_;
    if (closed_) return;
    if (too_big(body, payload)) {
        return send_reply_frame(
            id, method, Status(Errc::toobig, "answer exceeds the limits of a frame"), {}, {});
    }
    send_reply_frame(id, method, status, std::move(body), std::move(payload));
}

void RpcPeer::send_reply_frame(uint64_t id,
                               uint16_t method,
                               const Status& status,
                               Bytes body,
                               Buffer payload) {
    Frame frame;
    frame.kind = FrameKind::reply;
    frame.method = method;
    frame.request_id = id;
    frame.status = static_cast<uint16_t>(status.code());
    frame.body = std::move(body);
    frame.payload = std::move(payload);
    if (!status.is_ok() && frame.body.empty() && !status.text().empty()) {
        View text = as_view(status.text().substr(0, kMaxStatusTextBytes));
        frame.body.assign(text.begin(), text.end());
        frame.deadline_ms = kReplyBodyIsText;
    }
    if (replies_.empty() && link_->writable()) {
        link_->send(std::move(frame));
        return;
    }
    // An answer must not be lost for want of room: the asker would wait for its deadline.
    replies_bytes_ += frame.body.size() + frame.payload.size();
    replies_.push_back(std::move(frame));
    send_waiting();
}

}  // namespace lumeofs
