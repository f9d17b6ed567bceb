// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/invariants.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <map>

#include "metad/namespace/tables.h"

namespace lumeofs::metad {

namespace {

// Each query gives the (up to two) numbers of every break.
struct Rule {
    const char* sentence;
    const char* sql;
};

constexpr Rule kRules[] = {
    {"name in directory {} leads to inode {}, which is not there",
     "SELECT d.parent, d.ino FROM dentry d LEFT JOIN inode i ON i.ino=d.ino WHERE i.ino IS NULL"},
    {"name in {} of inode {} has another type than the inode",
     "SELECT d.parent, d.ino FROM dentry d JOIN inode i ON i.ino=d.ino WHERE d.type<>(i.mode>>12)"},
    {"name in {} of inode {}: the parent is no directory",
     "SELECT d.parent, d.ino FROM dentry d LEFT JOIN inode p ON p.ino=d.parent"
     " WHERE p.ino IS NULL OR (p.mode>>12)<>4"},
    {"name in {} has cookie {}, which the directory has not given yet",
     "SELECT d.parent, d.cookie FROM dentry d JOIN inode p ON p.ino=d.parent"
     " WHERE d.cookie>p.last_cookie OR d.cookie<1"},
    {"inode {} has nlink {}, which is not the number of its names",
     "SELECT i.ino, i.nlink FROM inode i WHERE (i.mode>>12)<>4 AND i.nlink<>"
     "(SELECT count(*) FROM temp.links l WHERE l.ino=i.ino)"},
    {"directory {} has nlink {}, which is not 2 + its sub-directories",
     "SELECT i.ino, i.nlink FROM inode i WHERE (i.mode>>12)=4 AND i.nlink<>0 AND i.nlink<>"
     "2 + (SELECT count(*) FROM dentry d WHERE d.parent=i.ino AND d.type=4)"},
    {"directory {} with nlink {} has not exactly one name",
     "SELECT i.ino, i.nlink FROM inode i WHERE (i.mode>>12)=4 AND i.ino<>1 AND (i.nlink<>0)<>"
     "(SELECT count(*) FROM temp.links l WHERE l.ino=i.ino)"},
    {"directory {} has its name elsewhere than in its parent {}",
     "SELECT i.ino, i.parent FROM inode i JOIN temp.links l ON l.ino=i.ino"
     " WHERE (i.mode>>12)=4 AND l.parent<>i.parent"},
    {"inode {} has nlink {} and is (not) an orphan",
     "SELECT i.ino, i.nlink FROM inode i LEFT JOIN orphan o ON o.ino=i.ino"
     " WHERE (i.nlink=0)<>(o.ino IS NOT NULL)"},
    {"orphan {} is no inode",
     "SELECT o.ino, 0 FROM orphan o WHERE o.ino NOT IN (SELECT ino FROM inode)"},
    {"removed directory {} is not empty",
     "SELECT i.ino, 0 FROM inode i WHERE (i.mode>>12)=4 AND i.nlink=0 AND EXISTS"
     " (SELECT 1 FROM dentry d WHERE d.parent=i.ino)"},
    {"inline data of inode {} ({} bytes) belongs to no symlink and no inline file",
     "SELECT n.ino, length(n.data) FROM inline_data n LEFT JOIN inode i ON i.ino=n.ino"
     " WHERE i.ino IS NULL OR NOT ((i.mode>>12)=10 OR ((i.mode>>12)=8 AND i.is_inline=1))"},
    {"inline data of inode {} has {} bytes, more than its size or the limit",
     "SELECT n.ino, length(n.data) FROM inline_data n JOIN inode i ON i.ino=n.ino"
     " WHERE length(n.data)>i.size OR length(n.data)>4096"},
    {"inode {} is inline and has {} chunks, but nobody moves it out",
     "SELECT i.ino, i.chunks FROM inode i LEFT JOIN grower g ON g.ino=i.ino"
     " WHERE i.is_inline=1 AND i.dead_ranges=0 AND i.chunks>0 AND coalesce(g.moving_out,0)=0"},
    {"xattr of {}, which is no inode and has no clean-up",
     "SELECT DISTINCT x.ino, 0 FROM xattr x WHERE x.ino NOT IN (SELECT ino FROM inode)"
     " AND x.ino NOT IN (SELECT ino FROM cleanup WHERE kind=2)"},
    {"piece {1} of inode {0} leads to no chunk",
     "SELECT m.ino, m.idx FROM map m LEFT JOIN chunk c ON c.id=m.chunk WHERE c.id IS NULL"},
    {"piece {1} of {0}: no such inode, and no clean-up covers it",
     "SELECT m.ino, m.idx FROM map m WHERE m.ino NOT IN (SELECT ino FROM inode) AND NOT EXISTS"
     " (SELECT 1 FROM cleanup k WHERE k.kind=1 AND k.ino=m.ino AND m.idx BETWEEN k.first AND k.last"
     " AND m.born<k.stamp)"},
    {"inode {} counts {} map rows, it has another number of them",
     "SELECT i.ino, i.chunks FROM inode i WHERE i.chunks<>"
     "(SELECT count(*) FROM map m WHERE m.ino=i.ino)"},
    {"inode {} counts {} hidden ranges, it has another number of them",
     "SELECT i.ino, i.dead_ranges FROM inode i WHERE i.dead_ranges<>"
     "(SELECT count(*) FROM cleanup k WHERE k.ino=i.ino AND k.kind=1)"},
    {"inode {} is no regular file and has {} chunks",
     "SELECT ino, chunks FROM inode WHERE (mode>>12)<>8 AND chunks<>0"},
    {"chunk {} counts {} references, it has another number of them",
     "SELECT c.id, c.refs FROM chunk c LEFT JOIN temp.refs r ON r.chunk=c.id"
     " WHERE c.refs<>coalesce(r.n,0)"},
    {"chunk {} has {} rows in the node table, not one for each copy",
     "SELECT c.id, coalesce(n.n,0) FROM chunk c LEFT JOIN (SELECT chunk, count(*) n FROM chunk_node"
     " GROUP BY chunk) n ON n.chunk=c.id WHERE coalesce(n.n,0)<>"
     "c.member_count + (c.joiner<>0) + length(c.absent)/8 OR c.member_count<>length(c.members)/8"
     " OR c.member_count=0"},
    {"node {} holds chunk {}, which is not there",
     "SELECT n.node, n.chunk FROM chunk_node n WHERE n.chunk NOT IN (SELECT id FROM chunk)"},
    {"node {} is member or joiner of chunk {}, which is garbage there",
     "SELECT g.node, g.chunk FROM garbage g JOIN chunk_node n ON n.node=g.node AND n.chunk=g.chunk"
     " WHERE n.role<>3"},
    {"chunk {} has more than {} shrink marks",
     "SELECT id, 16 FROM chunk WHERE length(marks)>16*16"},
    {"grower of inode {} (session {}): no regular file, or no such session",
     "SELECT g.ino, g.session FROM grower g LEFT JOIN inode i ON i.ino=g.ino LEFT JOIN session s"
     " ON s.id=g.session WHERE i.ino IS NULL OR (i.mode>>12)<>8 OR s.id IS NULL"},
    {"slot of session {}, which is not there",
     "SELECT DISTINCT session, 0 FROM slot WHERE session NOT IN (SELECT id FROM session"
     " WHERE state<>3)"},
    {"fenced session {} is not in the list of fences (number {})",
     "SELECT s.id, s.fence FROM session s WHERE s.state=2 AND s.fence NOT IN"
     " (SELECT number FROM fence) AND s.fence>=(SELECT min(number) FROM fence)"},
    {"total of inodes is {}, counted {}",
     "SELECT s.inodes, n FROM state s, (SELECT count(*) n FROM inode) WHERE s.inodes<>n"},
    {"total of chunks is {}, counted {}",
     "SELECT s.chunks, n FROM state s, (SELECT count(*) n FROM chunk) WHERE s.chunks<>n"},
    {"total of garbage is {}, counted {}",
     "SELECT s.garbage, n FROM state s, (SELECT count(*) n FROM garbage) WHERE s.garbage<>n"},
    {"total of under-replicated chunks is {}, counted {}",
     "SELECT s.under_replicated, n FROM state s, (SELECT count(*) n FROM chunk"
     " WHERE member_count<wanted) WHERE s.under_replicated<>n"},
    {"total of sessions is {}, counted {}",
     "SELECT s.sessions, n FROM state s, (SELECT count(*) n FROM session WHERE state<>3)"
     " WHERE s.sessions<>n"},
    {"total of inline bytes is {}, counted {}",
     "SELECT s.inline_bytes, n FROM state s, (SELECT coalesce(sum(length(data)),0) n"
     " FROM inline_data) WHERE s.inline_bytes<>n"},
};

constexpr size_t kSentencesMax = 200;

void check_rule(Db& db, const Rule& rule, std::vector<std::string>* broken) {
    sqlite3_stmt* stmt = nullptr;
    if (sqlite3_prepare_v2(db.handle(), rule.sql, -1, &stmt, nullptr) != SQLITE_OK) {
        broken->push_back(fmt::format("{}: {}", rule.sql, sqlite3_errmsg(db.handle())));
        return;
    }
    int code = SQLITE_ROW;
    while (broken->size() < kSentencesMax && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        broken->push_back(fmt::format(fmt::runtime(rule.sentence),
                                      static_cast<uint64_t>(sqlite3_column_int64(stmt, 0)),
                                      static_cast<uint64_t>(sqlite3_column_int64(stmt, 1))));
    }
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        broken->push_back(fmt::format("{}: {}", rule.sql, sqlite3_errstr(code)));
    }
    sqlite3_finalize(stmt);
}

// Directories whose parents do not end at the root (a loop cut off from it, or a dead end).
void check_tree(Db& db, std::vector<std::string>* broken) {
    Statement dirs(db,
                   "SELECT ino, parent FROM inode WHERE (mode>>12)=4 AND nlink<>0 ORDER BY ino");
    std::map<uint64_t, uint64_t> parent_of;
    {
        Statement::Cursor cursor = dirs.start();
        while (cursor.next()) parent_of[cursor.u64(0)] = cursor.u64(1);
    }
    std::map<uint64_t, bool> good;
    good[kRootInode.value] = true;
    for (const auto& [ino, parent] : parent_of) {
        std::vector<uint64_t> path;
        uint64_t at = ino;
        while (good.count(at) == 0 && parent_of.count(at) != 0 && path.size() <= parent_of.size()) {
            path.push_back(at);
            at = parent_of[at];
        }
        const bool ends_well = good.count(at) != 0 && good[at];
        if (!ends_well)
            broken->push_back(fmt::format("directory {} does not lead to the root", ino));
        for (uint64_t step : path) good[step] = ends_well;
    }
}

}  // namespace

std::vector<std::string> broken_invariants(Db& db) {
    std::vector<std::string> broken;
    // Helper tables in memory, so that no rule is quadratic. They are dropped again below, inside
    // the same read transaction; the replicated tables are not touched.
    db.ensure_read();
    db.exec("CREATE TEMP TABLE links AS SELECT ino, parent FROM dentry");
    db.exec("CREATE INDEX temp.links_ino ON links(ino)");
    db.exec("CREATE TEMP TABLE refs AS SELECT chunk, count(*) n FROM map GROUP BY chunk");
    db.exec("CREATE INDEX temp.refs_chunk ON refs(chunk)");
    for (const Rule& rule : kRules) check_rule(db, rule, &broken);
    check_tree(db, &broken);
    db.exec("DROP TABLE temp.links");
    db.exec("DROP TABLE temp.refs");
    if (db.failed()) broken.push_back(db.error().to_string());
    return broken;
}

}  // namespace lumeofs::metad
