// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/wal.h"

#include <fmt/format.h>

#include <algorithm>

#include "chunkd/store/geometry.h"
#include "common/base/assert.h"
#include "common/base/checksum.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t round_up(uint64_t bytes) { return (bytes + kBlock - 1) / kBlock * kBlock; }

uint64_t batch_sum(MutableView header_and_records, uint64_t uuid) {
    const auto saved = get_le<uint64_t>(header_and_records.data() + kBatchSumAt);
    put_le<uint64_t>(header_and_records.data() + kBatchSumAt, 0);
    const uint64_t sum = checksum_seeded(header_and_records, uuid);
    put_le<uint64_t>(header_and_records.data() + kBatchSumAt, saved);
    return sum;
}

}  // namespace

Wal::Wal(FileSystem& fs, std::string dir, uint64_t uuid, uint64_t segment_size, uint64_t max_size)
    : fs_(fs),
      dir_(std::move(dir)),
      uuid_(uuid),
      segment_size_(segment_size),
      max_size_(max_size) {}

uint64_t Wal::batch_bytes(uint64_t record_bytes, uint64_t images) {
    return round_up(kBatchHeaderBytes + record_bytes) + images * kBlock;
}

std::string Wal::slot_path(size_t slot) const { return fmt::format("{}/{:04}", dir_, slot); }

Status Wal::open() {
    for (size_t slot = 0;; ++slot) {
        LFS_ASSIGN(bool there, fs_.exists(slot_path(slot)));
        if (!there) break;
        Slot opened;
        LFS_ASSIGN(opened.file, fs_.open(slot_path(slot), {.direct = true}));
        slots_.push_back(std::move(opened));
    }
    return ok_status();
}

Result<size_t> Wal::make_slot(bool fill) {
    const size_t slot = slots_.size();
    Slot made;
    LFS_ASSIGN(made.file, fs_.open(slot_path(slot), {.create = true, .direct = true}));
    LFS_TRY(made.file->allocate(0, segment_size_));
    if (fill) {
        Buffer zeros = Buffer::allocate(std::min<uint64_t>(segment_size_, 1 << 20));
        std::memset(zeros.mutable_data(), 0, zeros.size());
        for (uint64_t at = 0; at < segment_size_; at += zeros.size()) {
            const uint64_t count = std::min<uint64_t>(zeros.size(), segment_size_ - at);
            LFS_TRY(made.file->write_at(at, zeros.view().first(count)));
        }
    }
    LFS_TRY(made.file->sync());
    LFS_TRY(fs_.sync_dir(dir_));
    slots_.push_back(std::move(made));
    return slot;
}

Status Wal::prepare() {
    size_t free = 0;
    for (const Slot& slot : slots_) free += slot.live ? 0 : 1;
    if (free > 0 || (slots_.size() + 1) * segment_size_ > max_size_) return ok_status();
    LFS_TRY(make_slot(true));
    return ok_status();
}

Status Wal::make_ready(uint64_t count) {
    uint64_t free = 0;
    for (const Slot& slot : slots_) free += slot.live ? 0 : 1;
    for (; free < count; ++free) LFS_TRY(make_slot(false));
    return ok_status();
}

Result<std::optional<WalBatch>> Wal::read_batch(WalPlace place) {
    std::optional<WalBatch> none;
    if (place.slot >= slots_.size() || place.offset + kBlock > segment_size_) return none;
    File& file = *slots_[place.slot].file;
    Buffer first = Buffer::allocate(kBlock);
    LFS_ASSIGN(size_t got, file.read_at(place.offset, first.mutable_view()));
    if (got < kBlock || get_le<uint32_t>(first.data()) != kBatchMagic) return none;
    const auto bytes = get_le<uint32_t>(first.data() + 4);
    const auto images = get_le<uint32_t>(first.data() + 36);
    const uint64_t left = segment_size_ - place.offset;
    if (bytes < kBatchHeaderBytes || round_up(bytes) > left ||
        images > (left - round_up(bytes)) / kBlock) {
        return none;
    }
    Buffer whole = first;
    if (bytes > kBlock) {
        whole = Buffer::allocate(round_up(bytes));
        LFS_ASSIGN(size_t all, file.read_at(place.offset, whole.mutable_view()));
        if (all < bytes) return none;
    }
    const auto sum = get_le<uint64_t>(whole.data() + kBatchSumAt);
    if (batch_sum(whole.mutable_view().first(bytes), uuid_) != sum) return none;
    WalBatch batch;
    batch.number = get_le<uint64_t>(whole.data() + 8);
    batch.link = get_le<uint64_t>(whole.data() + 16);
    batch.sum = sum;
    batch.synced_upto = get_le<uint64_t>(whole.data() + 24);
    batch.record_count = get_le<uint32_t>(whole.data() + 32);
    batch.image_count = images;
    batch.place = place;
    batch.first_image = {place.slot, place.offset + static_cast<uint32_t>(round_up(bytes))};
    batch.total_bytes = static_cast<uint32_t>(round_up(bytes) + uint64_t{images} * kBlock);
    batch.records.assign(whole.data() + kBatchHeaderBytes, whole.data() + bytes);
    return std::optional<WalBatch>(std::move(batch));
}

