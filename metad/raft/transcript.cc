// SPDX-License-Identifier: Apache-2.0
#include "metad/raft/transcript.h"

#include "common/base/assert.h"
#include "metad/raft/membership.h"

namespace lumeofs::raft {

namespace {

std::string place(LogIndex index, Term term) { return index.to_string() + "/" + term.to_string(); }

std::string range(const std::vector<Entry>& entries) {
    std::string text;
    for (const Entry& entry : entries) text += (text.empty() ? "" : ", ") + to_text(entry);
    return text;
}

std::string request_text(const Message& message) {
    std::string text;
    switch (message.type) {
        case MessageType::pre_vote_request:
        case MessageType::vote_request:
            return " last " + place(message.index, message.log_term) +
                   (message.transfer ? " transfer" : "");
        case MessageType::append_request:
            return " prev " + place(message.index, message.log_term) + " [" +
                   range(message.entries) + "] commit " + message.commit.to_string();
        case MessageType::heartbeat:
            return " commit " + message.commit.to_string() + " round " +
                   std::to_string(message.round);
        case MessageType::pre_vote_response:
        case MessageType::vote_response:
            return message.reject ? " no" : " yes";
        case MessageType::append_response:
            if (!message.reject) return " match " + message.index.to_string();
            return " refused " + message.index.to_string() + " hint " +
                   place(message.hint_index, message.hint_term);
        case MessageType::heartbeat_response:
            return " round " + std::to_string(message.round);
        case MessageType::timeout_now:
            return "";
    }
    return " ?";
}

}  // namespace

const char* to_text(Role role) {
    switch (role) {
        case Role::follower:
            return "follower";
        case Role::pre_candidate:
            return "pre-candidate";
        case Role::candidate:
            return "candidate";
        case Role::leader:
            return "leader";
    }
    return "?";
}

const char* to_text(MessageType type) {
    switch (type) {
        case MessageType::pre_vote_request:
            return "pre-vote";
        case MessageType::pre_vote_response:
            return "pre-vote-reply";
        case MessageType::vote_request:
            return "vote";
        case MessageType::vote_response:
            return "vote-reply";
        case MessageType::append_request:
            return "append";
        case MessageType::append_response:
            return "append-reply";
        case MessageType::heartbeat:
            return "beat";
        case MessageType::heartbeat_response:
            return "beat-reply";
        case MessageType::timeout_now:
            return "timeout-now";
    }
    return "?";
}

std::string to_text(const Membership& membership) {
    std::string text;
    for (const Member& member : membership.members) {
        text += (text.empty() ? "" : " ") + member.id.to_string();
        if (member.role == MemberRole::learner) text += "L";
    }
    return text;
}

std::string to_text(const Entry& entry) {
    std::string text = place(entry.index, entry.term);
    const View bytes = entry.payload ? View(*entry.payload) : View();
    switch (entry.kind) {
        case EntryKind::empty:
            return text + " (empty)";
        case EntryKind::command:
            return text + " \"" + std::string(as_text(bytes)) + "\"";
        case EntryKind::membership: {
            const Result<Membership> membership = decode_membership(bytes);
            return text + " (membership " +
                   (membership.is_ok() ? to_text(membership.value()) : "damaged") + ")";
        }
    }
    return text + " (?)";
}

std::string to_text(const Message& message) {
    return message.from.to_string() + ">" + message.to.to_string() + " " + to_text(message.type) +
           " term " + message.term.to_string() + request_text(message);
}

std::vector<std::string> to_lines(NodeId node, const Update& update) {
    std::vector<std::string> lines;
    const std::string who = node.to_string() + " ";
    if (update.soft_state) {
        const SoftState& soft = *update.soft_state;
        lines.push_back(who + "is " + to_text(soft.role) + " at term " + soft.term.to_string() +
                        (soft.role == Role::follower && soft.leader
                             ? ", leader " + soft.leader.to_string()
                             : ""));
    }
    if (update.hard_state) {
        lines.push_back(who + "writes term " + update.hard_state->term.to_string() + " vote " +
                        update.hard_state->vote.to_string());
    }
    if (update.truncate_from) {
        lines.push_back(who + "truncates from " + update.truncate_from->to_string());
    }
    if (!update.append.empty()) lines.push_back(who + "appends " + range(update.append));
    if (update.membership) {
        lines.push_back(who + "has membership " + to_text(*update.membership));
    }
    if (update.install) {
        lines.push_back(who + "installs snapshot " +
                        place(update.install->index, update.install->term));
    }
    if (update.snapshot_refused) {
        lines.push_back(who + "refuses snapshot " +
                        place(update.snapshot_refused->index, update.snapshot_refused->term));
    }
    for (const Entry& entry : update.commit) lines.push_back(who + "commits " + to_text(entry));
    for (const ReadState& read : update.reads) {
        lines.push_back(who + "may read " + std::to_string(read.context) + " at " +
                        read.index.to_string());
    }
    for (uint64_t context : update.reads_failed) {
        lines.push_back(who + "fails read " + std::to_string(context));
    }
    for (const SnapshotNeed& need : update.snapshots_needed) {
        lines.push_back(who + "finds that " + need.follower.to_string() +
                        " needs a snapshot from " + need.floor.to_string());
    }
    if (update.proposal && update.proposal->code != Errc::ok) {
        lines.push_back(who + "refuses: " + errc_name(update.proposal->code));
    }
    return lines;
}

std::string to_text(const NodeStatus& status) {
    std::string text =
        status.id.to_string() + ": " + to_text(status.role) + " term " + status.term.to_string() +
        " vote " + status.vote.to_string() + " leader " + status.leader.to_string() + " floor " +
        status.floor.to_string() + " applied " + status.applied.to_string() + " commit " +
        status.commit.to_string() + " stable " + status.stable.to_string() + " last " +
        place(status.last, status.last_term) + " members " + to_text(status.membership);
    if (status.failed) text += " FAILED";
    for (const FollowerStatus& follower : status.followers) {
        text += "\n   " + follower.id.to_string() + " " + follower.state + " match " +
                follower.match.to_string() + " next " + follower.next.to_string() + " in-flight " +
                std::to_string(follower.in_flight_messages);
    }
    return text;
}

}  // namespace lumeofs::raft
