// SPDX-License-Identifier: Apache-2.0
// Names, extended attributes, directories, paths: what the cache does not know is asked at the leader.
#include <algorithm>
#include <utility>

#include "client/core.h"

namespace lumeofs::client {
namespace {

constexpr uint32_t kTypeMask = 0170000;
constexpr uint32_t kDirectory = 0040000;
constexpr uint32_t kSymlink = 0120000;
constexpr uint64_t kDotCookies = 2;         // "." and ".." stand before the leader's cookies
constexpr uint32_t kEntryBytes = 24;        // struct fuse_dirent
constexpr uint32_t kPlusBytes = 152;        // struct fuse_direntplus
constexpr uint32_t kPageBytes = 64 * 1024;  // one request of plain entries
constexpr int kMaxLinksFollowed = 40;

template <typename T>
wire::QueryOpUnion query_of(T op) {
    wire::QueryOpUnion request;
    request.Set(std::move(op));
    return request;
}

template <typename T>
wire::MutationOpUnion mutation_of(T op) {
    wire::MutationOpUnion request;
    request.Set(std::move(op));
    return request;
}

}  // namespace

void Core::lookup(const Caller& caller, InodeId parent, const std::string& name, Done<Attr> done) {
    if (cache_counts(caller)) {
        const std::optional<InodeId> child = names_.child(parent, name);
        if (child && !*child) return done(Errc::noent);
        if (child && (find(*child) || names_.attr(*child))) {
            return getattr(caller, *child, [=, this](Result<Attr> attr) {
                if (!attr.is_ok()) return done(attr.status());
                done(lent(caller, *attr, parent, name));
            });
        }
    }
    wire::LookupT op;
    op.parent = parent.value;
    op.name = name;
    meta_.query(caller,
                query_of(std::move(op)),
                [this, caller, parent, name, epoch = names_.epoch(), done = std::move(done)](
                    const MetaAnswer& answer) {
                    const Errc code = answer.status.code();
                    const InodeId ino{answer.reply.attr ? answer.reply.attr->ino : 0};
                    if (code == Errc::noent || (code == Errc::ok && ino)) {
                        names_.learn_name(
                            answer.reply, epoch, parent, name, code == Errc::ok ? ino : InodeId{});
                    }
                    if (code != Errc::ok) return done(answer.status);
                    if (!ino) return done(Errc::corrupt);
                    names_.learn(answer.reply, epoch);
                    drop_names_if_full();
                    const InodePtr inode = find(ino);
                    // Our last commit is under way: only after it do we know how large the file is.
                    if (inode && inode->releasing) return getattr(caller, inode->ino, done);
                    learn_attr(answer.reply);
                    done(lent(caller, overlaid(to_attr(*answer.reply.attr)), parent, name));
                });
}

void Core::make(const Caller& caller, wire::MakeT op, Done<Attr> done) {
    op.exclusive = true;
    mutate(Urgency::normal,
           Binding::free,
           caller,
           mutation_of(op),
           [this, caller, parent = InodeId{op.parent}, name = op.name, done = std::move(done)](
               const MetaAnswer& answer) {
               if (!answer.status.is_ok()) return done(answer.status);
               if (!answer.reply.attr) return done(Errc::corrupt);
               done(lent(caller, to_attr(*answer.reply.attr), parent, name));
           });
}

void Core::readlink(const Caller& caller, InodeId ino, Done<std::string> done) {
    wire::ReadLinkT op;
    op.ino = ino.value;
    meta_.query(caller, query_of(op), [done = std::move(done)](const MetaAnswer& answer) {
        if (!answer.status.is_ok()) return done(answer.status);
        done(std::string(answer.reply.data.begin(), answer.reply.data.end()));
    });
}

void Core::link(const Caller& caller, wire::LinkT op, Done<Attr> done) {
    mutate(Urgency::normal,
           Binding::free,
           caller,
           mutation_of(op),
           [this, caller, parent = InodeId{op.new_parent}, name = op.new_name,
            done = std::move(done)](const MetaAnswer& answer) {
               if (!answer.status.is_ok()) return done(answer.status);
               if (!answer.reply.attr) return done(Errc::corrupt);
               learn_attr(answer.reply);
               done(lent(caller, overlaid(to_attr(*answer.reply.attr)), parent, name));
           });
}

void Core::unlink(const Caller& caller, wire::UnlinkT op, StatusDone done) {
    if (auto child = names_.child(InodeId{op.parent}, op.name); child && *child) end_linger(*child);
    mutate(Urgency::normal,
                 Binding::free,
                 caller,
                 mutation_of(std::move(op)),
                 [this, done = std::move(done)](const MetaAnswer& answer) {
                     if (answer.status.is_ok()) {
                         learn_attr(answer.reply);
                         if (answer.reply.attr) keep_removed_dir(to_attr(*answer.reply.attr));
                     }
                     done(answer.status);
                 });
}

// Somebody may still have it open or stand in it: the cluster knows nothing of it any more, but
// fstat(2) has to answer, and the kernel asks before anything that it will refuse itself.
void Core::keep_removed_dir(Attr attr) {
    constexpr size_t kRemovedDirs = 1'024;
    if ((attr.mode & kTypeMask) != kDirectory) return;
    if (removed_dirs_.size() >= kRemovedDirs) removed_dirs_.clear();
    attr.nlink = 0;
    removed_dirs_[attr.ino] = attr;
}

void Core::rename(const Caller& caller, wire::RenameT op, StatusDone done) {
    auto replaced = names_.child(InodeId{op.new_parent}, op.new_name);
    if (replaced && *replaced) end_linger(*replaced);
    const bool exchanges = (op.flags & kRenameExchange) != 0;
    const auto victim = replaced && !exchanges ? names_.attr(*replaced) : std::nullopt;
    mutate(Urgency::normal,
                 Binding::free,
                 caller,
                 mutation_of(std::move(op)),
                 [this, victim, done = std::move(done)](const MetaAnswer& answer) {
                     if (answer.status.is_ok() && victim) keep_removed_dir(*victim);
                     // What was replaced may be open here: its attributes are asked for again.
                     for (const auto& [ino, inode] : inodes_) inode->attr_known = false;
                     done(answer.status);
                 });
}

void Core::statfs(const Caller& caller, InodeId ino, Done<StatFs> done) {
    wire::StatFsT op;
    op.ino = ino.value;
    meta_.query(caller, query_of(op), [done = std::move(done)](const MetaAnswer& answer) {
        if (!answer.status.is_ok()) return done(answer.status);
        if (!answer.reply.statfs) return done(Errc::corrupt);
        const wire::StatFsInfoT& info = *answer.reply.statfs;
        done(StatFs{info.total_bytes, info.free_bytes, info.files, info.chunks});
    });
}

void Core::setxattr(const Caller& caller, wire::SetXattrT op, StatusDone done) {
    const InodeId ino{op.ino};
    mutate(Urgency::normal,
                 Binding::free,
                 caller,
                 mutation_of(std::move(op)),
                 [this, ino, done = std::move(done)](const MetaAnswer& answer) {
                     if (auto inode = find(ino)) inode->attr_known = false;  // its ctime
                     done(answer.status);
                 });
}

void Core::removexattr(const Caller& caller, wire::RemoveXattrT op, StatusDone done) {
    const InodeId ino{op.ino};
    mutate(Urgency::normal,
                 Binding::free,
                 caller,
                 mutation_of(std::move(op)),
                 [this, ino, done = std::move(done)](const MetaAnswer& answer) {
                     if (auto inode = find(ino)) inode->attr_known = false;
                     done(answer.status);
                 });
}

void Core::getxattr(const Caller& caller, wire::GetXattrT op, Done<Bytes> done) {
    meta_.query(
        caller, query_of(std::move(op)), [done = std::move(done)](const MetaAnswer& answer) {
            if (!answer.status.is_ok()) return done(answer.status);
            done(Bytes(answer.reply.data.begin(), answer.reply.data.end()));
        });
}

void Core::listxattr(const Caller& caller, InodeId ino, Done<Bytes> done) {
    wire::ListXattrT op;
    op.ino = ino.value;
    meta_.query(caller, query_of(op), [done = std::move(done)](const MetaAnswer& answer) {
        if (!answer.status.is_ok()) return done(answer.status);
        done(Bytes(answer.reply.data.begin(), answer.reply.data.end()));
    });
}

// --- directories

void Core::opendir(const Caller& /*caller*/, InodeId ino, Done<HandleId> done) {
    auto dir = std::make_shared<Handle>();
    dir->is_dir = true;
    dir->ino = ino;
    done(add_handle(dir));
}

void Core::releasedir(HandleId id) {
    const HandlePtr dir = handle(id);
    if (dir && dir->is_dir) handles_.erase(id);
}

namespace {

uint64_t entry_bytes(const DirEntry& entry, bool plus) {
    return ((plus ? kPlusBytes : kEntryBytes) + entry.name.size() + 7) / 8 * 8;
}

// Moves entries from `from` to `page` while they fit; at least one.
void fill_page(std::deque<DirEntry>& from, bool plus, uint64_t max_bytes, DirPage* page) {
    uint64_t used = 0;
    for (const DirEntry& entry : page->entries) used += entry_bytes(entry, plus);
    while (!from.empty()) {
        used += entry_bytes(from.front(), plus);
        if (used > max_bytes && !page->entries.empty()) return;
        page->entries.push_back(std::move(from.front()));
        from.pop_front();
    }
}

DirEntry dot(InodeId ino, const char* name, uint64_t cookie) {
    DirEntry entry;
    entry.name = name;
    entry.ino = ino;
    entry.type = kDirectory >> 12;
    entry.cookie = cookie;
    return entry;
}

}  // namespace

// Entries are fetched in larger pages than the kernel asks for and kept in the handle, without their
// attributes, which must not be older than the request that they answer: those are looked up in the
// cache when their turn comes, and an entry may go without.
void Core::readdir(const Caller& caller,
                   const HandlePtr& dir,
                   uint64_t cookie,
                   uint32_t max_bytes,
                   bool plus,
                   Done<DirPage> done) {
    DirPage page;
    if (cookie < 1) page.entries.push_back(dot(dir->ino, ".", 1));
    const uint64_t after = cookie < kDotCookies ? 0 : cookie - kDotCookies;
    const bool follows = cookie >= kDotCookies && dir->next_cookie == cookie;
    if (follows && dir->entries.empty() && dir->entries_end) {
        // Said once: who asks again wants to know what was added since.
        dir->entries_end = false;
        page.at_end = true;
        return done(std::move(page));
    }
    if (follows && !dir->entries.empty() && (!plus || dir->listing_kept)) {
        fill_page(dir->entries, plus, max_bytes, &page);
        for (DirEntry& entry : page.entries) {
            entry.attr.reset();
            if (plus) entry.attr = known_attr(caller, entry.ino);
            if (entry.attr) entry.attr = lent(caller, *entry.attr, dir->ino, entry.name);
        }
        page.at_end = dir->entries.empty() && dir->entries_end;
        dir->next_cookie = page.entries.back().cookie;
        return done(std::move(page));
    }
    wire::ReadDirT op;
    op.ino = dir->ino.value;
    op.cookie = after;
    const uint32_t page_bytes = plus && !dir->listing_kept ? 1 : kPageBytes;
    op.max_bytes = std::clamp(max_bytes, page_bytes, kMaxReaddirBytes);
    op.plus = plus;
    meta_.query(caller, query_of(op), [=, this, epoch = names_.epoch()](MetaAnswer answer) mutable {
        if (!answer.status.is_ok()) return done(answer.status);
        names_.learn_listing(answer.reply, epoch, dir->ino);
        dir->listing_kept = !answer.reply.kept.empty();
        drop_names_if_full();
        if (cookie < 2) {  // of the mount's root nothing outside is shown
            const bool has_parent = dir->ino != root_ && answer.reply.attr;
            const InodeId parent = has_parent ? InodeId{answer.reply.attr->parent} : dir->ino;
            page.entries.push_back(dot(parent, "..", 2));
        }
        dir->entries.clear();
        dir->entries_end = answer.reply.value == 1;
        for (auto& from : answer.reply.entries) {
            DirEntry entry;
            entry.name = std::move(from->name);
            entry.ino = InodeId{from->ino};
            entry.type = from->type;
            entry.cookie = from->cookie + kDotCookies;
            if (plus && from->attr) {
                const InodePtr inode = find(entry.ino);
                if (!inode || !inode->releasing) entry.attr = overlaid(to_attr(*from->attr));
            }
            dir->entries.push_back(std::move(entry));
        }
        fill_page(dir->entries, plus, max_bytes, &page);
        for (DirEntry& entry : page.entries) {
            if (entry.attr) entry.attr = lent(caller, *entry.attr, dir->ino, entry.name);
        }
        page.at_end = dir->entries.empty() && dir->entries_end;
        dir->next_cookie = page.entries.empty() ? 0 : page.entries.back().cookie;
        done(std::move(page));
    });
}

// --- paths

void Core::resolve_path(
    const Caller& caller, InodeId from, std::string path, bool follow, int links, Done<Attr> done) {
    const size_t start = path.find_first_not_of('/');
    if (start == std::string::npos) return getattr(caller, from, std::move(done));
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, end - start);
    std::string rest = path.substr(end);
    if (name.size() > kMaxNameBytes) return done(Errc::nametoolong);
    lookup(caller, from, name, [=, this](const Result<Attr>& found) {
        if (!found.is_ok()) return done(found.status());
        const bool last = rest.find_first_not_of('/') == std::string::npos;
        const uint32_t type = found->mode & kTypeMask;
        if (type == kSymlink && (!last || follow)) {
            if (links >= kMaxLinksFollowed) return done(Errc::loop);
            return readlink(caller, found->ino, [=, this](const Result<std::string>& target) {
                if (!target.is_ok()) return done(target.status());
                const bool absolute = !target->empty() && target->front() == '/';
                resolve_path(
                    caller, absolute ? root_ : from, *target + rest, follow, links + 1, done);
            });
        }
        if (last && rest.empty()) return done(*found);
        if (type != kDirectory) return done(Errc::notdir);
        resolve_path(caller, found->ino, rest, follow, links, done);
    });
}

}  // namespace lumeofs::client
