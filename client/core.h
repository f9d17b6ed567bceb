// SPDX-License-Identifier: Apache-2.0
// Core: the inside of Vfs. One object on one loop; its parts by file:
//   core.cc          start, stop, status, the table of inodes, losing the session
//   name_ops.cc      lookup, make, link, unlink, rename, xattrs, directories, paths
//   attr_ops.cc      getattr, setattr: own changes laid over the leader's answers
//   open_ops.cc      open, create, release; opens at the leader
//   lease_holder.cc  taking the write lease, recalls, giving back: the state machine of leases
//   flusher.cc       dirty bytes to the chunkds, sizes to the leader
//   write_path.cc    write, append, flush, fsync
//   read_path.cc     read: own changes, read-ahead, chunks
//   space_ops.cc     fallocate, punch, lseek, copy_file_range
//
// Rules that every part keeps:
//   - an Inode is used through InodePtr; after a callback its state is looked at anew;
//   - a callback that a user gave is the last thing that a function does, or the state is settled;
//   - what a recall needs (flush, commit, give-back) never waits for what needs the lease [29].
// single-thread: the loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "client/chunk_client.h"
#include "client/inode_state.h"
#include "client/lent.h"
#include "client/meta_client.h"
#include "client/name_cache.h"
#include "client/op_tracker.h"
#include "client/types.h"

namespace lumeofs::client {

Attr to_attr(const wire::AttrT& wire);
wire::SetAttrT to_wire(InodeId ino, const SetAttrs& attrs);
// Becomes true when nobody waits for an operation any more; may be null.
using Gone = std::shared_ptr<const bool>;

class Core {
public:
    Core(Loop& loop, Transport& transport, Prng prng, ClientOptions options);
    ~Core();
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    // --- core.cc
    void start(StatusDone done);
    void stop(Nanos patience, StatusDone done);
    ClientStatus status() const;
    InodeId root() const { return root_; }
    OpTracker& ops() { return ops_; }
    void set_invalidate_hook(std::function<void(InodeId)> hook) { invalidate_ = std::move(hook); }
    bool read_only() const { return options_.read_only; }
    HandlePtr handle(HandleId id) const;  // null if unknown

    // --- name_ops.cc
    void lookup(const Caller& caller, InodeId parent, const std::string& name, Done<Attr> done);
    void make(const Caller& caller, wire::MakeT op, Done<Attr> done);
    void readlink(const Caller& caller, InodeId ino, Done<std::string> done);
    void link(const Caller& caller, wire::LinkT op, Done<Attr> done);
    void unlink(const Caller& caller, wire::UnlinkT op, StatusDone done);
    void rename(const Caller& caller, wire::RenameT op, StatusDone done);
    void statfs(const Caller& caller, InodeId ino, Done<StatFs> done);
    void setxattr(const Caller& caller, wire::SetXattrT op, StatusDone done);
    void getxattr(const Caller& caller, wire::GetXattrT op, Done<Bytes> done);
    void listxattr(const Caller& caller, InodeId ino, Done<Bytes> done);
    void removexattr(const Caller& caller, wire::RemoveXattrT op, StatusDone done);
    void opendir(const Caller& caller, InodeId ino, Done<HandleId> done);
    void readdir(const Caller& caller,
                 const HandlePtr& dir,
                 uint64_t cookie,
                 uint32_t max_bytes,
                 bool plus,
                 Done<DirPage> done);
    void releasedir(HandleId id);
    void resolve_path(const Caller& caller,
                      InodeId from,
                      std::string path,
                      bool follow,
                      int links,
                      Done<Attr> done);

    // --- attr_ops.cc
    void getattr(const Caller& caller, InodeId ino, Done<Attr> done);
    void setattr(const Caller& caller, InodeId ino, SetAttrs attrs, Done<Attr> done);

    // --- open_ops.cc
    void create(const Caller& caller,
                InodeId parent,
                std::string name,
                uint32_t mode,
                uint32_t flags,
                Done<Opened> done);
    void open(const Caller& caller, InodeId ino, uint32_t flags, Done<Opened> done);
    void release(HandleId id);

    // --- read_path.cc, write_path.cc, space_ops.cc
    void read(const Caller& caller,
              const HandlePtr& file,
              uint64_t offset,
              uint64_t size,
              Done<ReadData> done);
    void write(const Caller& caller,
               const HandlePtr& file,
               uint64_t offset,
               Buffer data,
               Gone gone,
               Done<uint64_t> done);
    void flush(const HandlePtr& file, StatusDone done);
    void fsync(const HandlePtr& file, bool datasync, StatusDone done);
    void fallocate(const Caller& caller,
                   const HandlePtr& file,
                   uint32_t mode,
                   uint64_t offset,
                   uint64_t length,
                   StatusDone done);
    void lseek(const Caller& caller,
               const HandlePtr& file,
               uint64_t offset,
               Seek what,
               Done<uint64_t> done);
    void copy(const Caller& caller,
              const HandlePtr& from,
              uint64_t from_offset,
              const HandlePtr& to,
              uint64_t to_offset,
              uint64_t length,
              uint64_t copied,
              Gone gone,
              Done<uint64_t> done);

private:
    // core.cc
    InodePtr find(InodeId ino) const;
    InodePtr obtain(InodeId ino);
    void forget_if_idle(const InodePtr& inode);
    HandleId add_handle(HandlePtr handle);
    std::vector<wire::OpenRecordT> declare() const;
    void on_lease();
    void fail_inode(const InodePtr& inode);
    void on_session_lost();
    void tick();
    void say_unwritten() const;  // to the log
    void wait_clean(Nanos until, StatusDone done);
    void finish_stop(Nanos patience, const Status& status, StatusDone done);
    void post(Task task);
    void at(Nanos when, Task task);  // at once if it is past
    void report_chunk(const wire::ReportChunkT& report,
                      std::function<void(Result<wire::ChunkGrantT>)> done);
    uint64_t dirty_bytes() const { return dirty_bytes_; }

