// SPDX-License-Identifier: Apache-2.0
// Bodies of the index records `meta` and `page`.
//
// meta:  u64 epoch; applied: u64 epoch, incarnation, sequence; u64 length; u64 trash number;
//   i64 removed at; u32 in-doubt entries   (this front is what a start reads of each chunk)
//   then commit point: u64 * 3; u64 shrink epoch; u32 used units; u16 version vector bytes; u16
//   blob bytes; both; in-doubt entries (u64 * 3 name, u8 kind, u64 session, write_no,
//   lowest_outstanding, offset, length); u32 sessions, each u64 session, u64 lowest_outstanding,
//   u32 count, u64 * count; u32 pages, each u32 number and u32 file, offset, bytes of its record.
#include "chunkd/store/byte_codec.h"
#include "chunkd/store/chunk.h"

namespace lumeofs::store {
namespace {

void put_name(ByteWriter& out, const WriteName& name) {
    out.put<uint64_t>(name.epoch.value);
    out.put<uint64_t>(name.incarnation.value);
    out.put<uint64_t>(name.sequence);
}

WriteName get_name(ByteReader& in) {
    WriteName name;
    name.epoch = Epoch{in.get<uint64_t>()};
    name.incarnation = Incarnation{in.get<uint64_t>()};
    name.sequence = in.get<uint64_t>();
    return name;
}

void put_in_doubt(ByteWriter& out, const InDoubt& item) {
    put_name(out, item.name);
    out.put<uint8_t>(static_cast<uint8_t>(item.kind));
    out.put<uint64_t>(item.session.value);
    out.put<uint64_t>(item.write_no);
    out.put<uint64_t>(item.lowest_outstanding);
    out.put<uint64_t>(item.offset);
    out.put<uint64_t>(item.length);
}

InDoubt get_in_doubt(ByteReader& in) {
    InDoubt item;
    item.name = get_name(in);
    const auto kind = in.get<uint8_t>();
    if (kind < 1 || kind > static_cast<uint8_t>(RecordKind::remove)) in.fail();
    item.kind = static_cast<RecordKind>(kind);
    item.session = SessionId{in.get<uint64_t>()};
    item.write_no = in.get<uint64_t>();
    item.lowest_outstanding = in.get<uint64_t>();
    item.offset = in.get<uint64_t>();
    item.length = in.get<uint64_t>();
    return item;
}

void get_sessions(ByteReader& in, Chunk& chunk) {
    const auto count = in.get<uint32_t>();
    if (!in.fits(count, 20)) return in.fail();
    for (uint32_t i = 0; i < count; ++i) {
        SessionWrites writes;
        writes.session = SessionId{in.get<uint64_t>()};
        writes.lowest_outstanding = in.get<uint64_t>();
        const auto done = in.get<uint32_t>();
        if (!in.fits(done, 8)) return in.fail();
        for (uint32_t k = 0; k < done; ++k) writes.done.push_back(in.get<uint64_t>());
        chunk.sessions.push_back(std::move(writes));
    }
}

void get_pages(ByteReader& in, Chunk& chunk) {
    const auto count = in.get<uint32_t>();
    for (uint32_t i = 0; i < count && in.ok(); ++i) {
        const auto number = in.get<uint32_t>();
        if (number >= kPagesPerChunk) return in.fail();
        IndexPlace& place = chunk.page_at[number];
        place.file = in.get<uint32_t>();
        place.offset = in.get<uint32_t>();
        place.bytes = in.get<uint32_t>();
    }
}

}  // namespace

Bytes encode_meta(const Chunk& chunk) {
    const ChunkMeta& meta = chunk.meta;
    ByteWriter out;
    out.put<uint64_t>(meta.epoch.value);
    put_name(out, meta.applied);
    out.put<uint64_t>(meta.length);
    out.put<uint64_t>(chunk.trash);
    out.put<int64_t>(chunk.removed_at);
    out.put<uint32_t>(static_cast<uint32_t>(chunk.in_doubt.size()));
    put_name(out, meta.commit_point);
    out.put<uint64_t>(meta.shrink_epoch.value);
    out.put<uint32_t>(chunk.used_units);
    out.put<uint16_t>(static_cast<uint16_t>(meta.version_vector.size()));
    out.put<uint16_t>(static_cast<uint16_t>(meta.blob.size()));
    out.bytes(meta.version_vector);
    out.bytes(meta.blob);
    for (const InDoubt& item : chunk.in_doubt) put_in_doubt(out, item);
    out.put<uint32_t>(static_cast<uint32_t>(chunk.sessions.size()));
    for (const SessionWrites& writes : chunk.sessions) {
        out.put<uint64_t>(writes.session.value);
        out.put<uint64_t>(writes.lowest_outstanding);
        out.put<uint32_t>(static_cast<uint32_t>(writes.done.size()));
        for (uint64_t no : writes.done) out.put<uint64_t>(no);
    }
    uint32_t pages = 0;
    for (const IndexPlace& place : chunk.page_at) pages += place.bytes != 0 ? 1 : 0;
    out.put<uint32_t>(pages);
    for (uint32_t number = 0; number < kPagesPerChunk; ++number) {
        const IndexPlace& place = chunk.page_at[number];
        if (place.bytes == 0) continue;
        out.put<uint32_t>(number);
        out.put<uint32_t>(place.file);
        out.put<uint32_t>(place.offset);
        out.put<uint32_t>(place.bytes);
    }
    return out.take();
}

Result<std::unique_ptr<Chunk>> decode_meta(View body, ChunkId id) {
    ByteReader in(body);
    auto chunk = std::make_unique<Chunk>(id);
    ChunkMeta& meta = chunk->meta;
    meta.epoch = Epoch{in.get<uint64_t>()};
    meta.applied = get_name(in);
    meta.length = in.get<uint64_t>();
    chunk->trash = in.get<uint64_t>();
    chunk->removed_at = in.get<int64_t>();
    const auto doubts = in.get<uint32_t>();
    meta.commit_point = get_name(in);
    meta.shrink_epoch = Epoch{in.get<uint64_t>()};
    chunk->used_units = in.get<uint32_t>();
    const auto vector_bytes = in.get<uint16_t>();
    const auto blob_bytes = in.get<uint16_t>();
    View view = in.bytes(vector_bytes);
    meta.version_vector.assign(view.begin(), view.end());
    view = in.bytes(blob_bytes);
    meta.blob.assign(view.begin(), view.end());
    if (!in.fits(doubts, 65)) in.fail();
    for (uint32_t i = 0; i < doubts && in.ok(); ++i) chunk->in_doubt.push_back(get_in_doubt(in));
    get_sessions(in, *chunk);
    get_pages(in, *chunk);
    if (!in.ok() || in.left() != 0) {
        return Status(Errc::corrupt,
                      "index: metadata of chunk " + id.to_string() + " is malformed");
    }
    return chunk;
}

Bytes Page::encode(uint32_t number, uint64_t trash) const {
    ByteWriter out;
    out.put<uint32_t>(number);
    out.put<uint64_t>(trash);
    out.put<uint32_t>(static_cast<uint32_t>(sums_.size()));
    out.put<uint32_t>(static_cast<uint32_t>(units_.size()));
    for (uint64_t sum : sums_) out.put<uint64_t>(sum);
    for (uint32_t unit : units_) out.put<uint32_t>(unit);
    return out.take();
}

Result<std::unique_ptr<Page>> Page::decode(View body, uint32_t number) {
    ByteReader in(body);
    auto page = std::make_unique<Page>();
    const auto found = in.get<uint32_t>();
    in.get<uint64_t>();
    const auto sums = in.get<uint32_t>();
    const auto units = in.get<uint32_t>();
    if (found != number || sums > kBlocksPerPage || units > kUnitsPerPage || !in.fits(sums, 8))
        in.fail();
    for (uint32_t i = 0; i < sums && in.ok(); ++i) page->sums_.push_back(in.get<uint64_t>());
    for (uint32_t i = 0; i < units && in.ok(); ++i) page->units_.push_back(in.get<uint32_t>());
    if (!in.ok() || in.left() != 0) return Status(Errc::corrupt, "index: block table is malformed");
    return page;
}

}  // namespace lumeofs::store
