// SPDX-License-Identifier: Apache-2.0
// Names in directories: rows only, no policy. Names are bytes, compared as bytes.
//
// Each entry has a cookie, unique in its directory and never used twice there: where a readdir goes
// on. An entry keeps its cookie while it keeps its directory.
// single-thread: the metad loop.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metad/namespace/inode_table.h"

namespace lumeofs::metad {

struct DentryRow {
    InodeId parent;
    std::string name;
    InodeId ino;
    uint32_t type = 0;  // the S_IFMT bits, shifted right by 12 (as d_type)
    uint64_t cookie = 0;
};

class DentryTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE dentry(parent INTEGER, name BLOB, ino INTEGER, type INTEGER,"
        " cookie INTEGER, PRIMARY KEY(parent, name))"
        " WITHOUT ROWID;"
        "CREATE UNIQUE INDEX dentry_cookie ON dentry(parent, cookie)";
    explicit DentryTable(Db& db);
    std::optional<DentryRow> load(InodeId parent, std::string_view name);
    void insert(const DentryRow& row);
    // Points an existing name to another inode; the cookie stays.
    void update(const DentryRow& row);
    void remove(InodeId parent, std::string_view name);
    bool empty(InodeId parent);
    // Some name of `ino` in `parent`. Reads the whole directory: for people only.
    std::optional<std::string> name_of(InodeId parent, InodeId ino);

    struct Entry {
        DentryRow dentry;
        std::optional<InodeRow> inode;
    };
    // Ascending by cookie. With `plus` the inodes too.
    std::vector<Entry> page(InodeId parent, uint64_t after_cookie, uint32_t limit, bool plus);

private:
    Statement select_;
    Statement insert_;
    Statement update_;
    Statement delete_;
    Statement any_;
    Statement name_of_;
    Statement page_;
    Statement page_plus_;
};

class XattrTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE xattr(ino INTEGER, name BLOB, value BLOB, PRIMARY KEY(ino,"
        " name)) WITHOUT ROWID";
    explicit XattrTable(Db& db);
    std::optional<Bytes> load(InodeId ino, std::string_view name);
    void save(InodeId ino, std::string_view name, View value);
    void remove(InodeId ino, std::string_view name);
    std::vector<std::string> names(InodeId ino, uint32_t limit);
    uint64_t total_bytes(InodeId ino);  // of names and values

private:
    Statement select_;
    Statement replace_;
    Statement delete_;
    Statement names_;
    Statement total_;
};

}  // namespace lumeofs::metad
