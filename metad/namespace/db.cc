// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/db.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>

#include "common/base/assert.h"

namespace lumeofs::metad {

namespace {

constexpr int kApplicationId = 0x4C554D45;  // "LUME"
constexpr int kFormatRevision = 2;

int on_wal_commit(void* pages, sqlite3* /*db*/, const char* /*name*/, int count) {
    *static_cast<uint64_t*>(pages) = static_cast<uint64_t>(count);
    return SQLITE_OK;
}

// The number that a PRAGMA or a one-value SELECT gives; -1 if it gives none.
int64_t ask(sqlite3* handle, const char* sql) {
    sqlite3_stmt* stmt = nullptr;
    int64_t value = -1;
    if (sqlite3_prepare_v2(handle, sql, -1, &stmt, nullptr) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        value = sqlite3_column_int64(stmt, 0);
    }
    sqlite3_finalize(stmt);
    return value;
}

Errc errc_of(int code) {
    const int primary = code & 0xff;
    if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB) return Errc::corrupt;
    if (primary == SQLITE_FULL) return Errc::nospc;
    if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED) return Errc::busy;
    return Errc::io;
}

}  // namespace

Result<std::unique_ptr<Db>> Db::open(const DbOptions& options) {
    std::unique_ptr<Db> db(new Db());
    db->in_memory_ = options.path.empty();
    db->vfs_ = options.vfs;
    const int code = sqlite3_open_v2(
        db->in_memory_ ? ":memory:" : options.path.c_str(),
        &db->handle_,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
        options.vfs.empty() ? nullptr : options.vfs.c_str());
    if (code != SQLITE_OK) {
        return Status(errc_of(code),
                      fmt::format("cannot open {}: {}", options.path, sqlite3_errstr(code)));
    }
    Status status = db->configure(options);
    if (!status.is_ok()) return status.with_context(options.path);
    return db;
}

Status Db::configure(const DbOptions& options) {
    // Closing must not write the main file: only checkpoint() does, and only when nothing is
    // pinned.
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    exec("PRAGMA page_size=4096");
    exec(options.exclusive ? "PRAGMA locking_mode=EXCLUSIVE" : "PRAGMA locking_mode=NORMAL");
    exec("PRAGMA trusted_schema=OFF");
    exec("PRAGMA cell_size_check=ON");
    exec("PRAGMA temp_store=MEMORY");
    exec("PRAGMA foreign_keys=OFF");
    if (failed()) return error_;
    is_new_ = ask(handle_, "SELECT count(*) FROM sqlite_master") == 0;
    const int64_t application = ask(handle_, "PRAGMA application_id");
    const int64_t revision = ask(handle_, "PRAGMA user_version");
    if (is_new_) {
        exec(fmt::format("PRAGMA application_id={}", kApplicationId).c_str());
        exec(fmt::format("PRAGMA user_version={}", kFormatRevision).c_str());
    } else if (application != kApplicationId) {
        return Status(Errc::corrupt, "is no LumeoFS metadata database");
    } else if (revision != kFormatRevision) {
        return Status(
            Errc::corrupt,
            fmt::format(
                "has format revision {}, this program knows {}", revision, kFormatRevision));
    }
    if (!in_memory_) exec("PRAGMA journal_mode=WAL");
    exec("PRAGMA synchronous=NORMAL");
    exec("PRAGMA wal_autocheckpoint=0");
    exec(fmt::format("PRAGMA cache_size=-{}", options.page_cache_bytes >> 10).c_str());
    sqlite3_wal_hook(handle_, on_wal_commit, &wal_pages_);
    return error_;
}

Db::~Db() {
    if (reading_ || writing_) sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
    sqlite3_close_v2(handle_);
}

void Db::fail(Errc code, std::string_view what) {
    if (error_.is_ok()) error_ = Status(code, what);
}

void Db::exec(const char* sql) {
    if (failed()) return;
    const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) {
        fail(errc_of(code), fmt::format("{}: {}", sql, sqlite3_errmsg(handle_)));
    }
}

void Db::ensure_read() {
    if (writing_ || reading_ || failed()) return;
    exec("BEGIN");
    reading_ = true;
}

void Db::begin() {
    LFS_ASSERT(!writing_);
    if (reading_) exec("COMMIT");
    reading_ = false;
    exec("BEGIN IMMEDIATE");
    writing_ = true;
}

void Db::commit() {
    LFS_ASSERT(writing_);
    exec("COMMIT");
    if (failed()) sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
    writing_ = false;
}

uint64_t Db::changes() const { return static_cast<uint64_t>(sqlite3_total_changes64(handle_)); }