    // core.cc: the ways to the leader, past the cache of names and attributes
    void mutate(Urgency urgency,
                Binding binding,
                const Caller& caller,
                wire::MutationOpUnion op,
                MetaDone done);
    void drop_names_if_full();
    void keep_removed_dir(Attr attr);
    // Whether the cache may answer: our leases count, and the leader need not check permissions.
    bool cache_counts(const Caller& caller) const { return !caller.check && meta_.lease_valid(); }

    // attr_ops.cc
    Attr shown(const Inode& inode) const;   // committed attributes with our changes
    Attr overlaid(Attr attr) const;         // the same for an answer of the leader
    std::optional<Attr> cached_attr(const Caller& caller, InodeId ino) const;
    std::optional<Attr> known_attr(const Caller& caller, InodeId ino) const;  // by lease or cache
    bool attr_usable(const Inode& inode) const;
    // Answers with what the kernel may keep of the attributes, and of a name that was asked for.
    Attr lent(const Caller& caller, Attr attr);
    Attr lent(const Caller& caller, Attr attr, InodeId parent, const std::string& name);
    void adopt_attr(Inode& inode, const wire::AttrT& wire);
    void learn_attr(const wire::MetaReplyT& reply);  // of an operation of ours on that inode
    void send_setattr(
        const Caller& caller, InodeId ino, const SetAttrs& attrs, Urgency urgency, MetaDone done);
    void setattr_size(const Caller& caller,
                      const InodePtr& inode,
                      const SetAttrs& attrs,
                      Done<Attr> done);
    void cut_unopened(const Caller& caller, InodeId ino, const SetAttrs& attrs, Done<Attr> done);
    bool may_gather(const Caller& caller, const Inode& inode, const SetAttrs& attrs) const;
    void gather(const InodePtr& inode, const SetAttrs& attrs);
    void setattr_plain(const Caller& caller, InodeId ino, const SetAttrs& attrs, Done<Attr> done);

    // open_ops.cc
    void register_open(const InodePtr& inode, bool writer, StatusDone done);
    void send_open(const InodePtr& inode, bool writer, StatusDone done);
    void take_open_reply(const InodePtr& inode, uint64_t give_backs, const wire::MetaReplyT& reply);
    void finish_open(const InodePtr& inode,
                     const Caller& caller,
                     uint32_t flags,
                     Done<Opened> done);
    void opened(const InodePtr& inode, uint32_t flags, const Done<Opened>& done);
    bool kernel_pages_hold(const Inode& inode) const;
    void note_kernel_pages(const Handle& file);
    void note_given_up(InodeId ino);
    void close_inode(const InodePtr& inode, bool may_linger);
    void linger(const InodePtr& inode);
    void run_lingering();
    void end_linger(InodeId ino);
    void send_releases();
    void session_op(const InodePtr& inode, Task start);
    void end_session_op(const InodePtr& inode);

    // lease_holder.cc
    bool lease_counts(const Inode& inode) const;  // held, and its time is not over
    void need_write_lease(const InodePtr& inode, bool exclusive, StatusDone run);
    void end_exclusive(const InodePtr& inode);
    void advance(const InodePtr& inode);
    void acquire(const InodePtr& inode);
    void on_acquired(const InodePtr& inode, MetaAnswer answer);
    void adopt_grant(Inode& inode, const wire::MetaReplyT& reply);
    void adopt_layout(Inode& inode, const wire::MetaReplyT& reply, bool clear);
    void on_recall(const wire::RecallT& recall);
    void on_flush_recall(const InodePtr& inode, uint64_t number);
    void acknowledge(InodeId ino, uint64_t number, wire::RecallKind kind);
    void wind_down(const InodePtr& inode);
    void advance_winding(const InodePtr& inode);
    void give_back(const InodePtr& inode);
    void give_back_unknown(InodeId ino, uint64_t number);
    void drop_lease(Inode& inode);
    void end_release(const InodePtr& inode);

