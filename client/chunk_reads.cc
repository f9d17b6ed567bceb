// SPDX-License-Identifier: Apache-2.0
// ChunkClient's reads: choice of the member, moving on, hedging.
#include <algorithm>
#include <utility>

#include "client/chunk_client.h"
#include "client/chunk_read.h"
#include "client/layout.h"
#include "common/base/log.h"
#include "common/wire/codec.h"
#include "common/wire/method.h"

namespace lumeofs::client {
namespace {

constexpr Nanos kHedgeMin = 20 * kMillisecond;
constexpr Nanos kGiveUpOn = 500 * kMillisecond;  // then another member is asked whatever the budget
constexpr Nanos kAvoid = 2 * kSecond;
constexpr uint64_t kHedgeShare = 20;  // at most one read in so many is hedged

}  // namespace

void ChunkClient::read(
    InodeId ino, ChunkPtr chunk, uint64_t offset, uint64_t length, Done<Buffer> done) {
    auto read = std::make_shared<Read>(loop_);
    read->ino = ino;
    read->chunk = std::move(chunk);
    read->offset = offset;
    read->length = length;
    read->done = std::move(done);
    // The same megabytes go to the same member, which may have them in memory.
    read->start = read->chunk->grant.chunk + offset / (uint64_t{4} << 20);
    read->serial = ++read_count_;
    reads_.emplace(read->serial, read);
    start_read(read);
}

void ChunkClient::start_read(const ReadPtr& read) {
    read->asked.clear();
    read->redirect = 0;
    read->under_way = 0;
    ++read->round_number;
    ask_next(read);
}

uint64_t ChunkClient::pick_member(const Read& read) {
    const auto& members = read.chunk->grant.members;
    uint64_t second_best = 0;
    if (read.redirect != 0 && !read.was_asked(read.redirect)) return read.redirect;
    for (size_t i = 0; i < members.size(); ++i) {
        const uint64_t node = members[(read.start + i) % members.size()];
        if (read.was_asked(node)) continue;
        auto it = nodes_.find(node);
        if (it != nodes_.end() && it->second.avoid_until <= loop_.now()) return node;
        if (second_best == 0) second_best = node;
    }
    return second_best;
}

void ChunkClient::ask_next(const ReadPtr& read) {
    const uint64_t node = pick_member(*read);
    if (node == 0) {
        if (read->under_way == 0) next_round(read, Errc::unavailable);
        return;
    }
    read->asked.push_back(node);
    ++read->under_way;
    if (read->asked.size() > 1 || read->rounds > 0) ++retries_;
    wire::ReadChunkT request;
    request.grant = std::make_unique<wire::ChunkGrantT>(read->chunk->grant);
    request.session = events_.session();
    request.offset = read->offset;
    request.length = read->length;
    const Nanos sent = loop_.now();
    const uint64_t round = read->round_number;
    const Nanos wait = read->asked.size() == 1 ? std::max(kHedgeMin, usual_read_ * 4) : kGiveUpOn;
    read->slow.start(std::min(wait, kGiveUpOn), [this, weak = std::weak_ptr<Read>(read)] {
        if (auto strong = weak.lock()) on_slow(strong);
    });
    call(node,
         static_cast<uint16_t>(Method::read_chunk),
         wire::encode<wire::ReadChunk>(request),
         {},
         kRpcTimeout,
         [this, read, node, sent, round](Status status, wire::ChunkReplyT reply, Buffer payload) {
             if (round == read->round_number) --read->under_way;
             if (!read->done) return;
             on_read(read, node, sent, std::move(status), std::move(reply), std::move(payload));
         });
}

void ChunkClient::on_slow(const ReadPtr& read) {
    if (!read->done) return;
    const bool by_budget = read->asked.size() == 1 && usual_read_ * 4 < kGiveUpOn;
    if (by_budget) {
        if (hedge_count_ * kHedgeShare > read_count_) {  // over budget: only when really late
            read->slow.start(kGiveUpOn - std::max(kHedgeMin, usual_read_ * 4),
                             [this, weak = std::weak_ptr<Read>(read)] {
                                 auto strong = weak.lock();
                                 if (strong && strong->done) ask_next(strong);
                             });
            return;
        }
        ++hedge_count_;
    }
    ask_next(read);
}

void ChunkClient::on_read(const ReadPtr& read,
                          uint64_t node,
                          Nanos sent,
                          Status status,
                          wire::ChunkReplyT reply,
                          Buffer payload) {
    if (status.is_ok() && (payload.size() > read->length ||
                           !checksums_match(payload.view(), read->offset, reply.checksums))) {
        ++corrupt_replies_;
        LFS_LOG(warn,
                "chunkd {} sent bytes of chunk {} that do not match their checksum",
                node,
                read->chunk->grant.chunk);
        status = Status(Errc::corrupt, "checksum mismatch");
    }
    if (status.is_ok()) {
        usual_read_ = usual_read_ - usual_read_ / 16 + (loop_.now() - sent) / 16;
        if (payload.size() < read->length) {  // beyond what the chunk has: zeros
            Buffer padded = Buffer::allocate(read->length);
            std::memcpy(padded.mutable_data(), payload.data(), payload.size());
            std::memset(padded.mutable_data() + payload.size(), 0, read->length - payload.size());
            payload = std::move(padded);
        }
        read->slow.stop();
        reads_.erase(read->serial);
        Done<Buffer> done = std::exchange(read->done, nullptr);
        return done(std::move(payload));
    }
    const Errc code = status.code();
    if (code == Errc::inval || code == Errc::acces || code == Errc::perm || code == Errc::nodata) {
        read->slow.stop();
        reads_.erase(read->serial);
        Done<Buffer> done = std::exchange(read->done, nullptr);
        return done(code == Errc::nodata ? every_copy_lost(read->chunk->grant.chunk) : status);
    }
    if (reply.grant && adopt_configuration(read->chunk->grant, *reply.grant)) {
        ++read->rounds;
        return start_read(read);
    }
    if (reply.redirect != 0) read->redirect = reply.redirect;
    if (code != Errc::newer_epoch && code != Errc::stale_epoch && code != Errc::not_member) {
        if (auto it = nodes_.find(node); it != nodes_.end()) {
            it->second.avoid_until = loop_.now() + kAvoid;
        }
    }
    ask_next(read);
}

void ChunkClient::next_round(const ReadPtr& read, Errc why) {
    const int rounds = ++read->rounds;
    const Nanos wait = std::min<Nanos>(5 * kMillisecond << std::min(rounds, 6), 200 * kMillisecond);
    read->slow.stop();
    auto again = [this, read, wait](const Status& told) {
        if (!read->done) return;
        if (told.code() == Errc::noent || told.code() == Errc::stale) {
            reads_.erase(read->serial);
            Done<Buffer> done = std::exchange(read->done, nullptr);
            return done(told);
        }
        later(wait, [this, read] {
            if (read->done) start_read(read);
        });
    };
    // The first failure may be a moment's (a restart): metad is asked from the second on.
    if (rounds < 2) return again(ok_status());
    report(read->ino, read->chunk, read->asked.empty() ? 0 : read->asked.front(), why, again);
}

void ChunkClient::extents(InodeId ino,
                          ChunkPtr chunk,
                          uint64_t offset,
                          uint64_t length,
                          Done<std::vector<DataRange>> done) {
    const auto& members = chunk->grant.members;
    const uint64_t node = members[++last_try_ % members.size()];
    ask_extents(ino, std::move(chunk), node, false, {offset, length}, std::move(done));
}

void ChunkClient::ask_extents(InodeId ino,
                              ChunkPtr chunk,
                              uint64_t node,
                              bool redirected,
                              DataRange range,
                              Done<std::vector<DataRange>> done) {
    wire::ChunkExtentsT request;
    request.grant = std::make_unique<wire::ChunkGrantT>(chunk->grant);
    request.session = events_.session();
    request.offset = range.offset;
    request.length = range.length;
    call(node,
         static_cast<uint16_t>(Method::chunk_extents),
         wire::encode<wire::ChunkExtents>(request),
         {},
         kRpcTimeout,
         [this, ino, chunk, range, node, redirected, done = std::move(done)](
             const Status& status, wire::ChunkReplyT reply, const Buffer&) mutable {
             if (status.is_ok()) {
                 std::vector<DataRange> ranges;
                 for (const wire::Range& extent : reply.extents) {
                     ranges.push_back({extent.offset(), extent.length()});
                 }
                 return done(std::move(ranges));
             }
             if (status.code() == Errc::nodata) return done(every_copy_lost(chunk->grant.chunk));
             // What is not decided only the primary may tell.
             if (reply.redirect != 0 && !redirected) {
                 return ask_extents(ino, chunk, reply.redirect, true, range, std::move(done));
             }
             auto again = [this, ino, chunk, range, done = std::move(done)](
                              const Status& told) mutable {
                 if (told.code() == Errc::noent || told.code() == Errc::stale) return done(told);
                 later(50 * kMillisecond, [=, this]() mutable {
                     extents(ino, chunk, range.offset, range.length, std::move(done));
                 });
             };
             if (reply.grant && adopt_configuration(chunk->grant, *reply.grant)) {
                 return again(ok_status());
             }
             report(ino, chunk, node, status.code(), std::move(again));
         });
}

}  // namespace lumeofs::client
