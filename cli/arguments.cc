// SPDX-License-Identifier: Apache-2.0
#include "cli/arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "common/env/daemon.h"

namespace lumeofs::cli {
namespace {

// A command whose name is remembered when it is given.
CLI::App* add(CLI::App& parent, const std::string& name, const std::string& help, Arguments* out) {
    CLI::App* command = parent.add_subcommand(name, help);
    const std::string prefix = parent.get_parent() ? parent.get_name() + " " : "";
    command->callback([out, full = prefix + name] {
        if (out->command.empty()) out->command = full;
    });
    return command;
}

void add_dev(CLI::App& app, Arguments* out) {
    CLI::App* dev = app.add_subcommand("dev", "A local cluster on loopback, with its mount");
    dev->require_subcommand(1);
    CLI::App* up = add(*dev, "up", "Start it and mount it", out);
    up->add_option("--metads", out->dev.metads, "1, 3 or 5 metadata servers [3]");
    up->add_option("--chunkds", out->dev.chunkds, "Chunk servers [3]");
    up->add_option("--base-port", out->dev.base_port, "Ports are this plus 1, 2 … [19000]");
    up->add_option("--mount", out->dev.mount, "Where to mount [DIR/mnt]");
    up->add_flag("--embedded", out->dev.embedded, "All in one process");
    CLI::App* down = add(*dev, "down", "Unmount and stop it", out);
    down->add_flag("--purge", out->dev.purge, "Delete its data too");
    CLI::App* status = add(*dev, "status", "What runs", out);
    status->add_flag("--json", out->dev.json, "As JSON");
    CLI::App* start = add(*dev, "start", "Start one daemon again", out);
    start->add_option("NAME", out->dev.name, "metad1, chunkd2 …")->required();
    for (CLI::App* command : {up,
                              down,
                              status,
                              start,
                              add(*dev, "leader", "Print the name of the leading metad", out),
                              add(*dev, "healthy", "Exit status 0 when all is well", out)}) {
        command->add_option("--dir", out->dev.dir, "Its directory [~/.lumeofs-dev]");
    }
}

void add_cluster(CLI::App& app, Arguments* out, std::string* metads) {
    const auto common = [out, metads](CLI::App* command) {
        command->add_option("--metads", *metads, "HOST:PORT,HOST:PORT… [$LUMEOFS_METADS]");
        command->add_option("--dir", out->cluster.dir, "Of a local cluster [~/.lumeofs-dev]");
        command->add_flag("--json", out->cluster.json, "As JSON");
        return command;
    };
    common(add(app, "status", "Is anything wrong?", out));
    common(add(app, "nodes", "The chunk servers", out));
    CLI::App* chunks = common(add(app, "chunks", "Chunks and where they are", out));
    chunks->add_option("--node", out->cluster.node, "Only those of this node");
    common(add(app, "sessions", "Clients", out));
    common(add(app, "raft", "Consensus as each metad sees it", out));
    CLI::App* file = app.add_subcommand("file", "Files");
    file->require_subcommand(1);
    CLI::App* info = common(add(*file, "info", "What is stored of a file", out));
    info->add_option("PATH", out->cluster.path, "From the root of the file system")->required();
    CLI::App* upload = common(add(app, "upload", "Copy into the file system", out));
    upload->add_option("LOCAL", out->from, "File or directory")->required();
    upload->add_option("REMOTE", out->to, "Path in the file system")->required();
    CLI::App* download = common(add(app, "download", "Copy out of the file system", out));
    download->add_option("REMOTE", out->from, "Path in the file system")->required();
    download->add_option("LOCAL", out->to, "File or directory")->required();
    CLI::App* verify = common(add(app, "verify", "Compare by checksum", out));
    verify->add_option("LOCAL", out->from, "File or directory")->required();
    verify->add_option("REMOTE", out->to, "Path in the file system")->required();
}

}  // namespace

Arguments parse_arguments(const std::vector<std::string>& args) {
    Arguments out;
    std::string metads;
    CLI::App app("LumeoFS: clusters, files and a local cluster for trying it", "lumeofs");
    app.set_version_flag("--version", std::string("lumeofs ") + LUMEO_VERSION);
    app.require_subcommand(1);
    add_dev(app, &out);
    add_cluster(app, &out, &metads);
    std::vector<std::string> reversed(args.rbegin(), args.rend());  // as CLI11 wants it
    try {
        app.parse(reversed);
    } catch (const CLI::CallForVersion& asked) {
        out.exit_status = kExitOk;
        out.text = std::string(asked.what()) + "\n";
    } catch (const CLI::Success&) {
        out.exit_status = kExitOk;
        out.text = app.help();
    } catch (const CLI::ParseError& error) {
        out.exit_status = kExitUsage;
        out.text = std::string("lumeofs: ") + error.what() + " (see lumeofs --help)\n";
    }
    if (metads.empty() && out.cluster.dir.empty()) {
        if (const char* known = std::getenv("LUMEOFS_METADS")) metads = known;
    }
    if (out.exit_status < 0 && !metads.empty()) {
        auto parsed = parse_metads(metads);
        if (parsed) {
            out.cluster.metads = *parsed;
        } else {
            out.exit_status = kExitUsage;
            out.text = "lumeofs: " + std::string(parsed.status().text()) + "\n";
        }
    }
    return out;
}

}  // namespace lumeofs::cli
