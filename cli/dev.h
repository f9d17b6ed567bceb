// SPDX-License-Identifier: Apache-2.0
// `lumeofs dev …`: a local cluster on loopback with its mount. Everything it needs lies in one
// directory (dev_layout.h says how). What runs is left alone, so `up` may be repeated; a failed
// `up` ends what it started and prints the end of the log that explains it. Exit status: 0 good, 1
// trouble (said on stderr), 3 `healthy` and `status`: not running or not whole. Blocking;
// single-thread: main.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"

namespace lumeofs::cli {

struct DevOptions {
    std::string dir;  // "" = the default
    // Not given: as the cluster in `dir` is, or the defaults.
    std::optional<uint32_t> metads, chunkds;
    std::optional<uint16_t> base_port;
    std::optional<std::string> mount;
    bool embedded = false;
    bool purge = false;  // down
    bool json = false;   // status
    std::string name;    // start
};

int dev_up(const DevOptions& options);
int dev_down(const DevOptions& options);
int dev_status(const DevOptions& options);
int dev_start(const DevOptions& options);   // one daemon
int dev_leader(const DevOptions& options);  // prints its name
int dev_healthy(const DevOptions& options);

}  // namespace lumeofs::cli
