// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/snapshot_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/checksum.h"
#include "metad/consensus/log_format.h"

namespace lumeofs::consensus {
namespace {

constexpr uint8_t kMagic[8] = {'L', 'F', 'S', 'I', 'N', 'S', 'T', '\n'};
constexpr size_t kHeadBytes = 24;  // magic, checksum of the rest, id
constexpr uint64_t kInstallBytesMax = 1u << 20;
constexpr uint64_t kPiecesPerTask = 8;

}  // namespace

struct SnapshotStore::Incoming {
    SnapshotPieceHead head;  // of the first piece
    std::unique_ptr<File> file;
    uint64_t received = 0;
    uint64_t chain = 0;
    // finish():
    bool finishing = false;
    uint64_t verified = 0;
    uint64_t verified_chain = 0;
    std::function<void(Result<raft::SnapshotDescriptor>)> done;
};

SnapshotStore::SnapshotStore(Loop& loop, FileSystem& fs, std::string dir, std::string install_path)
    : loop_(loop), fs_(fs), dir_(std::move(dir)), install_path_(std::move(install_path)) {}

SnapshotStore::~SnapshotStore() = default;

std::string SnapshotStore::path_of(uint64_t id) const {
    return fmt::format("{}/{}.snapshot", dir_, id);
}

Result<std::optional<PendingInstall>> SnapshotStore::open() {
    std::optional<PendingInstall> pending;
    LFS_ASSIGN(bool there, fs_.exists(install_path_));
    if (there) {
        LFS_ASSIGN(Bytes bytes, read_file(fs_, install_path_, kInstallBytesMax));
        const View view(bytes);
        if (bytes.size() < kHeadBytes || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0 ||
            get_le<uint64_t>(bytes.data() + 8) != checksum(view.subspan(16))) {
            return Status(Errc::corrupt, install_path_ + " is damaged");
        }
        LFS_ASSIGN(FloorRecord record, decode_floor(view.subspan(kHeadBytes)));
        record.floor.id = get_le<uint64_t>(bytes.data() + 16);
        pending = PendingInstall{record.floor, path_of(record.floor.id)};
    }
    LFS_ASSIGN(std::vector<std::string> names, fs_.list(dir_));
    for (const std::string& name : names) {
        const std::string path = dir_ + "/" + name;
        if (!pending || path != pending->path) LFS_TRY(fs_.remove(path));
    }
    if (pending) last_id_ = pending->snapshot.id;
    return pending;
}

bool SnapshotStore::finishing() const { return incoming_ && incoming_->finishing; }

bool SnapshotStore::same_stream(const SnapshotPieceHead& head) const {
    if (!incoming_) return false;
    const SnapshotPieceHead& own = incoming_->head;
    return own.sender.node == head.sender.node && own.sender.uuid == head.sender.uuid &&
           own.stream == head.stream && own.term == head.term && own.size == head.size &&
           own.snapshot == head.snapshot;
}

void SnapshotStore::abandon() { incoming_.reset(); }

Result<SnapshotStore::Outcome> SnapshotStore::put(const SnapshotPieceHead& head, View bytes) {
    if (!same_stream(head)) {
        if (head.offset != 0) return Outcome{0, false};
        abandon();
        auto incoming = std::make_shared<Incoming>();
        incoming->head = head;
        LFS_ASSIGN(incoming->file,
                   fs_.open(dir_ + "/incoming", {.create = true, .truncate = true}));
        incoming_ = std::move(incoming);
    }
    Incoming& in = *incoming_;
    if (in.finishing || head.offset != in.received) return Outcome{in.received, false};
    const uint64_t chain = checksum_seeded(bytes, in.chain);
    if (chain != head.chain) {  // another history of bytes than the sender's: from the start
        abandon();
        return Outcome{0, false};
    }
    if (!bytes.empty()) LFS_TRY(in.file->write_at(in.received, bytes));
    in.chain = chain;
    in.received += bytes.size();
    return Outcome{in.received, in.received == in.head.size};
}

void SnapshotStore::finish(std::function<void(Result<raft::SnapshotDescriptor>)> done) {
    LFS_ASSERT(incoming_ && !incoming_->finishing && incoming_->received == incoming_->head.size);
    incoming_->finishing = true;
    incoming_->done = std::move(done);
    verify_some();
}

void SnapshotStore::verify_some() {
    const std::shared_ptr<Incoming> in = incoming_;
    const auto end = [&](Result<raft::SnapshotDescriptor> result) {
        incoming_.reset();
        in->done(std::move(result));
    };
    if (in->verified == 0) {
        if (Status status = in->file->sync(); !status.is_ok()) return end(status);
    }
    Buffer piece = Buffer::allocate(kSnapshotPieceBytes);
    for (uint64_t i = 0; i < kPiecesPerTask && in->verified < in->head.size; ++i) {
        const size_t length = std::min<uint64_t>(kSnapshotPieceBytes, in->head.size - in->verified);
        Result<size_t> got = in->file->read_at(in->verified, {piece.mutable_data(), length});
        if (!got) return end(got.status());
        in->verified_chain = checksum_seeded({piece.data(), *got}, in->verified_chain);
        in->verified += length;
    }
    if (in->verified == in->head.size) return end(publish());
    loop_.post([this, weak = std::weak_ptr<Incoming>(in)] {
        if (auto same = weak.lock(); same && same == incoming_) verify_some();
    });
}

Result<raft::SnapshotDescriptor> SnapshotStore::publish() {
    Incoming& in = *incoming_;
    // An empty snapshot has no piece to chain.
    if (in.head.size > 0 && in.verified_chain != in.chain) {
        return Status(Errc::corrupt, "the snapshot on disk is not what was received");
    }
    raft::SnapshotDescriptor snapshot = in.head.snapshot;
    snapshot.id = ++last_id_;
    in.file.reset();
    LFS_TRY(fs_.rename(dir_ + "/incoming", path_of(snapshot.id)));
    LFS_TRY(fs_.sync_dir(dir_));
    return snapshot;
}

Status SnapshotStore::remove(uint64_t id) { return fs_.remove(path_of(id)); }

Status SnapshotStore::begin_install(const raft::SnapshotDescriptor& snapshot) {
    Bytes bytes(kHeadBytes);
    std::memcpy(bytes.data(), kMagic, sizeof kMagic);
    put_le<uint64_t>(bytes.data() + 16, snapshot.id);
    const Bytes floor = encode_floor({snapshot, snapshot.index});
    bytes.insert(bytes.end(), floor.begin(), floor.end());
    put_le<uint64_t>(bytes.data() + 8, checksum(View(bytes).subspan(16)));
    return replace_file(fs_, install_path_, bytes);
}

Status SnapshotStore::end_install() {
    LFS_TRY(fs_.remove(install_path_));
    return fs_.sync_dir(parent_dir(install_path_));
}

}  // namespace lumeofs::consensus
