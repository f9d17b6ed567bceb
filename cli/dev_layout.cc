// SPDX-License-Identifier: Apache-2.0
#include "cli/dev_layout.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/process.h"

namespace lumeofs::cli {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* kHost = "127.0.0.1";

uint16_t port_of(const DevShape& shape, uint64_t node) {
    return static_cast<uint16_t>(shape.base_port + node);
}

json metad_config(const DevShape& shape, const DevDaemon& daemon) {
    json peers = json::array();
    for (uint32_t i = 1; i <= shape.metads; ++i) {
        peers.push_back({{"node_id", i}, {"address", kHost}, {"port", port_of(shape, i)}});
    }
    return {{"node_id", daemon.node},
            {"address", kHost},
            {"port", daemon.port},
            {"http_port", 0},
            {"data_dir", daemon.data_dir},
            {"peers", peers},
            {"default_replicas", std::min(3u, shape.chunkds)},
            {"min_write_replicas", std::min(2u, shape.chunkds)},
            {"log", {{"level", "info"}}}};
}

json chunkd_config(const DevShape& shape, const DevDaemon& daemon) {
    std::string masters;
    for (const std::string& metad : metads_of(shape)) {
        masters += (masters.empty() ? "" : ",") + metad;
    }
    return {{"node_id", daemon.node},
            {"address", kHost},
            {"port", daemon.port},
            {"http_port", 0},
            {"data_dir", daemon.data_dir},
            {"master_address", masters},
            {"reserve_percent", 1},
            {"log", {{"level", "info"}}}};
}

DevDaemon daemon_of(const std::string& dir,
                    const DevShape& shape,
                    const std::string& role,
                    uint32_t number) {
    DevDaemon daemon;
    daemon.role = role;
    daemon.name = role + std::to_string(number);
    daemon.program = "lumeofs-" + role;
    daemon.node = role == "metad" ? number : kFirstChunkdNode - 1 + number;
    daemon.port = port_of(shape, daemon.node);
    const std::string stem = dir + "/" + daemon.name;
    daemon.config_file = stem + ".json";
    daemon.pid_file = stem + ".pid";
    daemon.log_file = stem + ".log";
    daemon.data_dir = stem;
    const json config =
        role == "metad" ? metad_config(shape, daemon) : chunkd_config(shape, daemon);
    daemon.config = config.dump(2) + "\n";
    return daemon;
}

}  // namespace

Status check_shape(const DevShape& shape) {
    if (shape.metads != 1 && shape.metads != 3 && shape.metads != 5) {
        return Status(Errc::config,
                      "--metads " + std::to_string(shape.metads) + ": 1, 3 or 5 are possible");
    }
    if (shape.chunkds < 1 || shape.chunkds > kMaxDevChunkds) {
        return Status(Errc::config,
                      "--chunkds " + std::to_string(shape.chunkds) + ": from 1 to " +
                          std::to_string(kMaxDevChunkds) + " are possible");
    }
    const uint64_t last = uint64_t{shape.base_port} + kFirstChunkdNode + kMaxDevChunkds;
    if (shape.base_port < 1'024 || last > 65'535) {
        return Status(
            Errc::config,
            "--base-port " + std::to_string(shape.base_port) + ": from 1024 to 65000 is possible");
    }
    return ok_status();
}

std::vector<DevDaemon> daemons_of(const std::string& dir, const DevShape& shape) {
    std::vector<DevDaemon> daemons;
    for (uint32_t i = 1; i <= shape.metads; ++i) {
        daemons.push_back(daemon_of(dir, shape, "metad", i));
    }
    for (uint32_t i = 1; i <= shape.chunkds; ++i) {
        daemons.push_back(daemon_of(dir, shape, "chunkd", i));
    }
    return daemons;
}

std::vector<std::string> metads_of(const DevShape& shape) {
    std::vector<std::string> metads;
    for (uint32_t i = 1; i <= shape.metads; ++i) {
        metads.push_back(std::string(kHost) + ":" + std::to_string(port_of(shape, i)));
    }
    return metads;
}

std::string manifest_text(const std::string& self, const std::string& dir, const DevShape& shape) {
    const std::string program = shell_quoted(self) + " dev ";
    const std::string where = " --dir " + shell_quoted(dir);
    json out = {{"daemons", json::array()}};
    for (const DevDaemon& daemon : daemons_of(dir, shape)) {
        out["daemons"].push_back({{"name", daemon.name},
                                  {"role", daemon.role},
                                  {"pid_file", daemon.pid_file},
                                  {"restart", program + "start " + daemon.name + where}});
    }
    out["leader"] = program + "leader" + where;
    out["healthy"] = program + "healthy" + where;
    return out.dump(2) + "\n";
}

std::string shape_text(const DevShape& shape) {
    const json out = {{"metads", shape.metads},
                      {"chunkds", shape.chunkds},
                      {"base_port", shape.base_port},
                      {"mount", shape.mount},
                      {"embedded", shape.embedded}};
    return out.dump(2) + "\n";
}

Result<DevShape> parse_shape(const std::string& text, const std::string& file_name) {
    const json in = json::parse(text, nullptr, false);
    const Status wrong(Errc::config, file_name + " does not describe a local cluster");
    if (!in.is_object()) return wrong;
    for (const char* key : {"metads", "chunkds", "base_port"}) {
        if (!in.contains(key) || !in[key].is_number_unsigned()) return wrong;
    }
    if (!in.contains("mount") || !in["mount"].is_string()) return wrong;
    DevShape shape;
    shape.metads = in["metads"].get<uint32_t>();
    shape.chunkds = in["chunkds"].get<uint32_t>();
    shape.base_port = in["base_port"].get<uint16_t>();
    shape.mount = in["mount"].get<std::string>();
    shape.embedded =
        in.contains("embedded") && in["embedded"].is_boolean() && in["embedded"].get<bool>();
    LFS_TRY(check_shape(shape).with_context(file_name));
    return shape;
}

Result<DevShape> load_shape(const std::string& dir) {
    const std::string path = dir + "/cluster.json";
    auto text = read_whole_file(path);
    if (!text) return Status(Errc::noent, "no local cluster in " + dir + " (see lumeofs dev up)");
    return parse_shape(*text, path);
}

Status store_shape(const std::string& dir, const DevShape& shape) {
    const std::string path = dir + "/cluster.json";
    if (!write_whole_file(path, shape_text(shape))) return Status(Errc::io, "cannot write " + path);
    return ok_status();
}

std::string absolute_path(const std::string& path) {
    std::error_code error;
    std::string full = std::filesystem::absolute(path, error).lexically_normal().string();
    while (full.size() > 1 && full.back() == '/') full.pop_back();
    return full;
}

std::string default_dev_dir() {
    const char* home = std::getenv("HOME");
    if (home && *home == '/' && access(home, W_OK) == 0) {
        return absolute_path(std::string(home) + "/.lumeofs-dev");
    }
    return "/var/tmp/lumeofs-dev";
}

}  // namespace lumeofs::cli