Result<std::optional<WalBatch>> Wal::next_batch(const WalHead& head) {
    std::vector<WalPlace> places{head.place};
    for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
        if (head.place.slot != slot || head.place.offset != 0) places.push_back({slot, 0});
    }
    for (WalPlace place : places) {
        LFS_ASSIGN(auto batch, read_batch(place));
        if (batch && batch->number == head.number && batch->link == head.link) return batch;
    }
    return std::optional<WalBatch>();
}

Result<std::vector<WalBatch>> Wal::follow(const WalHead& from, uint64_t* synced_upto) {
    std::vector<WalBatch> chain;
    WalHead head = from;
    *synced_upto = from.number - 1;
    while (true) {
        LFS_ASSIGN(auto batch, next_batch(head));
        if (!batch) break;
        *synced_upto = std::max(*synced_upto, batch->synced_upto);
        head.number = batch->number + 1;
        head.link = batch->sum;
        head.place = {batch->place.slot, batch->place.offset + batch->total_bytes};
        chain.push_back(std::move(*batch));
    }
    LFS_TRY(search_claims(chain, synced_upto));
    if (*synced_upto >= head.number) {
        return Status(
            Errc::corrupt,
            fmt::format("{}: log batch {} cannot be read, but it was synced (batches up to {} "
                        "were): acknowledged writes are lost on this disk",
                        dir_,
                        head.number,
                        *synced_upto));
    }
    return chain;
}

Status Wal::search_claims(const std::vector<WalBatch>& chain, uint64_t* synced_upto) {
    // Only what is behind the chain's end can say more; what the chain covers was read already.
    std::set<std::pair<uint32_t, uint32_t>> known;
    for (const WalBatch& batch : chain) known.insert({batch.place.slot, batch.place.offset});
    Buffer piece = Buffer::allocate(1 << 20);
    for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
        for (uint64_t base = 0; base < segment_size_; base += piece.size()) {
            const size_t want = std::min<uint64_t>(piece.size(), segment_size_ - base);
            LFS_ASSIGN(size_t got,
                       slots_[slot].file->read_at(base, piece.mutable_view().first(want)));
            for (uint64_t at = 0; at + kBlock <= got; at += kBlock) {
                if (get_le<uint32_t>(piece.data() + at) != kBatchMagic) continue;
                const auto offset = static_cast<uint32_t>(base + at);
                if (known.count({slot, offset}) != 0) continue;
                LFS_ASSIGN(auto batch, read_batch({slot, offset}));
                if (batch && batch->number > *synced_upto) {
                    *synced_upto = std::max(*synced_upto, batch->synced_upto);
                }
            }
        }
    }
    return ok_status();
}

Status Wal::start(const WalHead& from, const std::vector<WalBatch>& batches) {
    head_ = from;
    for (const WalBatch& batch : batches) {
        slots_[batch.place.slot].live = true;
        slots_[batch.place.slot].last_number = batch.number;
        head_.number = batch.number + 1;
        head_.link = batch.sum;
        head_.place = {batch.place.slot, batch.place.offset + batch.total_bytes};
    }
    // What is taken over may have been written but not synced by a process that was killed.
    for (Slot& slot : slots_) {
        if (slot.live) LFS_TRY(slot.file->sync());
    }
    if (slots_.empty()) {
        LFS_TRY(make_slot(true));
        head_.place = {0, 0};
    }
    if (head_.place.slot >= slots_.size())
        return Status(Errc::corrupt, dir_ + ": segment is missing");
    slots_[head_.place.slot].live = true;
    started_ = true;
    synced_ = head_.number - 1;
    return ok_status();
}

