// SPDX-License-Identifier: Apache-2.0
#include "metad/config.h"

#include <algorithm>
#include <set>

#include "common/config/json_config.h"

namespace lumeofs::metad {
namespace {

constexpr uint64_t kMaxNode = 1'000'000;

void read_peers(JsonConfig& json, MetadConfig* config) {
    std::set<NodeId> seen;
    for (JsonConfig& peer : json.sections("peers")) {
        const NodeId node{peer.required_number("node_id", 1, kMaxNode)};
        const std::string host = peer.required_text("address");
        const uint64_t port = peer.number("port", 9100, 1, 65535);
        if (!seen.insert(node).second) json.refuse("peers", "each node_id once");
        config->peers.push_back({node, host + ":" + std::to_string(port)});
    }
    if (config->peers.empty()) {  // a metad alone
        config->peers.push_back({config->node_id, config->listen_address()});
    }
    const size_t count = config->peers.size();
    if (count != 1 && count != 3 && count != 5) json.refuse("peers", "1, 3 or 5 metads");
    const auto self = std::find_if(config->peers.begin(),
                                   config->peers.end(),
                                   [&](const PeerConfig& p) { return p.node == config->node_id; });
    if (self == config->peers.end()) {
        json.refuse("peers", "a list that contains this node's own node_id too");
    } else if (self->address != config->listen_address()) {
        json.refuse("peers", "for this node's own entry: its address and port, " +
                                 config->listen_address());
    }
}

// Keys of the contract whose features come later: accepted only where they mean what is done.
void read_reserved(JsonConfig& json) {
    if (json.choice("raft_sync_mode", "sync", {"sync", "async"}) != "sync") {
        json.refuse("raft_sync_mode", "\"sync\"; \"async\" is not available in this release");
    }
    if (json.number("chunk_size", kChunkSize, 0, UINT64_MAX) != kChunkSize) {
        json.refuse("chunk_size", "67108864");
    }
    json.number("recovery_rate_mbps", 0, 0, 1'000'000);
    if (json.number("trash_days", 0, 0, 3'650) != 0) {
        json.refuse("trash_days", "0; the trash is not available in this release");
    }
    JsonConfig auth = json.section("auth");
    if (auth.choice("mode", "none", {"none", "key"}) != "none") {
        auth.refuse("mode", "\"none\"; \"key\" is not available in this release");
    }
    auth.text("key_file", "");
    for (const char* key : {"tls", "exports"}) {
        if (json.has(key)) {
            json.section(key);
            json.refuse(key, "nothing yet: not available in this release; leave it out");
        }
    }
}

Result<MetadConfig> read(JsonConfig json) {
    MetadConfig config;
    config.node_id = NodeId{json.required_number("node_id", 1, kMaxNode)};
    config.address = json.text("address", config.address);
    config.port = static_cast<uint16_t>(json.number("port", config.port, 1, 65535));
    config.http_port = static_cast<uint16_t>(json.number("http_port", config.http_port, 0, 65535));
    config.data_dir = json.required_text("data_dir");
    if (!config.data_dir.empty() && config.data_dir[0] != '/') {
        json.refuse("data_dir", "an absolute path");
    }
    read_peers(json, &config);
    config.election_timeout =
        static_cast<Nanos>(json.number("election_timeout", 1000, 200, 6000)) * kMillisecond;
    config.heartbeat_interval =
        static_cast<Nanos>(json.number("heartbeat_interval", 150, 20, 1000)) * kMillisecond;
    // Leases follow from the election timeout (server.cc); this is the one that they cannot mend
    // [36].
    if (config.heartbeat_interval * 4 > config.election_timeout) {
        json.refuse("heartbeat_interval", "at most a quarter of election_timeout");
    }
    config.raft_log_max_size =
        json.number("raft_log_max_size", config.raft_log_max_size, 1 << 20, uint64_t{1} << 40);
    config.default_replicas =
        static_cast<uint32_t>(json.number("default_replicas", 3, 1, kMaxReplicas));
    config.min_write_replicas =
        static_cast<uint32_t>(json.number("min_write_replicas", 2, 1, kMaxReplicas));
    if (config.min_write_replicas > config.default_replicas) {
        json.refuse("min_write_replicas", "at most default_replicas");
    }
    config.node_timeout =
        static_cast<Nanos>(json.number("node_timeout", 30'000, 5'000, 86'400'000)) * kMillisecond;
    config.slow_request =
        static_cast<Nanos>(json.number("slow_request_ms", 500, 1, 3'600'000)) * kMillisecond;
    JsonConfig log = json.section("log");
    parse_log_level(
        log.choice("level", "info", {"trace", "debug", "info", "warn", "error", "off"}),
        &config.log.level);
    config.log.file = log.text("file", "");
    config.log.json = log.choice("format", "text", {"text", "json"}) == "json";
    config.log.program = "lumeofs-metad/" + config.node_id.to_string();
    read_reserved(json);
    LFS_TRY(json.finish());
    return config;
}

}  // namespace

Result<MetadConfig> load_metad_config(FileSystem& fs, const std::string& path) {
    LFS_ASSIGN(auto json, JsonConfig::load(fs, path));
    return read(std::move(json));
}

Result<MetadConfig> parse_metad_config(const std::string& text, const std::string& file_name) {
    LFS_ASSIGN(auto json, JsonConfig::parse(text, file_name));
    return read(std::move(json));
}

}  // namespace lumeofs::metad
