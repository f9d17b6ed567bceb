// SPDX-License-Identifier: Apache-2.0
// Vfs: the file system without FUSE. All that a mount does, as asynchronous operations on inodes
// and handles; fuse/ and cli/ are thin skins over it and the simulator drives it as it is.
//
// Promises
// - Each callback comes exactly once, on the loop, possibly from inside the call (answers out of
//   memory). After stop() has answered nothing is called any more.
// - When an operation that changes something has been answered, every other client sees it in every
//   operation that it starts afterwards (F4). Written data may stay here, under the inode's write
//   lease, until fsync, flush, release, a recall or kDirtyAgeMax.
// - Operations wait for as long as the cluster cannot answer, unless `soft` is set or they are
//   interrupted; they can all say what they wait for (status()).
// - When the session was ended by the cluster (this client was away for too long), requests in
// doubt
//   and dirty data fail with Errc::io, once per handle; handles from before answer Errc::io for
//   ever; a new session serves what is opened later [21].
// - Errors are Errc codes with a POSIX number, never internal ones.
//
// Order and concurrency: operations may overlap freely. Of one inode, an operation sees the effect
// of every operation that was answered before it started.
//
// Inodes need no reference: any inode number may be used at any time (Errc::stale or noent if it is
// gone), there is no forget. kRootInode is the root of the whole tree; a mount of a subdirectory
// must map its own root to root(), which is known once start() has answered.
//
// Typical use:  Vfs vfs(loop, transport, prng, options);  vfs.start(done);  …  vfs.stop(done);
// Destroying it without stop() is a crash of the client: dirty data is lost, callbacks never come.
// single-thread: the loop.
#pragma once

#include <memory>
#include <string>

#include "client/types.h"
#include "common/base/prng.h"
#include "common/env/loop.h"
#include "common/env/transport.h"

namespace lumeofs::client {

class Core;

class Vfs {
public:
    Vfs(Loop& loop, Transport& transport, Prng prng, ClientOptions options);
    ~Vfs();
    Vfs(const Vfs&) = delete;
    Vfs& operator=(const Vfs&) = delete;

    // Finds the leader, opens a session, resolves `subdir`. Waits for the cluster for as long as it
    // takes (with `soft`: Errc::timedout after `timeo`). Errc::noent, notdir: the subdirectory.
    void start(StatusDone done);
    // Clean end: writes back what is dirty, gives everything back, closes the session. The status
    // is the first write-back error, if any. Operations still running are answered Errc::canceled.
    // Gives up after `patience` (what is dirty then is lost, Errc::io).
    void stop(Nanos patience, StatusDone done);

    InodeId root() const;
    // A fresh number for Caller::op.
    OpId new_op();
    // The operation's caller was signalled. It is answered Errc::intr as soon as it has waited for
    // interrupt_patience, or not at all if it is quick. A change that was already sent goes on and
    // is carried out (or not) exactly once; only nobody waits for it any more. Unknown: no effect.
    void interrupt(OpId op);
    ClientStatus status() const;
    // Called (never from inside an operation) when data of the inode that the kernel may have
    // cached could be out of date: a lease was recalled or lost. Empty = nobody cares. Must not
    // block.
    void set_invalidate_hook(std::function<void(InodeId)> hook);

    // --- names ------------------------------------------------------------------------------
    // Name arguments are one component without '/'; Errc::nametoolong beyond kMaxNameBytes.
    // "." and ".." work in lookup() of a directory (NFS export of the mount needs that).
    void lookup(const Caller& caller, InodeId parent, std::string name, Done<Attr> done);
    // `mode` holds permission bits (mknod: the type too); the caller's umask is applied here.
    void mkdir(
        const Caller& caller, InodeId parent, std::string name, uint32_t mode, Done<Attr> done);
    void mknod(const Caller& caller,
               InodeId parent,
               std::string name,
               uint32_t mode,
               uint32_t rdev,
               Done<Attr> done);
    void symlink(const Caller& caller,
                 InodeId parent,
                 std::string name,
                 std::string target,
                 Done<Attr> done);
    void readlink(const Caller& caller, InodeId ino, Done<std::string> done);
    void link(const Caller& caller,
              InodeId ino,
              InodeId new_parent,
              std::string new_name,
              Done<Attr> done);
    void unlink(const Caller& caller, InodeId parent, std::string name, StatusDone done);
    void rmdir(const Caller& caller, InodeId parent, std::string name, StatusDone done);
    void rename(const Caller& caller,
                InodeId parent,
                std::string name,
                InodeId new_parent,
                std::string new_name,
                uint32_t flags,
                StatusDone done);

