// SPDX-License-Identifier: Apache-2.0
#include "client/name_cache.h"

#include <algorithm>

#include "client/core.h"
#include "common/base/planted_bug.h"

namespace lumeofs::client {
namespace {

constexpr uint32_t kTypeMask = 0170000;
constexpr uint32_t kDirectory = 0040000;
constexpr size_t kEntriesMax = 256 * 1024;
constexpr size_t kRecalledMax = 64 * 1024;

}  // namespace

void NameCache::clear() {
    ++epoch_;
    inodes_.clear();
    names_ = 0;
    recalled_.clear();
}

void NameCache::close() {
    clear();
    closed_ = true;
}

void NameCache::reopen() {
    clear();
    closed_ = false;
}

bool NameCache::full() const { return entries() > kEntriesMax || recalled_.size() > kRecalledMax; }

// --- asking

std::optional<Attr> NameCache::attr(InodeId ino) const {
    if (changing_.contains(ino)) return std::nullopt;
    auto it = inodes_.find(ino);
    return it == inodes_.end() ? std::nullopt : it->second.attr;
}

std::optional<InodeId> NameCache::child(InodeId parent, const std::string& name) const {
    auto it = inodes_.find(parent);
    if (it == inodes_.end()) return std::nullopt;
    auto entry = it->second.names.find(name);
    const bool known = entry != it->second.names.end();
    if (!known && !it->second.complete) return std::nullopt;
    if (!changing_names_.empty() && changing_names_.contains({parent, name})) return std::nullopt;
    return known ? entry->second : InodeId{};
}

// --- answers

bool NameCache::kept(const wire::MetaReplyT& reply, InodeId ino) const {
    if (closed_) return false;
    if (std::find(reply.kept.begin(), reply.kept.end(), ino.value) == reply.kept.end()) return false;
    auto recalled = recalled_.find(ino);
    return recalled == recalled_.end() || reply.grant_number > recalled->second;
}

void NameCache::keep_attr(const wire::AttrT& attr) {
    std::optional<Attr>& known = inodes_[InodeId{attr.ino}].attr;
    if (!known || known->version <= attr.version) known = to_attr(attr);
}

void NameCache::keep_name(InodeId parent, const std::string& name, InodeId child) {
    if (inodes_[parent].names.insert_or_assign(name, child).second) ++names_;
}

void NameCache::learn(const wire::MetaReplyT& reply, uint64_t epoch) {
    if (epoch != epoch_ || reply.kept.empty()) return;
    if (reply.attr && kept(reply, InodeId{reply.attr->ino})) keep_attr(*reply.attr);
    for (const auto& changed : reply.changed) {
        if (changed->mode != 0 && kept(reply, InodeId{changed->ino})) keep_attr(*changed);
    }
}

void NameCache::learn_name(const wire::MetaReplyT& reply,
                           uint64_t epoch,
                           InodeId parent,
                           const std::string& name,
                           InodeId child) {
    if (epoch == epoch_ && kept(reply, parent)) keep_name(parent, name, child);
}

void NameCache::learn_listing(const wire::MetaReplyT& reply, uint64_t epoch, InodeId dir) {
    if (epoch != epoch_ || closed_) return;
    const bool names = kept(reply, dir);
    const std::set<uint64_t> listed(reply.kept.begin(), reply.kept.end());
    for (const auto& entry : reply.entries) {
        if (names) keep_name(dir, entry->name, InodeId{entry->ino});
        auto recalled = recalled_.find(InodeId{entry->ino});
        const bool late = recalled != recalled_.end() && reply.grant_number <= recalled->second;
        if (entry->attr && listed.contains(entry->ino) && !late) keep_attr(*entry->attr);
    }
}

// --- our own changes

NameChange NameCache::begin(const wire::MutationOpUnion& op) {
    NameChange change;
    change.epoch = epoch_;
    auto touch = [&](uint64_t ino) { change.inodes.push_back(InodeId{ino}); };
    using After = NameChange::After;
    auto touch_name = [&](uint64_t parent, const std::string& name, After after) {
        touch(parent);
        if (auto known = child(InodeId{parent}, name); known && *known) change.inodes.push_back(*known);
        change.names.push_back({InodeId{parent}, name, after});
    };
    if (const auto* make = op.AsMake()) {
        touch_name(make->parent, make->name, After::changed);
        change.makes_directory = (make->mode & kTypeMask) == kDirectory;
    } else if (const auto* link = op.AsLink()) {
        touch(link->ino);
        touch_name(link->new_parent, link->new_name, After::changed);
    } else if (const auto* unlink = op.AsUnlink()) {
        touch_name(unlink->parent, unlink->name, After::absent);
    } else if (const auto* rename = op.AsRename()) {
        // The old name may still be there: two names of one inode, an exchange.
        const bool exchange = (rename->flags & kRenameExchange) != 0;
        const auto old_child = child(InodeId{rename->parent}, rename->name);
        const auto new_child = child(InodeId{rename->new_parent}, rename->new_name);
        if (!exchange && old_child && new_child && *old_child != *new_child) {
            change.move = NameChange::Move{*old_child, *new_child};
        }
        touch_name(rename->parent, rename->name, After::unknown);
        touch_name(rename->new_parent, rename->new_name, exchange ? After::unknown : After::changed);
    } else if (const auto* set = op.AsSetAttr()) {
        touch(set->ino);
    } else if (const auto* set_xattr = op.AsSetXattr()) {
        touch(set_xattr->ino);
    } else if (const auto* remove_xattr = op.AsRemoveXattr()) {
        touch(remove_xattr->ino);
    } else if (const auto* write = op.AsWriteInline()) {
        touch(write->ino);
    } else if (const auto* allocate = op.AsAllocate()) {
        touch(allocate->ino);
    } else if (const auto* commit = op.AsCommitWrite()) {
        touch(commit->ino);
    } else if (const auto* punch = op.AsPunchChunks()) {
        touch(punch->ino);
    }
    for (InodeId ino : change.inodes) ++changing_[ino];
    for (const auto& one : change.names) changing_names_.insert({one.parent, one.name});
    return change;
}

// What the answer does not say we know no more. A refusal leaves everything as it was.
void NameCache::end(NameChange change, const MetaAnswer& answer) {
    for (InodeId ino : change.inodes) {
        if (--changing_.at(ino) == 0) changing_.erase(ino);
    }
    for (const auto& one : change.names) {
        changing_names_.erase(changing_names_.find({one.parent, one.name}));
    }
    if (!answer.status.is_ok()) return;
    // Nothing was recalled meanwhile: it found what we knew.
    const bool moved = change.move &&
                       child(change.names[0].parent, change.names[0].name) == change.move->from &&
                       child(change.names[1].parent, change.names[1].name) == change.move->to;
    const wire::MetaReplyT& reply = answer.reply;
    if (reply.attr) change.inodes.push_back(InodeId{reply.attr->ino});
    for (const auto& changed : reply.changed) change.inodes.push_back(InodeId{changed->ino});
    for (InodeId ino : change.inodes) {
        if (change.epoch != epoch_ || !kept(reply, ino)) forget(ino);
    }
    if (change.epoch != epoch_) return;
    if (moved) change.names[0].after = NameChange::After::absent;
    learn(reply, change.epoch);
    const InodeId ino{reply.attr ? reply.attr->ino : 0};
    for (const auto& [parent, name, after] : change.names) {
        forget_name(parent, name);
        if (!kept(reply, parent)) continue;
        if (after == NameChange::After::absent) keep_name(parent, name, InodeId{});
        if (after == NameChange::After::changed && ino) keep_name(parent, name, ino);
        if (after == NameChange::After::unknown) inodes_[parent].complete = false;
    }
    // Nobody knew of it before this answer, so its lease began while it was empty. The answer of a
    // repeated request may be from any time before.
    if (change.makes_directory && ino && answer.tries == 1 && kept(reply, ino)) {
        inodes_[ino].complete = true;
    }
}

void NameCache::forget_name(InodeId parent, const std::string& name) {
    auto it = inodes_.find(parent);
    if (it != inodes_.end()) names_ -= it->second.names.erase(name);
}

void NameCache::forget(InodeId ino) {
    auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    names_ -= it->second.names.size();
    inodes_.erase(it);
}

void NameCache::recall(InodeId ino, uint64_t last_grant) {
    if (planted_bug("client.keep_recalled_names")) return;
    forget(ino);
    uint64_t& last = recalled_[ino];
    last = std::max(last, last_grant);
}

}  // namespace lumeofs::client
