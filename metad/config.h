// SPDX-License-Identifier: Apache-2.0
// The configuration of lumeofs-metad (docs: contract of the JSON keys in README). Read once at
// start; every error is one line that names the file, the key, the value and what is allowed. Plain
// values.
#pragma once

#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs::metad {

struct PeerConfig {
    NodeId node;
    std::string address;  // host:port of its RPC port
};

struct MetadConfig {
    NodeId node_id;
    std::string address = "127.0.0.1";
    uint16_t port = 9100;
    uint16_t http_port = 9000;
    std::string data_dir;
    std::vector<PeerConfig> peers;  // all members at the first start, this one included
    Nanos election_timeout = kElectionTimeoutMin;
    Nanos heartbeat_interval = kRaftHeartbeat;
    uint64_t raft_log_max_size = uint64_t{256} << 20;
    uint32_t default_replicas = 3;
    uint32_t min_write_replicas = 2;
    Nanos node_timeout = 30 * kSecond;
    Nanos slow_request = kSlowRequest;
    LogOptions log;

    std::string listen_address() const { return address + ":" + std::to_string(port); }
};

Result<MetadConfig> load_metad_config(FileSystem& fs, const std::string& path);
Result<MetadConfig> parse_metad_config(const std::string& text, const std::string& file_name);

}  // namespace lumeofs::metad
