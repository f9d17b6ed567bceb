// SPDX-License-Identifier: Apache-2.0
// Checks Raft's safety properties (figure 3.2) from outside, after every step of a group in one
// process: tests and the simulation feed it, the daemons do not.
//
// It remembers across the whole run: who led each term, every entry that anyone ever appended (its
// content and the term before it: by induction that is log matching), and what was ever committed.
// Guarded by caller.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "metad/raft/raft_node.h"
#include "metad/raft/types.h"

namespace lumeofs::raft {

struct NodeView {
    NodeId id;
    Term term;
    NodeId vote;
    Role role = Role::follower;
    LogIndex floor, applied, handed, commit, stable, last;
};
NodeView look(const RaftNode& node);

class Invariants {
public:
    // What `node` holds from the beginning (a new or a restarted node).
    void started(const RaftNode& node);
    // One step: `before` is look(node) from before it, `update` what it returned.
    void check_since(const NodeView& before, const RaftNode& node, const Update& update);
    // Pairwise, without memory: two leaders of one term, logs that agree and then differ. Slower.
    void check_now(const std::vector<const RaftNode*>& nodes);

    // Empty as long as all is well.
    const std::vector<std::string>& violations() const { return violations_; }
    LogIndex committed() const { return LogIndex{committed_.size()}; }
    Term committed_term(LogIndex index) const { return committed_[index.value - 1].term; }

private:
    struct Known {
        uint64_t digest = 0;
        Term previous;
    };
    struct Committed {
        Term term;
        Term committed_in;  // the term of the node that was first seen to commit it
    };
    void violated(const RaftNode& node, const std::string& what);
    void check_monotonic(const NodeView& before, const NodeView& now, const RaftNode& node);
    void check_leader(const NodeView& before,
                      const NodeView& now,
                      const RaftNode& node,
                      const Update& update);
    void check_appended(const RaftNode& node, const std::vector<Entry>& entries);
    void check_committed(const NodeView& before, const NodeView& now, const RaftNode& node);
    void check_handed(const NodeView& before, const RaftNode& node, const Update& update);

    std::map<Term, NodeId> leaders_;
    std::map<std::pair<LogIndex, Term>, Known> entries_;
    std::vector<Committed> committed_;  // by index - 1
    std::vector<std::string> violations_;
};

}  // namespace lumeofs::raft
