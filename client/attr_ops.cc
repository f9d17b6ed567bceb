// SPDX-License-Identifier: Apache-2.0
// Attributes: the leader's answers with our own uncommitted changes laid over them, and setattr.
#include <algorithm>
#include <utility>

#include "client/core.h"
#include "client/layout.h"

namespace lumeofs::client {

Attr to_attr(const wire::AttrT& wire) {
    Attr attr;
    attr.ino = InodeId{wire.ino};
    attr.mode = wire.mode;
    attr.nlink = wire.nlink;
    attr.uid = wire.uid;
    attr.gid = wire.gid;
    attr.rdev = wire.rdev;
    attr.size = wire.size;
    attr.allocated = wire.allocated;
    attr.atime_ns = wire.atime_ns;
    attr.mtime_ns = wire.mtime_ns;
    attr.ctime_ns = wire.ctime_ns;
    attr.btime_ns = wire.btime_ns;
    attr.version = wire.version;
    return attr;
}

namespace {

void lay_over(const Inode& inode, Attr* attr) {
    if (!inode.dirty()) return;
    attr->size = inode.size;
    if (inode.mtime_dirty) {
        attr->mtime_ns = inode.mtime_ns;
        attr->ctime_ns = std::max(attr->ctime_ns, inode.mtime_ns);
    }
    if (inode.clear_suid) attr->mode &= ~06000u;
    const SetAttrs& gathered = inode.gathered;
    if (gathered.mode) attr->mode = (attr->mode & ~07777u) | *gathered.mode;
    attr->uid = gathered.uid.value_or(attr->uid);
    attr->gid = gathered.gid.value_or(attr->gid);
    attr->atime_ns = gathered.atime_ns.value_or(attr->atime_ns);
    attr->mtime_ns = gathered.mtime_ns.value_or(attr->mtime_ns);
    attr->ctime_ns = std::max(attr->ctime_ns, inode.gathered_at);
    // What waits here will be allocated; programs take a file with too few blocks for a sparse one.
    const uint64_t waiting = inode.buffer.bytes() + inode.inline_data.size();
    attr->allocated = std::max(attr->allocated, std::min(inode.size, attr->allocated + waiting));
}

}  // namespace

Attr Core::shown(const Inode& inode) const {
    Attr attr = inode.attr;
    lay_over(inode, &attr);
    return attr;
}

Attr Core::overlaid(Attr attr) const {
    const InodePtr inode = find(attr.ino);
    if (inode && (inode->lease == wire::LeaseMode::write || inode->reacquire))
        lay_over(*inode, &attr);
    return attr;
}

std::optional<Attr> Core::cached_attr(const Caller& caller, InodeId ino) const {
    if (!cache_counts(caller)) return std::nullopt;
    const std::optional<Attr> attr = names_.attr(ino);
    return attr ? std::optional<Attr>(overlaid(*attr)) : std::nullopt;
}

std::optional<Attr> Core::known_attr(const Caller& caller, InodeId ino) const {
    const InodePtr inode = find(ino);
    if (inode && attr_usable(*inode)) return shown(*inode);
    if (inode && inode->releasing) return std::nullopt;
    return cached_attr(caller, ino);
}

// What is open here changes without the kernel's doing (write-behind, the data lease): never lent.
Attr Core::lent(const Caller& caller, Attr attr) {
    const bool ours = cache_counts(caller) && !find(attr.ino) && names_.attr(attr.ino);
    attr.attr_time = ours ? lent_.lend(attr.ino, loop_.now(), meta_.lease_until()) : 0;
    return attr;
}

Attr Core::lent(const Caller& caller, Attr attr, InodeId parent, const std::string& name) {
    attr = lent(caller, std::move(attr));
    const bool ours = cache_counts(caller) && names_.child(parent, name) == attr.ino;
    attr.name_time = ours ? lent_.lend(parent, loop_.now(), meta_.lease_until()) : 0;
    return attr;
}

bool Core::attr_usable(const Inode& inode) const { return inode.attr_known && lease_counts(inode); }

// Takes the committed state over, unless we know a later one. Our changes stay on top.
void Core::adopt_attr(Inode& inode, const wire::AttrT& wire) {
    if (wire.version < inode.attr.version) return;
    inode.attr = to_attr(wire);
    inode.attr_known = true;
    inode.truncate_generation = wire.truncate_generation;
    inode.is_inline = wire.is_inline;
    if (inode.dirty()) return;
    inode.size = wire.size;
    inode.mtime_ns = wire.mtime_ns;
}

void Core::learn_attr(const wire::MetaReplyT& reply) {
    if (!reply.attr) return;
    const InodePtr inode = find(InodeId{reply.attr->ino});
    if (inode && inode->has_lease()) adopt_attr(*inode, *reply.attr);
}

void Core::getattr(const Caller& caller, InodeId ino, Done<Attr> done) {
    const InodePtr inode = find(ino);
    if (inode && attr_usable(*inode)) return done(shown(*inode));
    if (inode && inode->releasing) {
        inode->after_release.push_back([=, this] { getattr(caller, ino, done); });
        return;
    }
    if (const std::optional<Attr> attr = cached_attr(caller, ino)) return done(lent(caller, *attr));
    wire::GetAttrT op;
    op.ino = ino.value;
    wire::QueryOpUnion request;
    request.Set(std::move(op));
    meta_.query(caller,
                std::move(request),
                [this, caller, ino, epoch = names_.epoch(), done = std::move(done)](
                    const MetaAnswer& answer) {
                    const auto removed = removed_dirs_.find(ino);
                    const bool gone = answer.status.code() == Errc::noent ||
                                      answer.status.code() == Errc::stale;
                    if (gone && removed != removed_dirs_.end()) return done(removed->second);
                    if (!answer.status.is_ok()) return done(answer.status);
                    if (!answer.reply.attr) return done(Errc::corrupt);
                    names_.learn(answer.reply, epoch);
                    drop_names_if_full();
                    learn_attr(answer.reply);
                    done(lent(caller, overlaid(to_attr(*answer.reply.attr))));
                });
}

// --- setattr

wire::SetAttrT to_wire(InodeId ino, const SetAttrs& attrs) {
    using Bits = wire::SetAttrBits;
    wire::SetAttrT op;
    op.ino = ino.value;
    auto add = [&op](Bits bit) { op.valid |= static_cast<uint32_t>(bit); };
    if (attrs.mode) {
        add(Bits::mode);
        op.mode = *attrs.mode & 07777;
    }
    if (attrs.uid) {
        add(Bits::uid);
        op.uid = *attrs.uid;
    }
    if (attrs.gid) {
        add(Bits::gid);
        op.gid = *attrs.gid;
    }
    if (attrs.size) {
        add(Bits::size);
        op.size = *attrs.size;
    }
    if (attrs.atime_now) add(Bits::atime_now);
    if (attrs.mtime_now) add(Bits::mtime_now);
    if (attrs.atime_ns && !attrs.atime_now) {
        add(Bits::atime);
        op.atime_ns = *attrs.atime_ns;
    }
    if (attrs.mtime_ns && !attrs.mtime_now) {
        add(Bits::mtime);
        op.mtime_ns = *attrs.mtime_ns;
    }
    if (attrs.kill_suid) add(Bits::kill_suid);
    return op;
}

void Core::send_setattr(
    const Caller& caller, InodeId ino, const SetAttrs& attrs, Urgency urgency, MetaDone done) {
    wire::MutationOpUnion request;
    request.Set(to_wire(ino, attrs));
    mutate(urgency, Binding::free, caller, std::move(request), std::move(done));
}

void Core::setattr(const Caller& caller, InodeId ino, SetAttrs attrs, Done<Attr> done) {
    if (attrs.size && *attrs.size > kFileSizeLimit) return done(Errc::fbig);
    const InodePtr inode = find(ino);
    if (!inode || inode->lost) {
        if (attrs.size) return cut_unopened(caller, ino, attrs, std::move(done));
        return setattr_plain(caller, ino, attrs, std::move(done));
    }
    // Under the lease even if it must be taken: a write that takes it meanwhile would count on the
    // size and the layout of before.
    const bool ours =
        inode->lease == wire::LeaseMode::write || inode->releasing || inode->reacquire;
    if (attrs.size && (ours || inode->handles > 0 || inode->pending > 0)) {
        return setattr_size(caller, inode, attrs, std::move(done));
    }
    if (may_gather(caller, *inode, attrs)) {
        gather(inode, attrs);
        return done(shown(*inode));
    }
    if (!inode->dirty()) return setattr_plain(caller, ino, attrs, std::move(done));
    // What was written before must not set its mtime, or clear setuid bits, after this.
    ++inode->pending;
    flush_to(inode, inode->buffer.last_write(), false, [=, this](const Status&) {
        --inode->pending;
        setattr_plain(caller, ino, attrs, done);
    });
}

// What is set while a file is being written goes with its data, in one commit: tar and cp -p set mode,
// owner and times of each file before they close it. Nobody else sees the file without taking our
// write lease, and so that commit, first. Mode and owner only as long as nothing of the data is
// committed: whoever sees bytes sees the mode that was set before they were written, even if this
// client dies. Set-id bits have rules of their own: the leader's.
bool Core::may_gather(const Caller& caller, const Inode& inode, const SetAttrs& attrs) const {
    const bool ours = inode.may_write() && lease_counts(inode) && !inode.transient &&
                      !inode.exclusive && !inode.reacquire && inode.waiters.empty();
    const bool plain = !attrs.size && !attrs.atime_now && !attrs.mtime_now && !caller.check;
    if (!ours || !plain || inode.writers == 0 || !inode.attr_known) return false;
    const bool only_times = !attrs.mode && !attrs.uid && !attrs.gid;
    if (!only_times && (inode.attr.size > 0 || inode.commit_running)) return false;
    return ((shown(inode).mode | attrs.mode.value_or(0)) & 06000) == 0 && !inode.clear_suid;
}

void Core::gather(const InodePtr& inode, const SetAttrs& attrs) {
    SetAttrs& gathered = inode->gathered;
    if (attrs.mode) gathered.mode = *attrs.mode & 07777;
    if (attrs.uid) gathered.uid = attrs.uid;
    if (attrs.gid) gathered.gid = attrs.gid;
    if (attrs.atime_ns) gathered.atime_ns = attrs.atime_ns;
    if (attrs.mtime_ns) gathered.mtime_ns = attrs.mtime_ns;
    inode->gathered_at = meta_.cluster_now();
    inode->touch(loop_.now());
    account(inode);
}

// An open waits for it: a lease that was granted while the cut is on its way may be of the file before
// it, and writes under it would be refused.
void Core::cut_unopened(const Caller& caller,
                        InodeId ino,
                        const SetAttrs& attrs,
                        Done<Attr> done) {
    ++cuts_[ino].running;
    setattr_plain(caller, ino, attrs, [this, ino, done = std::move(done)](const Result<Attr>& attr) {
        done(attr);
        note_given_up(ino);  // what a create was granted before it, by name, is void
        Cuts& cuts = cuts_.at(ino);
        if (--cuts.running > 0) return;
        const std::vector<Task> waiting = std::move(cuts.waiting);
        cuts_.erase(ino);
        for (const Task& open : waiting) open();
    });
}

void Core::setattr_plain(const Caller& caller,
                         InodeId ino,
                         const SetAttrs& attrs,
                         Done<Attr> done) {
    const bool cuts = attrs.size.has_value();
    auto forget_data = [this, ino, cuts] {
        const InodePtr inode = find(ino);
        if (!inode || !cuts || inode->dirty()) return;
        ++inode->lease_serial;  // what is being fetched is from before
        inode->cache.clear();
        inode->chunks.clear();
        inode->holes.clear();
        inode->all_chunks_known = false;
    };
    forget_data();
    send_setattr(caller,
                 ino,
                 attrs,
                 Urgency::normal,
                 [this, forget_data, cuts, done = std::move(done)](const MetaAnswer& answer) {
                     if (!answer.status.is_ok()) return done(answer.status);
                     if (!answer.reply.attr) return done(Errc::corrupt);
                     forget_data();
                     const InodePtr inode = find(InodeId{answer.reply.attr->ino});
                     learn_attr(answer.reply);
                     if (inode && cuts && inode->inline_data.size() > inode->attr.size) {
                         inode->inline_data.resize(inode->attr.size);
                     }
                     done(overlaid(to_attr(*answer.reply.attr)));
                 });
}

// A change of size of a file whose write lease we hold: nobody writes meanwhile, all that is dirty is
// committed first (also beyond the new end: the change may be refused), and the layout of before is
// void [6, 8].
void Core::setattr_size(const Caller& caller,
                        const InodePtr& inode,
                        const SetAttrs& attrs,
                        Done<Attr> done) {
    ++inode->pending;
    need_write_lease(inode, true, [=, this](const Status& status) {
        if (!status.is_ok()) {
            --inode->pending;
            return done(status);
        }
        const uint64_t size = *attrs.size;
        flush_to(inode, inode->buffer.last_write(), false, [=, this](const Status&) {
            send_setattr(
                caller, inode->ino, attrs, Urgency::flush, [=, this](const MetaAnswer& answer) {
                    if (answer.status.is_ok() && answer.reply.attr) {
                        ++inode->lease_serial;
                        inode->cache.clear();
                        adopt_attr(*inode, *answer.reply.attr);
                        inode->size = inode->attr.size;
                        inode->mtime_ns = inode->attr.mtime_ns;
                        inode->mtime_dirty = false;
                        inode->written_end = inode->attr.size;
                        if (inode->inline_data.size() > size) inode->inline_data.resize(size);
                        adopt_layout(*inode, answer.reply, true);
                        inode->all_chunks_known = inode->attr.size == 0;
                    }
                    --inode->pending;
                    const Result<Attr> result = !answer.status.is_ok() ? Result<Attr>(answer.status)
                                                : !answer.reply.attr   ? Result<Attr>(Errc::corrupt)
                                                                     : Result<Attr>(shown(*inode));
                    end_exclusive(inode);
                    done(result);
                });
        });
    });
}

}  // namespace lumeofs::client
