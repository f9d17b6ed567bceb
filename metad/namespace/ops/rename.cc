// SPDX-License-Identifier: Apache-2.0
// rename(2) with NOREPLACE and EXCHANGE.
//
// The name that stays where it was keeps its cookie: a target that is replaced keeps the target's,
// a rename inside one directory the source's, so that a directory read along the way neither misses
// an entry that was there all the time nor meets a renamed one for ever.
#include <utility>

#include "metad/namespace/names.h"
#include "metad/namespace/ops/op.h"
#include "metad/namespace/permission.h"
#include "metad/namespace/replies.h"

namespace lumeofs::metad {

namespace {

constexpr uint32_t kNoReplace = 1;
constexpr uint32_t kExchange = 2;

// All that a rename is about. to_* are empty if the new name is not there.
struct Move {
    InodeRow from_dir;
    InodeRow to_dir;  // unused if it is the same directory
    DentryRow from;
    InodeRow inode;
    std::optional<DentryRow> to;
    std::optional<InodeRow> target;
    bool same_dir = false;
    bool exchange = false;

    InodeRow& new_dir() { return same_dir ? from_dir : to_dir; }
};

// Is `ancestor` the directory `dir` or above it?
bool is_above(Tables& t, InodeId ancestor, InodeRow dir) {
    while (dir.ino != ancestor) {
        if (dir.ino == kRootInode) return false;
        const std::optional<InodeRow> up = t.inodes.load(dir.parent);
        if (!up || up->ino == dir.ino) return false;
        dir = *up;
    }
    return true;
}

Errc load_move(OpContext& ctx, const wire::RenameT& op, Move* m) {
    if (Errc e = load_dir(ctx.t, InodeId{op.parent}, &m->from_dir); e != Errc::ok) return e;
    if (Errc e = load_dir(ctx.t, InodeId{op.new_parent}, &m->to_dir); e != Errc::ok) return e;
    if (Errc e = check_new_name(op.name, Errc::inval); e != Errc::ok) return e;
    if (Errc e = check_new_name(op.new_name, Errc::inval); e != Errc::ok) return e;
    m->same_dir = op.parent == op.new_parent;
    m->exchange = (op.flags & kExchange) != 0;
    if (!may(ctx.caller, m->from_dir, kMayExecute) || !may(ctx.caller, m->to_dir, kMayExecute)) {
        return Errc::acces;
    }
    const std::optional<DentryRow> from = ctx.t.dentries.load(m->from_dir.ino, op.name);
    if (!from) return Errc::noent;
    m->from = *from;
    std::optional<InodeRow> inode = ctx.t.inodes.load(from->ino);
    m->to = ctx.t.dentries.load(m->to_dir.ino, op.new_name);
    if (m->to) m->target = ctx.t.inodes.load(m->to->ino);
    if (!inode || (m->to && !m->target)) {
        ctx.db.fail(Errc::corrupt, "a name without an inode");
        return Errc::io;
    }
    m->inode = *inode;
    return Errc::ok;
}

Errc check_flags(const wire::RenameT& op, const Move& m) {
    if ((op.flags & kNoReplace) != 0 && m.to) return Errc::exist;
    if (m.exchange && !m.to) return Errc::noent;
    return m.to_dir.nlink == 0 ? Errc::noent : Errc::ok;
}

Errc check_permission(OpContext& ctx, Move& m) {
    if (Errc e = may_remove(ctx.caller, m.from_dir, m.inode); e != Errc::ok) return e;
    const Errc e = m.target ? may_remove(ctx.caller, m.new_dir(), *m.target)
                            : may_add(ctx.caller, m.new_dir());
    if (e != Errc::ok) return e;
    if (m.same_dir) return Errc::ok;
    // A directory that changes its parent gets its ".." written.
    if (m.inode.is_dir() && !may(ctx.caller, m.inode, kMayWrite)) return Errc::acces;
    if (m.exchange && m.target->is_dir() && !may(ctx.caller, *m.target, kMayWrite)) {
        return Errc::acces;
    }
    return Errc::ok;
}

Errc check_tree(OpContext& ctx, Move& m) {
    if (m.inode.is_dir() && is_above(ctx.t, m.inode.ino, m.to_dir)) return Errc::inval;
    if (m.exchange) {
        if (m.target->is_dir() && is_above(ctx.t, m.target->ino, m.from_dir)) return Errc::inval;
        if (m.same_dir || m.inode.is_dir() == m.target->is_dir()) return Errc::ok;
        const InodeRow& gains = m.inode.is_dir() ? m.to_dir : m.from_dir;
        return gains.nlink >= kMaxLinks ? Errc::mlink : Errc::ok;
    }
    if (m.target) {
        // Something below the target is moved over it: the target is not empty.
        if (m.target->is_dir() && is_above(ctx.t, m.target->ino, m.from_dir)) return Errc::notempty;
        if (m.inode.is_dir() && !m.target->is_dir()) return Errc::notdir;
        if (!m.inode.is_dir() && m.target->is_dir()) return Errc::isdir;
        if (m.target->is_dir() && !ctx.t.dentries.empty(m.target->ino)) return Errc::notempty;
        return Errc::ok;
    }
    if (!m.same_dir && m.inode.is_dir() && m.to_dir.nlink >= kMaxLinks) return Errc::mlink;
    return Errc::ok;
}

void save_dirs(OpContext& ctx, Move& m) {
    touch_dir(m.from_dir, ctx.now_ns);
    ctx.t.inodes.update(m.from_dir);
    if (m.same_dir) return;
    touch_dir(m.to_dir, ctx.now_ns);
    ctx.t.inodes.update(m.to_dir);
}

Reply exchange(OpContext& ctx, Move& m) {
    DentryRow from = m.from;
    DentryRow to = *m.to;
    std::swap(from.ino, to.ino);
    std::swap(from.type, to.type);
    ctx.t.dentries.update(from);
    ctx.t.dentries.update(to);
    if (!m.same_dir) {
        if (m.inode.is_dir()) --m.from_dir.nlink, ++m.to_dir.nlink;
        if (m.target->is_dir()) --m.to_dir.nlink, ++m.from_dir.nlink;
    }
    save_dirs(ctx, m);
    m.inode.parent = m.new_dir().ino;
    m.target->parent = m.from_dir.ino;
    touch(m.inode, ctx.now_ns);
    touch(*m.target, ctx.now_ns);
    ctx.t.inodes.update(m.inode);
    ctx.t.inodes.update(*m.target);
    return reply_attr(m.inode);
}

Reply move_name(OpContext& ctx, const wire::RenameT& op, Move& m) {
    ctx.t.dentries.remove(m.from_dir.ino, op.name);
    DentryRow entry{m.new_dir().ino, op.new_name, m.inode.ino, m.from.type, m.from.cookie};
    if (m.to) {
        ctx.t.dentries.update(entry);
    } else {
        if (!m.same_dir) entry.cookie = ++m.to_dir.last_cookie;
        ctx.t.dentries.insert(entry);
    }
    if (m.inode.is_dir()) {
        --m.from_dir.nlink;
        ++m.new_dir().nlink;
    }
    if (m.target && m.target->is_dir()) --m.new_dir().nlink;
    save_dirs(ctx, m);
    if (m.target) drop_name(ctx, *m.target);
    m.inode.parent = m.new_dir().ino;
    touch(m.inode, ctx.now_ns);
    ctx.t.inodes.update(m.inode);
    return reply_attr(m.inode);
}

}  // namespace

Reply rename(OpContext& ctx, const wire::RenameT& op) {
    if ((op.flags & ~(kNoReplace | kExchange)) != 0 || op.flags == (kNoReplace | kExchange)) {
        return reply_error(Errc::inval);
    }
    Move m;
    if (Errc e = load_move(ctx, op, &m); e != Errc::ok) return reply_error(e);
    if (Errc e = check_flags(op, m); e != Errc::ok) return reply_error(e);
    if (Errc e = check_permission(ctx, m); e != Errc::ok) return reply_error(e);
    // POSIX: two names of one inode, nothing happens.
    if (m.to && m.to->ino == m.from.ino) return reply_attr(m.inode);
    if (Errc e = check_tree(ctx, m); e != Errc::ok) return reply_error(e);
    if (m.target && !m.exchange && !foreseen(ctx, m.target->ino)) return reply_error(Errc::recall);
    return m.exchange ? exchange(ctx, m) : move_name(ctx, op, m);
}

}  // namespace lumeofs::metad
