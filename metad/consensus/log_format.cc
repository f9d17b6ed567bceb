// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/log_format.h"

#include <fmt/format.h>

#include <charconv>

#include "common/base/checksum.h"
#include "metad/raft/membership.h"

namespace lumeofs::consensus {
namespace {

constexpr uint8_t kSegmentMagic[8] = {'L', 'F', 'S', 'R', 'L', 'O', 'G', '\n'};
constexpr uint8_t kBatchMagic[4] = {'L', 'F', 'S', 'B'};
constexpr size_t kChecksummed = 56;  // of either header
constexpr size_t kFloorFixedBytes = 24;

Status bad(const char* what) { return Status(Errc::corrupt, what); }

}  // namespace

void encode_segment_header(const SegmentHeader& header, uint64_t log_id, uint8_t* block) {
    std::memset(block, 0, kLogAlignment);
    std::memcpy(block, kSegmentMagic, sizeof kSegmentMagic);
    put_le<uint32_t>(block + 8, kLogRevision);
    put_le<uint64_t>(block + 16, header.number);
    put_le<uint64_t>(block + 24, header.first_batch);
    put_le<uint64_t>(block + 32, header.link);
    put_le<uint64_t>(block + 40, header.segment_bytes);
    put_le<uint64_t>(block + 48, log_id);
    put_le<uint64_t>(block + 56, checksum_seeded({block, kChecksummed}, log_id));
}

Result<SegmentHeader> decode_segment_header(View block, uint64_t log_id) {
    if (block.size() < 64) return bad("shorter than a segment header");
    const uint8_t* at = block.data();
    if (std::memcmp(at, kSegmentMagic, sizeof kSegmentMagic) != 0) return bad("no segment header");
    if (get_le<uint32_t>(at + 8) != kLogRevision) {
        return Status(Errc::corrupt,
                      fmt::format("format revision {}, this program knows {}",
                                  get_le<uint32_t>(at + 8),
                                  kLogRevision));
    }
    if (get_le<uint64_t>(at + 48) != log_id) return bad("segment of another log");
    if (get_le<uint64_t>(at + 56) != checksum_seeded({at, kChecksummed}, log_id)) {
        return bad("segment header fails its checksum");
    }
    SegmentHeader header;
    header.number = get_le<uint64_t>(at + 16);
    header.first_batch = get_le<uint64_t>(at + 24);
    header.link = get_le<uint64_t>(at + 32);
    header.segment_bytes = get_le<uint64_t>(at + 40);
    return header;
}

void seal_batch(BatchHeader* header, uint64_t log_id, uint64_t segment, uint8_t* batch) {
    const View body(batch + kBatchHeaderBytes, header->body_bytes);
    header->body_checksum = checksum_seeded(body, header->number);
    std::memcpy(batch, kBatchMagic, sizeof kBatchMagic);
    batch[4] = static_cast<uint8_t>(header->kind);
    batch[5] = header->reset ? 1 : 0;
    put_le<uint16_t>(batch + 6, 0);
    put_le<uint64_t>(batch + 8, header->number);
    put_le<uint64_t>(batch + 16, header->link);
    put_le<uint64_t>(batch + 24, header->synced_upto);
    put_le<uint64_t>(batch + 32, header->first_index.value);
    put_le<uint32_t>(batch + 40, header->count);
    put_le<uint32_t>(batch + 44, header->body_bytes);
    put_le<uint64_t>(batch + 48, header->body_checksum);
    header->checksum = checksum_seeded({batch, kChecksummed}, log_id + segment);
    put_le<uint64_t>(batch + 56, header->checksum);
}

Result<BatchHeader> decode_batch_header(View bytes, uint64_t log_id, uint64_t segment) {
    if (bytes.size() < kBatchHeaderBytes) return bad("shorter than a batch header");
    const uint8_t* at = bytes.data();
    if (std::memcmp(at, kBatchMagic, sizeof kBatchMagic) != 0) return bad("no batch header");
    BatchHeader header;
    header.checksum = get_le<uint64_t>(at + 56);
    if (header.checksum != checksum_seeded({at, kChecksummed}, log_id + segment)) {
        return bad("batch header fails its checksum");
    }
    if (at[4] < 1 || at[4] > 4 || at[5] > 1) return bad("unknown kind of batch");
    header.kind = static_cast<BatchKind>(at[4]);
    header.reset = at[5] == 1;
    header.number = get_le<uint64_t>(at + 8);
    header.link = get_le<uint64_t>(at + 16);
    header.synced_upto = get_le<uint64_t>(at + 24);
    header.first_index = LogIndex{get_le<uint64_t>(at + 32)};
    header.count = get_le<uint32_t>(at + 40);
    header.body_bytes = get_le<uint32_t>(at + 44);
    header.body_checksum = get_le<uint64_t>(at + 48);
    return header;
}

Status check_batch_body(const BatchHeader& header, View body) {
    if (body.size() != header.body_bytes ||
        checksum_seeded(body, header.number) != header.body_checksum) {
        return bad("batch body fails its checksum");
    }
    return Status();
}

uint8_t* encode_record(const raft::Entry& entry, uint8_t* at) {
    const size_t size = entry.payload ? entry.payload->size() : 0;
    put_le<uint32_t>(at, static_cast<uint32_t>(size));
    at[4] = static_cast<uint8_t>(entry.kind);
    at[5] = at[6] = at[7] = 0;
    put_le<uint64_t>(at + 8, entry.term.value);
    at += kRecordHeaderBytes;
    if (size > 0) std::memcpy(at, entry.payload->data(), size);
    return at + size;
}

Result<std::vector<raft::Entry>> decode_records(const BatchHeader& header, View body) {
    std::vector<raft::Entry> entries;
    size_t at = 0;
    for (uint32_t i = 0; i < header.count; ++i) {
        if (body.size() - at < kRecordHeaderBytes) return bad("batch ends inside a record");
        const uint8_t* record = body.data() + at;
        const size_t size = get_le<uint32_t>(record);
        at += kRecordHeaderBytes;
        if (record[4] > 2) return bad("unknown kind of entry");
        if (body.size() - at < size) return bad("batch ends inside a record");
        raft::Entry& entry = entries.emplace_back();
        entry.index = header.first_index + i;
        entry.kind = static_cast<raft::EntryKind>(record[4]);
        entry.term = Term{get_le<uint64_t>(record + 8)};
        if (size > 0) {
            entry.payload =
                std::make_shared<const Bytes>(body.data() + at, body.data() + at + size);
        }
        at += size;
    }
    if (at != body.size()) return bad("batch has bytes after its last record");
    return entries;
}

Bytes encode_floor(const FloorRecord& record) {
    Bytes bytes(kFloorFixedBytes);
    put_le<uint64_t>(bytes.data(), record.floor.index.value);
    put_le<uint64_t>(bytes.data() + 8, record.floor.term.value);
    put_le<uint64_t>(bytes.data() + 16, record.last.value);
    const Bytes members = raft::encode_membership(record.floor.membership);
    bytes.insert(bytes.end(), members.begin(), members.end());
    return bytes;
}

Result<FloorRecord> decode_floor(View body) {
    if (body.size() < kFloorFixedBytes) return bad("floor is too short");
    FloorRecord record;
    record.floor.index = LogIndex{get_le<uint64_t>(body.data())};
    record.floor.term = Term{get_le<uint64_t>(body.data() + 8)};
    record.last = LogIndex{get_le<uint64_t>(body.data() + 16)};
    LFS_ASSIGN(record.floor.membership, raft::decode_membership(body.subspan(kFloorFixedBytes)));
    return record;
}

std::string segment_name(uint64_t number) { return fmt::format("{:016x}.seg", number); }

uint64_t parse_segment_name(const std::string& name) {
    if (name.size() != 20 || name.substr(16) != ".seg") return 0;
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + 16, number, 16);
    return error == std::errc() && end == name.data() + 16 ? number : 0;
}

}  // namespace lumeofs::consensus
