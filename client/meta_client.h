// SPDX-License-Identifier: Apache-2.0
// MetaClient: the way to the metadata leader, whoever that is, and the session with it.
//
// It keeps a link to every metad. *Searching* for the leader it asks one after the other (hints of
// refusals and LeaderHello pushes go first); whom it finds it tells what the session holds (Attach)
// before anything else, and then sends all requests that have no answer yet. Requests are never
// lost:
//   mutations  wait for a slot, keep it and their sequence number over any number of tries [21];
//   queries    are simply asked again;
//   session    (opens, leases, acknowledgements) belong to the session and end with it.
// The session's leases are good until (send of the last renewal that was answered) +
// shortened(lease).
//
// When the leader says that the session is gone: on_session_lost, then every request in doubt or
// bound to the session ends with Errc::no_session, and a new session is opened for the rest.
// States: stopped -> searching <-> ready; searching covers OpenSession and Attach.
// single-thread: the loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/slot_table.h"
#include "client/types.h"
#include "common/base/prng.h"
#include "common/env/loop.h"
#include "common/env/transport.h"
#include "common/rpc/connector.h"
#include "common/wire/messages.h"

namespace lumeofs::client {

// The outcome of one request. `reply` counts also with some errors (conflict: attr; not_inline:
// grants; exist: attr).
struct MetaAnswer {
    Status status;
    wire::MetaReplyT reply;
    int tries = 1;  // more than one: an earlier try may have been carried out
};
using MetaDone = std::function<void(MetaAnswer)>;

struct MetaEvents {
    // Before an Attach: drops what no new leader knows of; when the Attach may be sent (a boot time).
    std::function<Nanos()> before_attach;
    // What the session holds, for Attach.
    std::function<std::vector<wire::OpenRecordT>()> declare;
    std::function<void(const wire::RecallT&)> on_recall;
    std::function<void()> on_lease;  // the lease time was extended (attached or renewed)
    std::function<void()> on_session_lost;
    std::function<void(const wire::NodeAddressT&)> on_node;  // an address, maybe a new one
};

enum class Urgency {
    normal,
    flush,  // what a recall may need: may use the reserved slots [29]
};
// Whether a request that was not sent yet may go to the next session when this one ends.
enum class Binding { free, session };

class MetaClient {
public:
    MetaClient(Loop& loop,
               Transport& transport,
               Prng prng,
               const ClientOptions& options,
               MetaEvents events);
    ~MetaClient();
    MetaClient(const MetaClient&) = delete;
    MetaClient& operator=(const MetaClient&) = delete;

    void start();
    // Ends the session at the leader if that is possible now, then all links. Pending requests are
    // dropped without an answer. `done` once, after `patience` at the latest.
    void stop(Nanos patience, std::function<void()> done);

    void mutate(Urgency urgency,
                Binding binding,
                const Caller& caller,
                wire::MutationOpUnion op,
                MetaDone done);
    void query(const Caller& caller, wire::QueryOpUnion op, MetaDone done);
    void session_request(wire::SessionOpUnion op, MetaDone done);

    // Leases count now (by our clock).
    bool lease_valid() const;
    Nanos lease_until() const { return session_ != 0 ? lease_until_ : 0; }
    bool ready() const { return phase_ == Phase::ready; }
    uint64_t session() const { return session_; }
    uint64_t cluster_id_high() const { return cluster_high_; }
    uint64_t cluster_id_low() const { return cluster_low_; }
    // The cluster's time, never behind what any answer has shown [35].
    int64_t cluster_now() const { return loop_.now() + clock_offset_; }
    // A time that the leader gave to something: the cluster's clock is at least there.
    void observe_time(int64_t ctime_ns);
    // Asks for the lease to be renewed now (a refusal elsewhere says that the session may be gone).
    void renew_now();

