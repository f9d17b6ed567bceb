// SPDX-License-Identifier: Apache-2.0
// The configuration of lumeofs-chunkd: the keys of the contract, read strictly.
// Plain value; thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs::chunkd {

struct ChunkdConfig {
    NodeId node_id;
    std::string address = "127.0.0.1";
    uint16_t port = 10101;                  // 0: a free one
    uint16_t http_port = 10001;
    std::vector<std::string> data_dirs;     // each is one disk
    std::vector<std::string> masters;       // host:port of every metad
    Nanos heartbeat_interval = kBeat;
    std::string zone;
    uint32_t reserve_percent = 5;
    uint64_t wal_max_size = uint64_t{256} << 20;
    uint32_t max_concurrent_writes = 100;
    uint64_t read_cache_size = uint64_t{128} << 20;
    uint32_t scrub_rate_mbps = 0;           // 0 = no scrub in the background
    Nanos gc_delay = 86'400 * kSecond;      // removed chunks stay in the trash this long [18]
    LogOptions log;

    // For tests and the simulator: sizes of the store's files, 0 = the store's defaults.
    uint64_t wal_segment_size = 0;
    uint64_t home_file_size = 0;
    uint64_t home_step = 0;
    uint64_t fill_ahead = UINT64_MAX;       // UINT64_MAX = the store's default
    uint64_t reserve_min_bytes = UINT64_MAX;
    uint64_t cache_bytes = 0;

    std::string listen_address() const { return address + ":" + std::to_string(port); }
};

Result<ChunkdConfig> load_chunkd_config(FileSystem& fs, const std::string& path);
Result<ChunkdConfig> parse_chunkd_config(const std::string& text, const std::string& file_name);

}  // namespace lumeofs::chunkd
