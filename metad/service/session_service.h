// SPDX-License-Identifier: Apache-2.0
// Sessions, opens and leases of clients: Method::session requests (schema/meta.fbs).
//
// A session is opened and ended by log entries; between them it lives on renewals. A new leader
// answers nobody's file operations before every live session has attached or was ended, because only
// they know what they hold (recovering()). What a session held is given to others only after it was
// *fenced*: committed as refused, and every chunkd has acknowledged that or may not serve any more
// [9]; end() does that in order. single-thread: the metad loop.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "metad/service/leader.h"

namespace lumeofs::metad {

class ConfigService;

class SessionService {
public:
    SessionService(Leader& leader, ConfigService& configs);

    void handle(const std::shared_ptr<RpcPeer>& peer, const RpcRequest& request);
    // The link is gone; its sessions stay until their time is over.
    void peer_closed(const RpcPeer* peer);

    bool recovering() const { return recovering_; }
    // Calls `go` when recovery is over, at once if it is.
    void when_recovered(std::function<void()> go);
    // Registers the open and, if the session is alone, gives the lease: fills reply.lease,
    // grant_number, and grants and data of the layout. Requires: claimed for revoke, inode exists.
    void complete_open(LiveSession& session, InodeId ino, bool writer, wire::MetaReplyT* reply);
    // Every 100 ms or so: recalls that are not obeyed, silent sessions, fences that are complete.
    void tick();
    void end(SessionId id, const std::string& reason);

private:
    using Answer = std::function<void(const wire::MetaReplyT&)>;

    void open_session(const std::shared_ptr<RpcPeer>& peer,
                      const wire::OpenSessionT& op,
                      const Answer& answer);
    Lease declared_lease(SessionId id, const wire::OpenRecordT& open) const;
    void attach(const std::shared_ptr<RpcPeer>& peer,
                SessionId id,
                const wire::AttachT& op,
                const Answer& answer);
    void renew(LiveSession& session, const wire::RenewT& op, const Answer& answer);
    void close_session(SessionId id, const Answer& answer);
    void open(SessionId id, const wire::OpenT& op, const Answer& answer);
    void acquire(SessionId id, const wire::AcquireLeaseT& op, const Answer& answer);
    void claim(SessionId id, InodeId ino, Lease mode, std::function<void()> go);
    void dispatch(const std::shared_ptr<RpcPeer>& peer,
                  const wire::SessionRequestT& request,
                  const Answer& answer);

    void fill_layout(SessionId id, InodeId ino, bool writable, wire::MetaReplyT* reply);
    void fill_nodes(wire::MetaReplyT* reply) const;
    void released(InodeId ino);
    void finish_end(SessionId id);
    bool fence_in_force(uint64_t number) const;
    void check_recovered();

    Leader& leader_;
    ConfigService& configs_;
    bool recovering_ = true;
    std::deque<std::function<void()>> waiting_;
    std::map<SessionId, bool> finishing_;  // ApplyEndSession was proposed
};

// The nodes a client or chunkd needs to know, with the states as this leader sees them.
std::vector<std::unique_ptr<wire::NodeAddressT>> node_addresses(const Leader& leader);

}  // namespace lumeofs::metad