    uint64_t last_request() const { return last_request_; }  // number of the last one made
    // Slot and sequence number of a mutation without an answer; nothing if it was never sent.
    std::optional<SlotTable::Slot> slot_of(uint64_t request) const;
    std::string leader_address() const;
    std::string waits_for() const;  // for people
    uint64_t requests_sent() const { return requests_sent_; }
    uint64_t retries() const { return retries_; }
    uint64_t sessions_lost() const { return sessions_lost_; }

private:
    enum class Phase { stopped, searching, ready };
    enum class Kind { mutation, query, session };
    struct Metad {
        std::string address;
        std::unique_ptr<Connector> connector;
        uint64_t link = 0;  // number of its present link; 0 = down
    };
    struct Request {
        Kind kind = Kind::query;
        Urgency urgency = Urgency::normal;
        Binding binding = Binding::free;
        std::shared_ptr<wire::MutationT> mutation;  // exactly one of the three
        std::shared_ptr<wire::QueryT> query;
        std::shared_ptr<wire::SessionRequestT> session;
        MetaDone done;
        std::optional<uint32_t> slot;
        int tries = 0;
        uint64_t try_number = 0;  // unique; a late answer of an earlier try is dropped
        uint64_t sent_on = 0;     // link of the present try; 0 = none is under way
        Nanos backoff = 0;
    };

    void submit(Request request);
    void try_send(uint64_t id);
    bool take_slot(uint64_t id, Request& request);
    void on_reply(uint64_t id, uint64_t try_number, RpcReply reply);
    void again_later(uint64_t id);
    void run_later();
    void finish(uint64_t id, MetaAnswer answer);
    void resend_all();

    // meta_session.cc
    void on_up(size_t at);
    void on_down(size_t at);
    void on_push(size_t at, const RpcPush& push);
    void search(std::optional<size_t> first);
    void lost_leader(const wire::MetaReplyT* reply);
    std::optional<size_t> hinted(const wire::MetaReplyT& reply) const;
    void probe_next();
    void probe(size_t at);
    void on_probe(size_t at, uint64_t number, bool attach, Nanos sent, RpcReply reply);
    void become_ready(size_t at, Nanos sent, const wire::MetaReplyT& reply);
    void session_lost();
    void renew();
    void on_renewed(uint64_t link, Nanos sent, RpcReply reply);
    void learn(const wire::MetaReplyT& reply);
    Connector* leader_link() const;

    Loop& loop_;
    Transport& transport_;
    Prng prng_;
    const ClientOptions& options_;
    MetaEvents events_;

    Phase phase_ = Phase::stopped;
    std::vector<Metad> metads_;
    size_t leader_ = 0;  // with ready
    size_t last_probed_ = 0;
    std::optional<size_t> hint_;  // whom to ask next
    size_t hint_hops_ = 0;        // hints followed at once, one after the other
    bool probing_ = false;
    uint64_t probe_number_ = 0;
    uint64_t last_link_ = 0;
    uint64_t hello_term_ = 0;
    Timer later_timer_;
    Timer probe_timer_;
    Timer renew_timer_;
    Timer stop_timer_;

    uint64_t session_ = 0;
    uint64_t client_id_high_ = 0;  // of the session that we have or are opening
    uint64_t client_id_low_ = 0;
    uint64_t cluster_high_ = 0;
    uint64_t cluster_low_ = 0;
    uint64_t last_recall_ = 0;
    uint64_t nodes_version_ = 0;
    Nanos lease_until_ = 0;
    int64_t clock_offset_ = 0;
    bool clock_known_ = false;

    SlotTable slots_;
    uint64_t last_request_ = 0;
    uint64_t last_try_ = 0;
    std::map<uint64_t, Request> requests_;          // by age
    std::map<Nanos, std::vector<uint64_t>> later_;  // requests that wait for their next try
    std::deque<uint64_t> wants_slot_;               // mutations without a slot, by age
    std::deque<uint64_t> wants_slot_urgent_;

    uint64_t requests_sent_ = 0;
    uint64_t retries_ = 0;
    uint64_t sessions_lost_ = 0;
    std::function<void()> stopped_;
};

// What the frame and the body of a reply say together; bytes that do not fit give Errc::corrupt.
MetaAnswer to_answer(const RpcReply& reply);

}  // namespace lumeofs::client
