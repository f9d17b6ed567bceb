// SPDX-License-Identifier: Apache-2.0
// The chunk map (which chunk is piece n of a file), the chunks' configurations, which node has
// which chunk, copies that must go, and ranges of the map that wait for a clean-up: rows only, no
// policy.
//
// A map row belongs to a range of a clean-up entry if its index is inside and it was born before
// the entry's stamp (both log indices): so a truncate hides any number of rows in O(1) [40], and
// rows made later in the same place are not hidden.
// single-thread: the metad loop.
#pragma once

#include <optional>
#include <vector>

#include "metad/namespace/db.h"
#include "metad/namespace/rows.h"

namespace lumeofs::metad {

struct MapRow {
    InodeId ino;
    uint32_t index = 0;
    ChunkId chunk;
    uint64_t valid_to = kChunkSize;  // shows bytes [0, valid_to) of the chunk [42]
    uint64_t born = 0;
};

class MapTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE map(ino INTEGER, idx INTEGER, chunk INTEGER, valid_to INTEGER,"
        " born INTEGER, PRIMARY KEY(ino, idx)) WITHOUT ROWID";
    explicit MapTable(Db& db);
    std::optional<MapRow> load(InodeId ino, uint32_t index);
    // Ascending, [first, last], born before `born_before`.
    std::vector<MapRow> range(
        InodeId ino, uint32_t first, uint32_t last, uint64_t born_before, uint32_t limit);
    void save(const MapRow& row);
    void remove(InodeId ino, uint32_t index);

private:
    Statement select_;
    Statement range_;
    Statement replace_;
    Statement delete_;
};

// ChunkRow without `length`, which its owner's size gives.
class ChunkTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE chunk(id INTEGER PRIMARY KEY, epoch INTEGER, state INTEGER, members BLOB,"
        " member_count INTEGER,"
        " joiner INTEGER, absent BLOB, marks BLOB, wanted INTEGER, owner INTEGER, idx INTEGER,"
        " refs INTEGER, written INTEGER);"
        "CREATE INDEX chunk_short ON chunk(member_count, id) WHERE member_count < wanted;"
        // 16 bytes a mark: chunks with at least kMarksToTrim of them
        "CREATE INDEX chunk_marked ON chunk(id) WHERE length(marks) >= 64;"
        // role: 1 member, 2 joiner, 3 absent
        "CREATE TABLE chunk_node(node INTEGER, chunk INTEGER, role INTEGER, PRIMARY KEY(node,"
        " chunk)) WITHOUT ROWID";
    ChunkTable(Db& db, Totals& totals);
    std::optional<ChunkRow> load(ChunkId id);
    void insert(const ChunkRow& row);
    void update(const ChunkRow& before, const ChunkRow& after);
    void remove(const ChunkRow& row);
    std::vector<ChunkRow> page(ChunkId after, uint32_t limit);
    std::vector<ChunkRow> page_of_node(NodeId node, ChunkId after, uint32_t limit);
    std::vector<ChunkRow> page_short(uint32_t members, ChunkId after, uint32_t limit);
    std::vector<ChunkRow> page_marked(ChunkId after, uint32_t limit);
    uint64_t count_of_node(NodeId node);

private:
    std::vector<ChunkRow> collect(Statement::Cursor cursor);

    Totals& totals_;
    Statement select_;
    Statement insert_;
    Statement update_;
    Statement delete_;
    Statement page_;
    Statement page_of_node_;
    Statement page_short_;
    Statement page_marked_;
    Statement count_of_node_;
    Statement put_node_;
    Statement delete_node_;
};

class GarbageTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE garbage(node INTEGER, chunk INTEGER, epoch INTEGER, PRIMARY KEY(node,"
        " chunk)) WITHOUT ROWID;"
        "CREATE INDEX garbage_chunk ON garbage(chunk)";
    GarbageTable(Db& db, Totals& totals);
    void insert(const GarbageRow& row);  // or raises the epoch of the one that is there
    bool remove(NodeId node, ChunkId chunk);
    bool contains(ChunkId chunk);
    std::vector<GarbageRow> page(NodeId node, ChunkId after, uint32_t limit);

private:
    std::optional<GarbageRow> load(NodeId node, ChunkId chunk);

    Totals& totals_;
    Statement select_;
    Statement replace_;
    Statement delete_;
    Statement contains_;
    Statement page_;
};

enum class CleanupKind : uint8_t { map_range = 1, xattrs = 2 };

struct CleanupRow {
    uint64_t number = 0;
    CleanupKind kind = CleanupKind::map_range;
    InodeId ino;
    uint32_t first = 0;
    uint32_t last = 0;
    uint64_t stamp = 0;
};

class CleanupTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE cleanup(number INTEGER PRIMARY KEY, kind INTEGER, ino INTEGER,"
        " first INTEGER, last INTEGER, stamp INTEGER);"
        "CREATE INDEX cleanup_ino ON cleanup(ino)";
    explicit CleanupTable(Db& db);
    std::optional<CleanupRow> first();
    // Is there an entry that hides this row?
    bool hides(const MapRow& row);
    void insert(const CleanupRow& row);
    void remove(uint64_t number);

private:
    Statement first_;
    Statement hides_;
    Statement insert_;
    Statement delete_;
};

}  // namespace lumeofs::metad
