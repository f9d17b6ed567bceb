// SPDX-License-Identifier: Apache-2.0
// A chunkd for tests of the client. All fake chunkds share the bytes (as if replication always
// worked); each has its own faults. The primary watches the rule of hazard 10: of one session, no
// two writes that overlap are under way at once. single-thread.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/layout.h"
#include "tests/unit/client/fake_metad.h"

namespace lumeofs::client_test {

class FakeChunkd {
public:
    struct Faults {
        uint64_t lose_reply_percent = 0;
        uint64_t delay_max_us = 0;
    };

    FakeChunkd(FakeLoop& loop,
               std::shared_ptr<InprocNetwork> network,
               FakeState& state,
               Prng prng,
               uint64_t node,
               Faults& faults)
        : loop_(loop),
          transport_(loop, std::move(network)),
          state_(state),
          prng_(prng),
          node_(node),
          faults_(faults) {
        start();
    }
    std::string address() const { return "chunkd" + std::to_string(node_) + ":1"; }
    bool corrupts = false;  // flips a bit of every read
    bool mute = false;      // takes requests, answers none
    bool full = false;
    uint64_t reads = 0, writes = 0, overlaps = 0, repeats = 0;

    void start() {
        RpcServerEvents events;
        events.on_request = [this](RpcPeer&, RpcRequest request) { handle(std::move(request)); };
        server_ = std::make_unique<RpcServer>(loop_, transport_, std::move(events));
        Hello hello;
        hello.protocol_revision = kProtocolRevision;
        hello.role = Role::chunkd;
        hello.node = NodeId{node_};
        LFS_ASSERT(server_->listen(address(), hello).is_ok());
        state_.dead.erase(node_);
        for (auto& [id, chunk] : state_.chunks) {  // filled again at once: the bytes are shared
            auto& members = chunk.grant.members;
            if (std::find(members.begin(), members.end(), node_) != members.end()) continue;
            members.push_back(node_);
            ++chunk.grant.epoch;
        }
    }
    void crash() {
        server_.reset();
        under_way_.clear();
        state_.dead.insert(node_);
    }

private:
    struct UnderWay {
        uint64_t session, chunk, number, from, to;
    };

