// SPDX-License-Identifier: Apache-2.0
// `lumeofs status | nodes | chunks | file info | sessions | raft`: questions to the leader, shown
// as short tables with what is wrong first, or as the JSON that came. Exit status: 0; 1 trouble
// (`status`: not healthy) or an error; 2 no metad could be asked. Blocking; single-thread: main.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace lumeofs::cli {

struct ClusterOptions {
    std::vector<std::string> metads;  // host:port; empty = those of the local cluster in dir
    std::string dir;
    bool json = false;
    uint64_t node = 0;
    std::string path;
};

inline constexpr int kExitUnreachable = 2;

// "h1:9100,h2" -> host:port each, 9100 where none is given; Errc::config with a clear text.
Result<std::vector<std::string>> parse_metads(const std::string& text);
Result<std::vector<std::string>> metads_to_ask(const ClusterOptions& options);

int show_status(const ClusterOptions& options);
int show_nodes(const ClusterOptions& options);
int show_chunks(const ClusterOptions& options);
int show_sessions(const ClusterOptions& options);
int show_file(const ClusterOptions& options);
int show_raft(const ClusterOptions& options);

}  // namespace lumeofs::cli
