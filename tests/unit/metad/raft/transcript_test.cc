// SPDX-License-Identifier: Apache-2.0
// Runs the transcripts in testdata/*.txt. A file is a list of sections: commands, "----", and what
// they print; a blank line ends a section. LUMEO_REWRITE=1 writes the files anew: read the diff.
// The commands are the functions named in kCommands below. Nothing moves by itself: `persist` makes
// writes durable, `deliver` brings messages, `stabilize` does both until nothing is left; only
// `tick` and `beat` let time pass. The invariants are checked after every step.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "tests/unit/metad/raft/group.h"

namespace lumeofs::raft::testing {
namespace {

using Words = std::vector<std::string>;

class Runner {
public:
    Runner() {
        group_.options.election_ticks = 10;
        group_.options.heartbeat_ticks = 1;
        group_.options.start_pause_ticks = 0;
        group_.leases_matter = false;  // elections are forced with `campaign`
    }

    // Prints what happened.
    std::string run(const std::string& line) {
        std::istringstream stream(line.substr(0, line.find('#')));
        Words words;
        for (std::string word; stream >> word;) words.push_back(word);
        if (words.empty()) return "";
        const std::string name = words.front();
        words.erase(words.begin());
        const auto found = kCommands.find(name);
        if (found == kCommands.end()) return "unknown command " + name + "\n";
        (this->*found->second)(words);
        group_.check_now();
        std::string text;
        for (const std::string& happened : group_.lines) text += happened + "\n";
        group_.lines.clear();
        if (!group_.first_violation().empty())
            text += "VIOLATION " + group_.first_violation() + "\n";
        return text;
    }
    std::string violation() const { return group_.first_violation(); }

private:
    static uint64_t number(const std::string& word) {
        return std::strtoull(word.c_str(), nullptr, 10);
    }
    static NodeId node(const std::string& word) { return NodeId{number(word)}; }
    // The value of "key=value" among the words, taken out; "" if there is none.
    static std::string option(Words& words, const std::string& key) {
        for (auto at = words.begin(); at != words.end(); ++at) {
            if (at->rfind(key + "=", 0) != 0) continue;
            const std::string value = at->substr(key.size() + 1);
            words.erase(at);
            return value;
        }
        return "";
    }
    std::vector<NodeId> these_or_all(const Words& words) const {
        std::vector<NodeId> ids;
        for (const std::string& word : words) ids.push_back(node(word));
        if (ids.empty()) {
            for (const auto& [id, unused] : group_.nodes) ids.push_back(id);
        }
        return ids;
    }
    static bool has(const std::vector<NodeId>& ids, NodeId id) {
        return std::find(ids.begin(), ids.end(), id) != ids.end();
    }

