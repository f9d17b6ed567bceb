// SPDX-License-Identifier: Apache-2.0
// open, create, release. The leader knows of each inode whether this session has it open, and for
// writing; opens beyond that are local. Requests about one inode's open go one at a time, so that a
// Release never overtakes an Open.
#include <algorithm>
#include <utility>

#include "client/core.h"
#include "common/base/log.h"
#include "common/base/planted_bug.h"

namespace lumeofs::client {
namespace {

constexpr uint32_t kOpen = static_cast<uint32_t>(wire::OpenFlags::open);
constexpr uint32_t kOpenWrite = kOpen | static_cast<uint32_t>(wire::OpenFlags::write);
constexpr uint32_t kRegular = 0100000;
constexpr uint32_t kTypeMask = 0170000;
constexpr Nanos kLinger = 100 * kMillisecond;     // with a lease: opening it again costs nothing
constexpr Nanos kGatherReleases = 5 * kMillisecond;
constexpr size_t kLingeringMax = 1024;
constexpr size_t kKernelPagesNoted = 16 * 1024;

bool wants_write(uint32_t flags) { return (flags & OpenMode::kAccess) != 0; }

}  // namespace

void Core::session_op(const InodePtr& inode, Task start) {
    if (inode->session_op) {
        inode->session_ops.push_back(std::move(start));
        return;
    }
    inode->session_op = true;
    start();
}

void Core::end_session_op(const InodePtr& inode) {
    inode->session_op = false;
    if (inode->session_ops.empty()) return;
    Task next = std::move(inode->session_ops.front());
    inode->session_ops.pop_front();
    inode->session_op = true;
    next();
}

// Makes sure that the leader knows of the open. Requires: inode->pending was raised by the caller.
void Core::register_open(const InodePtr& inode, bool writer, StatusDone done) {
    session_op(inode, [this, inode, writer, done = std::move(done)] {
        if (inode->lost) {
            done(Status(Errc::no_session, "the session was ended"));
            return end_session_op(inode);
        }
        // One that was only not yet released is opened anew if it has no lease: it may get one.
        const bool usable = inode->handles > 0 || inode->has_lease();
        if (inode->registered && usable && (!writer || inode->registered_writer)) {
            done(ok_status());
            return end_session_op(inode);
        }
        send_open(inode, writer, done);
    });
}

void Core::send_open(const InodePtr& inode, bool writer, StatusDone done) {
    wire::OpenT op;
    op.ino = inode->ino.value;
    op.flags = writer ? kOpenWrite : kOpen;
    wire::SessionOpUnion request;
    request.Set(std::move(op));
    meta_.session_request(
        std::move(request),
        [this, inode, writer, count = inode->give_back_count, done = std::move(done)](
            const MetaAnswer& answer) {
            if (answer.status.is_ok() && !inode->lost) {
                inode->registered = true;
                inode->registered_writer = inode->registered_writer || writer;
                take_open_reply(inode, count, answer.reply);
            }
            done(answer.status);
            end_session_op(inode);
            advance(inode);
        });
}

// The lease that came with an open, unless we have or are doing something with a lease already, or
// it was recalled before it came [27].
void Core::take_open_reply(const InodePtr& inode,
                           uint64_t give_backs,
                           const wire::MetaReplyT& reply) {
    const bool busy = inode->acquiring || inode->winding || inode->releasing || inode->reacquire ||
                      inode->give_backs > 0 || inode->exclusive || inode->commit_running ||
                      inode->lease == wire::LeaseMode::write;
    const bool recalled =
        (reply.grant_number <= inode->void_grants || inode->give_back_count != give_backs) &&
        !planted_bug("client.grant_after_recall");
    if (busy) return;
    if (recalled) {
        // The leader may believe that we hold what was void before it came: it asks when it
        // matters.
        return;
    }
    if (reply.lease == wire::LeaseMode::none) {
        inode->shared = true;
        inode->shared_since = loop_.now();
        if (!inode->has_lease() && reply.attr) inode->attr = to_attr(*reply.attr);
        return;
    }
    ++inode->lease_serial;
    inode->cache.clear();
    inode->transient = false;
    inode->shared = false;
    adopt_grant(*inode, reply);
}

void Core::open(const Caller& caller, InodeId ino, uint32_t flags, Done<Opened> done) {
    if (options_.read_only && (wants_write(flags) || (flags & OpenMode::kTruncate) != 0)) {
        return done(Errc::rofs);
    }
    if (auto cuts = cuts_.find(ino); cuts != cuts_.end()) {
        cuts->second.waiting.push_back([=, this] { open(caller, ino, flags, done); });
        return;
    }
    const InodePtr inode = obtain(ino);
    ++inode->pending;
    register_open(inode, wants_write(flags), [=, this](const Status& status) {
        --inode->pending;
        if (status.code() == Errc::no_session)
            return open(caller, ino, flags, done);  // the next one
        if (!status.is_ok()) {
            forget_if_idle(inode);
            return done(status);
        }
        finish_open(inode, caller, flags, done);
    });
}

void Core::finish_open(const InodePtr& inode,
                       const Caller& caller,
                       uint32_t flags,
                       Done<Opened> done) {
    auto file = std::make_shared<Handle>();
    file->inode = inode;
    file->ino = inode->ino;
    file->flags = flags;
    file->writer = wants_write(flags);
    file->appends = (flags & OpenMode::kAppend) != 0;
    file->errors_seen = inode->error_count;
    ++inode->handles;
    inode->wanted_elsewhere = false;
    if (file->writer) ++inode->writers;
    const HandleId id = add_handle(file);
    auto answer = [this, inode, file, flags, id, done] {
        file->version_at_open = inode->attr.version;
        file->lease_at_open = inode->lease_serial;
        Opened opened;
        opened.attr = shown(*inode);
        opened.attr.ino = inode->ino;
        opened.handle = id;
        opened.direct_io = opens_direct(flags);
        opened.keep_cache = !opened.direct_io && kernel_pages_hold(*inode);
        done(opened);
    };
    if ((flags & OpenMode::kTruncate) == 0) return answer();
    SetAttrs cut;
    cut.size = 0;
    setattr(caller, inode->ino, cut, [this, id, answer, done](const Result<Attr>& attr) {
        if (attr.is_ok()) return answer();
        release(id);
        done(attr.status());
    });
}

// The kernel has pages of the file as it is now: they were read under leases that ended with no other
// version than they had begun with, and nobody has changed the file since. Every change has a new
// version, our own too, so that it does not matter what happened to the file in between.
bool Core::kernel_pages_hold(const Inode& inode) const {
    auto it = kernel_pages_.find(inode.ino);
    return it != kernel_pages_.end() && attr_usable(inode) && !inode.dirty() &&
           it->second == inode.attr.version;
}

// At the end of a handle whose reads went through the kernel's pages.
void Core::note_kernel_pages(const Handle& file) {
    const Inode& inode = *file.inode;
    const bool one_version = attr_usable(inode) && !inode.dirty() &&
                             file.lease_at_open == inode.lease_serial &&
                             file.version_at_open == inode.attr.version;
    if (!one_version) {
        kernel_pages_.erase(inode.ino);
        return;
    }
    if (kernel_pages_.size() >= kKernelPagesNoted) kernel_pages_.clear();
    kernel_pages_[inode.ino] = inode.attr.version;
}

void Core::create(const Caller& caller,
                  InodeId parent,
                  std::string name,
                  uint32_t mode,
                  uint32_t flags,
                  Done<Opened> done) {
    if (options_.read_only) return done(Errc::rofs);
    wire::MakeT op;
    op.parent = parent.value;
    op.name = name;
    done = [this, caller, parent, name = std::move(name), done = std::move(done)](
               Result<Opened> opened) {
        if (opened.is_ok()) opened->attr = lent(caller, opened->attr, parent, name);
        done(std::move(opened));
    };
    op.mode = kRegular | (mode & 07777 & ~caller.umask);
    op.exclusive = (flags & OpenMode::kExclusive) != 0;
    op.open_flags = wants_write(flags) ? kOpenWrite : kOpen;
    wire::MutationOpUnion request;
    request.Set(std::move(op));
    ++creates_running_;
    mutate(
        Urgency::normal, Binding::free, caller, std::move(request), [=, this](MetaAnswer answer) {
            const InodeId ino{answer.reply.attr ? answer.reply.attr->ino : 0};
            const bool in_doubt = given_up_.contains(ino) || cuts_.contains(ino) || find(ino);
            if (--creates_running_ == 0) given_up_.clear();
            if (!answer.status.is_ok()) return done(answer.status);
            if (!answer.reply.attr) return done(Errc::corrupt);
            const bool existed = answer.reply.value == 1;
            if (existed && (answer.reply.attr->mode & kTypeMask) != kRegular) {
                // Opened by name like open(2) does it; devices and pipes are the kernel's business.
                return done((answer.reply.attr->mode & kTypeMask) == 0040000 ? Errc::isdir
                                                                             : Errc::exist);
            }
            const uint32_t rest = existed ? flags : flags & ~OpenMode::kTruncate;
            // Our own requests about this very inode may be under way, or the lease that the answer
            // brings may have ended before it came (it may be a repeated answer): then the file is
            // opened by the book.
            if (in_doubt) return open(caller, ino, rest, done);
            const InodePtr inode = obtain(ino);
            inode->registered = true;
            inode->registered_writer = wants_write(flags);
            answer.reply.value =
                existed ? 0 : 1;  // a new file has no chunks: the layout is complete
            take_open_reply(inode, inode->give_back_count, answer.reply);
            finish_open(inode, caller, rest, done);
        });
}

// What a create that is under way may bring of the inode is void: by name it went past session_op().
void Core::note_given_up(InodeId ino) {
    if (creates_running_ > 0) given_up_.insert(ino);
}

void Core::release(HandleId id) {
    const HandlePtr file = handle(id);
    if (!file || file->is_dir) return;
    handles_.erase(id);
    const InodePtr inode = file->inode;
    if (!opens_direct(file->flags)) note_kernel_pages(*file);
    --inode->handles;
    if (file->writer) --inode->writers;
    forget_if_idle(inode);
}

// The last handle has gone: what is dirty is written back, the lease ends, the leader forgets the
// open. Called again after each step.
void Core::close_inode(const InodePtr& inode, bool may_linger) {
    if (inode->lease == wire::LeaseMode::write && (inode->dirty() || inode->grower)) {
        return wind_down(inode);
    }
    if (inode->winding || inode->releasing || inode->reacquire || inode->acquiring ||
        inode->give_backs > 0 || inode->commit_running || inode->session_op || inode->exclusive ||
        !inode->waiters.empty()) {
        return;  // each of them ends in advance(), which comes back
    }
    if (!inode->registered) {
        if (inode->has_lease()) return wind_down(inode);
        if (auto it = inodes_.find(inode->ino); it != inodes_.end() && it->second == inode) {
            inodes_.erase(it);
        }
        return;
    }
    if (may_linger && !stopping_ && !inode->wanted_elsewhere) return linger(inode);
    if (inode->has_lease()) drop_lease(*inode);  // Release gives it back too
    session_op(inode, [this, inode] {
        if (inode->lost) return end_session_op(inode);
        inode->registered = false;
        inode->registered_writer = false;
        note_given_up(inode->ino);
        ++inode->give_back_count;
        to_release_.push_back(inode);
        if (!gathering_) send_releases();
    });
}

void Core::send_releases() {
    if (to_release_.empty()) return;
    const std::vector<InodePtr> inodes = std::exchange(to_release_, {});
    wire::ReleaseT op;
    op.ino = inodes.front()->ino.value;
    op.flags = kOpen;
    for (size_t i = 1; i < inodes.size(); ++i) op.others.push_back(inodes[i]->ino.value);
    wire::SessionOpUnion request;
    request.Set(std::move(op));
    meta_.session_request(std::move(request), [this, inodes](const MetaAnswer&) {
        for (const InodePtr& inode : inodes) {
            end_session_op(inode);
            forget_if_idle(inode);
        }
    });
}

// --- closed, and not released yet

void Core::linger(const InodePtr& inode) {
    if (inode->lingering) return;  // run_lingering() comes to it
    inode->lingering = true;
    inode->linger_until = loop_.now() + (inode->has_lease() ? kLinger : kGatherReleases);
    lingering_.emplace(inode->linger_until, inode);
    if (lingering_.size() > kLingeringMax) return run_lingering();
    if (lingering_.begin()->second == inode) {
        linger_timer_.start(kGatherReleases, [this] { run_lingering(); });
    }
}

// Those whose time has come, and the oldest if there are too many.
void Core::run_lingering() {
    gathering_ = true;
    while (!lingering_.empty()) {
        auto first = lingering_.begin();
        if (first->first > loop_.now() && lingering_.size() <= kLingeringMax / 2) break;
        const InodePtr inode = std::move(first->second);
        lingering_.erase(first);
        inode->lingering = false;
        if (inode->handles == 0 && inode->pending == 0 && !inode->lost) close_inode(inode, false);
    }
    gathering_ = false;
    send_releases();
    if (lingering_.empty()) return linger_timer_.stop();
    const Nanos wait = std::max(lingering_.begin()->first - loop_.now(), kGatherReleases);
    linger_timer_.start(wait, [this] { run_lingering(); });
}

// It is about to be removed: the leader should not keep it as one that is open.
void Core::end_linger(InodeId ino) {
    const InodePtr inode = find(ino);
    if (!inode || !inode->lingering || inode->handles > 0 || inode->pending > 0) return;
    auto [from, to] = lingering_.equal_range(inode->linger_until);
    auto at = std::find_if(from, to, [&](const auto& entry) { return entry.second == inode; });
    if (at != to) lingering_.erase(at);
    inode->lingering = false;
    close_inode(inode, false);
}

}  // namespace lumeofs::client
