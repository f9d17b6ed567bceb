// SPDX-License-Identifier: Apache-2.0
#include "chunkd/service/chunk_service.h"

#include "common/wire/codec.h"

namespace lumeofs::chunkd {

namespace {

replication::ChunkAnswer answer_to(const Responder& to) {
    return [to](const wire::ChunkReplyT& reply, Buffer payload) {
        to.reply_ok(wire::encode<wire::ChunkReply>(reply), std::move(payload));
    };
}

}  // namespace

void serve_request(replication::Driver& driver, const Hello& peer, RpcRequest request) {
    const Responder to = request.responder;
    const bool chunkd = peer.role == Role::chunkd && peer.node;
    switch (static_cast<Method>(request.method)) {
        case Method::write_chunk: {
            auto message = wire::decode<wire::WriteChunk>(request.body);
            if (!message.is_ok()) return to.reply(message.status());
            return driver.write(std::move(message).value(),
                                std::move(request.payload),
                                chunkd,
                                request.deadline,
                                answer_to(to));
        }
        case Method::read_chunk: {
            auto message = wire::decode<wire::ReadChunk>(request.body);
            if (!message.is_ok()) return to.reply(message.status());
            return driver.read(*message, request.deadline, answer_to(to));
        }
        case Method::chunk_extents: {
            auto message = wire::decode<wire::ChunkExtents>(request.body);
            if (!message.is_ok()) return to.reply(message.status());
            return driver.extents(*message, request.deadline, answer_to(to));
        }
        case Method::replicate:
        case Method::gather:
        case Method::copy_blocks:
        case Method::compare_blocks:
            if (!chunkd) return to.reply(Status(Errc::protocol, "only a chunkd may ask for this"));
            return driver.on_peer_request(peer.node, std::move(request));
        case Method::mutation:
        case Method::query:
        case Method::session:
        case Method::recall:
        case Method::leader_hello:
        case Method::node:
        case Method::admin:
        case Method::commit_point:
        case Method::adopt_config:
        case Method::raft:
        case Method::snapshot_piece: break;
    }
    to.reply(Status(Errc::nosys, "a chunkd does not answer this"));
}

void serve_push(replication::Driver& driver, const Hello& peer, const RpcPush& push) {
    if (peer.role == Role::chunkd && peer.node) driver.on_peer_push(peer.node, push);
}

}  // namespace lumeofs::chunkd