    // --- attributes -------------------------------------------------------------------------
    // A handle, where the caller has one, saves look-ups; 0 = none.
    void getattr(const Caller& caller, InodeId ino, HandleId handle, Done<Attr> done);
    void setattr(
        const Caller& caller, InodeId ino, HandleId handle, const SetAttrs& attrs, Done<Attr> done);
    void statfs(const Caller& caller, InodeId ino, Done<StatFs> done);
    // Names must start with "user."; others give Errc::opnotsupp (get, set, remove).
    void setxattr(const Caller& caller,
                  InodeId ino,
                  std::string name,
                  View value,
                  uint32_t flags,
                  StatusDone done);
    void getxattr(const Caller& caller, InodeId ino, std::string name, Done<Bytes> done);
    // Names, each ended by a NUL.
    void listxattr(const Caller& caller, InodeId ino, Done<Bytes> done);
    void removexattr(const Caller& caller, InodeId ino, std::string name, StatusDone done);

    // --- files ------------------------------------------------------------------------------
    // Makes a regular file and opens it, in one request; without kExclusive an existing one is
    // opened.
    void create(const Caller& caller,
                InodeId parent,
                std::string name,
                uint32_t mode,
                uint32_t flags,
                Done<Opened> done);
    void open(const Caller& caller, InodeId ino, uint32_t flags, Done<Opened> done);
    void read(
        const Caller& caller, HandleId handle, uint64_t offset, uint64_t size, Done<ReadData> done);
    // All of `data` or an error. The buffer must not be changed afterwards (large ones are kept and
    // sent as they are). Of a kAppend handle the offset is ignored. Answers the number of bytes.
    void write(
        const Caller& caller, HandleId handle, uint64_t offset, Buffer data, Done<uint64_t> done);
    // fcntl(F_SETFL) has changed O_APPEND of an open file; for the writes that follow. One opened with
    // pages in the kernel stays as it was: its appends would be in those pages at another place.
    void set_append(HandleId handle, bool append);
    // close(2): everything dirty is written and committed, so that the next open elsewhere sees it.
    void flush(const Caller& caller, HandleId handle, StatusDone done);
    // Data on stable storage on every member, size and mtime committed. datasync: without mtime
    // alone.
    void fsync(const Caller& caller, HandleId handle, bool datasync, StatusDone done);
    // The last reference to the handle is gone. Answers at once; what is left to do goes on behind.
    void release(HandleId handle, StatusDone done);
    void fallocate(const Caller& caller,
                   HandleId handle,
                   uint32_t mode,
                   uint64_t offset,
                   uint64_t length,
                   StatusDone done);
    // Errc::nxio at or beyond the end, as lseek(2).
    void lseek(
        const Caller& caller, HandleId handle, uint64_t offset, Seek what, Done<uint64_t> done);
    // Answers the number of bytes copied (less than asked for only at the end of the source).
    void copy_file_range(const Caller& caller,
                         HandleId from,
                         uint64_t from_offset,
                         HandleId to,
                         uint64_t to_offset,
                         uint64_t length,
                         Done<uint64_t> done);

    // --- directories ------------------------------------------------------------------------
    void opendir(const Caller& caller, InodeId ino, Done<HandleId> done);
    // Entries after `cookie` (0 = from the start), about `max_bytes` of them counting
    // 24 + name bytes each, but at least one.
    void readdir(const Caller& caller,
                 HandleId handle,
                 uint64_t cookie,
                 uint32_t max_bytes,
                 Done<DirPage> done);
    // The same with attributes, 152 + name bytes each.
    void readdirplus(const Caller& caller,
                     HandleId handle,
                     uint64_t cookie,
                     uint32_t max_bytes,
                     Done<DirPage> done);
    // Own operations were synchronous [44]: succeeds when the directory is there.
    void fsyncdir(const Caller& caller, HandleId handle, StatusDone done);
    void releasedir(HandleId handle);

    // --- paths, for the CLI -----------------------------------------------------------------
    // Walks `path` ('/' separated, relative to `from`) by lookups; with `follow` symbolic links are
    // followed, also the last one (40 at most, Errc::loop).
    void resolve_path(
        const Caller& caller, InodeId from, std::string path, bool follow, Done<Attr> done);

private:
    std::unique_ptr<Core> core_;
};

}  // namespace lumeofs::client
