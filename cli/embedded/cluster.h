// SPDX-License-Identifier: Apache-2.0
// The servers of an embedded cluster: a metad and chunkds on one loop, joined by the in-process
// transport. Questions of the command line (Method::admin) come over the network and are passed on.
// Damage in any part ends the whole process, as it would end that daemon.
// start() and stop() block the caller, never the loop. single-thread: main.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/env/file_system.h"
#include "common/env/real_loop.h"
#include "common/env/transport.h"

namespace lumeofs::embedded {

// Starts something on the loop and waits for its one callback.
Status await(RealLoop& loop, const std::function<void(std::function<void(Status)>)>& start);

class Cluster {
public:
    explicit Cluster(FileSystem& fs);
    ~Cluster();  // stops
    Cluster(const Cluster&) = delete;
    Cluster& operator=(const Cluster&) = delete;

    // The configuration files: the metad's, then those of the chunkds.
    Status start(const std::vector<std::string>& files);
    void stop();  // the loop too; clients must be gone

    RealLoop& loop();
    Transport& transport();

private:
    struct Parts;
    Status start_on_loop(const std::vector<std::string>& files);
    Status listen_for_questions(const std::string& address, NodeId metad);

    std::unique_ptr<Parts> parts_;
};

}  // namespace lumeofs::embedded
