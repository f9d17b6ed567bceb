// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/inode_table.h"

#include <sys/stat.h>

namespace lumeofs::metad {

bool InodeRow::is_dir() const { return S_ISDIR(mode); }
bool InodeRow::is_regular() const { return S_ISREG(mode); }
bool InodeRow::is_symlink() const { return S_ISLNK(mode); }

InodeTable::InodeTable(Db& db)
    : select_(db, "SELECT * FROM inode WHERE ino=?1"),
      insert_(db,
              "INSERT INTO inode VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,"
              "?16,?17,?18)"),
      update_(db,
              "UPDATE inode SET mode=?2, nlink=?3, uid=?4, gid=?5, rdev=?6, size=?7, atime=?8,"
              " mtime=?9, ctime=?10, btime=?11, version=?12, truncate_generation=?13,"
              " is_inline=?14, parent=?15, last_cookie=?16, chunks=?17, dead_ranges=?18"
              " WHERE ino=?1"),
      delete_(db, "DELETE FROM inode WHERE ino=?1") {}

InodeRow InodeTable::read(const Statement::Cursor& cursor, int first) {
    InodeRow row;
    int column = first;
    row.ino = cursor.id<InodeId>(column++);
    row.mode = cursor.u32(column++);
    row.nlink = cursor.u32(column++);
    row.uid = cursor.u32(column++);
    row.gid = cursor.u32(column++);
    row.rdev = cursor.u32(column++);
    row.size = cursor.u64(column++);
    row.atime_ns = cursor.i64(column++);
    row.mtime_ns = cursor.i64(column++);
    row.ctime_ns = cursor.i64(column++);
    row.btime_ns = cursor.i64(column++);
    row.version = cursor.u64(column++);
    row.truncate_generation = cursor.u64(column++);
    row.is_inline = cursor.flag(column++);
    row.parent = cursor.id<InodeId>(column++);
    row.last_cookie = cursor.u64(column++);
    row.chunks = cursor.u64(column++);
    row.dead_ranges = cursor.u32(column++);
    return row;
}

std::optional<InodeRow> InodeTable::load(InodeId ino) {
    Statement::Cursor cursor = select_.start(ino);
    if (!cursor.next()) return std::nullopt;
    return read(cursor, 0);
}

void InodeTable::insert(const InodeRow& row) {
    insert_.run(row.ino,
                row.mode,
                row.nlink,
                row.uid,
                row.gid,
                row.rdev,
                row.size,
                row.atime_ns,
                row.mtime_ns,
                row.ctime_ns,
                row.btime_ns,
                row.version,
                row.truncate_generation,
                row.is_inline,
                row.parent,
                row.last_cookie,
                row.chunks,
                row.dead_ranges);
}

void InodeTable::update(const InodeRow& row) {
    update_.run(row.ino,
                row.mode,
                row.nlink,
                row.uid,
                row.gid,
                row.rdev,
                row.size,
                row.atime_ns,
                row.mtime_ns,
                row.ctime_ns,
                row.btime_ns,
                row.version,
                row.truncate_generation,
                row.is_inline,
                row.parent,
                row.last_cookie,
                row.chunks,
                row.dead_ranges);
}

void InodeTable::remove(InodeId ino) { delete_.run(ino); }

InlineTable::InlineTable(Db& db)
    : select_(db, "SELECT data FROM inline_data WHERE ino=?1"),
      replace_(db, "INSERT INTO inline_data VALUES(?1,?2) ON CONFLICT(ino) DO UPDATE SET data=?2"),
      delete_(db, "DELETE FROM inline_data WHERE ino=?1") {}

Bytes InlineTable::load(InodeId ino) {
    Statement::Cursor cursor = select_.start(ino);
    if (!cursor.next()) return {};
    const View data = cursor.blob(0);
    return Bytes(data.begin(), data.end());
}

void InlineTable::save(InodeId ino, View data) {
    if (data.empty()) {
        delete_.run(ino);
    } else {
        replace_.run(ino, data);
    }
}

OrphanTable::OrphanTable(Db& db)
    : contains_(db, "SELECT 1 FROM orphan WHERE ino=?1"),
      insert_(db, "INSERT INTO orphan VALUES(?1)"),
      delete_(db, "DELETE FROM orphan WHERE ino=?1"),
      page_(db, "SELECT ino FROM orphan WHERE ino>?1 ORDER BY ino LIMIT ?2") {}

bool OrphanTable::contains(InodeId ino) {
    Statement::Cursor cursor = contains_.start(ino);
    return cursor.next();
}
void OrphanTable::insert(InodeId ino) { insert_.run(ino); }
void OrphanTable::remove(InodeId ino) { delete_.run(ino); }

std::vector<InodeId> OrphanTable::page(InodeId after, uint32_t limit) {
    std::vector<InodeId> found;
    Statement::Cursor cursor = page_.start(after, limit);
    while (cursor.next()) found.push_back(cursor.id<InodeId>(0));
    return found;
}

GrowerTable::GrowerTable(Db& db)
    : select_(db, "SELECT ino, session, moving_out FROM grower WHERE ino=?1"),
      replace_(db,
               "INSERT INTO grower VALUES(?1,?2,?3) ON CONFLICT(ino) DO UPDATE SET session=?2,"
               " moving_out=?3"),
      delete_(db, "DELETE FROM grower WHERE ino=?1"),
      page_(db, "SELECT ino, session, moving_out FROM grower WHERE ino>?1 ORDER BY ino LIMIT ?2"),
      of_session_(db, "SELECT ino FROM grower WHERE session=?1 AND ino>?2 ORDER BY ino LIMIT ?3") {}

namespace {
GrowerRow read_grower(const Statement::Cursor& cursor) {
    return {cursor.id<InodeId>(0), cursor.id<SessionId>(1), cursor.flag(2)};
}
}  // namespace

std::optional<GrowerRow> GrowerTable::load(InodeId ino) {
    Statement::Cursor cursor = select_.start(ino);
    if (!cursor.next()) return std::nullopt;
    return read_grower(cursor);
}
void GrowerTable::save(const GrowerRow& row) { replace_.run(row.ino, row.session, row.moving_out); }
void GrowerTable::remove(InodeId ino) { delete_.run(ino); }

std::vector<GrowerRow> GrowerTable::page(InodeId after, uint32_t limit) {
    std::vector<GrowerRow> found;
    Statement::Cursor cursor = page_.start(after, limit);
    while (cursor.next()) found.push_back(read_grower(cursor));
    return found;
}

std::vector<InodeId> GrowerTable::of_session(SessionId session, InodeId after, uint32_t limit) {
    std::vector<InodeId> found;
    Statement::Cursor cursor = of_session_.start(session, after, limit);
    while (cursor.next()) found.push_back(cursor.id<InodeId>(0));
    return found;
}

}  // namespace lumeofs::metad