    // flusher.cc
    void flush_to(const InodePtr& inode, uint64_t target, bool data_only, StatusDone done);
    void pump(const InodePtr& inode);
    void send_pieces(const InodePtr& inode, uint64_t target);
    void send_piece(const InodePtr& inode, const WriteBuffer::Piece& piece);
    void piece_done(const InodePtr& inode, const WriteBuffer::Piece& piece, const Status& status);
    void allocate(const InodePtr& inode);
    void on_allocated(const InodePtr& inode, MetaAnswer answer);
    ChunkPtr writable_chunk(const Inode& inode, uint64_t offset, uint64_t length) const;
    bool commit_if_due(const InodePtr& inode);
    void send_commit(const InodePtr& inode, uint64_t covered);
    void send_inline(const InodePtr& inode, uint64_t covered);
    struct Commit {  // what a commit under way says
        uint64_t covered = 0;
        uint64_t truncate_generation = 0;
        int64_t mtime_ns = 0;
        bool moved_out = false;
        bool released = false;
        bool clear_suid = false;
        SetAttrs gathered;
        std::vector<uint64_t> written;
    };
    void note_written(Inode& inode, const std::vector<uint64_t>& chunks);
    void on_committed(const InodePtr& inode, const Commit& commit, MetaAnswer answer);
    void finish_jobs(const InodePtr& inode);
    void record_error(Inode& inode, const Status& status);
    void move_out(Inode& inode);
    void account(const InodePtr& inode);
    void flush_oldest();

    // write_path.cc
    void admit_write(const InodePtr& inode,
                     const HandlePtr& file,
                     uint32_t uid,
                     uint64_t offset,
                     const Buffer& data,
                     const Done<uint64_t>& done);
    void apply_write(Inode& inode, uint64_t offset, const Buffer& data);
    Status take_error(Handle& file);

    // read_path.cc
    struct ReadJob;
    struct SeekState;
    using ReadJobPtr = std::shared_ptr<ReadJob>;
    void read_try(const Caller& caller,
                  const HandlePtr& file,
                  uint64_t offset,
                  uint64_t size,
                  int tries,
                  Done<ReadData> answer);
    void read_leased(const Caller& caller,
                     const HandlePtr& file,
                     uint64_t offset,
                     uint64_t size,
                     int tries,
                     Done<ReadData> done);
    void read_unleased(const Caller& caller,
                       const InodePtr& inode,
                       uint64_t offset,
                       uint64_t size,
                       Done<ReadData> done);
    void read_spans(const InodePtr& inode,
                    uint64_t offset,
                    uint64_t size,
                    bool use_cache,
                    const std::map<uint32_t, ChunkPtr>& chunks,
                    Done<ReadData> done);
    void read_part(const ReadJobPtr& job, uint64_t offset, uint64_t length);
    void need_layout(const Caller& caller,
                     const InodePtr& inode,
                     uint64_t offset,
                     uint64_t length,
                     StatusDone done);
    bool layout_known(const Inode& inode, uint32_t first, uint32_t last) const;
    void prefetch(const InodePtr& inode, uint64_t from, uint64_t to);

    // space_ops.cc
    void punch(const Caller& caller,
               const HandlePtr& file,
               uint64_t offset,
               uint64_t end,
               StatusDone done);
    void punch_next(const Caller& caller,
                    const InodePtr& inode,
                    uint64_t offset,
                    uint64_t end,
                    const StatusDone& done);
    void punch_whole(const InodePtr& inode, uint32_t first, uint32_t count, StatusDone done);
    void make_writable(const InodePtr& inode, uint32_t index, StatusDone done);
    void seek_in(const Caller& caller,
                 const HandlePtr& file,
                 uint64_t offset,
                 Seek what,
                 const std::shared_ptr<SeekState>& state,
                 Done<uint64_t> done);

    Loop& loop_;
    const ClientOptions options_;
    Lent lent_;  // what the kernel keeps
    OpTracker ops_;
    NameCache names_;
    MetaClient meta_;
    ChunkClient chunks_;
    std::shared_ptr<char> alive_;
    InodeId root_ = kRootInode;
    bool stopping_ = false;
    std::map<InodeId, InodePtr> inodes_;
    std::map<HandleId, HandlePtr> handles_;
    HandleId last_handle_ = 0;
    std::map<InodeId, uint64_t> dirty_of_;  // bytes, as last accounted
    uint64_t dirty_bytes_ = 0;
    std::deque<Task> space_waiters_;
    int creates_running_ = 0;
    // Recalled, released, given back or cut while creates were under way.
    std::set<InodeId> given_up_;
    std::unordered_map<InodeId, Attr> removed_dirs_;  // by this client, as they were last; no links
    struct Cuts {
        int running = 0;
        std::vector<Task> waiting;  // opens
    };
    std::map<InodeId, Cuts> cuts_;  // of files that are not open here
    bool stalled_ = false;  // something waits for the lease time to be extended
    std::vector<Task> lease_time_waiters_;
    std::function<void(InodeId)> invalidate_;
    std::map<InodeId, uint64_t> kernel_pages_;  // version of the pages that the kernel has
    std::multimap<Nanos, InodePtr> lingering_;  // by when the leader is told of the close
    std::vector<InodePtr> to_release_;          // gathered for one Release
    bool gathering_ = false;
    Timer linger_timer_;
    Timer tick_timer_;
    Timer stop_timer_;
};

}  // namespace lumeofs::client
