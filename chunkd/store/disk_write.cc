// SPDX-License-Identifier: Apache-2.0
// Admission of a change: everything that can be refused is refused here, before anything happened.
//
// Whole blocks of units that have no home yet go straight there if enough of them follow each other
// (direct); all other blocks go into the log as images, built from a verified old block where only
// a part of it changes [hazard 15]. Home space for all of them is taken now [hazard 20].
#include <fmt/format.h>

#include <algorithm>

#include "chunkd/store/disk.h"
#include "common/base/assert.h"
#include "common/base/checksum.h"
#include "common/base/planted_bug.h"

namespace lumeofs::store {
namespace {

Status invalid(std::string_view what) { return Status(Errc::inval, what); }

Buffer aligned(const Buffer& data) {
    const bool is = reinterpret_cast<uintptr_t>(data.data()) % Buffer::kAlignment == 0;
    return is ? data : Buffer::copy_of(data.view());
}

bool has_name(RecordKind kind) {
    return kind == RecordKind::data || kind == RecordKind::zero || kind == RecordKind::truncate;
}

Status check_bounds(const WriteRecord& record) {
    if (record.offset > kChunkSize || record.length > kChunkSize - record.offset) {
        return invalid("range outside the chunk");
    }
    if (record.kind == RecordKind::data && (record.length == 0 || record.length > kMaxIoBytes)) {
        return invalid("length of a data record");
    }
    if (record.version_vector && record.version_vector->size() > kMaxVersionVectorBytes) {
        return invalid("version vector too long");
    }
    if (record.blob && record.blob->size() > kMaxBlobBytes) return invalid("blob too long");
    return ok_status();
}

}  // namespace

Status Disk::admit(const Chunk& chunk, const WriteRecord& record) const {
    if (!has_name(record.kind) || record.name.sequence == 0) return ok_status();
    if (record.name <= chunk.meta.applied) {
        return invalid(fmt::format("chunk {}: write {} is not above {}",
                                   record.chunk.value,
                                   record.name.sequence,
                                   chunk.meta.applied.sequence));
    }
    if (chunk.in_doubt.size() >= kMaxInDoubt)
        return Status(Errc::busy, "too many undecided writes");
    return ok_status();
}

// Fills payload.plain; compares it with the bytes unless the caller did.
Status Disk::check_payload(const WriteRecord& record, Payload& payload) const {
    if (payload.data.size() != record.length)
        return invalid("payload does not have the record's length");
    const uint64_t first = record.offset / kBlock;
    const uint64_t blocks = (record.offset + record.length - 1) / kBlock - first + 1;
    if (!payload.plain.empty() && payload.plain.size() != blocks)
        return invalid("number of checksums");
    if (payload.verified && !payload.plain.empty()) return ok_status();
    const bool given = !payload.plain.empty();
    payload.plain.resize(blocks);
    for (uint64_t i = 0; i < blocks; ++i) {
        const uint64_t from = std::max(record.offset, (first + i) * kBlock);
        const uint64_t to = std::min(record.offset + record.length, (first + i + 1) * kBlock);
        const uint64_t sum = checksum(payload.data.view().subspan(from - record.offset, to - from));
        if (given && payload.plain[i] != sum) {
            return Status(Errc::corrupt,
                          fmt::format("data of block {} arrived damaged", first + i));
        }
        payload.plain[i] = sum;
    }
    return ok_status();
}

Status Disk::write(WriteRecord record, Payload payload, Done done, std::vector<uint32_t>* bad) {
    if (state_ != DiskState::ok) return io_error();
    LFS_TRY(check_bounds(record));
    if (record.kind == RecordKind::data) LFS_TRY(check_payload(record, payload));
    const bool small = record.kind != RecordKind::data;
    LFS_TRY(make_log_room(payload.data.size() + 4 * kBlock, small));
    Plan plan;
    plan.record.kind = static_cast<LogKind>(record.kind);
    if (record.kind == RecordKind::create) {
        if (has(record.chunk)) return Status(Errc::exist, "chunk " + record.chunk.to_string());
        plan.chunk = create_chunk(record.chunk, record.name.epoch);
    } else {
        LFS_ASSIGN(plan.chunk, load(record.chunk));
        LFS_TRY(admit(*plan.chunk, record));
    }
    Status planned;
    switch (record.kind) {
        case RecordKind::data:
            planned = plan_data(plan, record, payload, bad);
            break;
        case RecordKind::zero:
            planned = plan_zero(plan, record, bad);
            break;
        case RecordKind::truncate:
            planned = plan_truncate(plan, record, bad);
            break;
        case RecordKind::create:
        case RecordKind::set_epoch:
        case RecordKind::commit_point:
            break;
        case RecordKind::remove:
            planned = invalid("use remove()");
            break;
    }
    if (!planned.is_ok()) {
        drop_plan(plan);
        return planned;
    }
    stats_.write_bytes += payload.data.size();
    plan.record.change = std::move(record);
    return execute(plan, std::move(done));
}

// Takes blocks from another member as they are.
Status Disk::rewrite(
    ChunkId id, const BlockData& blocks, const WriteName& as_of, uint64_t length, Done done) {
    if (state_ != DiskState::ok) return io_error();
    const size_t count = blocks.plain.size();
    const auto first = static_cast<uint32_t>(blocks.first_block);
    if (blocks.first_block > kChunkBlocks || count > kChunkBlocks - blocks.first_block ||
        blocks.data.size() != count * kBlock || blocks.hole.size() != count || count == 0 ||
        blocks.data.size() > kMaxIoBytes + 2 * kBlock || length > kChunkSize) {
        return invalid("malformed blocks");
    }
    LFS_TRY(make_log_room(blocks.data.size() + 4 * kBlock, false));
    LFS_ASSIGN(Chunk * chunk, load(id));
    if (!chunk->tracking && as_of < chunk->meta.applied) {
        return Status(Errc::conflict, "the copy is older than what was written here");
    }
    for (uint32_t i = 0; i < count; ++i) {
        const View block = blocks.data.view().subspan(uint64_t{i} * kBlock, kBlock);
        if (!blocks.hole[i] && checksum(block) != blocks.plain[i]) {
            return Status(Errc::corrupt,
                          fmt::format("copy of block {} arrived damaged", first + i));
        }
    }
    LFS_TRY(ensure_pages(*chunk, first, first + static_cast<uint32_t>(count)));
    Plan plan;
    plan.chunk = chunk;
    plan.record.kind = LogKind::rewrite;
    plan.record.change.chunk = id;
    plan.record.change.length = length;
    auto newer = [&](uint32_t block) {
        auto it = chunk->touched.find(block);
        return it != chunk->touched.end() && it->second > as_of;
    };
    std::vector<Run> holes;
    for (uint32_t i = 0; i < count;) {
        const bool hole = blocks.hole[i];
        uint32_t end = i;
        while (end < count && blocks.hole[end] == hole && !newer(first + end)) ++end;
        if (end == i) {  // newer here: left alone
            ++i;
            continue;
        }
        if (hole) {
            holes.push_back({first + i, end - i, RunKind::hole, {}});
        } else {
            const Buffer part =
                aligned(blocks.data.slice(uint64_t{i} * kBlock, uint64_t{end - i} * kBlock));
            if (Status status = plan_whole(plan, first + i, part, &blocks.plain[i], true);
                !status.is_ok()) {
                drop_plan(plan);
                return status;
            }
        }
        i = end;
    }
    for (Run& run : holes) plan.record.runs.push_back(std::move(run));
    return execute(plan, std::move(done));
}

Status Disk::plan_data(Plan& plan,
                       const WriteRecord& record,
                       Payload& payload,
                       std::vector<uint32_t>* bad) {
    const uint64_t end = record.offset + record.length;
    auto first = static_cast<uint32_t>(record.offset / kBlock);
    const auto last = static_cast<uint32_t>((end - 1) / kBlock);
    LFS_TRY(ensure_pages(*plan.chunk, first, last + 1));
    const View view = payload.data.view();
    const auto head = static_cast<uint32_t>(record.offset % kBlock);
    const auto tail = static_cast<uint32_t>(end % kBlock);
    const uint64_t* plain = payload.plain.data();
    uint64_t used = 0;
    if (head != 0 || (first == last && tail != 0)) {
        used = std::min<uint64_t>(kBlock - head, record.length);
        LFS_TRY(plan_partial(plan, first, head, view.first(used), 0, bad));
        ++first;
        ++plain;
    }
    const uint32_t whole = static_cast<uint32_t>((record.length - used) / kBlock);
    if (whole > 0) {
        const Buffer middle = aligned(payload.data.slice(used, uint64_t{whole} * kBlock));
        LFS_TRY(plan_whole(plan, first, middle, plain, true));
        used += uint64_t{whole} * kBlock;
    }
    if (used < record.length) LFS_TRY(plan_partial(plan, last, 0, view.subspan(used), 0, bad));
    return ok_status();
}

Status Disk::plan_zero(Plan& plan, const WriteRecord& record, std::vector<uint32_t>* bad) {
    if (record.length == 0) return ok_status();
    const uint64_t end = record.offset + record.length;
    const auto first = static_cast<uint32_t>(record.offset / kBlock);
    const auto last = static_cast<uint32_t>((end - 1) / kBlock);
    LFS_TRY(ensure_pages(*plan.chunk, first, last + 1));
    const auto head = static_cast<uint32_t>(record.offset % kBlock);
    const auto tail = static_cast<uint32_t>(end % kBlock);
    uint32_t from = first;
    uint32_t to = last + 1;
    if (head != 0 || (first == last && tail != 0)) {
        const auto count = static_cast<uint32_t>(std::min<uint64_t>(kBlock - head, record.length));
        if (!plan.chunk->is_hole(first)) LFS_TRY(plan_partial(plan, first, head, {}, count, bad));
        ++from;
    }
    if (tail != 0 && last >= from) {
        if (!plan.chunk->is_hole(last)) LFS_TRY(plan_partial(plan, last, 0, {}, tail, bad));
        --to;
    }
    // Images come before holes: a unit is given back when its last block goes.
    if (to > from) plan.record.runs.push_back({from, to - from, RunKind::hole, {}});
    return ok_status();
}

Status Disk::plan_truncate(Plan& plan, const WriteRecord& record, std::vector<uint32_t>* bad) {
    auto first = static_cast<uint32_t>(record.length / kBlock);
    LFS_TRY(ensure_pages(*plan.chunk, first, plan.chunk->end_block()));
    const auto keep = static_cast<uint32_t>(record.length % kBlock);
    if (keep != 0) {
        if (!plan.chunk->is_hole(first))
            LFS_TRY(plan_partial(plan, first, keep, {}, kBlock - keep, bad));
        ++first;
    }
    if (first < kChunkBlocks && !planted_bug("store.truncate_keeps_blocks")) {  // [6]
        plan.record.runs.push_back({first, kChunkBlocks - first, RunKind::hole, {}});
    }
    return ok_status();
}

// A block of which `bytes` (or, if none, `zeros` zeros) from byte `from` on change.
Status Disk::plan_partial(Plan& plan,
                          uint32_t block,
                          uint32_t from,
                          View bytes,
                          uint32_t zeros,
                          std::vector<uint32_t>* bad) {
    Buffer image = Buffer::allocate(kBlock);
    LFS_TRY(read_blocks(
        *plan.chunk, block, 1, ReadView::newest, image.mutable_view(), nullptr, nullptr, bad));
    if (!bytes.empty()) std::memcpy(image.mutable_data() + from, bytes.data(), bytes.size());
    if (zeros > 0) std::memset(image.mutable_data() + from, 0, zeros);
    const uint64_t plain = checksum(image.view());
    return plan_whole(plan, block, image, &plain, false);
}

bool Disk::direct_unit(const Plan& plan, uint32_t chunk_unit) const {
    return plan.units.count(chunk_unit) == 0 && plan.chunk->unit_of(chunk_unit) == kNoUnit;
}

// `data`: whole blocks from `first` on, aligned in memory. Cuts them into direct runs and images.
Status Disk::plan_whole(
    Plan& plan, uint32_t first, const Buffer& data, const uint64_t* plain, bool direct_allowed) {
    const auto count = static_cast<uint32_t>(data.size() / kBlock);
    auto part = [&](uint32_t from, uint32_t to) {
        return data.slice(uint64_t{from - first} * kBlock, uint64_t{to - from} * kBlock);
    };
    uint32_t done = first;  // everything before is planned
    uint32_t at = (first + kUnitBlocks - 1) / kUnitBlocks * kUnitBlocks;
    while (direct_allowed && at + kUnitBlocks <= first + count) {
        uint32_t end = at;
        while (end + kUnitBlocks <= first + count && direct_unit(plan, end / kUnitBlocks))
            end += kUnitBlocks;
        if (end > at && uint64_t{end - at} * kBlock >= options_.direct_min) {
            if (at > done) {
                LFS_TRY(plan_images(plan, done, at - done, part(done, at), plain + (done - first)));
            }
            LFS_TRY(plan_direct(plan, at, end - at, part(at, end), plain + (at - first)));
            done = end;
        }
        at = std::max(end, at + kUnitBlocks);
    }
    if (done == first + count) return ok_status();
    return plan_images(
        plan, done, first + count - done, part(done, first + count), plain + (done - first));
}

Status Disk::take_units(Plan& plan, const std::vector<uint32_t>& chunk_units, bool direct) {
    if (chunk_units.empty()) return ok_status();
    uint32_t hint = kNoUnit;
    if (const uint32_t unit = chunk_units.front(); unit % kUnitsPerPage != 0) {
        auto it = plan.units.find(unit - 1);
        hint = it != plan.units.end() ? it->second : plan.chunk->unit_of(unit - 1);
    }
    auto units = home_.allocate(static_cast<uint32_t>(chunk_units.size()), hint, direct);
    if (!units.is_ok()) return failed(units.status());
    for (size_t i = 0; i < chunk_units.size(); ++i) {
        plan.units[chunk_units[i]] = (*units)[i];
        plan.record.units.push_back({chunk_units[i], (*units)[i]});
    }
    return ok_status();
}

Status Disk::plan_images(
    Plan& plan, uint32_t first, uint32_t count, const Buffer& data, const uint64_t* plain) {
    std::vector<uint32_t> wanted;
    for (uint32_t unit = first / kUnitBlocks; unit <= (first + count - 1) / kUnitBlocks; ++unit) {
        if (direct_unit(plan, unit)) wanted.push_back(unit);
    }
    LFS_TRY(take_units(plan, wanted, false));
    Run run{first, count, RunKind::image, {}};
    for (uint32_t i = 0; i < count; ++i) {
        run.sums.push_back(stored_sum(plain[i], plan.chunk->meta.chunk, first + i));
    }
    plan.record.runs.push_back(std::move(run));
    plan.images.push_back(data);
    return ok_status();
}

Status Disk::plan_direct(
    Plan& plan, uint32_t first, uint32_t count, const Buffer& data, const uint64_t* plain) {
    std::vector<uint32_t> wanted;
    for (uint32_t unit = first / kUnitBlocks; unit < (first + count) / kUnitBlocks; ++unit) {
        wanted.push_back(unit);
    }
    LFS_TRY(take_units(plan, wanted, true));
    Run run{first, count, RunKind::direct, {}};
    for (uint32_t i = 0; i < count; ++i) {
        run.sums.push_back(stored_sum(plain[i], plan.chunk->meta.chunk, first + i));
    }
    plan.record.runs.push_back(std::move(run));
    for (size_t i = 0; i < wanted.size();) {
        const uint64_t home_block = uint64_t{plan.units[wanted[i]]} * kUnitBlocks;
        size_t end = i + 1;
        while (end < wanted.size() && plan.units[wanted[end]] == plan.units[wanted[end - 1]] + 1 &&
               (end - i) * kUnitBlocks < home_.contiguous(home_block)) {
            ++end;
        }
        plan.direct.push_back({home_block, data.slice(i * kUnitBytes, (end - i) * kUnitBytes)});
        i = end;
    }
    return ok_status();
}

void Disk::drop_plan(Plan& plan) {
    if (state_ != DiskState::ok) return;
    for (const auto& [chunk_unit, home_unit] : plan.units) home_.give_back(home_unit);
}

Status Disk::execute(Plan& plan, Done done) {
    for (const DirectWrite& direct : plan.direct) {
        LFS_TRY(failed(write_home(direct.home_block, direct.data)));
        stats_.direct_bytes += direct.data.size();
    }
    append_record(plan.record, plan.images, plan.chunk);
    ImageCursor cursor;
    cursor.buffers = &plan.images;
    cursor.batch = pending_.back().number;
    apply_change(*plan.chunk, plan.record, cursor, false);
    ++stats_.writes;
    waiting_.push_back(std::move(done));
    schedule_flush();
    return ok_status();
}

// Log space for a change, or a checkpoint now. Two segments stay free for what gives space back and
// for the checkpoint itself, one when a change is of that kind.
Status Disk::make_log_room(uint64_t bytes, bool may_use_reserve) {
    constexpr uint64_t kRecordBytes = 512;
    const uint64_t reserve = may_use_reserve ? 1 : 2;
    uint64_t needed = 0;
    auto fits = [&] {
        std::vector<uint64_t> sizes;
        for (const Pending& batch : pending_) {
            sizes.push_back(Wal::batch_bytes(batch.records.size(), batch.refs.size()));
        }
        sizes.push_back(Wal::batch_bytes(noted_.size() * kRecordBytes, 0));
        sizes.push_back(Wal::batch_bytes(kRecordBytes + bytes / 256 * 2, bytes / kBlock + 1));
        needed = wal_.segments_needed(sizes);
        return needed + reserve <= wal_.free_segments();
    };
    if (!fits()) {
        LFS_TRY(checkpoint_now());
        if (!fits()) return Status(Errc::busy, "the log is full");
    }
    // Made now, so that a full disk is met before anything happened.
    return failed(wal_.make_ready(needed));
}

}  // namespace lumeofs::store
