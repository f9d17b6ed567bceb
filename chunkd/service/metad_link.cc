// SPDX-License-Identifier: Apache-2.0
#include "chunkd/service/metad_link.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/wire/codec.h"
#include "common/wire/method.h"

namespace lumeofs::chunkd {

namespace {

constexpr Nanos kAskAgain = 50 * kMillisecond;
constexpr Nanos kGoodbyePatience = 500 * kMillisecond;

template <typename Message>
std::shared_ptr<Bytes> node_request(Message message) {
    wire::NodeRequestT request;
    request.op.Set(std::move(message));
    return std::make_shared<Bytes>(wire::encode<wire::NodeRequest>(request));
}

}  // namespace

MetadLink::MetadLink(Loop& loop,
                     Transport& transport,
                     Prng prng,
                     MetadLinkOptions options,
                     MetadLinkEvents events)
    : loop_(loop),
      prng_(prng),
      options_(std::move(options)),
      events_(std::move(events)),
      timer_(loop) {
    for (size_t i = 0; i < options_.addresses.size(); ++i) {
        ConnectorOptions how;
        how.address = options_.addresses[i];
        how.hello = options_.hello;
        ConnectorEvents on;
        on.on_push = [this, i](const RpcPush& push) {
            if (push.method != static_cast<uint16_t>(Method::leader_hello)) return;
            leader_ = i;
            if (registered_) beat_soon();
        };
        on.on_failure = [address = how.address](const Status& why) {
            LFS_LOG(debug, "metad {} cannot be reached: {}", address, why.to_string());
        };
        links_.push_back(std::make_unique<Connector>(
            loop, transport, prng_.fork(how.address), std::move(how), std::move(on)));
    }
}

MetadLink::~MetadLink() { alive_.reset(); }

void MetadLink::start() {
    started_ = true;
    for (auto& link : links_) link->start();
    attempt_ = prng_.next();
    try_register();
}

void MetadLink::stop(bool goodbye, std::function<void()> done) {
    timer_.stop();
    stopping_ = true;
    alive_ = std::make_shared<char>();  // answers that are still to come find nobody
    auto finish = [this, done = std::move(done), called = std::make_shared<bool>(false)] {
        if (std::exchange(*called, true)) return;
        alive_ = std::make_shared<char>();
        for (auto& link : links_) link->stop();
        if (done) done();
    };
    if (!goodbye || !registered_) {
        loop_.post([finish, alive = std::weak_ptr<char>(alive_)] {
            if (!alive.expired()) finish();
        });
        return;
    }
    wire::HeartbeatT last;
    events_.fill_heartbeat(&last);
    last.sent_ns = loop_.now();
    last.goodbye = true;
    ask<wire::HeartbeatReply>(node_request(std::move(last)),
                              loop_.now() + kGoodbyePatience,
                              [finish](const Result<wire::HeartbeatReplyT>&) { finish(); });
}

size_t MetadLink::pick() const {
    for (size_t i = 0; i < links_.size(); ++i) {
        const size_t at = (leader_ + i) % links_.size();
        if (links_[at]->is_up()) return at;
    }
    return links_.size();
}

void MetadLink::hint(uint64_t leader, const std::string& address) {
    for (size_t i = 0; i < links_.size(); ++i) {
        const bool same_node = links_[i]->peer() != nullptr && leader != 0 &&
                               links_[i]->peer()->hello().node.value == leader;
        if (same_node || (!address.empty() && links_[i]->address() == address)) {
            leader_ = i;
            return;
        }
    }
    leader_ = (leader_ + 1) % links_.size();
}

template <typename Reply>
void MetadLink::ask(std::shared_ptr<Bytes> body,
                    Nanos deadline,
                    std::function<void(Result<typename Reply::NativeTableType>)> done) {
    const Nanos left = deadline - loop_.now();
    if (left <= 0) return done(Status(Errc::timeout, "no metad leader has answered"));
    auto again = [this, body, deadline, done, alive = std::weak_ptr<char>(alive_)] {
        loop_.after(kAskAgain, [this, body, deadline, done, alive] {
            if (!alive.expired()) ask<Reply>(body, deadline, done);
        });
    };
    const size_t at = pick();
    if (at == links_.size()) return again();
    links_[at]->call(
        static_cast<uint16_t>(Method::node),
        *body,
        {},
        left,
        [this, at, done, again, alive = std::weak_ptr<char>(alive_)](RpcReply rpc) {
            if (alive.expired()) return;
            if (!rpc.status.is_ok()) {
                leader_ = (at + 1) % links_.size();
                return again();
            }
            auto reply = wire::decode<Reply>(rpc.body);
            if (!reply.is_ok()) return done(reply.status());
            const Errc errc = static_cast<Errc>(reply->errc);
            if (errc == Errc::not_leader || errc == Errc::unavailable) {
                hint(reply->leader, reply->leader_address);
                return again();
            }
            leader_ = at;
            done(std::move(reply));
        });
}

// Heartbeats name no leader hint fields of their own type but have the same two, so one ask serves.
void MetadLink::try_register() {
    registered_ = false;
    wire::RegisterT message;
    events_.fill_register(&message);
    message.attempt = attempt_;
    ask<wire::RegisterReply>(
        node_request(std::move(message)),
        loop_.now() + kRpcTimeout,
        [this](Result<wire::RegisterReplyT> reply) { registered(std::move(reply)); });
}

void MetadLink::registered(Result<wire::RegisterReplyT> reply) {
    if (stopping_) return;
    if (!reply.is_ok() || reply->errc != 0) {
        const Errc errc = reply.is_ok() ? static_cast<Errc>(reply->errc) : reply.code();
        const std::string text = reply.is_ok() ? reply->text : reply.status().to_string();
        if (errc == Errc::exist || errc == Errc::config || errc == Errc::inval ||
            errc == Errc::conflict) {
            events_.on_refused(Status(Errc::config, "metad refuses to register this chunkd: " + text));
            return;
        }
        LFS_LOG(info, "not registered yet: {} {}", errc_name(errc), text);
        timer_.start(2 * kAskAgain, [this] { try_register(); });
        return;
    }
    registered_ = true;
    lease_until_ = 0;
    events_.on_registered(*reply);
    if (registered_ && !stopping_) beat();
}

void MetadLink::beat_soon() {
    if (!registered_ || stopping_) return;
    if (beating_) {
        beat_again_ = true;
        return;
    }
    loop_.at_end_of_batch([this, alive = std::weak_ptr<char>(alive_)] {
        if (!alive.expired() && registered_ && !stopping_ && !beating_) beat();
    });
}

void MetadLink::beat() {
    beating_ = true;
    beat_again_ = false;
    timer_.stop();
    wire::HeartbeatT message;
    events_.fill_heartbeat(&message);
    // A repeat of this message carries the same time: the lease counts from the first send.
    message.sent_ns = loop_.now();
    ask<wire::HeartbeatReply>(
        node_request(std::move(message)),
        loop_.now() + options_.beat,
        [this](Result<wire::HeartbeatReplyT> reply) { beaten(std::move(reply)); });
}

void MetadLink::beaten(Result<wire::HeartbeatReplyT> reply) {
    beating_ = false;
    if (stopping_ || !registered_) return;
    const Errc errc = reply.is_ok() ? static_cast<Errc>(reply->errc) : reply.code();
    if (errc == Errc::fenced || errc == Errc::not_found) {
        // This start is not known (any more): the next one begins, in this process.
        LFS_LOG(warn, "metad does not know this start of ours: registering again");
        lease_until_ = 0;
        attempt_ = prng_.next();
        return try_register();
    }
    if (errc != Errc::ok) {
        events_.on_beat_lost();
        timer_.start(2 * kAskAgain, [this] { beat(); });
        return;
    }
    // First what must be obeyed, then the time in which we may serve.
    events_.on_beat(*reply);
    if (reply->lease_ns != 0 && reply->sent_ns <= loop_.now()) {
        const auto lease = static_cast<Nanos>(std::min<uint64_t>(reply->lease_ns, INT64_MAX / 2));
        lease_until_ = std::max(lease_until_, reply->sent_ns + shortened(lease));
    }
    if (beat_again_) return beat();
    timer_.start(options_.beat, [this] { beat(); });
}

void MetadLink::call(wire::NodeOpUnion op,
                     Nanos timeout,
                     std::function<void(Result<wire::ConfigReplyT>)> done) {
    wire::NodeRequestT request;
    request.op = std::move(op);
    ask<wire::ConfigReply>(std::make_shared<Bytes>(wire::encode<wire::NodeRequest>(request)),
                           loop_.now() + timeout,
                           std::move(done));
}

}  // namespace lumeofs::chunkd
