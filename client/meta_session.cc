// SPDX-License-Identifier: Apache-2.0
// MetaClient's other half: links, the search for the leader, the session and its lease time.
#include <algorithm>
#include <utility>

#include "client/meta_client.h"
#include "common/base/log.h"
#include "common/wire/codec.h"
#include "common/wire/frame.h"
#include "common/wire/method.h"

namespace lumeofs::client {
namespace {

constexpr Nanos kProbePause = 30 * kMillisecond;  // between asking two metads that are no leaders

}  // namespace

MetaClient::MetaClient(
    Loop& loop, Transport& transport, Prng prng, const ClientOptions& options, MetaEvents events)
    : loop_(loop),
      transport_(transport),
      prng_(prng),
      options_(options),
      events_(std::move(events)),
      later_timer_(loop),
      probe_timer_(loop),
      renew_timer_(loop),
      stop_timer_(loop),
      cluster_high_(options.cluster_id_high),
      cluster_low_(options.cluster_id_low) {}

MetaClient::~MetaClient() = default;

void MetaClient::start() {
    clock_offset_ = loop_.wall_now() - loop_.now();  // a guess until a leader answers
    client_id_high_ = prng_.next();
    client_id_low_ = prng_.next() | 1;
    phase_ = Phase::searching;
    metads_.resize(options_.metads.size());
    for (size_t i = 0; i < metads_.size(); ++i) {
        metads_[i].address = options_.metads[i];
        ConnectorOptions how;
        how.address = options_.metads[i];
        how.hello = [this] {
            Hello hello;
            hello.protocol_revision = kProtocolRevision;
            hello.role = Role::client;
            hello.cluster_id_high = cluster_high_;
            hello.cluster_id_low = cluster_low_;
            return hello;
        };
        ConnectorEvents on;
        on.on_up = [this, i](RpcPeer&) { on_up(i); };
        on.on_down = [this, i](const Status&) { on_down(i); };
        on.on_push = [this, i](RpcPush push) { on_push(i, push); };
        metads_[i].connector = std::make_unique<Connector>(
            loop_, transport_, prng_.fork(options_.metads[i]), std::move(how), std::move(on));
        metads_[i].connector->start();
    }
}

void MetaClient::stop(Nanos patience, std::function<void()> done) {
    stopped_ = std::move(done);
    requests_.clear();
    later_.clear();
    probe_timer_.stop();
    renew_timer_.stop();
    auto end = [this] {
        phase_ = Phase::stopped;
        stop_timer_.stop();
        for (Metad& metad : metads_) metad.connector->stop();
        if (auto call = std::exchange(stopped_, nullptr)) call();
    };
    Connector* link = leader_link();
    if (link == nullptr || session_ == 0) {
        stop_timer_.start(0, end);
        return;
    }
    wire::SessionRequestT request;
    request.session = session_;
    request.op.Set(wire::CloseSessionT{});
    stop_timer_.start(patience, end);
    link->call(static_cast<uint16_t>(Method::session),
               wire::encode<wire::SessionRequest>(request),
               {},
               patience,
               [this, end](const RpcReply&) { stop_timer_.start(0, end); });
    phase_ = Phase::stopped;
}

bool MetaClient::lease_valid() const { return session_ != 0 && loop_.now() < lease_until_; }

Connector* MetaClient::leader_link() const {
    if (!ready() || metads_[leader_].link == 0) return nullptr;
    return metads_[leader_].connector.get();
}

std::string MetaClient::leader_address() const {
    return ready() ? metads_[leader_].address : std::string();
}

void MetaClient::observe_time(int64_t ctime_ns) {
    if (!clock_known_) return;
    clock_offset_ = std::max(clock_offset_, ctime_ns - loop_.now());
}

// --- links

void MetaClient::on_up(size_t at) {
    metads_[at].link = ++last_link_;
    if (phase_ == Phase::searching && !probing_ && !probe_timer_.running()) {
        hint_ = hint_.value_or(at);
        probe_next();
    }
}

void MetaClient::on_down(size_t at) {
    const uint64_t link = std::exchange(metads_[at].link, 0);
    for (auto& [id, request] : requests_) {
        if (request.sent_on == link) request.sent_on = 0;
    }
    if (ready() && leader_ == at) search(std::nullopt);
}

void MetaClient::on_push(size_t at, const RpcPush& push) {
    if (push.method == static_cast<uint16_t>(Method::leader_hello)) {
        auto hello = wire::decode<wire::LeaderHello>(push.body);
        if (!hello.is_ok() || hello->term < hello_term_ || phase_ == Phase::stopped) return;
        const bool newer = hello->term > hello_term_;
        hello_term_ = hello->term;
        if (ready() && leader_ == at && !newer) return;
        search(at);
    } else if (push.method == static_cast<uint16_t>(Method::recall)) {
        auto recall = wire::decode<wire::Recall>(push.body);
        if (!recall.is_ok() || recall->session != session_ || session_ == 0) return;
        last_recall_ = std::max(last_recall_, recall->number);
        events_.on_recall(*recall);
    }
}

// --- the search

void MetaClient::search(std::optional<size_t> first) {
    if (phase_ == Phase::stopped) return;
    phase_ = Phase::searching;
    renew_timer_.stop();
    probe_timer_.stop();
    probing_ = false;
    ++probe_number_;  // whoever was asked before is no longer listened to
    hint_ = first;
    probe_next();
}

std::optional<size_t> MetaClient::hinted(const wire::MetaReplyT& reply) const {
    for (size_t i = 0; i < metads_.size(); ++i) {
        if (!reply.leader_address.empty() && metads_[i].address == reply.leader_address) return i;
        RpcPeer* peer = metads_[i].connector->peer();
        if (reply.leader != 0 && peer != nullptr && peer->hello().node.value == reply.leader)
            return i;
    }
    return std::nullopt;
}

void MetaClient::lost_leader(const wire::MetaReplyT* reply) {
    search(reply != nullptr ? hinted(*reply) : std::nullopt);
}

void MetaClient::probe_next() {
    const std::optional<size_t> first = std::exchange(hint_, std::nullopt);
    if (first && metads_[*first].link != 0) return probe(*first);
    for (size_t i = 1; i <= metads_.size(); ++i) {
        const size_t at = (last_probed_ + i) % metads_.size();
        if (metads_[at].link != 0) return probe(at);
    }
    // Nobody is there: on_up() goes on.
}

void MetaClient::probe(size_t at) {
    if (session_ != 0) {
        const Nanos wait = events_.before_attach() - loop_.now();
        if (wait > 0) {
            hint_ = at;
            return probe_timer_.start(wait, [this] { probe_next(); });
        }
    }
    last_probed_ = at;
    probing_ = true;
    const uint64_t number = ++probe_number_;
    wire::SessionRequestT request;
    request.session = session_;
    const bool attach = session_ != 0;
    if (attach) {
        wire::AttachT op;
        for (wire::OpenRecordT& record : events_.declare()) {
            op.opens.push_back(std::make_unique<wire::OpenRecordT>(std::move(record)));
        }
        op.last_recall = last_recall_;
        op.number = number;
        request.op.Set(std::move(op));
    } else {
        wire::OpenSessionT op;
        op.client_id_high = client_id_high_;
        op.client_id_low = client_id_low_;
        op.host = options_.host;
        op.mount = options_.mount_path;
        request.op.Set(std::move(op));
    }
    ++requests_sent_;
    metads_[at].connector->call(static_cast<uint16_t>(Method::session),
                                wire::encode<wire::SessionRequest>(request),
                                {},
                                kRpcTimeout,
                                [this, at, number, attach, sent = loop_.now()](RpcReply reply) {
                                    on_probe(at, number, attach, sent, std::move(reply));
                                });
}

void MetaClient::on_probe(size_t at, uint64_t number, bool attach, Nanos sent, RpcReply reply) {
    if (number != probe_number_ || phase_ != Phase::searching) return;
    probing_ = false;
    MetaAnswer answer = to_answer(reply);
    const Errc code = answer.status.code();
    if (answer.status.is_ok()) {
        learn(answer.reply);
        if (attach) return become_ready(at, sent, answer.reply);
        session_ = answer.reply.value;
        LFS_LOG(info, "session {} opened at {}", session_, metads_[at].address);
        return probe(at);
    }
    if (attach && (code == Errc::no_session || code == Errc::fenced)) {
        hint_ = at;
        return session_lost();
    }
    // A leader that is not ready yet is asked again; another one only if it is known who leads.
    if (code == Errc::not_leader) hint_ = hinted(answer.reply);
    if (code == Errc::unavailable || code == Errc::busy) hint_ = at;
    // Two that send us to each other (an election is under way) must not keep us running in a
    // circle.
    if (hint_ && *hint_ != at && ++hint_hops_ <= metads_.size()) return probe_next();
    hint_hops_ = 0;
    probe_timer_.start(kProbePause, [this] { probe_next(); });
}

void MetaClient::become_ready(size_t at, Nanos sent, const wire::MetaReplyT& reply) {
    phase_ = Phase::ready;
    leader_ = at;
    lease_until_ = std::max(lease_until_, sent + shortened(static_cast<Nanos>(reply.value)));
    renew_timer_.repeat(kBeat, [this] { renew(); });
    resend_all();
    events_.on_lease();
}

// --- the session

void MetaClient::session_lost() {
    LFS_LOG(warn, "session {} was ended by the cluster: what was in doubt fails", session_);
    ++sessions_lost_;
    session_ = 0;
    lease_until_ = 0;
    last_recall_ = 0;
    client_id_high_ = prng_.next();
    client_id_low_ = prng_.next() | 1;
    slots_.reset();
    wants_slot_.clear();
    wants_slot_urgent_.clear();
    std::vector<MetaDone> failed;
    for (auto it = requests_.begin(); it != requests_.end();) {
        Request& request = it->second;
        const bool in_doubt = request.kind == Kind::mutation && request.tries > 0;
        request.sent_on = 0;
        request.slot.reset();
        if (in_doubt || request.binding == Binding::session) {
            failed.push_back(std::move(request.done));
            it = requests_.erase(it);
        } else {
            request.try_number = 0;
            ++it;
        }
    }
    search(std::exchange(hint_, std::nullopt));
    events_.on_session_lost();
    for (MetaDone& done : failed) {
        done({Status(Errc::no_session, "the session was ended while the request was under way"),
              {},
              1});
    }
}

void MetaClient::renew_now() {
    if (ready()) renew();
}

void MetaClient::renew() {
    Connector* link = leader_link();
    if (link == nullptr) return;
    wire::SessionRequestT request;
    request.session = session_;
    wire::RenewT op;
    op.nodes_version = nodes_version_;
    request.op.Set(std::move(op));
    ++requests_sent_;
    link->call(static_cast<uint16_t>(Method::session),
               wire::encode<wire::SessionRequest>(request),
               {},
               kRpcTimeout,
               [this, number = metads_[leader_].link, sent = loop_.now()](RpcReply reply) {
                   on_renewed(number, sent, std::move(reply));
               });
}

void MetaClient::on_renewed(uint64_t link, Nanos sent, RpcReply reply) {
    if (!ready() || metads_[leader_].link != link) return;
    MetaAnswer answer = to_answer(reply);
    const Errc code = answer.status.code();
    if (answer.status.is_ok()) {
        const Nanos until = sent + shortened(static_cast<Nanos>(answer.reply.value));
        if (answer.reply.value != 0) lease_until_ = std::max(lease_until_, until);
        learn(answer.reply);
        events_.on_lease();
    } else if (code == Errc::no_session || code == Errc::fenced) {
        session_lost();
    } else if (code == Errc::not_leader || code == Errc::timeout || code == Errc::disconnected ||
               code == Errc::unavailable) {
        // A leader that does not answer may hang: ask the others (and then it again).
        lost_leader(&answer.reply);
    }
}

void MetaClient::learn(const wire::MetaReplyT& reply) {
    if (reply.cluster_id_low != 0 || reply.cluster_id_high != 0) {
        cluster_high_ = reply.cluster_id_high;
        cluster_low_ = reply.cluster_id_low;
    }
    if (reply.cluster_time_ns != 0) {
        // Down only slowly: an answer that was long on its way shows an old time.
        const int64_t offset = reply.cluster_time_ns - loop_.now();
        clock_offset_ =
            clock_known_ ? std::max(offset, clock_offset_ - 100 * kMicrosecond) : offset;
        clock_known_ = true;
    }
    if (reply.nodes_version != 0) nodes_version_ = reply.nodes_version;
    for (const auto& node : reply.nodes) events_.on_node(*node);
    if (reply.attr) observe_time(reply.attr->ctime_ns);
}

}  // namespace lumeofs::client
