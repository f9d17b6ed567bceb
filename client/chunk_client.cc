// SPDX-License-Identifier: Apache-2.0
// Links, writes and reports. Reads: chunk_reads.cc.
#include "client/chunk_client.h"

#include <algorithm>
#include <utility>

#include "client/chunk_read.h"
#include "client/layout.h"
#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"
#include "common/wire/codec.h"
#include "common/wire/method.h"

namespace lumeofs::client {
namespace {

constexpr Nanos kRetryMin = 10 * kMillisecond;
constexpr Nanos kRetryMax = 500 * kMillisecond;

Nanos backoff(int tries) { return std::min(kRetryMin << std::min(tries, 6), kRetryMax); }

bool is_final(Errc code) {
    return code == Errc::ok || code == Errc::nospc || code == Errc::noent || code == Errc::inval ||
           code == Errc::fbig || code == Errc::perm || code == Errc::acces || code == Errc::rofs ||
           code == Errc::nosys || code == Errc::opnotsupp || code == Errc::stale;
}

}  // namespace

Status every_copy_lost(uint64_t chunk) {
    LFS_LOG(error, "every copy of chunk {} is lost", chunk);
    return Status(Errc::io, "every copy of chunk " + std::to_string(chunk) + " is lost");
}

bool adopt_configuration(wire::ChunkGrantT& grant, const wire::ChunkGrantT& newer) {
    if (newer.chunk != grant.chunk || newer.epoch <= grant.epoch || newer.members.empty())
        return false;
    grant.epoch = newer.epoch;
    grant.state = newer.state;
    grant.members = newer.members;
    grant.joiner = newer.joiner;
    grant.marks = newer.marks;
    grant.mac = newer.mac;
    grant.written = grant.written || newer.written;
    if (newer.session == grant.session)
        grant.write_limit = std::max(grant.write_limit, newer.write_limit);
    return true;
}

ChunkClient::ChunkClient(Loop& loop, Transport& transport, Prng prng, ChunkEvents events)
    : loop_(loop),
      transport_(transport),
      prng_(prng),
      events_(std::move(events)),
      alive_(std::make_shared<char>()) {}

ChunkClient::~ChunkClient() = default;

void ChunkClient::stop() {
    alive_ = std::make_shared<char>();  // what is under way finds its owner gone
    writes_.clear();
    reads_.clear();
    reports_.clear();
    for (auto& [id, node] : nodes_) {
        node.waiting.clear();
        node.connector->stop();
    }
}

void ChunkClient::later(Nanos wait, Task task) {
    loop_.after(wait, [alive = std::weak_ptr<char>(alive_), task = std::move(task)] {
        if (!alive.expired()) task();
    });
}

// --- links

void ChunkClient::learn_node(const wire::NodeAddressT& address) {
    if (address.role != static_cast<uint8_t>(Role::chunkd) || address.address.empty()) return;
    Node& node = nodes_[address.node];
    if (node.connector) {
        if (node.connector->address() == address.address) return;
        node.connector->set_address(address.address);
        node.connector->reconnect();
        return;
    }
    const uint64_t id = address.node;
    ConnectorOptions how;
    how.address = address.address;
    how.hello = [this] { return events_.hello(); };
    ConnectorEvents on;
    on.on_up = [this, id](RpcPeer&) {
        Node& up = nodes_.at(id);
        up.failed = false;
        for (auto& task : std::exchange(up.waiting, {})) task(up.connector.get());
    };
    on.on_down = [this, id](const Status&) { link_failed(id); };
    on.on_failure = [this, id](const Status&) { link_failed(id); };
    node.connector = std::make_unique<Connector>(
        loop_, transport_, prng_.fork(address.address), std::move(how), std::move(on));
    node.connector->start();
}

void ChunkClient::link_failed(uint64_t id) {
    Node& node = nodes_.at(id);
    node.failed = true;
    node.avoid_until = loop_.now() + kSecond;
    for (auto& task : std::exchange(node.waiting, {})) task(nullptr);
}

void ChunkClient::call(
    uint64_t id, uint16_t method, Bytes body, Buffer payload, Nanos timeout, Reply reply) {
    ++requests_sent_;
    auto answered = [reply, alive = std::weak_ptr<char>(alive_)](RpcReply got) {
        if (alive.expired()) return;
        wire::ChunkReplyT decoded;
        Status status = got.status;
        if (!got.body.empty()) {
            auto body_of = wire::decode<wire::ChunkReply>(got.body);
            if (body_of.is_ok()) {
                decoded = std::move(*body_of);
                if (decoded.errc != 0)
                    status = Status(static_cast<Errc>(decoded.errc), decoded.text);
            } else if (status.is_ok()) {
                status = body_of.status();
            }
        } else if (status.is_ok()) {
            status = Status(Errc::corrupt, "empty answer");
        }
        reply(status, std::move(decoded), std::move(got.payload));
    };
    auto send = [=, body = std::move(body), payload = std::move(payload)](Connector* link) mutable {
        if (link == nullptr) {
            answered({Status(Errc::disconnected, "no link"), {}, {}});
        } else {
            link->call(method, std::move(body), std::move(payload), timeout, answered);
        }
    };
    auto it = nodes_.find(id);
    if (it == nodes_.end() || (it->second.failed && !it->second.connector->is_up())) {
        later(0, [send]() mutable { send(nullptr); });
    } else if (it->second.connector->is_up()) {
        send(it->second.connector.get());
    } else {
        it->second.waiting.push_back(std::move(send));
    }
}

// --- writes

void ChunkClient::write(
    InodeId ino, ChunkPtr chunk, uint64_t offset, Buffer data, StatusDone done) {
    Write write;
    write.ino = ino;
    write.chunk = std::move(chunk);
    write.offset = offset;
    write.length = data.size();
    write.checksums = piece_checksums(data.view(), offset);
    write.data = std::move(data);
    write.done = std::move(done);
    start_write(std::move(write));
}

void ChunkClient::zero(
    InodeId ino, ChunkPtr chunk, uint64_t offset, uint64_t length, StatusDone done) {
    Write write;
    write.ino = ino;
    write.chunk = std::move(chunk);
    write.kind = wire::WriteKind::zero;
    write.offset = offset;
    write.length = length;
    write.done = std::move(done);
    start_write(std::move(write));
}

void ChunkClient::start_write(Write write) {
    for (const auto& [number, other] : writes_) {
        const bool apart = other.chunk->grant.chunk != write.chunk->grant.chunk ||
                           other.offset + other.length <= write.offset ||
                           write.offset + write.length <= other.offset;
        LFS_ASSERT(apart || planted_bug("client.overlapping_writes"));  // [10]
    }
    const uint64_t number = ++last_write_no_;
    writes_.emplace(number, std::move(write));
    send_write(number);
}

void ChunkClient::send_write(uint64_t number) {
    auto it = writes_.find(number);
    if (it == writes_.end()) return;
    Write& write = it->second;
    const wire::ChunkGrantT& grant = write.chunk->grant;
    LFS_ASSERT(!grant.members.empty());
    write.node = write.redirect != 0 ? write.redirect : grant.members.front();
    write.redirect = 0;
    write.try_number = ++last_try_;
    if (write.tries++ > 0) ++retries_;
    wire::WriteChunkT request;
    request.grant = std::make_unique<wire::ChunkGrantT>(grant);
    request.session = events_.session();
    request.write_no = number;
    request.lowest_outstanding = writes_.begin()->first;
    request.kind = write.kind;
    request.offset = write.offset;
    request.length = write.length;
    request.checksums = write.checksums;
    call(write.node,
         static_cast<uint16_t>(Method::write_chunk),
         wire::encode<wire::WriteChunk>(request),
         write.data,
         kRpcTimeout,
         [this, number, try_number = write.try_number](
             const Status& status, wire::ChunkReplyT reply, const Buffer&) {
             on_written(number, try_number, status, std::move(reply));
         });
}

void ChunkClient::on_written(uint64_t number,
                             uint64_t try_number,
                             const Status& status,
                             wire::ChunkReplyT reply) {
    auto it = writes_.find(number);
    if (it == writes_.end() || it->second.try_number != try_number) return;
    Write& write = it->second;
    const uint64_t node = std::exchange(write.node, 0);
    const Errc code = status.code();
    if (is_final(code)) return finish_write(number, status);
    if (code == Errc::nodata) return finish_write(number, every_copy_lost(write.chunk->grant.chunk));
    if (reply.redirect != 0 && reply.redirect != node) {
        write.redirect = reply.redirect;
        return retry_write(number, write.tries > 3 ? backoff(write.tries) : 0);
    }
    if (reply.grant && adopt_configuration(write.chunk->grant, *reply.grant)) {
        return retry_write(number, 0);
    }
    if (code == Errc::fenced || code == Errc::no_session) {
        events_.doubt_session();
        return retry_write(number, kRetryMax);
    }
    const bool patient = code == Errc::newer_epoch || code == Errc::busy;
    if (code == Errc::corrupt || (patient && write.tries % 8 != 0)) {
        return retry_write(number, backoff(write.tries));
    }
    report(write.ino, write.chunk, node, code, [this, number](const Status& told) {
        auto again = writes_.find(number);
        if (again == writes_.end()) return;
        if (told.code() == Errc::noent || told.code() == Errc::stale)
            return finish_write(number, told);
        retry_write(number, backoff(again->second.tries));
    });
}

void ChunkClient::retry_write(uint64_t number, Nanos wait) {
    if (wait == 0) return send_write(number);
    later(wait, [this, number] { send_write(number); });
}

void ChunkClient::finish_write(uint64_t number, const Status& status) {
    auto it = writes_.find(number);
    StatusDone done = std::move(it->second.done);
    writes_.erase(it);
    done(status);
}

void ChunkClient::fail_writes() {
    auto failed = std::exchange(writes_, {});
    for (auto& [number, write] : failed) {
        write.done(Status(Errc::no_session, "the session was ended while data was being written"));
    }
}

// --- reports

void ChunkClient::report(
    InodeId ino, const ChunkPtr& chunk, uint64_t node, Errc why, StatusDone next) {
    auto& waiting = reports_[chunk->grant.chunk];
    waiting.push_back([chunk, next = std::move(next)](const Status& status) { next(status); });
    if (waiting.size() > 1) return;  // one is under way: its answer serves all
    wire::ReportChunkT message;
    message.chunk = chunk->grant.chunk;
    message.ino = ino.value;
    message.index = chunk->grant.index;
    message.epoch = chunk->grant.epoch;
    message.node = node;
    message.errc = static_cast<uint16_t>(why);
    LFS_LOG(info,
            "chunkd {} failed for chunk {} ({}): asking metad",
            node,
            message.chunk,
            errc_name(why));
    events_.report(
        message,
        [this, chunk, alive = std::weak_ptr<char>(alive_)](Result<wire::ChunkGrantT> answer) {
            if (alive.expired()) return;
            if (answer.is_ok()) adopt_configuration(chunk->grant, *answer);
            auto told = std::move(reports_[chunk->grant.chunk]);
            reports_.erase(chunk->grant.chunk);
            for (StatusDone& call : told) call(answer.status());
        });
}

std::string ChunkClient::waits_for(InodeId ino) const {
    for (const auto& [number, write] : writes_) {
        if (write.ino != ino || write.tries < 2) continue;
        const uint64_t node = write.node != 0 ? write.node : write.chunk->grant.members.front();
        return "chunkd " + std::to_string(node) + " to take chunk " +
               std::to_string(write.chunk->grant.chunk);
    }
    for (const auto& [serial, read] : reads_) {
        if (read->ino != ino || read->rounds == 0) continue;
        return "any member of chunk " + std::to_string(read->chunk->grant.chunk) + " to answer";
    }
    return {};
}

}  // namespace lumeofs::client
