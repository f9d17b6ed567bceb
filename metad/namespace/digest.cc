// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/digest.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include "common/base/checksum.h"
#include "metad/namespace/tables.h"

namespace lumeofs::metad {

namespace {

void append(Bytes* bytes, const void* data, size_t size) {
    const auto* at = static_cast<const uint8_t*>(data);
    bytes->insert(bytes->end(), at, at + size);
}

void append_column(Bytes* bytes, sqlite3_stmt* stmt, int column) {
    const int type = sqlite3_column_type(stmt, column);
    bytes->push_back(static_cast<uint8_t>(type));
    if (type == SQLITE_INTEGER) {
        const int64_t value = sqlite3_column_int64(stmt, column);
        append(bytes, &value, sizeof value);
        return;
    }
    const void* data = sqlite3_column_blob(stmt, column);
    const uint64_t size = static_cast<uint64_t>(sqlite3_column_bytes(stmt, column));
    append(bytes, &size, sizeof size);
    if (size > 0) append(bytes, data, size);
}

}  // namespace

Result<uint64_t> digest_of(Db& db) {
    db.ensure_read();
    uint64_t digest = 0;
    Bytes bytes;
    for (const TableOrder& table : kDigestOrder) {
        digest = checksum_seeded(as_view(table.table), digest);
        const std::string sql =
            fmt::format("SELECT * FROM {} ORDER BY {}", table.table, table.order);
        sqlite3_stmt* stmt = nullptr;
        int code = sqlite3_prepare_v2(db.handle(), sql.c_str(), -1, &stmt, nullptr);
        while (code == SQLITE_OK || code == SQLITE_ROW) {
            code = sqlite3_step(stmt);
            if (code != SQLITE_ROW) break;
            bytes.clear();
            for (int i = 0; i < sqlite3_column_count(stmt); ++i) append_column(&bytes, stmt, i);
            digest = checksum_seeded(bytes, digest);
        }
        sqlite3_finalize(stmt);
        if (code != SQLITE_DONE) {
            db.fail(Errc::io, fmt::format("digest of {}: {}", table.table, sqlite3_errstr(code)));
            return db.error();
        }
    }
    return digest;
}

}  // namespace lumeofs::metad
