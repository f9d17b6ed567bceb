// SPDX-License-Identifier: Apache-2.0
// lumeofs: the command line. Only finds the command; each has a file of its own.
#include <cstdio>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/transfer.h"
#include "common/base/log.h"

using namespace lumeofs;
using namespace lumeofs::cli;

namespace {

struct Row {
    const char* command;
    int (*run)(const Arguments&);
};

constexpr Row kCommands[] = {
    {"dev up", [](const Arguments& a) { return dev_up(a.dev); }},
    {"dev down", [](const Arguments& a) { return dev_down(a.dev); }},
    {"dev status", [](const Arguments& a) { return dev_status(a.dev); }},
    {"dev start", [](const Arguments& a) { return dev_start(a.dev); }},
    {"dev leader", [](const Arguments& a) { return dev_leader(a.dev); }},
    {"dev healthy", [](const Arguments& a) { return dev_healthy(a.dev); }},
    {"status", [](const Arguments& a) { return show_status(a.cluster); }},
    {"nodes", [](const Arguments& a) { return show_nodes(a.cluster); }},
    {"chunks", [](const Arguments& a) { return show_chunks(a.cluster); }},
    {"sessions", [](const Arguments& a) { return show_sessions(a.cluster); }},
    {"raft", [](const Arguments& a) { return show_raft(a.cluster); }},
    {"file info", [](const Arguments& a) { return show_file(a.cluster); }},
    {"upload", [](const Arguments& a) { return upload(a.cluster, a.from, a.to); }},
    {"download", [](const Arguments& a) { return download(a.cluster, a.from, a.to); }},
    {"verify", [](const Arguments& a) { return verify(a.cluster, a.from, a.to); }},
};

}  // namespace

int main(int argc, char** argv) {
    const Arguments arguments = parse_arguments(std::vector<std::string>(argv + 1, argv + argc));
    if (arguments.exit_status >= 0) {
        std::fputs(arguments.text.c_str(), arguments.exit_status == 0 ? stdout : stderr);
        return arguments.exit_status;
    }
    LogOptions log;
    log.level = LogLevel::off;  // what matters is said once, by the command itself
    log.program = "lumeofs";
    init_log(log);
    for (const Row& row : kCommands) {
        if (arguments.command == row.command) return row.run(arguments);
    }
    std::fprintf(stderr, "lumeofs: unknown command\n");
    return 64;
}
