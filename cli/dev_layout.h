// SPDX-License-Identifier: Apache-2.0
// The layout of a local cluster: which daemons there are, with their node ids, ports, files and
// JSON configurations. All is derived from a few numbers, which are kept in DIR/cluster.json.
//   DIR/NAME.json NAME.pid NAME.log   of each daemon; DIR/NAME/ its data; DIR/mnt the mount
// Node ids: metad i is i, chunkd i is 100 + i. RPC ports: base + node id, on loopback.
// Pure but for load and store.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace lumeofs::cli {

inline constexpr uint64_t kFirstChunkdNode = 101;
inline constexpr uint32_t kMaxDevChunkds = 64;

struct DevShape {
    uint32_t metads = 3;
    uint32_t chunkds = 3;
    uint16_t base_port = 19'000;
    std::string mount;  // absolute
    bool embedded = false;
};

struct DevDaemon {
    std::string name;     // "metad1"
    std::string role;     // "metad", "chunkd"
    std::string program;  // "lumeofs-metad"
    uint64_t node = 0;
    uint16_t port = 0;
    std::string config_file, pid_file, log_file, data_dir;
    std::string config;  // JSON text
};

// Errc::config with a clear text for a shape that cannot be.
Status check_shape(const DevShape& shape);
std::vector<DevDaemon> daemons_of(const std::string& dir, const DevShape& shape);
std::vector<std::string> metads_of(const DevShape& shape);  // "127.0.0.1:19001"…
// The manifest for tests/fault/kill_loop. `self` is the path of lumeofs.
std::string manifest_text(const std::string& self, const std::string& dir, const DevShape& shape);

std::string shape_text(const DevShape& shape);
Result<DevShape> parse_shape(const std::string& text, const std::string& file_name);
// Errc::noent if DIR holds no local cluster.
Result<DevShape> load_shape(const std::string& dir);
Status store_shape(const std::string& dir, const DevShape& shape);

// Absolute, without "." and trailing '/'; symbolic links stay.
std::string absolute_path(const std::string& path);
std::string default_dev_dir();

}  // namespace lumeofs::cli
