// SPDX-License-Identifier: Apache-2.0
#include "metad/raft/invariants.h"

#include <algorithm>

#include "metad/raft/core.h"
#include "metad/raft/transcript.h"

namespace lumeofs::raft {

struct CoreAccess {
    static const Core& core(const RaftNode& node) { return *node.core_; }
    static NodeView look(const RaftNode& node) {
        const Core& c = core(node);
        return NodeView{c.options_.id,
                        c.hard_.term,
                        c.hard_.vote,
                        c.role_,
                        c.log_.floor(),
                        c.log_.applied(),
                        c.log_.handed(),
                        c.log_.commit(),
                        c.log_.stable(),
                        c.log_.last()};
    }
};

namespace {

uint64_t digest_of(const Entry& entry) {
    uint64_t hash = 0xCBF29CE484222325ULL ^ static_cast<uint64_t>(entry.kind);
    if (!entry.payload) return hash;
    for (uint8_t byte : *entry.payload) hash = (hash ^ byte) * 0x100000001B3ULL;
    return hash;
}

}  // namespace

NodeView look(const RaftNode& node) { return CoreAccess::look(node); }

void Invariants::violated(const RaftNode& node, const std::string& what) {
    violations_.push_back("node " + look(node).id.to_string() + ": " + what);
}

void Invariants::started(const RaftNode& node) {
    const NodeView now = look(node);
    if (now.role == Role::leader) violated(node, "a node starts as leader");
    NodeView nothing = now;
    nothing.commit = now.floor;
    check_committed(nothing, now, node);
}

void Invariants::check_since(const NodeView& before, const RaftNode& node, const Update& update) {
    const NodeView now = look(node);
    check_appended(node, update.append);
    check_monotonic(before, now, node);
    check_leader(before, now, node, update);
    check_committed(before, now, node);
    check_handed(before, node, update);
}

void Invariants::check_monotonic(const NodeView& before,
                                 const NodeView& now,
                                 const RaftNode& node) {
    if (now.term < before.term) violated(node, "the term fell");
    if (now.commit < before.commit) violated(node, "the commit index fell");
    if (now.applied < before.applied) violated(node, "the applied index fell");
    if (now.floor < before.floor) violated(node, "the floor fell");
    if (now.term == before.term && before.vote && now.vote != before.vote) {
        violated(node, "two votes in term " + now.term.to_string());
    }
    if (now.floor > now.applied || now.applied > now.handed || now.handed > now.commit ||
        now.handed > now.stable || now.stable > now.last || now.commit > now.last) {
        violated(node, "floor <= applied <= handed <= commit, stable <= last does not hold");
    }
}

void Invariants::check_leader(const NodeView& before,
                              const NodeView& now,
                              const RaftNode& node,
                              const Update& update) {
    if (now.role != Role::leader) return;
    const auto [leader, first] = leaders_.emplace(now.term, now.id);
    if (!first && leader->second != now.id) {
        violated(node, "election safety: a second leader of term " + now.term.to_string());
    }
    if (before.role == Role::leader && before.term == now.term) {
        if (update.truncate_from || now.last < before.last) violated(node, "leader append-only");
        return;
    }
    // It has just been elected: all that older terms have committed must be in its log.
    for (uint64_t i = now.floor.value + 1; i <= committed_.size(); ++i) {
        const Committed& committed = committed_[i - 1];
        if (committed.committed_in >= now.term) continue;
        if (node.term_at(LogIndex{i}) != committed.term) {
            violated(node, "leader completeness: lacks committed entry " + std::to_string(i));
            return;
        }
    }
}

void Invariants::check_appended(const RaftNode& node, const std::vector<Entry>& entries) {
    for (const Entry& entry : entries) {
        const Known known{digest_of(entry), node.term_at(entry.index - 1)};
        const auto [found, first] = entries_.emplace(std::pair(entry.index, entry.term), known);
        if (first) continue;
        if (found->second.digest != known.digest) {
            violated(node, "log matching: another entry of the same term at " + to_text(entry));
        }
        if (found->second.previous != known.previous) {
            violated(node, "log matching: another entry before " + to_text(entry));
        }
    }
}

void Invariants::check_committed(const NodeView& before,
                                 const NodeView& now,
                                 const RaftNode& node) {
    for (LogIndex at = std::max(before.commit + 1, now.floor); at <= now.commit; at = at + 1) {
        if (!at) continue;
        const Term term = node.term_at(at);
        if (at.value > committed_.size() + 1) {
            violated(node,
                     "commits " + at.to_string() + " before anyone committed its predecessor");
            return;
        }
        if (at.value == committed_.size() + 1) {
            committed_.push_back({term, now.term});
        } else if (committed_[at.value - 1].term != term) {
            violated(node,
                     "state machine safety: commits entry " + at.to_string() + " of term " +
                         term.to_string() + ", another committed it in term " +
                         committed_[at.value - 1].term.to_string());
        }
    }
}

void Invariants::check_handed(const NodeView& before, const RaftNode& node, const Update& update) {
    LogIndex expected = before.handed + 1;
    for (const Entry& entry : update.commit) {
        if (entry.index != expected)
            violated(node, "hands out " + to_text(entry) + " out of order");
        expected = entry.index + 1;
        if (entry.index.value > committed_.size() ||
            committed_[entry.index.value - 1].term != entry.term) {
            violated(node, "hands out an entry that is not the committed one: " + to_text(entry));
            continue;
        }
        const auto known = entries_.find({entry.index, entry.term});
        if (known != entries_.end() && known->second.digest != digest_of(entry)) {
            violated(node, "hands out other content at " + to_text(entry));
        }
    }
}

void Invariants::check_now(const std::vector<const RaftNode*>& nodes) {
    for (size_t a = 0; a < nodes.size(); ++a) {
        const NodeView left = look(*nodes[a]);
        for (size_t b = a + 1; b < nodes.size(); ++b) {
            const NodeView right = look(*nodes[b]);
            if (left.role == Role::leader && right.role == Role::leader &&
                left.term == right.term) {
                violated(*nodes[a], "election safety: two leaders of one term");
            }
            bool agreed = false;
            const LogIndex floor = std::max(left.floor, right.floor);
            for (LogIndex at = std::min(left.last, right.last); at > floor; at = at - 1) {
                const bool same = nodes[a]->term_at(at) == nodes[b]->term_at(at);
                if (agreed && !same) {
                    violated(*nodes[a], "log matching: differs at " + at.to_string());
                    break;
                }
                agreed = same;
            }
        }
    }
}

}  // namespace lumeofs::raft
