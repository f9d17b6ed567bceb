// SPDX-License-Identifier: Apache-2.0
// All tables of the replicated state, on one connection, and the row that counts them.
//
// kCreateStatements and kDigestOrder name every table once; a new table goes into both.
// single-thread: the metad loop.
#pragma once

#include "metad/namespace/chunk_table.h"
#include "metad/namespace/dentry_table.h"
#include "metad/namespace/inode_table.h"
#include "metad/namespace/session_table.h"
#include "metad/namespace/state_table.h"

namespace lumeofs::metad {

inline constexpr const char* kCreateStatements[] = {
    StateTable::kCreate,
    InodeTable::kCreate,
    InlineTable::kCreate,
    OrphanTable::kCreate,
    GrowerTable::kCreate,
    DentryTable::kCreate,
    XattrTable::kCreate,
    MapTable::kCreate,
    ChunkTable::kCreate,
    GarbageTable::kCreate,
    CleanupTable::kCreate,
    SessionTable::kCreate,
    NodeTable::kCreate,
};

// Table and what its rows are ordered by.
struct TableOrder {
    const char* table;
    const char* order;
};
inline constexpr TableOrder kDigestOrder[] = {
    {"state", "id"},
    {"inode", "ino"},
    {"inline_data", "ino"},
    {"orphan", "ino"},
    {"grower", "ino"},
    {"dentry", "parent, name"},
    {"xattr", "ino, name"},
    {"map", "ino, idx"},
    {"chunk", "id"},
    {"chunk_node", "node, chunk"},
    {"garbage", "node, chunk"},
    {"cleanup", "number"},
    {"session", "id"},
    {"slot", "session, slot"},
    {"fence", "number"},
    {"node", "id"},
};

struct Tables {
    explicit Tables(Db& db)
        : state_row(db),
          inodes(db),
          inline_data(db),
          orphans(db),
          growers(db),
          dentries(db),
          xattrs(db),
          map(db),
          chunks(db, state.totals),
          garbage(db, state.totals),
          cleanup(db),
          sessions(db, state.totals),
          nodes(db) {}

    State state;
    StateTable state_row;
    InodeTable inodes;
    InlineTable inline_data;
    OrphanTable orphans;
    GrowerTable growers;
    DentryTable dentries;
    XattrTable xattrs;
    MapTable map;
    ChunkTable chunks;
    GarbageTable garbage;
    CleanupTable cleanup;
    SessionTable sessions;
    NodeTable nodes;
};

}  // namespace lumeofs::metad
