// SPDX-License-Identifier: Apache-2.0
// Inode: what this client knows and holds of one regular file (or other inode) that is open here.
//
// The lease decides what counts [8]: `attr`, `inline_data`, `chunks` and `cache` are good only
// while the lease is held and die with it; `size`, `mtime_ns` and `buffer` are our own changes, and
// exist only under the write lease. Numbers of changes: buffer.last_write() counts every local
// change (touch() one without bytes); `committed` is the highest that the leader has confirmed; the
// inode is dirty while they differ.
//
// Lease states and who moves them (lease_holder.cc, flusher.cc):
//   none --acquire answered--> held --recall/close/transient done--> winding (flushes) --given
//   back--> none `releasing`: the commit that gives the lease back is under way; nothing of it
//   counts any more.
// single-thread: the loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "client/chunk_client.h"
#include "client/read_cache.h"
#include "client/types.h"
#include "client/write_buffer.h"
#include "common/wire/messages.h"

namespace lumeofs::client {

// Somebody waits for all changes up to number `target` to be written and committed.
struct FlushJob {
    uint64_t target = 0;
    bool data_only = false;  // fdatasync: a commit for mtime alone is skipped
    StatusDone done;
};

// An operation that needs the write lease. Shared ones run at once and to the end; an exclusive one
// keeps everybody else out until it calls Core::end_exclusive().
struct LeaseWaiter {
    bool exclusive = false;
    StatusDone run;  // ok: the lease is held now; else why not
};

struct Inode {
    InodeId ino;
    bool lost = false;  // its session has ended: everything answers Errc::io [21]

    // Opens.
    uint32_t handles = 0;
    uint32_t writers = 0;
    uint32_t pending = 0;     // operations that keep it in the table
    bool registered = false;  // the leader knows us as an opener
    bool registered_writer = false;
    // Closed here, but the leader is told only after a while: it may be opened again, and many are
    // told of at once. Not while another session wants it.
    bool lingering = false;
    Nanos linger_until = 0;
    bool wanted_elsewhere = false;  // its lease was recalled since it was opened last

    // Requests to the leader about opens and the lease: one at a time, in order.
    bool session_op = false;
    std::deque<Task> session_ops;

    // The lease.
    wire::LeaseMode lease = wire::LeaseMode::none;
    bool transient = false;  // given for one operation
    bool shared = false;     // others had it open when we last asked
    Nanos shared_since = 0;
    uint64_t lease_serial = 0;  // rises with each loss: what was fetched before is not kept
    uint64_t void_grants = 0;   // grants up to this number were recalled before they came [27]
    bool acquiring = false;
    uint64_t give_back_count = 0;  // ever sent: a grant asked for before one of them is void
    int give_backs = 0;            // under way
    bool reacquire = false;  // the leader has forgotten our lease: take it again, keep our changes
    bool winding = false;    // on its way to none
    bool releasing = false;
    uint64_t release_request = 0;       // number of the mutation of `releasing`
    std::set<uint64_t> revokes;         // recall numbers to be answered when it is given back
    std::set<uint64_t> flush_recalls;   // recalls for a flush that are being obeyed
    std::deque<LeaseWaiter> waiters;
    bool exclusive = false;
    std::vector<Task> after_release;  // readers that wait for `releasing` to end

    // Under the lease: committed state.
    bool attr_known = false;
    Attr attr;
    uint64_t truncate_generation = 0;
    bool is_inline = false;
    Bytes inline_data;  // with our changes; at most kInlineMax
    std::map<uint32_t, ChunkPtr> chunks;
    bool all_chunks_known = false;
    std::set<uint32_t> holes;  // indices known to have no chunk, unless all are known
    ReadCache cache;

    // Our own changes.
    uint64_t size = 0;
    int64_t mtime_ns = 0;
    bool mtime_dirty = false;
    bool clear_suid = false;
    // Mode, owner and times that were set and go with the next commit; later ones replace earlier.
    // `gathered_at`: the ctime that is shown for them.
    SetAttrs gathered;
    int64_t gathered_at = 0;
    bool moving_out = false;     // the inline bytes are on their way into chunk 0 [34]
    uint64_t moving_change = 0;  // they are among the changes up to this number
    bool grower = false;         // allocated since the last clean release
    WriteBuffer buffer;
    uint64_t inline_from = UINT64_MAX;  // changed bytes of inline_data
    uint64_t inline_to = 0;
    uint64_t written_end = 0;  // how far bytes are on the chunkds, or the size was set
    std::set<uint64_t> first_written;  // chunks with bytes of ours of which metad knows none yet
    uint64_t committed = 0;
    Nanos dirty_since = 0;

    // Flushing.
    std::vector<FlushJob> jobs;
    bool commit_running = false;
    bool allocating = false;
    std::vector<WriteBuffer::Piece> parked;  // in flight for the buffer, waiting for a chunk
    uint32_t error_count = 0;  // write-back failures; each handle reports the newest once
    Status error;

    bool dirty() const { return committed != buffer.last_write(); }
    bool has_lease() const { return lease != wire::LeaseMode::none; }
    bool may_write() const { return lease == wire::LeaseMode::write && !winding && !releasing; }
    // The data has changed: a time that was set before counts no more.
    void modified(int64_t now_ns) {
        mtime_ns = now_ns;
        mtime_dirty = true;
        gathered.mtime_ns.reset();
    }
    // A local change without bytes.
    void touch(Nanos now) { buffer.write(0, {}, now); }
    bool idle() const {
        return handles == 0 && pending == 0 && !session_op && session_ops.empty() && !has_lease() &&
               !acquiring && !winding && give_backs == 0 && waiters.empty() && !commit_running;
    }
};
using InodePtr = std::shared_ptr<Inode>;

// An open file or directory.
struct Handle {
    InodePtr inode;  // files
    InodeId ino;
    uint32_t flags = 0;  // OpenMode
    bool writer = false;
    bool appends = false;  // O_APPEND, as fcntl has left it
    bool is_dir = false;
    uint32_t errors_seen = 0;
    ReadAhead read_ahead;
    // What was known at the open: if it still holds at the end, the kernel's pages are of that version.
    uint64_t version_at_open = 0;
    uint64_t lease_at_open = 0;  // lease_serial
    // Directories: the entries of the last request that were not asked for yet.
    std::deque<DirEntry> entries;
    bool entries_end = false;
    uint64_t next_cookie = 0;  // that the first of `entries` follows
    bool listing_kept = true;  // the attributes of the last reply's entries may be kept
};
using HandlePtr = std::shared_ptr<Handle>;

}  // namespace lumeofs::client
