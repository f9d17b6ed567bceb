// SPDX-License-Identifier: Apache-2.0
// PeerLink: the way to one other metad. Raft messages are gathered by queue() and leave with
// flush(), several in one frame; a link that is down or full drops them (the core repeats what
// matters, and is told that the peer is unreachable). Snapshot pieces are requests on the same
// link. Each direction of a pair has its own connection: answers travel on the answerer's.
// single-thread: the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/rpc/connector.h"
#include "metad/consensus/raft_codec.h"

namespace lumeofs::consensus {

class PeerLink {
public:
    struct Env {
        Loop& loop;
        Transport& transport;
        std::function<Hello()> hello;
        std::function<Sender()> sender;
        std::function<void(NodeId)> unreachable;  // what was in flight may be lost
    };

    PeerLink(const Env& env, Prng prng, NodeId peer, const std::string& address);
    ~PeerLink();

    void queue(raft::Message message) { queue_.push_back(std::move(message)); }
    void flush();
    // Only entries wait here, and not too many: no vote, heartbeat or answer is held up with them.
    bool may_wait() const;
    bool waits() const { return !queue_.empty(); }
    void call_piece(const SnapshotPieceHead& head, Buffer bytes, Nanos timeout, RpcDone done);

    const std::string& address() const { return connector_.address(); }
    void set_address(const std::string& address);
    bool is_up() const { return connector_.is_up(); }
    uint64_t frames_sent() const { return frames_sent_; }

private:
    void send(const std::vector<raft::Message>& messages);

    Env env_;
    NodeId peer_;
    std::vector<raft::Message> queue_;
    uint64_t frames_sent_ = 0;
    Connector connector_;  // last: its events use the rest
};

}  // namespace lumeofs::consensus
