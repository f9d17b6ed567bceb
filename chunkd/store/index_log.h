// SPDX-License-Identifier: Apache-2.0
// IndexLog: the files of one disk's index as a log of records; see index_format.h for the layout
// and the crash argument. Knows which record is where and how much of each file is in force, not
// what the bodies mean. single-thread: the chunkd loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "chunkd/store/index_format.h"
#include "chunkd/store/wal_format.h"
#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs::store {

struct IndexCommit {
    WalHead replay_from;
    uint64_t next_trash = 1;
};

class IndexLog {
public:
    struct Record {
        IndexKind kind = IndexKind::head;
        uint64_t key = 0;
        View body;
        IndexPlace place;
    };
    using Visit = std::function<Status(const Record&)>;

    IndexLog(FileSystem& fs, std::string dir, uint64_t uuid_high, uint64_t uuid_low);

    // Visits the records in force, in order, up to the last complete group. not_found: there is no
    // index at all. corrupt: it is damaged.
    Status open(const Visit& visit, IndexCommit* commit);

    // --- writing: begin, append ..., commit ---
    // True if the next group must start a new file (the caller then appends the whole directory and
    // all alloc pages).
    bool wants_new_file(uint64_t directory_bytes) const;
    // Takes disk space for a group of `bytes` first: nospc, and nothing has changed.
    Status begin(bool new_file, uint64_t bytes);
    IndexPlace append(IndexKind kind, uint64_t key, View body);
    void drop(const IndexPlace& place);  // what stands there is no longer in force after this group
    Status commit(const IndexCommit& commit);

    // Reads one record and checks it against kind and key. corrupt.
    Result<Bytes> read(const IndexPlace& place, IndexKind kind, uint64_t key);

    // The file worth being emptied, or false: most of the index is out of force and it is not the
    // current one. visit_file shows its meta and page records.
    bool victim(uint32_t* file) const;
    Status visit_file(uint32_t file, const Visit& visit);

    uint64_t total_bytes() const;

private:
    struct FileState {
        std::unique_ptr<File> file;
        uint64_t size = 0;
        uint64_t live = 0;
    };

    std::string path(uint32_t number) const;
    Result<FileState*> state_of(uint32_t number);
    Status scan(uint32_t number, const Visit& visit, IndexCommit* commit, bool* complete);
    bool later_group(View bytes, uint64_t from, uint32_t number, uint64_t last_checkpoint);
    Result<bool> parse(
        View bytes, uint64_t offset, uint32_t number, Record* record, uint64_t* checkpoint);
    Status decode_commit(View body, IndexCommit* commit);
    Status remove_empty_files();

    FileSystem& fs_;
    const std::string dir_;
    const uint64_t uuid_high_;
    const uint64_t uuid_low_;
    std::map<uint32_t, FileState> files_;
    uint32_t current_ = 0;
    uint64_t checkpoint_ = 0;  // of the last complete group
    Bytes group_;
    uint64_t group_start_ = 0;
};

}  // namespace lumeofs::store
