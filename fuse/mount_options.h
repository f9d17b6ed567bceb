// SPDX-License-Identifier: Apache-2.0
// What a mount is asked for: the command line of lumeofs-fuse, as mount.fuse.lumeofs passes it on.
//
//   lumeofs-fuse HOST[:PORT][,HOST…][:/PATH] DIR [-f] [-o OPTION[,OPTION…]]
//
// Options: ro, rw, soft, timeo=SECONDS, read_ahead_mb=N, dirty_mb=N, cache_mb=N, kernel_cache_ms=N,
// log_level=L, log_file=F, status_file=F, subdir=/PATH, and those of mount(8) and FUSE that are passed
// on (allow_other, dev, nodev, suid, nosuid, exec, noexec, …). _netdev, noauto, user, x-* and the like
// mean nothing here.
// Unknown options are refused with a line that names them. Plain values.
#pragma once

#include <string>
#include <vector>

#include "client/types.h"
#include "common/base/log.h"
#include "common/base/result.h"

namespace lumeofs::fusefs {

struct MountOptions {
    std::string source;      // as given, shown by mount(8) and df(1)
    std::string mount_point;
    client::ClientOptions client;
    std::string kernel_options;  // for libfuse, joined by commas
    bool foreground = false;
    bool help = false;
    bool version = false;
    LogOptions log;
    std::string status_file;  // written on SIGUSR2: what the client is doing
};

// Errors: Errc::config with one line for people.
Result<MountOptions> parse_mount_options(const std::vector<std::string>& args);
// "h1,h2:9200:/sub" -> addresses with ports and the sub-directory.
Status parse_source(const std::string& source, client::ClientOptions* options);

}  // namespace lumeofs::fusefs
