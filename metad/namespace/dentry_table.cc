// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/dentry_table.h"

namespace lumeofs::metad {

DentryTable::DentryTable(Db& db)
    : select_(db, "SELECT parent, name, ino, type, cookie FROM dentry WHERE parent=?1 AND name=?2"),
      insert_(db, "INSERT INTO dentry VALUES(?1,?2,?3,?4,?5)"),
      update_(db, "UPDATE dentry SET ino=?3, type=?4 WHERE parent=?1 AND name=?2"),
      delete_(db, "DELETE FROM dentry WHERE parent=?1 AND name=?2"),
      any_(db, "SELECT 1 FROM dentry WHERE parent=?1 LIMIT 1"),
      name_of_(db, "SELECT name FROM dentry WHERE parent=?1 AND ino=?2 ORDER BY name LIMIT 1"),
      page_(db,
            "SELECT parent, name, ino, type, cookie FROM dentry WHERE parent=?1 AND cookie>?2"
            " ORDER BY cookie LIMIT ?3"),
      page_plus_(db,
                 "SELECT d.parent, d.name, d.ino, d.type, d.cookie, i.* FROM dentry d"
                 " JOIN inode i ON i.ino=d.ino WHERE d.parent=?1 AND d.cookie>?2"
                 " ORDER BY d.cookie LIMIT ?3") {}

namespace {
DentryRow read_dentry(const Statement::Cursor& cursor) {
    DentryRow row;
    row.parent = cursor.id<InodeId>(0);
    row.name = cursor.text(1);
    row.ino = cursor.id<InodeId>(2);
    row.type = cursor.u32(3);
    row.cookie = cursor.u64(4);
    return row;
}
}  // namespace

std::optional<DentryRow> DentryTable::load(InodeId parent, std::string_view name) {
    Statement::Cursor cursor = select_.start(parent, name);
    if (!cursor.next()) return std::nullopt;
    return read_dentry(cursor);
}
void DentryTable::insert(const DentryRow& row) {
    insert_.run(row.parent, row.name, row.ino, row.type, row.cookie);
}
void DentryTable::update(const DentryRow& row) {
    update_.run(row.parent, row.name, row.ino, row.type);
}
void DentryTable::remove(InodeId parent, std::string_view name) { delete_.run(parent, name); }

bool DentryTable::empty(InodeId parent) {
    Statement::Cursor cursor = any_.start(parent);
    return !cursor.next();
}

std::optional<std::string> DentryTable::name_of(InodeId parent, InodeId ino) {
    Statement::Cursor cursor = name_of_.start(parent, ino);
    if (!cursor.next()) return std::nullopt;
    return cursor.text(0);
}

std::vector<DentryTable::Entry> DentryTable::page(InodeId parent,
                                                  uint64_t after_cookie,
                                                  uint32_t limit,
                                                  bool plus) {
    std::vector<Entry> found;
    Statement::Cursor cursor = (plus ? page_plus_ : page_).start(parent, after_cookie, limit);
    while (cursor.next()) {
        Entry entry{read_dentry(cursor), std::nullopt};
        if (plus) entry.inode = InodeTable::read(cursor, 5);
        found.push_back(std::move(entry));
    }
    return found;
}

XattrTable::XattrTable(Db& db)
    : select_(db, "SELECT value FROM xattr WHERE ino=?1 AND name=?2"),
      replace_(db,
               "INSERT INTO xattr VALUES(?1,?2,?3) ON CONFLICT(ino, name) DO UPDATE"
               " SET value=?3"),
      delete_(db, "DELETE FROM xattr WHERE ino=?1 AND name=?2"),
      names_(db, "SELECT name FROM xattr WHERE ino=?1 ORDER BY name LIMIT ?2"),
      total_(db, "SELECT coalesce(sum(length(name) + length(value)), 0) FROM xattr WHERE ino=?1") {}

std::optional<Bytes> XattrTable::load(InodeId ino, std::string_view name) {
    Statement::Cursor cursor = select_.start(ino, name);
    if (!cursor.next()) return std::nullopt;
    const View value = cursor.blob(0);
    return Bytes(value.begin(), value.end());
}
void XattrTable::save(InodeId ino, std::string_view name, View value) {
    replace_.run(ino, name, value);
}
void XattrTable::remove(InodeId ino, std::string_view name) { delete_.run(ino, name); }

std::vector<std::string> XattrTable::names(InodeId ino, uint32_t limit) {
    std::vector<std::string> found;
    Statement::Cursor cursor = names_.start(ino, limit);
    while (cursor.next()) found.push_back(cursor.text(0));
    return found;
}

uint64_t XattrTable::total_bytes(InodeId ino) {
    Statement::Cursor cursor = total_.start(ino);
    return cursor.next() ? cursor.u64(0) : 0;
}

}  // namespace lumeofs::metad
