// SPDX-License-Identifier: Apache-2.0
// The command line as plain values. The only place that knows CLI11, which reports errors by
// exceptions: they end here as one line and exit status 64. Pure but for the environment variable
// LUMEOFS_METADS.
#pragma once

#include <string>
#include <vector>

#include "cli/cluster.h"
#include "cli/dev.h"

namespace lumeofs::cli {

struct Arguments {
    int exit_status = -1;  // >= 0: there is nothing to run
    std::string text;      // then: what to print (stdout for 0, else stderr)
    std::string command;   // "dev up", "status", …
    DevOptions dev;
    ClusterOptions cluster;
    std::string from, to;  // upload, download, verify
};

Arguments parse_arguments(const std::vector<std::string>& args);  // without the program's name

}  // namespace lumeofs::cli
