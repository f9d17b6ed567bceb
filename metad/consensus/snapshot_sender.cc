// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/snapshot_sender.h"

#include <algorithm>

#include "common/base/checksum.h"
#include "common/base/limits.h"
#include "common/base/log.h"

namespace lumeofs::consensus {
namespace {

constexpr Nanos kRetry = 500 * kMillisecond;
constexpr Nanos kPieceTimeout = 10 * kSecond;
constexpr Nanos kLastPieceTimeout = 120 * kSecond;  // the follower verifies and installs meanwhile
constexpr int kFailuresMax = 20;

}  // namespace

SnapshotSender::SnapshotSender(Loop& loop,
                               Call call,
                               std::shared_ptr<PinnedSnapshot> snapshot,
                               const SnapshotPieceHead& head,
                               std::function<void(bool)> done)
    : loop_(loop),
      call_(std::move(call)),
      snapshot_(std::move(snapshot)),
      head_(head),
      done_(std::move(done)),
      chains_{0},
      alive_(std::make_shared<char>()),
      retry_(loop) {}

SnapshotSender::~SnapshotSender() = default;

void SnapshotSender::start() { send_piece(); }

void SnapshotSender::send_piece() {
    const size_t length = std::min<uint64_t>(kSnapshotPieceBytes, head_.size - head_.offset);
    Buffer piece;
    if (length > 0) {
        Result<Bytes> bytes = snapshot_->read(head_.offset, length);
        if (!bytes || bytes->size() != length) {
            LFS_LOG(error, "cannot read the pinned snapshot: {}", bytes.status().to_string());
            return end(false);
        }
        piece = Buffer::copy_of(*bytes);
    }
    const size_t number = head_.offset / kSnapshotPieceBytes;
    LFS_ASSERT(number < chains_.size());
    head_.checksum = checksum(piece.view());
    head_.chain = checksum_seeded(piece.view(), chains_[number]);
    if (number + 1 == chains_.size()) chains_.push_back(head_.chain);
    const bool last = head_.offset + length == head_.size;
    call_(head_,
          std::move(piece),
          last ? kLastPieceTimeout : kPieceTimeout,
          [this, alive = std::weak_ptr<char>(alive_)](RpcReply reply) {
              if (!alive.expired()) answered(std::move(reply));
          });
}

void SnapshotSender::answered(RpcReply reply) {
    if (reply.status.code() == Errc::stale) return end(false);  // another leader meanwhile
    if (!reply.status.is_ok()) return try_again();
    Result<SnapshotPieceAnswer> answer = decode_piece_answer(reply.body);
    if (!answer) return try_again();
    if (answer->done) return end(true);
    const uint64_t next = answer->next_offset;
    // Only a piece that we know the chain before of, and never the same one at once for ever.
    const bool known = next <= head_.size && next % kSnapshotPieceBytes == 0 &&
                       next / kSnapshotPieceBytes < chains_.size();
    const bool progress = known && next > head_.offset;
    head_.offset = known ? next : 0;
    if (!progress) return try_again();
    failures_ = 0;
    send_piece();
}

void SnapshotSender::try_again() {
    if (++failures_ > kFailuresMax) return end(false);
    retry_.start(kRetry, [this] { send_piece(); });
}

void SnapshotSender::end(bool delivered) {
    loop_.post([done = done_, delivered, alive = std::weak_ptr<char>(alive_)] {
        if (!alive.expired()) done(delivered);
    });
}

}  // namespace lumeofs::consensus
