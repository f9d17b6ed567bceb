// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/log_recovery.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/base/planted_bug.h"

namespace lumeofs::consensus {
namespace {

constexpr uint64_t kWindowBytes = uint64_t{1} << 20;

}  // namespace

Status LogRecovery::damaged(const LogStore::Segment& segment,
                            uint64_t offset,
                            std::string_view why) const {
    return Status(
        Errc::corrupt,
        fmt::format("the Raft log is damaged: {} at offset {}: {}. This was durable once, so "
                    "this node does not vote or serve with what is left. Remove it from the "
                    "group, and add it again with an empty data_dir and a new node_id",
                    segment.path,
                    offset,
                    why));
}

Status LogRecovery::run(uint64_t synced_hint) {
    synced_hint_ = synced_hint;
    LFS_TRY(open_segments());
    const LogStore::Segment& first = store_.segments_.begin()->second;
    store_.last_batch_ = first.header.first_batch - 1;
    store_.last_link_ = first.header.link;
    for (auto at = store_.segments_.begin(); at != store_.segments_.end();) {
        LogStore::Segment& segment = at->second;
        ++at;
        LFS_TRY(read_segment(segment, at == store_.segments_.end() ? nullptr : &at->second));
    }
    return check_whole();
}

// Opens the segments of the newest unbroken run of numbers. Older ones, if any, are left from a cut
// whose removals were not all durable; whether they are truly not needed is seen by check_whole().
Status LogRecovery::open_segments() {
    const std::string& dir = store_.options_.dir;
    LFS_ASSIGN(std::vector<std::string> names, store_.fs_.list(dir));
    std::vector<uint64_t> numbers;
    for (const std::string& name : names) {
        if (uint64_t number = parse_segment_name(name)) numbers.push_back(number);
    }
    if (numbers.empty()) {
        return Status(
            Errc::corrupt,
            fmt::format("the Raft log is gone: no segment in {}. This node must not vote: "
                        "remove it from the group, and add it again with an empty data_dir "
                        "and a new node_id",
                        dir));
    }
    std::sort(numbers.begin(), numbers.end());
    size_t begin = numbers.size() - 1;
    while (begin > 0 && numbers[begin - 1] + 1 == numbers[begin]) --begin;
    for (size_t i = 0; i < begin; ++i) {
        LFS_LOG(warn, "left from an old cut of the Raft log: {}", segment_name(numbers[i]));
        LFS_TRY(store_.fs_.remove(store_.path(segment_name(numbers[i]))));
    }
    for (size_t i = begin; i < numbers.size(); ++i) {
        LogStore::Segment segment;
        segment.path = store_.path(segment_name(numbers[i]));
        LFS_ASSIGN(segment.file, store_.fs_.open(segment.path, {.direct = true}));
        Buffer block = Buffer::allocate(kLogAlignment);
        LFS_ASSIGN(size_t got, segment.file->read_at(0, block.mutable_view()));
        Result<SegmentHeader> header =
            decode_segment_header(block.view().subspan(0, got), store_.options_.log_id);
        if (!header) return damaged(segment, 0, header.status().text());
        if (header->number != numbers[i])
            return damaged(segment, 0, "it has another number inside");
        LFS_ASSIGN(uint64_t size, segment.file->size());
        if (size < header->segment_bytes) return damaged(segment, size, "the file is too short");
        segment.header = *header;
        store_.segments_.emplace(numbers[i], std::move(segment));
    }
    return Status();
}

// `next` is null for the last segment, the only one that may have a torn tail.
Status LogRecovery::read_segment(LogStore::Segment& segment, const LogStore::Segment* next) {
    if (segment.header.first_batch != store_.last_batch_ + 1 ||
        segment.header.link != store_.last_link_) {
        return damaged(segment, 0, "it does not continue the segment before it");
    }
    // All before a segment was synced when it was started.
    store_.synced_batch_ = std::max(store_.synced_batch_, store_.last_batch_);
    uint64_t offset = kLogAlignment;
    while (next == nullptr || store_.last_batch_ + 1 < next->header.first_batch) {
        Bytes floor_body;
        Result<BatchHeader> header = read_batch(segment, offset, &floor_body);
        if (!header) {
            if (header.code() != Errc::corrupt) return header.status();
            if (next != nullptr) return damaged(segment, offset, header.status().text());
            why_bad_ = header.status().text();
            LFS_TRY(find_witness(segment, offset));
            break;
        }
        LFS_TRY(take(*header, floor_body, {segment.header.number, offset}));
        store_.last_batch_ = header->number;
        store_.last_link_ = header->checksum;
        store_.synced_batch_ = std::max(store_.synced_batch_, header->synced_upto);
        offset += header->disk_bytes();
    }
    store_.write_offset_ = offset;
    return Status();
}

Result<View> LogRecovery::window(LogStore::Segment& segment, uint64_t offset, uint64_t length) {
    const bool inside = window_segment_ == segment.header.number && window_offset_ <= offset &&
                        offset + length <= window_offset_ + window_length_;
    if (!inside) {
        const uint64_t wanted = std::max(log_aligned(length), kWindowBytes);
        if (window_.size() < wanted) window_ = Buffer::allocate(wanted);
        const uint64_t end = std::min(offset + wanted, segment.header.segment_bytes);
        LFS_ASSERT(offset < end);
        LFS_ASSIGN(size_t got,
                   segment.file->read_at(
                       offset, {window_.mutable_data(), static_cast<size_t>(end - offset)}));
        window_segment_ = segment.header.number;
        window_offset_ = offset;
        window_length_ = got;
    }
    const uint64_t from = offset - window_offset_;
    if (from + length > window_length_) return Status(Errc::corrupt, "segment ends");
    return View(window_.data() + from, length);
}

Result<BatchHeader> LogRecovery::read_batch(LogStore::Segment& segment,
                                            uint64_t offset,
                                            Bytes* floor_body) {
    if (offset + kLogAlignment > segment.header.segment_bytes) {
        return Status(Errc::corrupt, "segment is full");
    }
    LFS_ASSIGN(View head, window(segment, offset, kLogAlignment));
    LFS_ASSIGN(BatchHeader header,
               decode_batch_header(head, store_.options_.log_id, segment.header.number));
    if (header.number != store_.last_batch_ + 1) return Status(Errc::corrupt, "not the next batch");
    if (header.link != store_.last_link_)
        return Status(Errc::corrupt, "not linked to the batch before");
    if (offset + header.disk_bytes() > segment.header.segment_bytes) {
        return Status(Errc::corrupt, "batch is longer than its segment");
    }
    LFS_ASSIGN(View batch, window(segment, offset, header.disk_bytes()));
    const View body = batch.subspan(kBatchHeaderBytes, header.body_bytes);
    LFS_TRY(check_batch_body(header, body));
    if (header.kind == BatchKind::floor) floor_body->assign(body.begin(), body.end());
    if (header.kind == BatchKind::entries) LFS_TRY(decode_records(header, body));
    return header;
}

// The batch at `offset` is bad. Is there proof that it was synced once?
Status LogRecovery::find_witness(LogStore::Segment& segment, uint64_t offset) {
    const uint64_t bad = store_.last_batch_ + 1;
    if (planted_bug("consensus.damage_is_tail")) return Status();
    if (synced_hint_ >= bad || store_.synced_batch_ >= bad) {
        return damaged(segment, offset, why_bad_ + ", but it was synced");
    }
    for (uint64_t at = offset; at + kLogAlignment <= segment.header.segment_bytes;
         at += kLogAlignment) {
        LFS_ASSIGN(View head, window(segment, at, kLogAlignment));
        Result<BatchHeader> header =
            decode_batch_header(head, store_.options_.log_id, segment.header.number);
        if (header && header->number > bad && header->synced_upto >= bad) {
            return damaged(segment,
                           offset,
                           fmt::format("{}, but batch {} at offset {} says that it was synced",
                                       why_bad_,
                                       header->number,
                                       at));
        }
    }
    return Status();
}

Status LogRecovery::take(const BatchHeader& header, View floor_body, Place place) {
    LogStore::Segment& segment = store_.segments_.at(place.segment);
    switch (header.kind) {
        case BatchKind::mark:
            return Status();
        case BatchKind::entries:
            return take_entries(header, place);
        case BatchKind::truncate:
            if (last_known_ && header.first_index > store_.last_ + 1) {
                return damaged(segment, place.offset, "it cuts the log behind its end");
            }
            store_.drop_from(header.first_index);
            last_known_ = true;
            return Status();
        case BatchKind::floor:
            break;
    }
    Result<FloorRecord> record = decode_floor(floor_body);
    if (!record) return damaged(segment, place.offset, record.status().text());
    if (header.reset) {
        store_.refs_.clear();
        store_.live_bytes_ = 0;
    } else if (last_known_ && record->last != store_.last_) {
        return damaged(segment, place.offset, "the log ends elsewhere than the floor says");
    }
    store_.floor_ = record->floor;
    store_.last_ = record->last;
    last_known_ = true;
    floor_known_ = true;
    store_.drop_to_floor();
    return Status();
}

Status LogRecovery::take_entries(const BatchHeader& header, Place place) {
    if (header.count == 0 || (last_known_ && header.first_index > store_.last_ + 1)) {
        return damaged(store_.segments_.at(place.segment),
                       place.offset,
                       fmt::format("entries from {} on do not continue the log, which ends at {}",
                                   header.first_index.value,
                                   store_.last_.value));
    }
    store_.drop_from(header.first_index);
    store_.refs_.push_back(
        {header.first_index, header.count, place.segment, place.offset, header.disk_bytes()});
    store_.live_bytes_ += header.disk_bytes();
    store_.last_ = store_.refs_.back().last();
    last_known_ = true;
    return Status();
}

// From here on the log is one unbroken run from its floor to its end.
Status LogRecovery::check_whole() {
    const LogStore::Segment& first = store_.segments_.begin()->second;
    if (!floor_known_) return damaged(first, 0, "no batch says where the log begins");
    store_.drop_to_floor();
    const LogIndex begins = store_.refs_.empty() ? store_.last_ + 1 : store_.refs_.front().first;
    if (begins > store_.floor_.index + 1 || store_.last_ < store_.floor_.index) {
        return damaged(first,
                       0,
                       fmt::format("it should begin after entry {}, but begins with {}",
                                   store_.floor_.index.value,
                                   begins.value));
    }
    return Status();
}

}  // namespace lumeofs::consensus