    // options election=10 pause=0 entries=1024 in-flight=64 uncommitted=... tail=... unapplied=...
    void set_options(Words& words) {
        Options& o = group_.options;
        const auto set32 = [&](const char* key, uint32_t& value) {
            const std::string text = option(words, key);
            if (!text.empty()) value = static_cast<uint32_t>(number(text));
        };
        const auto set64 = [&](const char* key, uint64_t& value) {
            const std::string text = option(words, key);
            if (!text.empty()) value = number(text);
        };
        set32("election", o.election_ticks);
        set32("pause", o.start_pause_ticks);
        set32("entries", o.append_entries_max);
        set32("in-flight", o.in_flight_messages_max);
        set64("uncommitted", o.uncommitted_bytes_max);
        set64("tail", o.tail_bytes_max);
        set64("unapplied", o.unapplied_bytes_max);
    }
    // add-nodes 3 [learners=1]: the last ones are learners
    void add_nodes(Words& words) {
        const uint64_t learners = number(option(words, "learners"));
        const uint64_t count = number(words.at(0));
        Membership initial;
        for (uint64_t id = 1; id <= count; ++id) {
            initial.members.push_back(
                {NodeId{id}, id + learners > count ? MemberRole::learner : MemberRole::voter, ""});
        }
        for (uint64_t id = 1; id <= count; ++id) group_.add_node(NodeId{id}, initial);
    }
    // join 4: a node with nothing, that waits to be added
    void join(Words& words) { group_.add_node(node(words.at(0)), Membership{}); }
    void messages(Words& words) { group_.show_messages = words.at(0) == "on"; }
    void campaign(Words& words) { group_.step(node(words.at(0)), Campaign{}); }
    // tick 1 [count]
    void tick(Words& words) {
        const uint64_t count = words.size() > 1 ? number(words[1]) : 1;
        for (uint64_t i = 0; i < count; ++i) group_.step(node(words.at(0)), Tick{});
    }
    // tick-all [count]: with stabilize after each
    void tick_all(Words& words) {
        const uint64_t count = words.empty() ? 1 : number(words[0]);
        for (uint64_t i = 0; i < count; ++i) {
            for (auto& [id, unused] : group_.nodes) group_.step(id, Tick{});
            settle({});
        }
    }
    // wait-out 2 3: one election timeout of silence for these; what they ask meanwhile is lost
    void wait_out(Words& words) {
        const std::deque<Envelope> before = group_.wire;
        for (NodeId id : these_or_all(words)) {
            for (uint32_t i = 0; i < group_.options.election_ticks; ++i) group_.step(id, Tick{});
        }
        group_.wire = before;
        group_.lines.clear();
    }
    // beat 1: one heartbeat of this leader, and all that follows from it
    void beat(Words& words) {
        group_.step(node(words.at(0)), Tick{});
        settle({});
    }
    // propose 1 a b c: one batch
    void propose(Words& words) {
        Proposed batch;
        for (size_t i = 1; i < words.size(); ++i) batch.payloads.push_back(payload(words[i]));
        group_.step(node(words.at(0)), batch);
    }
    // persist 1 [count]: the oldest writes (default all) become durable
    void persist(Words& words) {
        const uint64_t count = words.size() > 1 ? number(words[1]) : UINT64_MAX;
        for (uint64_t i = 0; i < count && group_.persist_one(node(words.at(0))); ++i) {
        }
    }
    // deliver 2 [from=1] [drop=append] [count=1] [last=1]: what is on its way to 2, in order
    void deliver(Words& words) {
        const std::string from = option(words, "from");
        const std::string drop = option(words, "drop");
        const std::string count = option(words, "count");
        const bool last_first = option(words, "order") == "reversed";
        uint64_t left = count.empty() ? UINT64_MAX : number(count);
        const NodeId to = node(words.at(0));
        std::deque<Envelope> now;
        for (auto at = group_.wire.begin(); at != group_.wire.end() && left > 0;) {
            if (at->to != to || (!from.empty() && at->from != node(from))) {
                ++at;
                continue;
            }
            const bool dropped = at->message && !drop.empty() &&
                                 (drop == "all" || drop == to_text(at->message->type));
            if (dropped) {
                group_.lines.push_back("dropped: " + to_text(*at->message));
            } else {
                now.push_back(*at);
            }
            --left;
            at = group_.wire.erase(at);
        }
        if (last_first) std::reverse(now.begin(), now.end());
        for (Envelope& envelope : now) group_.deliver(std::move(envelope));
    }
    // Everything between these nodes (default: all) until nothing is left.
    void stabilize(Words& words) { settle(words); }
    void settle(const Words& words) {
        const std::vector<NodeId> ids = these_or_all(words);
        for (bool busy = true; busy;) {
            busy = false;
            for (NodeId id : ids) {
                while (group_.persist_one(id)) busy = true;
            }
            for (auto at = group_.wire.begin(); at != group_.wire.end(); ++at) {
                if (!has(ids, at->from) || !has(ids, at->to)) continue;
                Envelope envelope = std::move(*at);
                group_.wire.erase(at);
                group_.deliver(std::move(envelope));
                busy = true;
                break;
            }
        }
    }
    // lose [2]: all that is on its way (to 2) is lost
    void lose(Words& words) {
        const std::vector<NodeId> ids = these_or_all(words);
        for (auto at = group_.wire.begin(); at != group_.wire.end();) {
            at = has(ids, at->to) ? group_.wire.erase(at) : std::next(at);
        }
    }
    // lose-snapshot: the stream breaks
    void lose_snapshot(Words& /*words*/) {
        for (auto at = group_.wire.begin(); at != group_.wire.end(); ++at) {
            if (!at->snapshot) continue;
            const Envelope envelope = *at;
            group_.wire.erase(at);
            group_.step(envelope.from,
                        SnapshotSent{envelope.to, envelope.snapshot->snapshot.index, false});
            return;
        }
    }
    // crash 1 lose-unsynced | keep=2
    void crash(Words& words) {
        const std::string keep = option(words, "keep");
        group_.crash(node(words.at(0)), keep.empty() ? 0 : number(keep));
    }
    void restart(Words& words) { group_.start(node(words.at(0))); }
    void fail(Words& words) { group_.step(node(words.at(0)), Failed{}); }
    void step_down(Words& words) { group_.step(node(words.at(0)), StepDown{}); }
    // transfer 1 [2]
    void transfer(Words& words) {
        group_.step(node(words.at(0)),
                    TransferLeadership{words.size() > 1 ? node(words[1]) : NodeId{}});
    }
    void change(const Words& words, MembershipProposed::Kind kind) {
        group_.step(node(words.at(0)),
                    MembershipProposed{kind, Member{node(words.at(1)), MemberRole::voter, ""}});
    }
    // add-voter 1 4: node 1 is asked to add node 4
    void add_voter(Words& words) { change(words, MembershipProposed::Kind::add_voter); }
    void add_learner(Words& words) { change(words, MembershipProposed::Kind::add_learner); }
    void promote(Words& words) { change(words, MembershipProposed::Kind::promote); }
    void remove(Words& words) { change(words, MembershipProposed::Kind::remove); }
    // read 1 100 101: two contexts at once
    void read(Words& words) {
        ReadRequested reads;
        for (size_t i = 1; i < words.size(); ++i) reads.contexts.push_back(number(words[i]));
        group_.step(node(words.at(0)), reads);
    }
    // compact 1 5: its log begins after 5
    void compact(Words& words) { group_.compact(node(words.at(0)), LogIndex{number(words.at(1))}); }
    // checkpoint 1: what it has applied is durable
    void checkpoint(Words& words) { group_.checkpoint(node(words.at(0))); }
    void isolate(Words& words) {
        for (const auto& [other, unused] : group_.nodes) {
            group_.blocked.insert({node(words.at(0)), other});
            group_.blocked.insert({other, node(words.at(0))});
        }
    }
    // cut 1 2: what 1 sends to 2 is lost
    void cut(Words& words) { group_.blocked.insert({node(words.at(0)), node(words.at(1))}); }
    void heal(Words& /*words*/) { group_.blocked.clear(); }
    void unreachable(Words& words) {
        group_.step(node(words.at(0)), PeerUnreachable{node(words.at(1))});
    }
    void status(Words& words) {
        for (NodeId id : these_or_all(words)) {
            const TestNode& n = group_.nodes.at(id);
            group_.lines.push_back(n.raft ? to_text(n.raft->status()) : id.to_string() + ": down");
        }
    }
    // log 1: what is durable
    void log(Words& words) {
        const TestNode& n = group_.nodes.at(node(words.at(0)));
        std::string text = n.id.to_string() + " has on disk:";
        for (const Entry& entry : n.disk.log) text += " " + to_text(entry);
        group_.lines.push_back(text);
    }
    // rounds 1: contact rounds as the driver sees them
    void rounds(Words& words) {
        const NodeStatus s = group_.nodes.at(node(words.at(0))).raft->status();
        group_.lines.push_back(s.id.to_string() + " is in round " + std::to_string(s.round) +
                               ", answered by a quorum: " + std::to_string(s.quorum_round));
    }
    // in-transit: what is on its way
    void in_transit(Words& /*words*/) {
        for (const Envelope& e : group_.wire) {
            group_.lines.push_back(e.message
                                       ? to_text(*e.message)
                                       : e.from.to_string() + ">" + e.to.to_string() +
                                             " snapshot " + e.snapshot->snapshot.index.to_string());
        }
    }

