// SPDX-License-Identifier: Apache-2.0
// FileSystem: the seam to local disks. The real one is posix_file_system; the simulator's loses,
// tears or keeps what was not synced when its machine "loses power".
//
// All calls block. Paths are absolute. Errors: io, nospc, noent, exist, acces, corrupt never.
// A failed sync is final for that file (I3): whoever gets one poisons the object and stops.
// Durability rules, the same on both: bytes are durable after sync(); a created, renamed or removed
// name is durable after sync_dir() of its directory; nothing else may be relied on.
// Thread-safe as the system calls are; a File has one writer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace lumeofs {

struct OpenOptions {
    bool create = false;     // make it if it is not there
    bool exclusive = false;  // with create: fail with Errc::exist if it is there
    bool truncate = false;
    bool direct = false;     // O_DIRECT where possible: offset, size and address multiples of 4096
    bool read_only = false;
};

class File {
public:
    virtual ~File() = default;
    // Reads up to into.size() bytes; fewer only at the end of the file.
    virtual Result<size_t> read_at(uint64_t offset, MutableView into) = 0;
    virtual Status write_at(uint64_t offset, View bytes) = 0;
    // Several views written one after the other at `offset`, one system call where possible.
    virtual Status write_vector_at(uint64_t offset, const std::vector<View>& parts) = 0;
    virtual Status truncate(uint64_t size) = 0;
    // Reserves space for [offset, offset+length) and extends the file to it.
    virtual Status allocate(uint64_t offset, uint64_t length) = 0;
    virtual Status sync() = 0;  // fdatasync
    // True if writes to this file go past every cache of the host, so that, where they hit bytes that
    // were written and synced before (not holes, not space from allocate()), they become durable with
    // the next sync() of ANY file on the same device [hazard 16d].
    virtual bool durable_with_any_sync() const { return false; }
    virtual Result<uint64_t> size() = 0;
};

struct DiskSpace {
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;
};

// Held for as long as the object lives; released when the process dies.
class FileLock {
public:
    virtual ~FileLock() = default;
};

class FileSystem {
public:
    virtual ~FileSystem() = default;
    virtual Result<std::unique_ptr<File>> open(const std::string& path, const OpenOptions& options) = 0;
    virtual Status make_dirs(const std::string& path) = 0;  // with parents; fine if they exist
    virtual Result<std::vector<std::string>> list(const std::string& dir) = 0;  // sorted names
    virtual Result<bool> exists(const std::string& path) = 0;
    virtual Status rename(const std::string& from, const std::string& to) = 0;
    virtual Status remove(const std::string& path) = 0;  // a file
    virtual Status sync_dir(const std::string& dir) = 0;
    virtual Result<DiskSpace> space(const std::string& dir) = 0;
    // Exclusive lock on a file that is made if needed; Errc::busy if another process holds it.
    virtual Result<std::unique_ptr<FileLock>> lock(const std::string& path) = 0;
};

// Whole small files, on top of the calls above.
Result<Bytes> read_file(FileSystem& fs, const std::string& path, uint64_t size_max);
// Writes `path`.tmp, syncs, renames over `path`, syncs the directory: old or new, never a mixture.
Status replace_file(FileSystem& fs, const std::string& path, View bytes);
std::string parent_dir(const std::string& path);

}  // namespace lumeofs
