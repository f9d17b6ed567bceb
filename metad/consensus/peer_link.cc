// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/peer_link.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/wire/method.h"

namespace lumeofs::consensus {
namespace {

constexpr uint64_t kFrameBytes = kMaxPayloadBytes / 2;  // of entries, unless one message has more
constexpr size_t kFrameEntries = 16 * 1024;
constexpr uint64_t kMaxWaitingBytes = 256 * 1024;

}  // namespace

PeerLink::PeerLink(const Env& env, Prng prng, NodeId peer, const std::string& address)
    : env_(env),
      peer_(peer),
      connector_(env.loop,
                 env.transport,
                 prng,
                 {.address = address, .hello = env.hello},
                 {.on_up =
                      [this](RpcPeer& up) {
                          LFS_LOG(info, "metad {} at {} reached", peer_.value, up.address());
                      },
                  .on_down =
                      [this](const Status& why) {
                          LFS_LOG(info, "metad {} lost: {}", peer_.value, why.to_string());
                          env_.unreachable(peer_);
                      },
                  .on_failure = {},
                  .on_request = {},
                  .on_push = {}}) {
    connector_.start();
}

PeerLink::~PeerLink() = default;

void PeerLink::set_address(const std::string& address) {
    if (address == connector_.address()) return;
    connector_.set_address(address);
    connector_.reconnect();
}

bool PeerLink::may_wait() const {
    uint64_t bytes = 0;
    return std::all_of(queue_.begin(), queue_.end(), [&](const raft::Message& message) {
        bytes += payload_bytes(message);
        return message.type == raft::MessageType::append_request && !message.entries.empty() &&
               bytes <= kMaxWaitingBytes;
    });
}

void PeerLink::flush() {
    if (queue_.empty()) return;
    std::vector<raft::Message> all;
    all.swap(queue_);
    if (!connector_.is_up()) return;
    std::vector<raft::Message> frame;
    uint64_t bytes = 0;
    size_t entries = 0;
    for (raft::Message& message : all) {
        const uint64_t more = payload_bytes(message);
        if (!frame.empty() && (frame.size() == kMaxMessagesPerFrame || bytes + more > kFrameBytes ||
                               entries + message.entries.size() > kFrameEntries)) {
            send(frame);
            frame.clear();
            bytes = 0;
            entries = 0;
        }
        bytes += more;
        entries += message.entries.size();
        frame.push_back(std::move(message));
    }
    send(frame);
}

void PeerLink::send(const std::vector<raft::Message>& messages) {
    EncodedFrame frame = encode_batch(env_.sender(), peer_, messages);
    ++frames_sent_;
    const auto method = static_cast<uint16_t>(Method::raft);
    if (!connector_.push(method, std::move(frame.body), std::move(frame.payload))) {
        env_.unreachable(peer_);
    }
}

void PeerLink::call_piece(const SnapshotPieceHead& head,
                          Buffer bytes,
                          Nanos timeout,
                          RpcDone done) {
    connector_.call(static_cast<uint16_t>(Method::snapshot_piece),
                    encode_piece(head),
                    std::move(bytes),
                    timeout,
                    std::move(done));
}

}  // namespace lumeofs::consensus
