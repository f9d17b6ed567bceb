// SPDX-License-Identifier: Apache-2.0
// Layout of the index of one disk: where every chunk's metadata and block tables are, as of a
// checkpoint. It is only ever appended to, in files DIR/index/NNNNNNNN.
//
// Record:  0 u32 magic "LIX1"   4 u32 body bytes   8 u16 kind   10 u16 zero   12 u32 zero
//         16 u64 key           24 u64 checkpoint number   32 u64 sum   40 body
//   sum: XXH3-64, seeded with the low half of the disk's uuid, of these 32 bytes and the u64 that
//   the same function gives for the body.
// Kinds: head (first record of a file; body u32 format revision, u32 zero, u64 uuid high, u64 low),
//   directory (body: entries of up to 4096 chunks, see
//   disk_checkpoint.cc, write_directory), meta (key = chunk id; body: see
//   chunk_codec.cc), page (key = chunk id; body: u32 page number, u64 trash number, u32 sums, u32
//   units, u64 salted checksum per block (0 = hole), u32 home unit per unit (~0 = none)),
//   alloc (key = page number; body: bit per unit used, bit per unit written), gone (key = chunk id,
//   body u64 trash number), commit.
// commit: u64 number of the log batch where replay starts, u64 its link, u32 segment, u32 offset,
//   u64 next trash number, u64 bytes of this group up to here, u32 files, u32 zero, then per file
//   u64 number, u64 live bytes.
//
// A checkpoint appends one *group*: records and, last, a commit with the same checkpoint number;
// then it syncs the file. A file starts with a group that holds head, the whole directory and all
// alloc pages: what is in force is that directory, changed by the complete groups behind it.
// Validity: a group counts if all its records are whole and carry the number that follows the one
// before. The last group of the newest file may be torn (its checkpoint did not finish, so the log
// was not cut: replay from the commit before finds everything); a new file whose first group is
// torn is set aside (renamed .torn) and made again. A record that does not verify anywhere else is
// damage.
// Crash argument: a home block that the index names was synced before the group was
// written; the log is cut only after the sync of the group. A file is removed only when nothing in
// it is in force and that is durable.
#pragma once

#include <cstdint>

namespace lumeofs::store {

inline constexpr uint32_t kIndexMagic = 0x3158494C;  // "LIX1"
inline constexpr uint32_t kIndexHeaderBytes = 40;
inline constexpr uint32_t kIndexRevision = 1;
inline constexpr uint32_t kMaxIndexBody = 16u << 20;
inline constexpr uint32_t kDirectoryEntriesPerRecord = 4096;

enum class IndexKind : uint16_t {
    head = 1,
    directory = 2,
    meta = 3,
    page = 4,
    alloc = 5,
    gone = 6,
    commit = 7,
};

// Where a record stands; bytes = header and body. bytes 0 = nowhere.
struct IndexPlace {
    uint32_t file = 0;
    uint32_t offset = 0;
    uint32_t bytes = 0;
    bool operator==(const IndexPlace&) const = default;
};

}  // namespace lumeofs::store
