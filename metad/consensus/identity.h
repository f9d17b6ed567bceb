// SPDX-License-Identifier: Apache-2.0
// The identity of a metad's data: whose log this is, and which group's. Also remembers the identity
// of the other members, so that a node whose disk was wiped cannot come back under its old id and
// vote a second time in a term (reliability rule 11): the others have seen its node uuid before.
//
// File `identity`, text for people, last line a checksum:
//   lumeofs metad identity / format_revision 1 / cluster_id HEX32 / node_id N / node_uuid HEX32 /
//   log_id HEX16 / state initialising|ready / checksum HEX16
// `initialising` stands there until log, term and vote are durable for the first time. Nothing is
// sent before `ready`, so a first start that was cut short may simply begin again; after `ready` a
// missing log is a lost log.
// File `peers`: one line "N HEX32" per member that was ever heard, and a checksum line.
// single-thread: the loop.
#pragma once

#include <map>
#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs::consensus {

struct Uuid {
    uint64_t high = 0;
    uint64_t low = 0;
    auto operator<=>(const Uuid&) const = default;
    explicit operator bool() const { return high != 0 || low != 0; }
    std::string to_string() const;  // 32 hex digits
};

struct Identity {
    Uuid cluster;  // 0 = not yet known (a node that joins learns it from the group)
    NodeId node;
    Uuid node_uuid;
    uint64_t log_id = 0;
    bool ready = false;
};

// noent: there is none. corrupt: it is damaged or of another format revision.
Result<Identity> load_identity(FileSystem& fs, const std::string& path);
Status save_identity(FileSystem& fs, const std::string& path, const Identity& identity);
// config, with one line that says what was expected, what was found and what to do, if the data in
// `dir` belong to another node or cluster. `cluster` 0: any.
Status check_identity(const Identity& found, const std::string& dir, NodeId node, Uuid cluster);

class KnownPeers {
public:
    KnownPeers(FileSystem& fs, std::string path) : fs_(fs), path_(std::move(path)) {}
    Status load();  // fine if there is no file
    // True if `uuid` is what `node` has always had; the first time it is stored, durably.
    Result<bool> check(NodeId node, Uuid uuid);
    // Forgets a node that left the group: whoever gets its id next may have another disk.
    Status forget(NodeId node);
    const std::map<NodeId, Uuid>& all() const { return known_; }

private:
    Status save();
    FileSystem& fs_;
    std::string path_;
    std::map<NodeId, Uuid> known_;
};

}  // namespace lumeofs::consensus
