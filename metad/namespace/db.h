// SPDX-License-Identifier: Apache-2.0
// One SQLite connection, its prepared statements and its transactions: the only SQLite user here.
//
// Errors are sticky: the first failing call is remembered, and from then on every statement gives
// no rows and does nothing. So the code above reads rows as plain values, without a Status each,
// and apply() asks once, before it commits. A state machine whose database failed must stop anyway:
// a command is never skipped on one node [31]. Whoever loops until a row says so must therefore
// treat "no row" as an end.
// WAL journal, synchronous=NORMAL, no automatic checkpoints: after a power cut the database is old,
// never corrupt, and the Raft log replays [12]. Since only checkpoint() writes the main file, a
// snapshot is pinned by not calling it.
// single-thread: the metad loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace lumeofs::metad {

struct DbOptions {
    std::string path;  // "" = in memory
    std::string vfs;   // "" = default
    bool exclusive = true;
    uint64_t page_cache_bytes = uint64_t{256} << 20;
};

class Db {
public:
    // Errors: corrupt (another application's file, a newer format), io.
    static Result<std::unique_ptr<Db>> open(const DbOptions& options);
    ~Db();
    Db(const Db&) = delete;
    Db& operator=(const Db&) = delete;

    bool failed() const { return !error_.is_ok(); }
    const Status& error() const { return error_; }
    // Records `code` as the error unless there is one already.
    void fail(Errc code, std::string_view what);

    void exec(const char* sql);
    bool is_new() const { return is_new_; }  // had no tables when it was opened

    // Writes happen inside begin()..commit(); reads anywhere. Outside, reads share a read
    // transaction that is opened on the first one and closed by the next begin() or checkpoint
    // (that doubles the speed of look-ups).
    void begin();
    void commit();
    bool writing() const { return writing_; }
    void ensure_read();

    // Rows inserted, updated or deleted on this connection so far.
    uint64_t changes() const;

    // Moves the whole WAL into the main file, durably, and empties it. false: failed.
    bool checkpoint();
    uint64_t wal_bytes() const { return wal_pages_ * kPageBytes; }

    // Raw bytes of the main file (as of the last checkpoint).
    uint64_t file_bytes();
    Result<Bytes> read_file(uint64_t offset, size_t length);
    // In-memory databases: the image that the file would have, and the way back.
    Result<Bytes> serialize();
    Status load_from(const std::string& path);

    sqlite3* handle() { return handle_; }
    static constexpr uint64_t kPageBytes = 4096;

private:
    Db() = default;
    Status configure(const DbOptions& options);
    friend class Statement;

    sqlite3* handle_ = nullptr;
    Status error_;
    bool is_new_ = false;
    bool in_memory_ = false;
    bool writing_ = false;
    bool reading_ = false;
    uint64_t wal_pages_ = 0;
    std::string vfs_;
};

// A prepared statement that lives as long as its table. One use at a time (asserted): a cursor that
// is still open when the statement is started again is a bug.
class Statement {
public:
    Statement(Db& db, const char* sql);
    ~Statement();
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

    // The rows of one execution; resets the statement when it goes.
    class Cursor {
    public:
        explicit Cursor(Statement& statement) : statement_(&statement) {}
        ~Cursor();
        Cursor(Cursor&& other) noexcept : statement_(other.statement_) {
            other.statement_ = nullptr;
        }
        Cursor(const Cursor&) = delete;
        Cursor& operator=(const Cursor&) = delete;
        bool next();  // false: no more rows, or the database has failed
        uint64_t u64(int column) const;
        int64_t i64(int column) const;
        uint32_t u32(int column) const { return static_cast<uint32_t>(u64(column)); }
        bool flag(int column) const { return u64(column) != 0; }
        View blob(int column) const;  // valid until next()
        std::string text(int column) const { return std::string(as_text(blob(column))); }
        template <typename T>
        T id(int column) const {
            return T{u64(column)};
        }

    private:
        Statement* statement_;
    };

    template <typename... Args>
    Cursor start(const Args&... args) {
        begin_use();
        int position = 0;
        (bind(++position, args), ...);
        return Cursor(*this);
    }
    // For statements without rows.
    template <typename... Args>
    void run(const Args&... args) {
        Cursor cursor = start(args...);
        cursor.next();
    }

private:
    void begin_use();
    void bind(int position, uint64_t value);
    void bind(int position, uint32_t value) { bind(position, uint64_t{value}); }
    void bind(int position, int64_t value) { bind(position, static_cast<uint64_t>(value)); }
    void bind(int position, bool value) { bind(position, uint64_t{value ? 1u : 0u}); }
    void bind(int position, View value);
    void bind(int position, std::string_view value) { bind(position, as_view(value)); }
    void bind(int position, const std::string& value) { bind(position, as_view(value)); }
    void bind(int position, const Bytes& value) { bind(position, View(value)); }
    template <typename Tag>
    void bind(int position, const Id<Tag>& value) {
        bind(position, value.value);
    }

    Db& db_;
    sqlite3_stmt* stmt_ = nullptr;
    bool in_use_ = false;
};

}  // namespace lumeofs::metad
