// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/log_record.h"

#include "chunkd/store/geometry.h"

namespace lumeofs::store {
namespace {

constexpr uint8_t kHasVector = 1;
constexpr uint8_t kHasBlob = 2;

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

Status bad(const char* what) { return Status(Errc::corrupt, what); }

Status get_runs(ByteReader& in, uint32_t count, LogRecord& record) {
    if (!in.fits(count, 12)) return bad("log record: run count");
    for (uint32_t i = 0; i < count; ++i) {
        Run run;
        run.first = in.get<uint32_t>();
        run.count = in.get<uint32_t>();
        const auto kind = in.get<uint8_t>();
        in.bytes(3);
        if (kind < 1 || kind > 3) return bad("log record: run kind");
        run.kind = static_cast<RunKind>(kind);
        if (run.first >= kChunkBlocks || run.count > kChunkBlocks - run.first) {
            return bad("log record: blocks outside the chunk");
        }
        if (run.kind != RunKind::hole) {
            if (!in.fits(run.count, 8)) return bad("log record: checksums");
            run.sums.reserve(run.count);
            for (uint32_t k = 0; k < run.count; ++k) run.sums.push_back(in.get<uint64_t>());
        }
        record.runs.push_back(std::move(run));
    }
    return ok_status();
}

Status get_units(ByteReader& in, uint32_t count, LogRecord& record) {
    if (!in.fits(count, 8)) return bad("log record: unit count");
    for (uint32_t i = 0; i < count; ++i) {
        UnitAssign unit;
        unit.chunk_unit = in.get<uint32_t>();
        unit.home_unit = in.get<uint32_t>();
        if (unit.chunk_unit >= kChunkBlocks / kUnitBlocks || unit.home_unit == kNoUnit) {
            return bad("log record: unit outside the chunk");
        }
        record.units.push_back(unit);
    }
    return ok_status();
}

}  // namespace

uint32_t LogRecord::images() const {
    uint32_t count = 0;
    for (const Run& run : runs) {
        if (run.kind == RunKind::image) count += run.count;
    }
    return count;
}

void encode_record(const LogRecord& record, ByteWriter& out) {
    const WriteRecord& change = record.change;
    const size_t start = out.size();
    out.put<uint32_t>(0);
    out.put<uint8_t>(static_cast<uint8_t>(record.kind));
    out.put<uint8_t>(static_cast<uint8_t>((change.version_vector ? kHasVector : 0) |
                                          (change.blob ? kHasBlob : 0)));
    out.put<uint16_t>(0);
    out.put<uint64_t>(change.chunk.value);
    put_name(out, change.name);
    out.put<uint64_t>(change.session.value);
    out.put<uint64_t>(change.write_no);
    out.put<uint64_t>(change.lowest_outstanding);
    out.put<uint64_t>(change.offset);
    out.put<uint64_t>(change.length);
    out.put<uint64_t>(change.shrink_epoch.value);
    put_name(out, change.commit_point);
    out.put<uint64_t>(record.aux);
    out.put<int64_t>(record.wall);
    out.put<uint32_t>(static_cast<uint32_t>(record.runs.size()));
    out.put<uint32_t>(static_cast<uint32_t>(record.units.size()));
    out.put<uint16_t>(
        static_cast<uint16_t>(change.version_vector ? change.version_vector->size() : 0));
    out.put<uint16_t>(static_cast<uint16_t>(change.blob ? change.blob->size() : 0));
    out.put<uint32_t>(0);
    for (const Run& run : record.runs) {
        out.put<uint32_t>(run.first);
        out.put<uint32_t>(run.count);
        out.put<uint32_t>(static_cast<uint32_t>(run.kind));
        if (run.kind != RunKind::hole) {
            out.bytes({reinterpret_cast<const uint8_t*>(run.sums.data()), run.sums.size() * 8});
        }
    }
    for (const UnitAssign& unit : record.units) {
        out.put<uint32_t>(unit.chunk_unit);
        out.put<uint32_t>(unit.home_unit);
    }
    if (change.version_vector) out.bytes(*change.version_vector);
    if (change.blob) out.bytes(*change.blob);
    out.patch<uint32_t>(start, static_cast<uint32_t>(out.size() - start));
}

Result<LogRecord> decode_record(ByteReader& in) {
    const size_t before = in.left();
    LogRecord record;
    WriteRecord& change = record.change;
    const auto bytes = in.get<uint32_t>();
    const auto kind = in.get<uint8_t>();
    const auto flags = in.get<uint8_t>();
    in.get<uint16_t>();
    if (kind < 1 || kind > static_cast<uint8_t>(LogKind::purge)) return bad("log record: kind");
    record.kind = static_cast<LogKind>(kind);
    change.chunk = ChunkId{in.get<uint64_t>()};
    change.name = get_name(in);
    change.session = SessionId{in.get<uint64_t>()};
    change.write_no = in.get<uint64_t>();
    change.lowest_outstanding = in.get<uint64_t>();
    change.offset = in.get<uint64_t>();
    change.length = in.get<uint64_t>();
    change.shrink_epoch = Epoch{in.get<uint64_t>()};
    change.commit_point = get_name(in);
    record.aux = in.get<uint64_t>();
    record.wall = in.get<int64_t>();
    const auto runs = in.get<uint32_t>();
    const auto units = in.get<uint32_t>();
    const auto vector_bytes = in.get<uint16_t>();
    const auto blob_bytes = in.get<uint16_t>();
    in.get<uint32_t>();
    LFS_TRY(get_runs(in, runs, record));
    LFS_TRY(get_units(in, units, record));
    if ((flags & kHasVector) != 0) {
        View view = in.bytes(vector_bytes);
        change.version_vector = Bytes(view.begin(), view.end());
    }
    if ((flags & kHasBlob) != 0) {
        View view = in.bytes(blob_bytes);
        change.blob = Bytes(view.begin(), view.end());
    }
    if (!in.ok() || before - in.left() != bytes) return bad("log record: length");
    return record;
}

}  // namespace lumeofs::store
