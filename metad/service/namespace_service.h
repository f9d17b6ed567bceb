// SPDX-License-Identifier: Apache-2.0
// File operations of clients: Method::mutation and Method::query.
//
// A mutation: its slot is checked (a repeat gets the stored reply, one that is under way is joined),
// the leases that contradict it are recalled and their inodes blocked, *then* it is proposed [22]; so
// nobody else holds a lease on what a committed entry changes, and a stored reply is always safe to
// give: what a session may keep stands only in the first answer, never in a repeat.
// A query: read barrier, then a flush of what another session has buffered for the inode, then the
// answer from the applied state, with read leases on what it shows. single-thread: the metad loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "metad/service/leader.h"
#include "metad/service/session_service.h"

namespace lumeofs::metad {

class NamespaceService {
public:
    // `cut` is called after each operation that may have cut a chunk, or found no room for the mark.
    NamespaceService(Leader& leader, SessionService& sessions, std::function<void()> cut)
        : leader_(leader), sessions_(sessions), cut_(std::move(cut)) {}

    void handle_mutation(const RpcRequest& request);
    void handle_query(const RpcRequest& request);

private:
    struct Running;  // one mutation on its way
    using RunningPtr = std::shared_ptr<Running>;

    void start(const RunningPtr& run);
    void claim_next(const RunningPtr& run);
    void recall_readers(const RunningPtr& run);
    void propose(const RunningPtr& run);
    Status place_chunks(const RunningPtr& run, wire::ApplyMutationT* command);
    void applied(const RunningPtr& run, Result<Bytes> reply);
    Bytes with_volatile_parts(const RunningPtr& run, Bytes reply);
    Bytes with_read_leases(const RunningPtr& run, Bytes reply);
    void keep(LiveSession& session, InodeId ino, wire::MetaReplyT* reply);
    void finish(const RunningPtr& run, const Bytes& reply);
    void unblock(const RunningPtr& run);

    void query(const std::shared_ptr<wire::QueryT>& query, const Responder& responder);
    void answer_query(const wire::QueryT& query, const Responder& responder);
    void keep_answer(const wire::QueryT& query, wire::MetaReplyT* reply);
    InodeId target_of(const wire::QueryT& query);

    Leader& leader_;
    SessionService& sessions_;
    std::function<void()> cut_;
};

}  // namespace lumeofs::metad
