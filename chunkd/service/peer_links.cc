// SPDX-License-Identifier: Apache-2.0
#include "chunkd/service/peer_links.h"

#include "common/base/log.h"

namespace lumeofs::chunkd {

PeerLinks::PeerLinks(Loop& loop,
                     Transport& transport,
                     Prng prng,
                     NodeId self,
                     PeerLinksEvents events)
    : loop_(loop), transport_(transport), prng_(prng), self_(self), events_(std::move(events)) {}

PeerLinks::~PeerLinks() = default;

void PeerLinks::learn(const std::vector<std::unique_ptr<wire::NodeAddressT>>& nodes) {
    for (const auto& one : nodes) {
        if (!one || one->role != static_cast<uint8_t>(Role::chunkd) || one->address.empty()) continue;
        const NodeId node{one->node};
        if (node == self_ || !node) continue;
        auto it = links_.find(node);
        if (it != links_.end()) {
            if (it->second->address() == one->address) continue;
            it->second->set_address(one->address);
            it->second->reconnect();
            continue;
        }
        ConnectorOptions how;
        how.address = one->address;
        how.hello = events_.hello;
        ConnectorEvents on;
        on.on_up = [this, node](RpcPeer&) { events_.on_up(node); };
        on.on_down = [this, node](const Status& why) {
            LFS_LOG(debug, "link to chunkd {} ended: {}", node.value, why.to_string());
            events_.on_down(node);
        };
        auto link = std::make_unique<Connector>(
            loop_, transport_, prng_.fork(one->address), std::move(how), std::move(on));
        link->start();
        links_.emplace(node, std::move(link));
    }
}

void PeerLinks::call(
    NodeId node, Method method, Bytes body, Buffer payload, Nanos timeout, RpcDone done) {
    auto it = links_.find(node);
    if (it == links_.end()) {
        loop_.post([done = std::move(done)] {
            done({Status(Errc::disconnected, "no address of this chunkd is known"), {}, {}});
        });
        return;
    }
    it->second->call(static_cast<uint16_t>(method),
                     std::move(body),
                     std::move(payload),
                     timeout,
                     std::move(done));
}

bool PeerLinks::push(NodeId node, Method method, Bytes body) {
    auto it = links_.find(node);
    return it != links_.end() && it->second->push(static_cast<uint16_t>(method), std::move(body));
}

bool PeerLinks::is_up(NodeId node) const {
    auto it = links_.find(node);
    return it != links_.end() && it->second->is_up();
}

void PeerLinks::reconnect() {
    for (auto& [node, link] : links_) link->reconnect();
}

void PeerLinks::stop() {
    for (auto& [node, link] : links_) link->stop();
    links_.clear();
}

}  // namespace lumeofs::chunkd
