// SPDX-License-Identifier: Apache-2.0
// Requests: slots, tries, answers. The session and the search for the leader: meta_session.cc.
#include "client/meta_client.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/wire/codec.h"
#include "common/wire/method.h"

namespace lumeofs::client {
namespace {

constexpr Nanos kBackoffMin = 10 * kMillisecond;
constexpr Nanos kBackoffMax = 500 * kMillisecond;
constexpr Nanos kTryMax = 8 * kSecond;

std::unique_ptr<wire::CallerT> to_wire(const Caller& caller) {
    auto out = std::make_unique<wire::CallerT>();
    out->uid = caller.uid;
    out->gid = caller.gid;
    out->groups = caller.groups;
    out->check = caller.check;
    out->umask = caller.umask;
    return out;
}

// Not an answer yet: the same request is sent again.
bool is_transient(Errc code) {
    return code == Errc::unavailable || code == Errc::timeout || code == Errc::disconnected ||
           code == Errc::busy || code == Errc::shutting_down || code == Errc::not_leader ||
           code == Errc::corrupt || code == Errc::protocol;
}

}  // namespace

MetaAnswer to_answer(const RpcReply& reply) {
    MetaAnswer answer;
    answer.status = reply.status;
    if (reply.body.empty()) {
        if (reply.status.is_ok()) answer.status = Status(Errc::corrupt, "empty answer");
        return answer;
    }
    auto decoded = wire::decode<wire::MetaReply>(reply.body);
    if (!decoded.is_ok()) {
        if (reply.status.is_ok()) answer.status = decoded.status();
        return answer;
    }
    answer.reply = std::move(*decoded);
    if (answer.reply.errc != 0) {
        answer.status = Status(static_cast<Errc>(answer.reply.errc), answer.reply.text);
    }
    return answer;
}

void MetaClient::mutate(Urgency urgency,
                        Binding binding,
                        const Caller& caller,
                        wire::MutationOpUnion op,
                        MetaDone done) {
    Request request;
    request.kind = Kind::mutation;
    request.urgency = urgency;
    request.binding = binding;
    request.mutation = std::make_shared<wire::MutationT>();
    request.mutation->caller = to_wire(caller);
    request.mutation->op = std::move(op);
    request.done = std::move(done);
    submit(std::move(request));
}

void MetaClient::query(const Caller& caller, wire::QueryOpUnion op, MetaDone done) {
    Request request;
    request.query = std::make_shared<wire::QueryT>();
    request.query->caller = to_wire(caller);
    request.query->op = std::move(op);
    request.done = std::move(done);
    submit(std::move(request));
}

void MetaClient::session_request(wire::SessionOpUnion op, MetaDone done) {
    Request request;
    request.kind = Kind::session;
    request.binding = Binding::session;
    request.session = std::make_shared<wire::SessionRequestT>();
    request.session->op = std::move(op);
    request.done = std::move(done);
    submit(std::move(request));
}

void MetaClient::submit(Request request) {
    const uint64_t id = ++last_request_;
    if (phase_ == Phase::stopped) return;  // after stop() nothing is answered any more
    requests_.emplace(id, std::move(request));
    if (ready()) try_send(id);
}

std::optional<SlotTable::Slot> MetaClient::slot_of(uint64_t request) const {
    auto it = requests_.find(request);
    if (it == requests_.end() || !it->second.slot) return std::nullopt;
    return SlotTable::Slot{it->second.mutation->slot, it->second.mutation->sequence};
}

bool MetaClient::take_slot(uint64_t id, Request& request) {
    const bool urgent = request.urgency == Urgency::flush;
    auto slot = slots_.acquire(urgent);
    if (!slot) {
        auto& queue = urgent ? wants_slot_urgent_ : wants_slot_;
        if (std::find(queue.begin(), queue.end(), id) == queue.end()) queue.push_back(id);
        return false;
    }
    request.slot = slot->number;
    request.mutation->session = session_;
    request.mutation->slot = slot->number;
    request.mutation->sequence = slot->sequence;
    return true;
}

void MetaClient::try_send(uint64_t id) {
    auto it = requests_.find(id);
    Connector* link = leader_link();
    if (it == requests_.end() || link == nullptr) return;
    Request& request = it->second;
    if (request.sent_on == metads_[leader_].link) return;  // under way there
    Method method = Method::query;
    Bytes body;
    switch (request.kind) {
        case Kind::mutation:
            if (!request.slot && !take_slot(id, request)) return;
            method = Method::mutation;
            body = wire::encode<wire::Mutation>(*request.mutation);
            break;
        case Kind::query:
            request.query->session = session_;
            body = wire::encode<wire::Query>(*request.query);
            break;
        case Kind::session:
            method = Method::session;
            request.session->session = session_;
            body = wire::encode<wire::SessionRequest>(*request.session);
            break;
    }
    if (request.tries > 0) ++retries_;
    const int doublings = std::min(request.tries, 2);
    const Nanos timeout = std::min(kRpcTimeout << doublings, kTryMax);
    ++request.tries;
    request.sent_on = metads_[leader_].link;
    request.try_number = ++last_try_;
    ++requests_sent_;
    link->call(static_cast<uint16_t>(method),
               std::move(body),
               {},
               timeout,
               [this, id, number = request.try_number](RpcReply reply) {
                   on_reply(id, number, std::move(reply));
               });
}

void MetaClient::on_reply(uint64_t id, uint64_t try_number, RpcReply reply) {
    auto it = requests_.find(id);
    if (it == requests_.end() || it->second.try_number != try_number) return;
    Request& request = it->second;
    const uint64_t link = request.sent_on;
    request.sent_on = 0;
    // While we search, the attach under way declares what we held when it was sent: a lease in this
    // answer is not among it, and the leader takes it back [27]. Asked again once we are attached.
    if (!ready()) return;
    MetaAnswer answer = to_answer(reply);
    answer.tries = request.tries;
    const Errc code = answer.status.code();
    const bool from_leader = ready() && link == metads_[leader_].link;
    if (code == Errc::not_leader) {
        if (from_leader) {
            lost_leader(&answer.reply);
        } else if (ready()) {
            again_later(id);
        }
        return;
    }
    if (code == Errc::no_session || code == Errc::fenced) {
        // Every request here carries the present session: earlier ones ended with their session.
        if (session_ != 0) session_lost();
        return;
    }
    if (is_transient(code)) return again_later(id);
    learn(answer.reply);
    finish(id, std::move(answer));
}

// While searching nothing needs to be done: becoming ready sends all that has no try under way.
void MetaClient::again_later(uint64_t id) {
    Request& request = requests_.at(id);
    request.backoff = std::clamp(request.backoff * 2, kBackoffMin, kBackoffMax);
    const Nanos wait = request.backoff / 2 +
                       static_cast<Nanos>(prng_.below(static_cast<uint64_t>(request.backoff / 2)));
    later_[loop_.now() + wait].push_back(id);
    if (!later_timer_.running() || later_.begin()->first == loop_.now() + wait) {
        later_timer_.start(later_.begin()->first - loop_.now(), [this] { run_later(); });
    }
}

void MetaClient::run_later() {
    while (!later_.empty() && later_.begin()->first <= loop_.now()) {
        std::vector<uint64_t> due = std::move(later_.begin()->second);
        later_.erase(later_.begin());
        for (uint64_t id : due) try_send(id);
    }
    if (later_.empty()) return;
    later_timer_.start(later_.begin()->first - loop_.now(), [this] { run_later(); });
}

void MetaClient::finish(uint64_t id, MetaAnswer answer) {
    auto it = requests_.find(id);
    MetaDone done = std::move(it->second.done);
    const std::optional<uint32_t> slot = it->second.slot;
    requests_.erase(it);
    if (slot) {
        slots_.release(*slot);
        // Urgent first; a normal one takes the slot only if it is not a reserved one.
        for (auto* queue : {&wants_slot_urgent_, &wants_slot_}) {
            if (queue->empty() || !ready()) continue;
            const uint64_t next = queue->front();
            queue->pop_front();
            try_send(next);
            break;
        }
    }
    done(std::move(answer));
}

void MetaClient::resend_all() {
    later_.clear();
    wants_slot_.clear();
    wants_slot_urgent_.clear();
    std::vector<uint64_t> ids;
    ids.reserve(requests_.size());
    for (const auto& [id, request] : requests_) ids.push_back(id);
    for (uint64_t id : ids) try_send(id);
}

std::string MetaClient::waits_for() const {
    if (!ready()) {
        return session_ == 0 ? "a metadata leader that opens a session"
                             : "the metadata leader (" + std::to_string(metads_.size()) + " asked)";
    }
    return "the metadata leader " + leader_address();
}

}  // namespace lumeofs::client
