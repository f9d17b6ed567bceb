// SPDX-License-Identifier: Apache-2.0
// `lumeofs upload | download | verify`: files and whole directories between the local machine and
// the cluster through the client library, without a mount. Uploads are synced before they count.
// verify compares XXH3 sums of both sides. Regular files and directories; others are reported.
// Exit status: 0; 1 an error or a difference; 2 no metad could be asked.
// Blocking; single-thread: main.
#pragma once

#include <string>

#include "cli/cluster.h"

namespace lumeofs::cli {

int upload(const ClusterOptions& options, const std::string& local, const std::string& remote);
int download(const ClusterOptions& options, const std::string& remote, const std::string& local);
int verify(const ClusterOptions& options, const std::string& local, const std::string& remote);

}  // namespace lumeofs::cli
