// SPDX-License-Identifier: Apache-2.0
// ChunkdServer: the contents page of lumeofs-chunkd. Everything runs on one loop, in this order:
//
//   start  lock and identity -> store (at once if the cluster is known, else after the first
//          registration names it) -> listen -> register with metad -> driver -> heartbeats
//   stop   driver (nothing is served any more) -> store flushed -> goodbye to metad -> links closed
//
// Until it is registered every request is answered unavailable; until a heartbeat was answered it
// has no node lease and serves nothing (I10). A heartbeat that metad refuses (this start is not known)
// begins the next start in place: another incarnation, everything settled again.
// Several can live in one process (embedded mode, the simulator): no globals.
// single-thread: the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "chunkd/config.h"
#include "chunkd/replication/context.h"
#include "common/base/prng.h"
#include "common/env/file_system.h"
#include "common/env/loop.h"
#include "common/env/transport.h"

namespace lumeofs {
class RpcServer;
namespace replication {
class Driver;
}
}  // namespace lumeofs

namespace lumeofs::chunkd {

class MetadDuties;
class MetadLink;
class NodeIdentity;
class PeerLinks;

struct ChunkdEnv {
    Loop& loop;
    FileSystem& fs;
    Transport& transport;
    uint64_t seed = 0;  // from the system's random source; the simulator's is its own
    std::function<void(const Status&)> on_failure;  // the process must end with this error
};

class ChunkdServer final : private replication::Outside {
public:
    ChunkdServer(const ChunkdEnv& env, const ChunkdConfig& config);
    ~ChunkdServer() override;
    ChunkdServer(const ChunkdServer&) = delete;
    ChunkdServer& operator=(const ChunkdServer&) = delete;

    // config: a data directory is foreign or missing, an address cannot be listened on. busy: another
    // chunkd runs on it. corrupt, io: damage.
    Status start();
    // Clean stop; `done` (may be empty) when metad knows or half a second later. The object may be
    // destroyed at any time instead: that is a crash.
    void stop(std::function<void()> done);

    // For status, tests and the simulator's checkers. driver() and store(): null before the store is
    // open.
    replication::Driver* driver() { return driver_.get(); }
    store::ChunkStore* store() { return store_.get(); }
    const std::string& address() const;
    bool serving() const { return lease_valid(); }
    Incarnation incarnation() const { return incarnation_; }

private:
    Status open_store();
    Status listen();
    void registered(const wire::RegisterReplyT& reply);
    Hello hello() const;
    void housekeeping();
    void fail(const Status& status);

    // replication::Outside
    bool lease_valid() const override;
    void call_node(NodeId node,
                   Method method,
                   Bytes body,
                   Buffer payload,
                   Nanos timeout,
                   RpcDone done) override;
    bool push_node(NodeId node, Method method, Bytes body) override;
    bool node_up(NodeId node) const override;
    void call_metad(wire::NodeOpUnion op,
                    Nanos timeout,
                    std::function<void(Result<wire::ConfigReplyT>)> done) override;

    ChunkdEnv env_;
    ChunkdConfig config_;
    Prng prng_;
    Incarnation incarnation_;
    bool stopped_ = false;
    std::unique_ptr<NodeIdentity> identity_;
    std::unique_ptr<store::ChunkStore> store_;
    std::unique_ptr<PeerLinks> peers_;
    std::unique_ptr<MetadLink> metad_;
    std::unique_ptr<replication::Driver> driver_;
    std::unique_ptr<MetadDuties> duties_;
    std::unique_ptr<RpcServer> server_;
    Timer housekeeping_;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace lumeofs::chunkd
