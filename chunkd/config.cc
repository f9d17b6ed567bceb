// SPDX-License-Identifier: Apache-2.0
#include "chunkd/config.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "common/config/json_config.h"

namespace lumeofs::chunkd {
namespace {

constexpr uint64_t kMaxNode = 1'000'000;

// "h1:9100,h2:9100"
void read_masters(JsonConfig& json, ChunkdConfig* config) {
    const std::string text = json.required_text("master_address");
    bool fits = !text.empty();
    for (size_t from = 0; fits && from <= text.size();) {
        const size_t comma = std::min(text.find(',', from), text.size());
        std::string one = text.substr(from, comma - from);
        one.erase(0, one.find_first_not_of(' '));
        one.erase(one.find_last_not_of(' ') + 1);
        const size_t colon = one.rfind(':');
        uint32_t port = 0;
        if (colon != std::string::npos) {
            const char* end = one.data() + one.size();
            const auto parsed = std::from_chars(one.data() + colon + 1, end, port);
            fits = parsed.ec == std::errc() && parsed.ptr == end;
        }
        fits = fits && colon != std::string::npos && colon != 0 && port >= 1 && port <= 65535;
        if (fits) config->masters.push_back(std::move(one));
        from = comma + 1;
    }
    if (!fits) json.refuse("master_address", "a list such as \"h1:9100,h2:9100,h3:9100\"");
}

void read_data_dirs(JsonConfig& json, ChunkdConfig* config) {
    config->data_dirs = json.required_texts("data_dir");
    std::set<std::string> seen;
    for (const std::string& dir : config->data_dirs) {
        if (dir.empty() || dir[0] != '/' || !seen.insert(dir).second) {
            json.refuse("data_dir", "absolute paths, each once");
            return;
        }
    }
}

// Keys of the contract whose features come later: accepted only where they mean what is done.
void read_reserved(JsonConfig& json) {
    if (json.choice("wal_sync_mode", "sync", {"sync", "async"}) != "sync") {
        json.refuse("wal_sync_mode",
                    "\"sync\"; \"async\" is refused because a chunkd that lost unsynced writes in a "
                    "power cut would still count as a whole copy");
    }
    json.number("read_threads", 16, 1, 1024);
    JsonConfig auth = json.section("auth");
    if (auth.choice("mode", "none", {"none", "key"}) != "none") {
        auth.refuse("mode", "\"none\"; \"key\" is not available in this release");
    }
    auth.text("key_file", "");
    if (json.has("tls")) {
        json.section("tls");
        json.refuse("tls", "nothing yet: not available in this release; leave it out");
    }
}

Result<ChunkdConfig> read(JsonConfig json) {
    ChunkdConfig config;
    config.node_id = NodeId{json.required_number("node_id", 1, kMaxNode)};
    config.address = json.text("address", config.address);
    if (config.address.empty()) json.refuse("address", "a host name or address");
    config.port = static_cast<uint16_t>(json.number("port", config.port, 0, 65535));
    config.http_port = static_cast<uint16_t>(json.number("http_port", config.http_port, 0, 65535));
    read_data_dirs(json, &config);
    read_masters(json, &config);
    // The beat that renews the node lease stays within kBeat; slower settings are accepted for reports
    // only [36].
    config.heartbeat_interval =
        static_cast<Nanos>(json.number("heartbeat_interval", 1000, 100, 3000)) * kMillisecond;
    config.heartbeat_interval = std::min(config.heartbeat_interval, kBeat);
    config.zone = json.text("zone", "");
    config.reserve_percent = static_cast<uint32_t>(json.number("reserve_percent", 5, 0, 50));
    config.wal_max_size =
        json.number("wal_max_size", config.wal_max_size, uint64_t{64} << 20, uint64_t{1} << 40);
    config.max_concurrent_writes =
        static_cast<uint32_t>(json.number("max_concurrent_writes", 100, 1, 100'000));
    config.read_cache_size =
        json.number("read_cache_size", config.read_cache_size, 0, uint64_t{1} << 40);
    config.scrub_rate_mbps = static_cast<uint32_t>(json.number("scrub_rate_mbps", 0, 0, 100'000));
    JsonConfig log = json.section("log");
    parse_log_level(
        log.choice("level", "info", {"trace", "debug", "info", "warn", "error", "off"}),
        &config.log.level);
    config.log.file = log.text("file", "");
    config.log.json = log.choice("format", "text", {"text", "json"}) == "json";
    config.log.program = "lumeofs-chunkd/" + config.node_id.to_string();
    read_reserved(json);
    LFS_TRY(json.finish());
    return config;
}

}  // namespace

Result<ChunkdConfig> load_chunkd_config(FileSystem& fs, const std::string& path) {
    LFS_ASSIGN(auto json, JsonConfig::load(fs, path));
    return read(std::move(json));
}

Result<ChunkdConfig> parse_chunkd_config(const std::string& text, const std::string& file_name) {
    LFS_ASSIGN(auto json, JsonConfig::parse(text, file_name));
    return read(std::move(json));
}

}  // namespace lumeofs::chunkd