Status Wal::take_segment() {
    for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].live) continue;
        slots_[slot].live = true;
        head_.place = {slot, 0};
        return ok_status();
    }
    if ((slots_.size() + 1) * segment_size_ > max_size_) {
        return Status(Errc::busy, dir_ + ": the log is full");
    }
    LFS_ASSIGN(size_t made, make_slot(false));
    slots_[made].live = true;
    head_.place = {static_cast<uint32_t>(made), 0};
    return ok_status();
}

Result<WalPlace> Wal::append(View records,
                             uint32_t record_count,
                             const std::vector<Buffer>& images) {
    LFS_ASSERT(started_);
    uint64_t image_bytes = 0;
    for (const Buffer& image : images) image_bytes += image.size();
    const uint64_t front = round_up(kBatchHeaderBytes + records.size());
    LFS_ASSERT(front + image_bytes <= segment_size_);
    if (front + image_bytes > segment_size_ - head_.place.offset) LFS_TRY(take_segment());

    Buffer header = Buffer::allocate(front);
    std::memset(header.mutable_data(), 0, front);
    uint8_t* at = header.mutable_data();
    put_le<uint32_t>(at, kBatchMagic);
    put_le<uint32_t>(at + 4, static_cast<uint32_t>(kBatchHeaderBytes + records.size()));
    put_le<uint64_t>(at + 8, head_.number);
    put_le<uint64_t>(at + 16, head_.link);
    put_le<uint64_t>(at + 24, synced_);
    put_le<uint32_t>(at + 32, record_count);
    put_le<uint32_t>(at + 36, static_cast<uint32_t>(image_bytes / kBlock));
    if (!records.empty()) std::memcpy(at + kBatchHeaderBytes, records.data(), records.size());
    const uint64_t sum =
        batch_sum(header.mutable_view().first(kBatchHeaderBytes + records.size()), uuid_);
    put_le<uint64_t>(at + kBatchSumAt, sum);

    std::vector<View> parts{header.view()};
    for (const Buffer& image : images) parts.push_back(image.view());
    Slot& slot = slots_[head_.place.slot];
    LFS_TRY(slot.file->write_vector_at(head_.place.offset, parts));
    unsynced_slots_.insert(head_.place.slot);
    slot.last_number = head_.number;

    const WalPlace first_image{head_.place.slot, head_.place.offset + static_cast<uint32_t>(front)};
    head_.number += 1;
    head_.link = sum;
    head_.place.offset += static_cast<uint32_t>(front + image_bytes);
    return first_image;
}

Status Wal::sync() {
    for (uint32_t slot : unsynced_slots_) LFS_TRY(slots_[slot].file->sync());
    unsynced_slots_.clear();
    synced_ = head_.number - 1;
    return ok_status();
}

void Wal::cut(uint64_t number) {
    for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
        if (!slots_[slot].live || slots_[slot].last_number > number) continue;
        slots_[slot].live = slot == head_.place.slot;
        slots_[slot].live_from = slots_[slot].live ? head_.place.offset : 0;
    }
}

Status Wal::read_image(WalPlace place, MutableView into) {
    if (place.slot >= slots_.size())
        return Status(Errc::corrupt, "image in a segment that is missing");
    LFS_ASSIGN(size_t got, slots_[place.slot].file->read_at(place.offset, into));
    if (got != into.size()) return Status(Errc::corrupt, "image behind the end of its segment");
    return ok_status();
}

uint64_t Wal::free_segments() const {
    uint64_t live = 0;
    for (const Slot& slot : slots_) live += slot.live ? 1 : 0;
    const uint64_t most = std::max<uint64_t>(max_size_ / segment_size_, slots_.size());
    return most - live;
}

uint64_t Wal::segments_needed(const std::vector<uint64_t>& batch_sizes) const {
    uint64_t needed = 0;
    uint64_t left = segment_size_ - head_.place.offset;
    for (uint64_t size : batch_sizes) {
        if (size > left) {
            ++needed;
            left = segment_size_;
        }
        left -= std::min(left, size);
    }
    return needed;
}

uint64_t Wal::live_bytes() const {
    uint64_t bytes = 0;
    for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
        if (!slots_[slot].live) continue;
        bytes += (slot == head_.place.slot ? head_.place.offset : segment_size_) -
                 slots_[slot].live_from;
    }
    return bytes;
}

}  // namespace lumeofs::store
