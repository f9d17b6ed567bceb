// SPDX-License-Identifier: Apache-2.0
// Inodes, the bytes of small files and symlinks, orphans and growers: rows only, no policy.
// single-thread: the metad loop.
#pragma once

#include <optional>
#include <vector>

#include "metad/namespace/db.h"
#include "metad/namespace/rows.h"

namespace lumeofs::metad {

struct InodeRow {
    InodeId ino;
    uint32_t mode = 0;
    uint32_t nlink = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    uint32_t rdev = 0;
    uint64_t size = 0;
    Nanos atime_ns = 0;
    Nanos mtime_ns = 0;
    Nanos ctime_ns = 0;
    Nanos btime_ns = 0;
    uint64_t version = 0;
    uint64_t truncate_generation = 0;
    bool is_inline = false;    // regular files: data (if any) is in the inline table
    InodeId parent;            // directories: ".."; others: a directory that had a name of it once
    uint64_t last_cookie = 0;  // directories: the last readdir cookie given
    uint64_t chunks = 0;       // map rows, those waiting for a clean-up included
    uint32_t dead_ranges = 0;  // clean-up entries that hide map rows of this inode

    bool is_dir() const;
    bool is_regular() const;
    bool is_symlink() const;
};

class InodeTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE inode(ino INTEGER PRIMARY KEY, mode INTEGER, nlink INTEGER, uid INTEGER,"
        " gid INTEGER, rdev INTEGER, size INTEGER, atime INTEGER,"
        " mtime INTEGER, ctime INTEGER, btime INTEGER, version INTEGER,"
        " truncate_generation INTEGER, is_inline INTEGER, parent INTEGER, last_cookie INTEGER,"
        " chunks INTEGER, dead_ranges INTEGER)";
    explicit InodeTable(Db& db);
    std::optional<InodeRow> load(InodeId ino);
    void insert(const InodeRow& row);
    void update(const InodeRow& row);
    void remove(InodeId ino);
    static InodeRow read(const Statement::Cursor& cursor, int first);

private:
    Statement select_;
    Statement insert_;
    Statement update_;
    Statement delete_;
};

// Data of inline files and targets of symlinks. No row: no bytes.
class InlineTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE inline_data(ino INTEGER PRIMARY KEY, data BLOB)";
    explicit InlineTable(Db& db);
    Bytes load(InodeId ino);
    // An empty `data` removes the row.
    void save(InodeId ino, View data);

private:
    Statement select_;
    Statement replace_;
    Statement delete_;
};

// Inodes without a name that are kept because some session has them open.
class OrphanTable {
public:
    static constexpr const char* kCreate = "CREATE TABLE orphan(ino INTEGER PRIMARY KEY)";
    explicit OrphanTable(Db& db);
    bool contains(InodeId ino);
    void insert(InodeId ino);
    void remove(InodeId ino);
    std::vector<InodeId> page(InodeId after, uint32_t limit);

private:
    Statement contains_;
    Statement insert_;
    Statement delete_;
    Statement page_;
};

class GrowerTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE grower(ino INTEGER PRIMARY KEY, session INTEGER, moving_out INTEGER);"
        "CREATE INDEX grower_session ON grower(session, ino)";
    explicit GrowerTable(Db& db);
    std::optional<GrowerRow> load(InodeId ino);
    void save(const GrowerRow& row);
    void remove(InodeId ino);
    std::vector<GrowerRow> page(InodeId after, uint32_t limit);
    std::vector<InodeId> of_session(SessionId session, InodeId after, uint32_t limit);

private:
    Statement select_;
    Statement replace_;
    Statement delete_;
    Statement page_;
    Statement of_session_;
};

}  // namespace lumeofs::metad
