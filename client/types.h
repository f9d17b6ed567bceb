// SPDX-License-Identifier: Apache-2.0
// Plain values of the client's interface: what goes into and comes out of Vfs. No FlatBuffers, no
// FUSE, no errno: fuse/ and cli/ translate these at their edge.
// Values; thread-compatible.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/result.h"

namespace lumeofs::client {

// Every callback comes exactly once, on the loop; it may come from inside the call that was given
// it (an answer out of memory), so a caller must be ready for that.
template <typename T>
using Done = std::function<void(Result<T>)>;
using StatusDone = std::function<void(Status)>;

// Names a running operation so that it can be interrupted. Chosen by Vfs::new_op(); 0 = cannot be.
using OpId = uint64_t;
// A file or directory that is open; never 0, never used again.
using HandleId = uint64_t;

// On whose behalf. `check`: metad checks permissions too (nobody else has done it: the CLI); a
// mount with default_permissions leaves it false.
struct Caller {
    uint32_t uid = 0;
    uint32_t gid = 0;
    uint32_t umask = 0;
    int32_t pid = 0;               // for people only
    std::vector<uint32_t> groups;  // with `check` only
    bool check = false;
    OpId op = 0;
};

// An inode as stat(2) shows it. Times in nanoseconds since 1970.
struct Attr {
    InodeId ino;
    uint32_t mode = 0;  // type and permission bits, as st_mode
    uint32_t nlink = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    uint32_t rdev = 0;
    uint64_t size = 0;
    uint64_t allocated = 0;  // bytes; st_blocks = (allocated + 511) / 512
    int64_t atime_ns = 0;
    int64_t mtime_ns = 0;
    int64_t ctime_ns = 0;
    int64_t btime_ns = 0;
    uint64_t version = 0;  // of the committed state
    // For how long the kernel may answer by itself with these attributes, and with the name that was
    // looked up or made; nobody else changes them meanwhile. Nanoseconds, 0 = it must ask.
    Nanos attr_time = 0;
    Nanos name_time = 0;
};

// What setattr changes: only the fields that are set. The *_now flags mean the cluster's time.
struct SetAttrs {
    std::optional<uint32_t> mode;  // permission bits
    std::optional<uint32_t> uid;
    std::optional<uint32_t> gid;
    std::optional<uint64_t> size;
    std::optional<int64_t> atime_ns;
    std::optional<int64_t> mtime_ns;
    bool atime_now = false;
    bool mtime_now = false;
    bool kill_suid = false;  // clear setuid, and setgid if group execute is set
    bool operator==(const SetAttrs&) const = default;
};

// An open file. `direct_io`: the kernel must not cache pages of this handle (O_APPEND takes its
// offset under the lease [30]; O_WRONLY holds no readable pages [24]). `keep_cache`: pages that the
// kernel has from an earlier open are still right.
struct Opened {
    Attr attr;
    HandleId handle = 0;
    bool direct_io = false;
    bool keep_cache = false;
};

// Bytes that were read, in order, without a copy (parts are counted views). Shorter than asked for
// only at the end of the file.
struct ReadData {
    std::vector<Buffer> parts;
    uint64_t size = 0;  // sum of the parts
};

struct DirEntry {
    std::string name;
    InodeId ino;
    uint8_t type = 0;          // DT_* (mode >> 12)
    uint64_t cookie = 0;       // continue after this entry with it
    std::optional<Attr> attr;  // readdirplus, where known; "." and ".." never have it
};
struct DirPage {
    std::vector<DirEntry> entries;  // "." and ".." come first, with cookies 1 and 2
    bool at_end = false;            // nothing after these
};

struct StatFs {
    uint64_t total_bytes = 0;
    uint64_t free_bytes = 0;
    uint64_t files = 0;
    uint64_t chunks = 0;
};

// open(2) flags, with the numbers of Linux so that an edge may pass them on as they came. Others
// are ignored. O_EXCL counts in create() only.
struct OpenMode {
    static constexpr uint32_t kAccess = 3;  // 0 read, 1 write, 2 both
    static constexpr uint32_t kExclusive = 0200;
    static constexpr uint32_t kTruncate = 01000;
    static constexpr uint32_t kAppend = 02000;
    static constexpr uint32_t kDirect = 040000;
};
// Files opened so are read and written past the kernel's pages; see Opened.
inline bool opens_direct(uint32_t flags) {
    return (flags & (OpenMode::kAppend | OpenMode::kDirect)) != 0 ||
           (flags & OpenMode::kAccess) == 1;
}
// rename(2) flags.
inline constexpr uint32_t kRenameNoReplace = 1;
inline constexpr uint32_t kRenameExchange = 2;
// fallocate(2) modes that are supported: 0, keep_size, punch_hole|keep_size,
// zero_range[|keep_size].
inline constexpr uint32_t kFallocateKeepSize = 1;
inline constexpr uint32_t kFallocatePunchHole = 2;
inline constexpr uint32_t kFallocateZeroRange = 16;
// setxattr(2) flags.
inline constexpr uint32_t kXattrCreate = 1;
inline constexpr uint32_t kXattrReplace = 2;

enum class Seek : uint8_t { data, hole };

// A kernel_time worth having: long enough for `ls -l` to use what a page of the listing said, short enough
// for whoever has to wait for it.
inline constexpr Nanos kKernelTime = 50 * kMillisecond;

struct ClientOptions {
    std::vector<std::string> metads;  // "host:port", all of them; the first good one leads on
    std::string host;                 // for people: shown by `lumeofs sessions`
    std::string mount_path;           // for people
    std::string subdir;               // mount this directory as the root; "" or "/" = all
    bool read_only = false;           // changes give Errc::rofs
    uint64_t read_ahead_max = uint64_t{16} << 20;
    uint64_t dirty_limit = kClientDirtyBytesMax;
    uint64_t cache_limit = uint64_t{128} << 20;  // read-ahead blocks of all files together
    // For how long the kernel may keep a name or attributes that this client holds a read lease on
    // (lent.h). A change by another client waits for at most this and a margin. 0 = not at all.
    Nanos kernel_time = 0;
    bool soft = false;                           // give up with Errc::timedout after `timeo`
    Nanos timeo = 60 * kSecond;
    // A signal ends a waiting operation (Errc::intr) only when it has waited this long: programs do
    // not expect EINTR of files for every SIGALRM or SIGCHLD, but they must be killable.
    Nanos interrupt_patience = 2 * kSecond;
    uint64_t cluster_id_high = 0;  // 0,0 = whichever answers
    uint64_t cluster_id_low = 0;
};

// What the client is doing now, for people (`lumeofs-fuse` status file, SIGUSR2, the simulator).
struct OpStatus {
    OpId op = 0;
    std::string name;  // "write"
    InodeId ino;
    int32_t pid = 0;
    Nanos waited = 0;
    std::string waits_for;  // "the metadata leader (3 metads tried)", "chunkd 5", …
};
struct ClientStatus {
    uint64_t session = 0;        // 0 = none
    uint64_t sessions_lost = 0;  // how often the session was ended under us
    std::string leader;          // address, "" = not known now
    bool lease_valid = false;
    uint64_t open_inodes = 0;
    uint64_t open_handles = 0;
    uint64_t leases = 0;
    uint64_t dirty_bytes = 0;
    uint64_t cached_bytes = 0;
    uint64_t meta_requests = 0;   // sent to metads, ever (retries count)
    uint64_t chunk_requests = 0;  // sent to chunkds, ever
    uint64_t retries = 0;
    uint64_t corrupt_reads = 0;       // replies of a chunkd whose checksum did not match
    std::vector<std::string> inodes;  // those that are in use, in words
    std::vector<OpStatus> waiting;    // operations that have waited for more than kSlowRequest
};

}  // namespace lumeofs::client
