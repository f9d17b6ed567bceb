// SPDX-License-Identifier: Apache-2.0
// Administration: questions of tools and people, answered with JSON (Method::admin).
//
//   status  the cluster in one look: health, what is wrong right now, metads, chunkds, capacity
//   nodes   every node with its state; chunks [node, cursor, limit]; chunk (one, by id)
//   file    a file's inode, layout and replicas, by path; sessions; raft
// Health: "healthy" nothing is wrong; "degraded" everything is served, with less redundancy or with a
// node missing; "damaged" some data cannot be read or written now.
// Answered by the leader after a read barrier; a follower answers `raft` only. single-thread: the loop.
#pragma once

#include <string>

#include "metad/service/leader.h"
#include "metad/service/session_service.h"

namespace lumeofs::metad {

// JSON text. Errors: inval (unknown question), not_found, noent …
Result<std::string> admin_answer(Leader& leader,
                                 const SessionService& sessions,
                                 const wire::AdminRequestT& request);
// What any metad can say of itself.
std::string raft_status_json(const Consensus& consensus, NodeId self);

}  // namespace lumeofs::metad