    static const std::map<std::string, void (Runner::*)(Words&)> kCommands;
    Group group_;
};

const std::map<std::string, void (Runner::*)(Words&)> Runner::kCommands = {
    {"options", &Runner::set_options},
    {"add-nodes", &Runner::add_nodes},
    {"join", &Runner::join},
    {"messages", &Runner::messages},
    {"campaign", &Runner::campaign},
    {"tick", &Runner::tick},
    {"tick-all", &Runner::tick_all},
    {"beat", &Runner::beat},
    {"wait-out", &Runner::wait_out},
    {"propose", &Runner::propose},
    {"persist", &Runner::persist},
    {"deliver", &Runner::deliver},
    {"stabilize", &Runner::stabilize},
    {"lose", &Runner::lose},
    {"lose-snapshot", &Runner::lose_snapshot},
    {"crash", &Runner::crash},
    {"restart", &Runner::restart},
    {"fail", &Runner::fail},
    {"step-down", &Runner::step_down},
    {"transfer", &Runner::transfer},
    {"add-voter", &Runner::add_voter},
    {"add-learner", &Runner::add_learner},
    {"promote", &Runner::promote},
    {"remove", &Runner::remove},
    {"read", &Runner::read},
    {"compact", &Runner::compact},
    {"checkpoint", &Runner::checkpoint},
    {"isolate", &Runner::isolate},
    {"cut", &Runner::cut},
    {"heal", &Runner::heal},
    {"unreachable", &Runner::unreachable},
    {"status", &Runner::status},
    {"log", &Runner::log},
    {"rounds", &Runner::rounds},
    {"in-transit", &Runner::in_transit},
};

struct Played {
    std::string text;  // the whole file as it should be
    std::string violation;
};

Played play(const std::string& path) {
    std::ifstream file(path);
    Runner runner;
    Played played;
    std::string output;
    bool in_output = false;
    bool commands = false;
    const auto end_section = [&] {
        if (commands) played.text += "----\n" + output;
        output.clear();
        in_output = commands = false;
    };
    for (std::string line; std::getline(file, line);) {
        if (line.empty()) {
            end_section();
            played.text += "\n";
        } else if (line == "----") {
            in_output = true;
        } else if (!in_output) {
            played.text += line + "\n";
            commands |= line.front() != '#';
            output += runner.run(line);
        }
    }
    end_section();
    played.violation = runner.violation();
    return played;
}

TEST_CASE("transcripts") {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(LUMEO_TESTDATA)) {
        if (entry.path().extension() == ".txt") paths.push_back(entry.path().string());
    }
    std::sort(paths.begin(), paths.end());
    CHECK(paths.size() >= 25);
    const bool rewrite = std::getenv("LUMEO_REWRITE") != nullptr;
    for (const std::string& path : paths) {
        CAPTURE(path);
        const Played played = play(path);
        CHECK_MESSAGE(played.violation.empty(), played.violation);
        if (rewrite) {
            std::ofstream(path) << played.text;
            continue;
        }
        std::ifstream file(path);
        std::ostringstream expected;
        expected << file.rdbuf();
        CHECK(played.text == expected.str());
    }
}

}  // namespace
}  // namespace lumeofs::raft::testing