    void reply(const Responder& responder,
               Errc code,
               wire::ChunkReplyT message = {},
               Buffer payload = {}) {
        message.errc = static_cast<uint16_t>(code);
        if (mute || prng_.below(100) < faults_.lose_reply_percent) {
            lost_.push_back(responder);
            return;
        }
        responder.reply_ok(wire::encode<wire::ChunkReply>(message), std::move(payload));
    }
    void handle(RpcRequest request) {
        const Nanos wait = faults_.delay_max_us == 0
                               ? 0
                               : static_cast<Nanos>(prng_.below(faults_.delay_max_us)) * 1000;
        if (request.method == static_cast<uint16_t>(Method::write_chunk)) {
            auto message = wire::decode<wire::WriteChunk>(request.body);
            LFS_ASSERT(message.is_ok());
            const uint64_t from = message->offset, to = from + message->length;
            for (const UnderWay& other : under_way_) {
                if (other.session == message->session && other.chunk == message->grant->chunk &&
                    other.number != message->write_no && from < other.to && other.from < to) {
                    ++overlaps;
                }
            }
            under_way_.push_back(
                {message->session, message->grant->chunk, message->write_no, from, to});
            auto shared = std::make_shared<wire::WriteChunkT>(std::move(*message));
            auto run = [this, shared, payload = request.payload, responder = request.responder] {
                std::erase_if(under_way_, [&](const UnderWay& one) {
                    return one.session == shared->session && one.number == shared->write_no;
                });
                if (server_) write(*shared, payload, responder);
            };
            if (wait == 0) return run();
            loop_.after(wait, run);
            return;
        }
        auto run = [this, request = std::move(request)] {
            if (server_) read_or_extents(request);
        };
        if (wait == 0) return run();
        loop_.after(wait, run);
    }
    FakeChunk* check(const wire::ChunkGrantT& grant, const Responder& responder) {
        auto it = state_.chunks.find(grant.chunk);
        if (it == state_.chunks.end()) {
            reply(responder, Errc::not_found);
            return nullptr;
        }
        const auto& current = it->second.grant;
        const bool member = std::find(current.members.begin(), current.members.end(), node_) !=
                            current.members.end();
        if (member && grant.epoch == current.epoch) return &it->second;
        wire::ChunkReplyT message;
        message.grant = std::make_unique<wire::ChunkGrantT>(current);
        reply(responder, member ? Errc::stale_epoch : Errc::not_member, std::move(message));
        return nullptr;
    }
    void write(const wire::WriteChunkT& op, const Buffer& payload, const Responder& responder) {
        FakeChunk* chunk = check(*op.grant, responder);
        if (chunk == nullptr) return;
        if (state_.fenced.contains(op.session)) return reply(responder, Errc::fenced);
        if (full) return reply(responder, Errc::nospc);
        LFS_ASSERT(op.offset + op.length <= op.grant->write_limit);
        const auto name = std::make_pair(op.session, op.write_no);
        if (!chunk->done.insert(name).second) {
            ++repeats;
            return reply(responder, Errc::ok);
        }
        ++writes;
        const bool zero = op.kind == wire::WriteKind::zero;
        LFS_ASSERT(zero || client::checksums_match(payload.view(), op.offset, op.checksums));
        for (uint64_t at = 0; at < op.length;) {
            const uint64_t position = op.offset + at;
            Bytes& block = chunk->blocks[position / kBlockSize];
            block.resize(kBlockSize);
            const uint64_t take = std::min(op.length - at, kBlockSize - position % kBlockSize);
            uint8_t* to = block.data() + position % kBlockSize;
            if (zero)
                std::memset(to, 0, take);
            else
                std::memcpy(to, payload.data() + at, take);
            at += take;
        }
        reply(responder, Errc::ok);
    }
    void read_or_extents(const RpcRequest& request) {
        if (request.method == static_cast<uint16_t>(Method::chunk_extents)) {
            auto op = wire::decode<wire::ChunkExtents>(request.body);
            FakeChunk* chunk = check(*op->grant, request.responder);
            if (chunk == nullptr) return;
            wire::ChunkReplyT message;
            for (const auto& [number, block] : chunk->blocks) {
                const uint64_t start = number * kBlockSize;
                if (start + kBlockSize <= op->offset || start >= op->offset + op->length) continue;
                message.extents.emplace_back(start, kBlockSize);
            }
            return reply(request.responder, Errc::ok, std::move(message));
        }
        auto op = wire::decode<wire::ReadChunk>(request.body);
        ++reads;
        FakeChunk* chunk = check(*op->grant, request.responder);
        if (chunk == nullptr) return;
        Buffer payload = Buffer::allocate(op->length);
        std::memset(payload.mutable_data(), 0, op->length);
        for (uint64_t at = 0; at < op->length;) {
            const uint64_t position = op->offset + at;
            const uint64_t take = std::min(op->length - at, kBlockSize - position % kBlockSize);
            auto block = chunk->blocks.find(position / kBlockSize);
            if (block != chunk->blocks.end()) {
                std::memcpy(payload.mutable_data() + at,
                            block->second.data() + position % kBlockSize,
                            take);
            }
            at += take;
        }
        wire::ChunkReplyT message;
        message.checksums = client::piece_checksums(payload.view(), op->offset);
        if (corrupts && op->length > 0) payload.mutable_data()[op->length / 2] ^= 1;
        reply(request.responder, Errc::ok, std::move(message), std::move(payload));
    }

    FakeLoop& loop_;
    InprocTransport transport_;
    FakeState& state_;
    Prng prng_;
    const uint64_t node_;
    Faults& faults_;
    std::unique_ptr<RpcServer> server_;
    std::vector<UnderWay> under_way_;
    std::vector<Responder> lost_;
};

}  // namespace lumeofs::client_test
