// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/chunk_table.h"

#include <algorithm>

namespace lumeofs::metad {

namespace {

enum NodeRole : uint32_t { kMember = 1, kJoiner = 2, kAbsent = 3 };

Bytes pack_nodes(const std::vector<NodeId>& nodes) {
    Bytes bytes(nodes.size() * 8);
    for (size_t i = 0; i < nodes.size(); ++i) put_le(bytes.data() + i * 8, nodes[i].value);
    return bytes;
}

std::vector<NodeId> unpack_nodes(View bytes) {
    std::vector<NodeId> nodes(bytes.size() / 8);
    for (size_t i = 0; i < nodes.size(); ++i) {
        nodes[i] = NodeId{get_le<uint64_t>(bytes.data() + i * 8)};
    }
    return nodes;
}

// The index and the query of marked chunks say 64.
static_assert(kMarksToTrim * 16 == 64);

Bytes pack_marks(const std::vector<ShrinkMark>& marks) {
    Bytes bytes(marks.size() * 16);
    for (size_t i = 0; i < marks.size(); ++i) {
        put_le(bytes.data() + i * 16, marks[i].epoch.value);
        put_le(bytes.data() + i * 16 + 8, marks[i].truncate_to);
    }
    return bytes;
}

std::vector<ShrinkMark> unpack_marks(View bytes) {
    std::vector<ShrinkMark> marks(bytes.size() / 16);
    for (size_t i = 0; i < marks.size(); ++i) {
        marks[i].epoch = Epoch{get_le<uint64_t>(bytes.data() + i * 16)};
        marks[i].truncate_to = get_le<uint64_t>(bytes.data() + i * 16 + 8);
    }
    return marks;
}

// (node, role), ascending by node.
std::vector<std::pair<NodeId, uint32_t>> roles_of(const ChunkRow& row) {
    std::vector<std::pair<NodeId, uint32_t>> roles;
    for (NodeId node : row.members) roles.emplace_back(node, kMember);
    if (row.joiner) roles.emplace_back(row.joiner, kJoiner);
    for (NodeId node : row.absent) roles.emplace_back(node, kAbsent);
    std::sort(roles.begin(), roles.end());
    return roles;
}

uint64_t is_short(const ChunkRow& row) { return row.members.size() < row.wanted ? 1 : 0; }

#define CHUNK_COLUMNS                                                           \
    "c.id, c.epoch, c.state, c.members, c.joiner, c.absent, c.marks, c.wanted," \
    " c.owner, c.idx, c.refs, c.written"

}  // namespace

MapTable::MapTable(Db& db)
    : select_(db, "SELECT ino, idx, chunk, valid_to, born FROM map WHERE ino=?1 AND idx=?2"),
      range_(db,
             "SELECT ino, idx, chunk, valid_to, born FROM map WHERE ino=?1 AND idx>=?2"
             " AND idx<=?3 AND born<?4 ORDER BY idx LIMIT ?5"),
      replace_(db,
               "INSERT INTO map VALUES(?1,?2,?3,?4,?5) ON CONFLICT(ino, idx) DO UPDATE SET"
               " chunk=?3, valid_to=?4, born=?5"),
      delete_(db, "DELETE FROM map WHERE ino=?1 AND idx=?2") {}

namespace {
MapRow read_map(const Statement::Cursor& cursor) {
    MapRow row;
    row.ino = cursor.id<InodeId>(0);
    row.index = cursor.u32(1);
    row.chunk = cursor.id<ChunkId>(2);
    row.valid_to = cursor.u64(3);
    row.born = cursor.u64(4);
    return row;
}
}  // namespace

std::optional<MapRow> MapTable::load(InodeId ino, uint32_t index) {
    Statement::Cursor cursor = select_.start(ino, index);
    if (!cursor.next()) return std::nullopt;
    return read_map(cursor);
}

std::vector<MapRow> MapTable::range(
    InodeId ino, uint32_t first, uint32_t last, uint64_t born_before, uint32_t limit) {
    std::vector<MapRow> found;
    Statement::Cursor cursor = range_.start(ino, first, last, born_before, limit);
    while (cursor.next()) found.push_back(read_map(cursor));
    return found;
}

void MapTable::save(const MapRow& row) {
    replace_.run(row.ino, row.index, row.chunk, row.valid_to, row.born);
}
void MapTable::remove(InodeId ino, uint32_t index) { delete_.run(ino, index); }

ChunkTable::ChunkTable(Db& db, Totals& totals)
    : totals_(totals),
      select_(db, "SELECT " CHUNK_COLUMNS " FROM chunk c WHERE id=?1"),
      insert_(db, "INSERT INTO chunk VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)"),
      update_(db,
              "UPDATE chunk SET epoch=?2, state=?3, members=?4, member_count=?5, joiner=?6,"
              " absent=?7, marks=?8, wanted=?9, owner=?10, idx=?11, refs=?12,"
              " written=?13 WHERE id=?1"),
      delete_(db, "DELETE FROM chunk WHERE id=?1"),
      page_(db, "SELECT " CHUNK_COLUMNS " FROM chunk c WHERE id>?1 ORDER BY id LIMIT ?2"),
      page_of_node_(db,
                    "SELECT " CHUNK_COLUMNS
                    " FROM chunk_node n CROSS JOIN chunk c"
                    " ON c.id=n.chunk WHERE n.node=?1 AND n.chunk>?2 ORDER BY n.chunk LIMIT ?3"),
      page_short_(db,
                  "SELECT " CHUNK_COLUMNS
                  " FROM chunk c WHERE member_count < wanted"
                  " AND member_count=?1 AND id>?2 ORDER BY id LIMIT ?3"),
      page_marked_(db,
                   "SELECT " CHUNK_COLUMNS
                   " FROM chunk c WHERE length(marks) >= 64 AND id>?1"
                   " ORDER BY id LIMIT ?2"),
      count_of_node_(db, "SELECT count(*) FROM chunk_node WHERE node=?1"),
      put_node_(db,
                "INSERT INTO chunk_node VALUES(?1,?2,?3) ON CONFLICT(node, chunk) DO UPDATE SET"
                " role=?3"),
      delete_node_(db, "DELETE FROM chunk_node WHERE node=?1 AND chunk=?2") {}

std::vector<ChunkRow> ChunkTable::collect(Statement::Cursor cursor) {
    std::vector<ChunkRow> found;
    while (cursor.next()) {
        ChunkRow row;
        row.id = cursor.id<ChunkId>(0);
        row.epoch = cursor.id<Epoch>(1);
        row.state = static_cast<uint8_t>(cursor.u32(2));
        row.members = unpack_nodes(cursor.blob(3));
        row.joiner = cursor.id<NodeId>(4);
        row.absent = unpack_nodes(cursor.blob(5));
        row.marks = unpack_marks(cursor.blob(6));
        row.wanted = cursor.u32(7);
        row.owner = cursor.id<InodeId>(8);
        row.index = cursor.u32(9);
        row.references = cursor.u32(10);
        row.written = cursor.u32(11) != 0;
        found.push_back(std::move(row));
    }
    return found;
}

std::optional<ChunkRow> ChunkTable::load(ChunkId id) {
    std::vector<ChunkRow> found = collect(select_.start(id));
    if (found.empty()) return std::nullopt;
    return std::move(found.front());
}

void ChunkTable::insert(const ChunkRow& row) {
    insert_.run(row.id,
                row.epoch,
                uint32_t{row.state},
                pack_nodes(row.members),
                uint64_t{row.members.size()},
                row.joiner,
                pack_nodes(row.absent),
                pack_marks(row.marks),
                row.wanted,
                row.owner,
                row.index,
                row.references,
                uint32_t{row.written});
    for (const auto& [node, role] : roles_of(row)) put_node_.run(node, row.id, role);
    ++totals_.chunks;
    totals_.under_replicated += is_short(row);
}

void ChunkTable::update(const ChunkRow& before, const ChunkRow& after) {
    update_.run(after.id,
                after.epoch,
                uint32_t{after.state},
                pack_nodes(after.members),
                uint64_t{after.members.size()},
                after.joiner,
                pack_nodes(after.absent),
                pack_marks(after.marks),
                after.wanted,
                after.owner,
                after.index,
                after.references,
                uint32_t{after.written});
    const auto old_roles = roles_of(before);
    const auto new_roles = roles_of(after);
    for (const auto& role : old_roles) {
        const bool stays = std::any_of(new_roles.begin(), new_roles.end(), [&](const auto& other) {
            return other.first == role.first;
        });
        if (!stays) delete_node_.run(role.first, after.id);
    }
    for (const auto& role : new_roles) {
        if (!std::binary_search(old_roles.begin(), old_roles.end(), role)) {
            put_node_.run(role.first, after.id, role.second);
        }
    }
    totals_.under_replicated += is_short(after) - is_short(before);
}

void ChunkTable::remove(const ChunkRow& row) {
    delete_.run(row.id);
    for (const auto& [node, role] : roles_of(row)) delete_node_.run(node, row.id);
    --totals_.chunks;
    totals_.under_replicated -= is_short(row);
}

std::vector<ChunkRow> ChunkTable::page(ChunkId after, uint32_t limit) {
    return collect(page_.start(after, limit));
}
std::vector<ChunkRow> ChunkTable::page_of_node(NodeId node, ChunkId after, uint32_t limit) {
    return collect(page_of_node_.start(node, after, limit));
}
std::vector<ChunkRow> ChunkTable::page_short(uint32_t members, ChunkId after, uint32_t limit) {
    return collect(page_short_.start(members, after, limit));
}
std::vector<ChunkRow> ChunkTable::page_marked(ChunkId after, uint32_t limit) {
    return collect(page_marked_.start(after, limit));
}
uint64_t ChunkTable::count_of_node(NodeId node) {
    Statement::Cursor cursor = count_of_node_.start(node);
    return cursor.next() ? cursor.u64(0) : 0;
}

GarbageTable::GarbageTable(Db& db, Totals& totals)
    : totals_(totals),
      select_(db, "SELECT node, chunk, epoch FROM garbage WHERE node=?1 AND chunk=?2"),
      replace_(db,
               "INSERT INTO garbage VALUES(?1,?2,?3) ON CONFLICT(node, chunk) DO UPDATE SET"
               " epoch=?3"),
      delete_(db, "DELETE FROM garbage WHERE node=?1 AND chunk=?2"),
      contains_(db, "SELECT 1 FROM garbage WHERE chunk=?1 LIMIT 1"),
      page_(db,
            "SELECT node, chunk, epoch FROM garbage WHERE node=?1 AND chunk>?2 ORDER BY chunk"
            " LIMIT ?3") {}

std::optional<GarbageRow> GarbageTable::load(NodeId node, ChunkId chunk) {
    Statement::Cursor cursor = select_.start(node, chunk);
    if (!cursor.next()) return std::nullopt;
    return GarbageRow{cursor.id<NodeId>(0), cursor.id<ChunkId>(1), cursor.id<Epoch>(2)};
}

void GarbageTable::insert(const GarbageRow& row) {
    const std::optional<GarbageRow> old = load(row.node, row.chunk);
    if (!old) ++totals_.garbage;
    replace_.run(row.node, row.chunk, old ? std::max(old->epoch, row.epoch) : row.epoch);
}

bool GarbageTable::remove(NodeId node, ChunkId chunk) {
    if (!load(node, chunk)) return false;
    delete_.run(node, chunk);
    --totals_.garbage;
    return true;
}

bool GarbageTable::contains(ChunkId chunk) {
    Statement::Cursor cursor = contains_.start(chunk);
    return cursor.next();
}

std::vector<GarbageRow> GarbageTable::page(NodeId node, ChunkId after, uint32_t limit) {
    std::vector<GarbageRow> found;
    Statement::Cursor cursor = page_.start(node, after, limit);
    while (cursor.next()) {
        found.push_back({cursor.id<NodeId>(0), cursor.id<ChunkId>(1), cursor.id<Epoch>(2)});
    }
    return found;
}

CleanupTable::CleanupTable(Db& db)
    : first_(db,
             "SELECT number, kind, ino, first, last, stamp FROM cleanup ORDER BY number"
             " LIMIT 1"),
      hides_(db,
             "SELECT 1 FROM cleanup WHERE ino=?1 AND kind=1 AND first<=?2 AND last>=?2"
             " AND stamp>?3 LIMIT 1"),
      insert_(db, "INSERT INTO cleanup VALUES(?1,?2,?3,?4,?5,?6)"),
      delete_(db, "DELETE FROM cleanup WHERE number=?1") {}

std::optional<CleanupRow> CleanupTable::first() {
    Statement::Cursor cursor = first_.start();
    if (!cursor.next()) return std::nullopt;
    CleanupRow row;
    row.number = cursor.u64(0);
    row.kind = static_cast<CleanupKind>(cursor.u32(1));
    row.ino = cursor.id<InodeId>(2);
    row.first = cursor.u32(3);
    row.last = cursor.u32(4);
    row.stamp = cursor.u64(5);
    return row;
}

bool CleanupTable::hides(const MapRow& row) {
    Statement::Cursor cursor = hides_.start(row.ino, row.index, row.born);
    return cursor.next();
}

void CleanupTable::insert(const CleanupRow& row) {
    insert_.run(
        row.number, static_cast<uint32_t>(row.kind), row.ino, row.first, row.last, row.stamp);
}
void CleanupTable::remove(uint64_t number) { delete_.run(number); }

}  // namespace lumeofs::metad
