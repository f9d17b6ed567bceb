// SPDX-License-Identifier: Apache-2.0
// Messages and updates as text, for transcripts, traces and failing tests. Stable: the expected
// transcripts under tests/unit/metad/raft/testdata are written in it.
// Pure functions; thread-safe.
#pragma once

#include <string>
#include <vector>

#include "metad/raft/raft_node.h"
#include "metad/raft/types.h"

namespace lumeofs::raft {

const char* to_text(Role role);
const char* to_text(MessageType type);
std::string to_text(const Entry& entry);            // 7/2 "text", 7/2 (empty), 7/2 (membership 1 2)
std::string to_text(const Membership& membership);  // 1 2 3 4L: L marks a learner
std::string to_text(const Message& message);        // 1>2 append term 2 prev 6/2 [7/2 "a"] ...
// One line for each thing that the update asks for or tells, in its order; without messages.
std::vector<std::string> to_lines(NodeId node, const Update& update);
std::string to_text(const NodeStatus& status);

}  // namespace lumeofs::raft
