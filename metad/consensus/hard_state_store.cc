// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/hard_state_store.h"

#include "common/base/checksum.h"
#include "common/base/planted_bug.h"

namespace lumeofs::consensus {
namespace {

constexpr uint8_t kMagic[8] = {'L', 'F', 'S', 'V', 'O', 'T', 'E', '\n'};
constexpr uint32_t kRevision = 1;
constexpr size_t kSlotBytes = 4096;
constexpr size_t kChecksummed = 56;

struct Slot {
    uint64_t sequence = 0;
    raft::HardState state;
    uint64_t synced_batch = 0;
};

bool decode_slot(const uint8_t* at, uint64_t log_id, Slot* slot) {
    if (std::memcmp(at, kMagic, sizeof kMagic) != 0 || get_le<uint32_t>(at + 8) != kRevision ||
        get_le<uint64_t>(at + 56) != checksum_seeded({at, kChecksummed}, log_id)) {
        return false;
    }
    slot->sequence = get_le<uint64_t>(at + 16);
    slot->state.term = Term{get_le<uint64_t>(at + 24)};
    slot->state.vote = NodeId{get_le<uint64_t>(at + 32)};
    slot->synced_batch = get_le<uint64_t>(at + 40);
    return true;
}

void encode_slot(const Slot& slot, uint64_t log_id, uint8_t* at) {
    std::memset(at, 0, kSlotBytes);
    std::memcpy(at, kMagic, sizeof kMagic);
    put_le<uint32_t>(at + 8, kRevision);
    put_le<uint64_t>(at + 16, slot.sequence);
    put_le<uint64_t>(at + 24, slot.state.term.value);
    put_le<uint64_t>(at + 32, slot.state.vote.value);
    put_le<uint64_t>(at + 40, slot.synced_batch);
    put_le<uint64_t>(at + 56, checksum_seeded({at, kChecksummed}, log_id));
}

}  // namespace

Result<std::unique_ptr<HardStateStore>> HardStateStore::create(FileSystem& fs,
                                                               const std::string& path,
                                                               uint64_t log_id) {
    LFS_ASSIGN(auto file, fs.open(path, {.create = true, .truncate = true, .direct = true}));
    LFS_TRY(file->allocate(0, 2 * kSlotBytes));
    std::unique_ptr<HardStateStore> store(new HardStateStore(std::move(file), log_id));
    LFS_TRY(store->write_both(0));
    LFS_TRY(fs.sync_dir(parent_dir(path)));
    return store;
}

Result<std::unique_ptr<HardStateStore>> HardStateStore::open(FileSystem& fs,
                                                             const std::string& path,
                                                             uint64_t log_id) {
    Result<std::unique_ptr<File>> file = fs.open(path, {.direct = true});
    if (!file) return file.status().with_context("term and vote in " + path);
    Buffer both = Buffer::allocate(2 * kSlotBytes);
    LFS_ASSIGN(size_t got, (*file)->read_at(0, both.mutable_view()));
    std::memset(both.mutable_data() + got, 0, both.size() - got);
    Slot slots[2];
    const bool valid[2] = {decode_slot(both.data(), log_id, &slots[0]),
                           decode_slot(both.data() + kSlotBytes, log_id, &slots[1])};
    if (!valid[0] && !valid[1]) {
        return Status(
            Errc::corrupt,
            "term and vote are lost: both copies in " + path +
                " are damaged. This node must not vote: remove it from the group, and add "
                "it again with an empty data_dir and a new node_id");
    }
    const bool second = !valid[0] || (valid[1] && slots[1].sequence > slots[0].sequence);
    const Slot& newest = slots[second ? 1 : 0];
    std::unique_ptr<HardStateStore> store(new HardStateStore(std::move(*file), log_id));
    store->sequence_ = newest.sequence;
    store->state_ = newest.state;
    store->synced_batch_ = newest.synced_batch;
    // The newest copy may be in the page cache only, and the other one may be torn, rotten or old:
    // that one first, so that a good copy stands at every moment.
    LFS_TRY(store->write_both(second ? 0 : 1));
    return store;
}

Status HardStateStore::save(const raft::HardState& state, uint64_t synced_batch) {
    LFS_ASSERT(state.term >= state_.term);
    state_ = state;
    synced_batch_ = synced_batch;
    return write_both(0);
}

Status HardStateStore::write_both(uint64_t first) {
    if (poisoned_) return Status(Errc::poisoned, "term and vote");
    ++sequence_;
    Buffer slot = Buffer::allocate(kSlotBytes);
    encode_slot({sequence_, state_, synced_batch_}, log_id_, slot.mutable_data());
    poisoned_ = true;  // unless all goes well
    for (uint64_t i : {first, 1 - first}) {
        LFS_TRY(file_->write_at(i * kSlotBytes, slot.view()));
        if (!planted_bug("consensus.vote_unsynced")) LFS_TRY(file_->sync());
    }
    poisoned_ = false;
    return Status();
}

}  // namespace lumeofs::consensus
