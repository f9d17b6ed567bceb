// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/identity.h"

#include <fmt/format.h>

#include <charconv>

#include "common/base/checksum.h"

namespace lumeofs::consensus {
namespace {

constexpr uint64_t kSizeMax = 64 * 1024;
constexpr std::string_view kTitle = "lumeofs metad identity";
constexpr uint64_t kRevision = 1;

// The text before its last line "checksum HEX16"; corrupt if that does not fit.
Result<std::string> checked_text(View bytes, const std::string& path) {
    const std::string text(as_text(bytes));
    const size_t at = text.rfind("checksum ");
    if (at != std::string::npos && (at == 0 || text[at - 1] == '\n')) {
        const std::string body = text.substr(0, at);
        if (text.substr(at) == fmt::format("checksum {:016x}\n", checksum(as_view(body))))
            return body;
    }
    return Status(Errc::corrupt, path + " is damaged");
}

Status save_text(FileSystem& fs, const std::string& path, const std::string& body) {
    const std::string text = body + fmt::format("checksum {:016x}\n", checksum(as_view(body)));
    return replace_file(fs, path, as_view(text));
}

bool parse_number(std::string_view text, int base, uint64_t* value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, base);
    return error == std::errc() && end == text.data() + text.size();
}

bool parse_uuid(std::string_view text, Uuid* uuid) {
    return text.size() == 32 && parse_number(text.substr(0, 16), 16, &uuid->high) &&
           parse_number(text.substr(16), 16, &uuid->low);
}

// "key value" lines.
std::map<std::string, std::string> parse_lines(const std::string& text) {
    std::map<std::string, std::string> lines;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        const std::string line = text.substr(at, end - at);
        const size_t space = line.find(' ');
        lines[line.substr(0, space)] = space == std::string::npos ? "" : line.substr(space + 1);
        at = end + 1;
    }
    return lines;
}

}  // namespace

std::string Uuid::to_string() const { return fmt::format("{:016x}{:016x}", high, low); }

Result<Identity> load_identity(FileSystem& fs, const std::string& path) {
    LFS_ASSIGN(bool there, fs.exists(path));
    if (!there) return Status(Errc::noent, "no identity in " + path);
    LFS_ASSIGN(Bytes bytes, read_file(fs, path, kSizeMax));
    LFS_ASSIGN(std::string text, checked_text(bytes, path));
    std::map<std::string, std::string> lines = parse_lines(text);
    uint64_t revision = 0;
    Identity identity;
    if (!parse_number(lines["format_revision"], 10, &revision) || revision != kRevision) {
        return Status(Errc::corrupt,
                      fmt::format("{}: format revision {}, this program knows {}",
                                  path,
                                  lines["format_revision"],
                                  kRevision));
    }
    identity.ready = lines["state"] == "ready";
    if (!parse_uuid(lines["cluster_id"], &identity.cluster) ||
        !parse_uuid(lines["node_uuid"], &identity.node_uuid) ||
        !parse_number(lines["node_id"], 10, &identity.node.value) ||
        !parse_number(lines["log_id"], 16, &identity.log_id)) {
        return Status(Errc::corrupt, path + " does not have the form of an identity");
    }
    return identity;
}

Status save_identity(FileSystem& fs, const std::string& path, const Identity& identity) {
    return save_text(fs,
                     path,
                     fmt::format("{}\nformat_revision {}\ncluster_id {}\nnode_id {}\nnode_uuid {}\n"
                                 "log_id {:016x}\nstate {}\n",
                                 kTitle,
                                 kRevision,
                                 identity.cluster.to_string(),
                                 identity.node.value,
                                 identity.node_uuid.to_string(),
                                 identity.log_id,
                                 identity.ready ? "ready" : "initialising"));
}

Status check_identity(const Identity& found, const std::string& dir, NodeId node, Uuid cluster) {
    if (found.node != node) {
        return Status(
            Errc::config,
            fmt::format("data_dir {} belongs to another node: expected node_id {}, found {}. "
                        "Correct node_id or data_dir in the configuration",
                        dir,
                        node.value,
                        found.node.value));
    }
    if (cluster && found.cluster && found.cluster != cluster) {
        return Status(
            Errc::config,
            fmt::format("data_dir {} belongs to another cluster: expected cluster {}, found "
                        "{}. Correct data_dir (or peers, which name the cluster at its first "
                        "start) in the configuration",
                        dir,
                        cluster.to_string(),
                        found.cluster.to_string()));
    }
    return Status();
}

Status KnownPeers::load() {
    LFS_ASSIGN(bool there, fs_.exists(path_));
    if (!there) return Status();
    LFS_ASSIGN(Bytes bytes, read_file(fs_, path_, kSizeMax));
    LFS_ASSIGN(std::string text, checked_text(bytes, path_));
    for (const auto& [key, value] : parse_lines(text)) {
        NodeId node;
        Uuid uuid;
        if (!parse_number(key, 10, &node.value) || !parse_uuid(value, &uuid)) {
            return Status(Errc::corrupt, path_ + " does not have the form of a list of peers");
        }
        known_[node] = uuid;
    }
    return Status();
}

Status KnownPeers::save() {
    std::string text;
    for (const auto& [node, uuid] : known_) {
        text += fmt::format("{} {}\n", node.value, uuid.to_string());
    }
    return save_text(fs_, path_, text);
}

Result<bool> KnownPeers::check(NodeId node, Uuid uuid) {
    const auto found = known_.find(node);
    if (found != known_.end()) return found->second == uuid;
    known_[node] = uuid;
    LFS_TRY(save());
    return true;
}

Status KnownPeers::forget(NodeId node) {
    if (known_.erase(node) == 0) return Status();
    return save();
}

}  // namespace lumeofs::consensus