bool Db::checkpoint() {
    LFS_ASSERT(!writing_);
    if (reading_) exec("COMMIT");
    reading_ = false;
    if (failed()) return false;
    if (in_memory_) return true;
    // A connection that has read nothing does not know that there is a WAL, and would do nothing.
    if (ask(handle_, "SELECT count(*) FROM sqlite_master") < 0) {
        fail(Errc::io, "cannot read before a checkpoint");
        return false;
    }
    // RESTART, not TRUNCATE: SQLite does not sync the truncation, and a power cut could bring a
    // part of the old WAL back, which would be replayed over newer pages. Left as it is, it is
    // either replayed whole, which changes nothing, or void by the synced header of the next one.
    int frames = -1;
    int copied = -1;
    const int code =
        sqlite3_wal_checkpoint_v2(handle_, nullptr, SQLITE_CHECKPOINT_RESTART, &frames, &copied);
    if (code != SQLITE_OK || frames < 0 || frames != copied) {
        fail(code == SQLITE_OK ? Errc::io : errc_of(code),
             fmt::format("checkpoint: {} ({} of {} frames)", sqlite3_errstr(code), copied, frames));
        return false;
    }
    wal_pages_ = 0;
    return true;
}

uint64_t Db::file_bytes() {
    sqlite3_file* file = nullptr;
    if (sqlite3_file_control(handle_, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK ||
        file == nullptr || file->pMethods == nullptr) {
        return 0;
    }
    sqlite3_int64 size = 0;
    if (file->pMethods->xFileSize(file, &size) != SQLITE_OK) return 0;
    return static_cast<uint64_t>(size);
}

Result<Bytes> Db::read_file(uint64_t offset, size_t length) {
    const uint64_t size = file_bytes();
    if (offset >= size) return Bytes();
    length = static_cast<size_t>(std::min<uint64_t>(length, size - offset));
    sqlite3_file* file = nullptr;
    if (sqlite3_file_control(handle_, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK) {
        return Status(Errc::io, "no database file");
    }
    Bytes bytes(length);
    const int code = file->pMethods->xRead(
        file, bytes.data(), static_cast<int>(length), static_cast<sqlite3_int64>(offset));
    if (code != SQLITE_OK) return Status(errc_of(code), "cannot read the database file");
    return bytes;
}

Result<Bytes> Db::serialize() {
    sqlite3_int64 size = 0;
    unsigned char* image = sqlite3_serialize(handle_, "main", &size, 0);
    if (image == nullptr) return Status(Errc::nomem, "cannot serialize the database");
    Bytes bytes(image, image + size);
    sqlite3_free(image);
    return bytes;
}

Status Db::load_from(const std::string& path) {
    sqlite3* source = nullptr;
    int code = sqlite3_open_v2(path.c_str(),
                               &source,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                               vfs_.empty() ? nullptr : vfs_.c_str());
    if (code == SQLITE_OK) {
        if (sqlite3_backup* backup = sqlite3_backup_init(handle_, "main", source, "main")) {
            sqlite3_backup_step(backup, -1);
            code = sqlite3_backup_finish(backup);
        } else {
            code = sqlite3_errcode(handle_);
        }
    }
    sqlite3_close_v2(source);
    if (code != SQLITE_OK) {
        return Status(errc_of(code), fmt::format("cannot load {}: {}", path, sqlite3_errstr(code)));
    }
    return ok_status();
}

Statement::Statement(Db& db, const char* sql) : db_(db) {
    if (db.failed()) return;
    const int code =
        sqlite3_prepare_v3(db.handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt_, nullptr);
    if (code != SQLITE_OK) {
        db.fail(errc_of(code), fmt::format("{}: {}", sql, sqlite3_errmsg(db.handle_)));
    }
}

Statement::~Statement() { sqlite3_finalize(stmt_); }

void Statement::begin_use() {
    LFS_ASSERT(!in_use_);
    in_use_ = true;
    db_.ensure_read();
}

void Statement::bind(int position, uint64_t value) {
    if (stmt_ != nullptr) sqlite3_bind_int64(stmt_, position, static_cast<sqlite3_int64>(value));
}

void Statement::bind(int position, View value) {
    if (stmt_ == nullptr) return;
    // A null pointer would bind NULL.
    const void* data = value.empty() ? static_cast<const void*>("") : value.data();
    sqlite3_bind_blob64(stmt_, position, data, value.size(), SQLITE_STATIC);
}

Statement::Cursor::~Cursor() {
    if (statement_ == nullptr) return;
    if (statement_->stmt_ != nullptr) sqlite3_reset(statement_->stmt_);
    statement_->in_use_ = false;
}

bool Statement::Cursor::next() {
    Db& db = statement_->db_;
    if (db.failed() || statement_->stmt_ == nullptr) return false;
    const int code = sqlite3_step(statement_->stmt_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) {
        db.fail(errc_of(code),
                fmt::format("{}: {}", sqlite3_sql(statement_->stmt_), sqlite3_errmsg(db.handle())));
    }
    return false;
}

uint64_t Statement::Cursor::u64(int column) const {
    return static_cast<uint64_t>(sqlite3_column_int64(statement_->stmt_, column));
}
int64_t Statement::Cursor::i64(int column) const {
    return sqlite3_column_int64(statement_->stmt_, column);
}
View Statement::Cursor::blob(int column) const {
    const void* data = sqlite3_column_blob(statement_->stmt_, column);
    const int size = sqlite3_column_bytes(statement_->stmt_, column);
    return {static_cast<const uint8_t*>(data), static_cast<size_t>(size)};
}

}  // namespace lumeofs::metad
