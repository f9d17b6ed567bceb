// SPDX-License-Identifier: Apache-2.0
// The mount of a local cluster: lumeofs-fuse in the foreground in a session of its own, so that its
// pid is known. Nothing here touches the mounted directory itself without a deadline: it may hang.
// Blocking; single-thread: main.
#pragma once

#include <sys/types.h>

#include <string>

#include "cli/dev_layout.h"
#include "common/base/limits.h"
#include "common/base/result.h"

namespace lumeofs::cli {

bool is_mounted(const std::string& directory);                   // of any kind
pid_t mount_pid(const std::string& dir, const DevShape& shape);  // 0 = not running
// Clears a dead mount first; returns once stat(1) on it has answered.
Status mount_cluster(const std::string& dir, const DevShape& shape, Nanos patience);
// Nothing mounted: fine. `cluster_runs`: else nothing can be written back and nothing is waited
// for.
Status unmount_cluster(const std::string& dir, const DevShape& shape, bool cluster_runs);

}  // namespace lumeofs::cli
