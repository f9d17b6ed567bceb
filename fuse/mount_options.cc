// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount_options.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace lumeofs::fusefs {
namespace {

constexpr uint16_t kDefaultPort = 9100;

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    size_t at = 0;
    while (at <= text.size()) {
        const size_t end = std::min(text.find(separator, at), text.size());
        parts.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}

bool parse_number(const std::string& text, uint64_t low, uint64_t high, uint64_t* value) {
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, *value);
    return result.ec == std::errc() && result.ptr == end && *value >= low && *value <= high;
}

Status wrong(const std::string& what) { return Status(Errc::config, what); }

const std::set<std::string>& passed_on() {
    static const std::set<std::string> names = {
        "allow_other", "allow_root", "dev",     "nodev",      "suid",     "nosuid",
        "exec",        "noexec",     "sync",    "async",      "dirsync",  "atime",
        "noatime",     "nodiratime", "relatime", "norelatime", "strictatime", "auto_unmount"};
    return names;
}

bool meaningless(const std::string& name) {
    static const std::set<std::string> names = {"",       "_netdev", "auto",  "noauto", "user",
                                                "nouser", "users",   "owner", "group",  "defaults",
                                                "nofail", "rw",      "default_permissions"};
    return names.contains(name) || name.rfind("x-", 0) == 0 || name.rfind("comment=", 0) == 0;
}

Status apply_number(const std::string& name, const std::string& value, MountOptions* options) {
    struct Row {
        const char* name;
        uint64_t low, high;
    };
    constexpr Row kRows[] = {
        {"timeo", 1, 86'400},
        {"read_ahead_mb", 0, 1'024},
        {"dirty_mb", 1, 4'096},
        {"cache_mb", 1, 65'536},
        {"kernel_cache_ms", 0, 1'000},
    };
    for (const Row& row : kRows) {
        if (name != row.name) continue;
        uint64_t number = 0;
        if (!parse_number(value, row.low, row.high, &number)) {
            return wrong("option " + name + "=" + value + ": a number from " +
                         std::to_string(row.low) + " to " + std::to_string(row.high) +
                         " is expected");
        }
        if (name == "timeo") options->client.timeo = static_cast<Nanos>(number) * kSecond;
        if (name == "read_ahead_mb") options->client.read_ahead_max = number << 20;
        if (name == "dirty_mb") options->client.dirty_limit = number << 20;
        if (name == "cache_mb") options->client.cache_limit = number << 20;
        if (name == "kernel_cache_ms") {
            options->client.kernel_time = static_cast<Nanos>(number) * kMillisecond;
        }
        return ok_status();
    }
    return Status(Errc::not_found);
}

Status apply_option(const std::string& option, MountOptions* options) {
    const size_t equals = option.find('=');
    const std::string name = option.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
    if (meaningless(option)) return ok_status();
    if (passed_on().contains(option)) {
        options->kernel_options += "," + option;
        return ok_status();
    }
    if (option == "ro") {
        options->client.read_only = true;
        options->kernel_options += ",ro";
    } else if (option == "soft") {
        options->client.soft = true;
    } else if (option == "hard") {
        options->client.soft = false;
    } else if (name == "subdir") {
        options->client.subdir = value;
    } else if (name == "log_file") {
        options->log.file = value;
    } else if (name == "status_file") {
        options->status_file = value;
    } else if (name == "log_level") {
        if (!parse_log_level(value, &options->log.level)) {
            return wrong("option log_level=" + value +
                         ": one of trace, debug, info, warn, error, off is expected");
        }
    } else {
        const Status status = apply_number(name, value, options);
        if (status.code() == Errc::not_found) return wrong("unknown mount option '" + option + "'");
        return status;
    }
    return ok_status();
}

}  // namespace

Status parse_source(const std::string& source, client::ClientOptions* options) {
    std::string hosts = source;
    const size_t path = source.find(":/");
    if (path != std::string::npos) {
        options->subdir = source.substr(path + 1);
        hosts = source.substr(0, path);
    }
    for (const std::string& host : split(hosts, ',')) {
        const size_t colon = host.rfind(':');
        uint64_t port = kDefaultPort;
        std::string name = host.substr(0, colon);
        if (colon != std::string::npos && !parse_number(host.substr(colon + 1), 1, 65535, &port)) {
            return wrong("source '" + source + "': '" + host.substr(colon + 1) +
                         "' is no port; HOST[:PORT][,HOST…][:/PATH] is expected");
        }
        if (name.empty()) {
            return wrong("source '" + source +
                         "': a host is empty; HOST[:PORT][,HOST…][:/PATH] is expected");
        }
        options->metads.push_back(name + ":" + std::to_string(port));
    }
    return ok_status();
}

Result<MountOptions> parse_mount_options(const std::vector<std::string>& args) {
    MountOptions options;
    options.log.program = "lumeofs-fuse";
    std::vector<std::string> places;
    for (size_t i = 0; i < args.size(); ++i) {
        const std::string& arg = args[i];
        if (arg == "-h" || arg == "--help") {
            options.help = true;
        } else if (arg == "-V" || arg == "--version") {
            options.version = true;
        } else if (arg == "-f") {
            options.foreground = true;
        } else if (arg == "-o") {
            if (i + 1 == args.size()) return wrong("-o needs options behind it");
            for (const std::string& option : split(args[++i], ',')) {
                LFS_TRY(apply_option(option, &options));
            }
        } else if (arg.size() > 1 && arg[0] == '-') {
            return wrong("unknown argument '" + arg + "'");
        } else {
            places.push_back(arg);
        }
    }
    if (options.help || options.version) return options;
    if (places.size() != 2) {
        return wrong("a source and a directory are expected: lumeofs-fuse HOST[,HOST…][:/PATH] DIR");
    }
    options.source = places[0];
    options.mount_point = places[1];
    const std::string subdir = options.client.subdir;  // of -o, wins over the source's
    LFS_TRY(parse_source(options.source, &options.client));
    if (!subdir.empty()) options.client.subdir = subdir;
    options.client.mount_path = options.mount_point;
    return options;
}

}  // namespace lumeofs::fusefs
