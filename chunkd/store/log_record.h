// SPDX-License-Identifier: Apache-2.0
// LogRecord: what the log keeps of one change, complete enough to do it again without reading
// anything but the log (redo), and any number of times.
//
// Layout (little endian), one after the other in a batch:
//   0 u32 bytes of this record, these four included     4 u8 kind (LogKind)   5 u8 flags
//   6 u16 zero             8 u64 chunk                 16 u64 name: epoch, incarnation, sequence
//  40 u64 session, write_no, lowest_outstanding        64 u64 offset, length
//  80 u64 shrink_epoch     88 u64 commit point: epoch, incarnation, sequence
// 112 u64 aux (remove: trash number; purge: trash number)   120 i64 wall clock
// 128 u32 runs, u32 units, u16 version vector bytes, u16 blob bytes, u32 zero
// 144 runs:  u32 first block, u32 count, u8 RunKind, 3 zero, then count * u64 salted checksum
//            (not for holes)
//     units: u32 unit of the chunk, u32 unit of the home space
//     version vector, blob
// flags: 1 = version vector present, 2 = blob present.
// Immutable values; thread-compatible.
#pragma once

#include <vector>

#include "chunkd/store/byte_codec.h"
#include "chunkd/store/types.h"
#include "common/base/result.h"

namespace lumeofs::store {

enum class LogKind : uint8_t {
    create = 1,
    data = 2,
    zero = 3,
    truncate = 4,
    set_epoch = 5,
    commit_point = 6,
    remove = 7,
    rewrite = 8,  // blocks copied from another member: no name, no doubt
    purge = 9,    // a trash entry's space is given back
};

enum class RunKind : uint8_t {
    image = 1,   // the next `count` images of the batch
    direct = 2,  // written home before the batch
    hole = 3,
};

struct Run {
    uint32_t first = 0;
    uint32_t count = 0;
    RunKind kind = RunKind::image;
    std::vector<uint64_t> sums;
};

struct UnitAssign {
    uint32_t chunk_unit = 0;
    uint32_t home_unit = 0;
};

struct LogRecord {
    LogKind kind = LogKind::data;
    WriteRecord change;  // change.kind is not used here
    uint64_t aux = 0;
    Nanos wall = 0;
    std::vector<Run> runs;
    std::vector<UnitAssign> units;

    uint32_t images() const;
};

void encode_record(const LogRecord& record, ByteWriter& out);
// Reads one record; Errc::corrupt if it is not one (every number is checked against its bounds).
Result<LogRecord> decode_record(ByteReader& in);

}  // namespace lumeofs::store
