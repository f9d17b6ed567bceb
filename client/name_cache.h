// SPDX-License-Identifier: Apache-2.0
// NameCache: attributes and names that this client may keep, under read leases (system.md 2.4).
//
// An entry exists only while the leader counts us as a reader of its inode: a reply lists what may be
// kept, a recall takes it away. Three rules keep late messages harmless:
//   - replies with leases have numbers, and a recall names the last one sent: what it says of the
//     recalled inode is not kept if it comes after the recall [27];
//   - clear() (before an Attach, at the end of the session) begins a new epoch, and a reply is kept
//     only in the epoch in which its request was made: nothing of an earlier leader gets in;
//   - while a change of our own is under way nothing is said of what it touches: another client may
//     have seen the new state already, and nobody may see the old one after that (I7).
// The owner asks only while its lease time runs.
// single-thread: the loop.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "client/meta_client.h"
#include "client/types.h"
#include "common/wire/messages.h"

namespace lumeofs::client {

// What an operation of ours changes, as far as that is known before it is carried out.
struct NameChange {
    enum class After { changed, absent, unknown };  // changed: names the reply's inode
    struct Name {
        InodeId parent;
        std::string name;
        After after;
    };
    uint64_t epoch = 0;
    std::vector<InodeId> inodes;
    std::vector<Name> names;
    bool makes_directory = false;
    // A rename that surely moves its first name to its second, if they still mean these at the end.
    struct Move {
        InodeId from, to;
    };
    std::optional<Move> move;
};

class NameCache {
public:
    uint64_t epoch() const { return epoch_; }
    void clear();

    // nullopt: not known.
    std::optional<Attr> attr(InodeId ino) const;
    // nullopt: not known; InodeId{}: there is no such name.
    std::optional<InodeId> child(InodeId parent, const std::string& name) const;

    // A query of `epoch` was answered; what the reply says may be kept as far as it lists it.
    void learn(const wire::MetaReplyT& reply, uint64_t epoch);
    void learn_name(const wire::MetaReplyT& reply,
                    uint64_t epoch,
                    InodeId parent,
                    const std::string& name,
                    InodeId child);
    void learn_listing(const wire::MetaReplyT& reply, uint64_t epoch, InodeId dir);

    // Around each mutation of ours.
    NameChange begin(const wire::MutationOpUnion& op);
    void end(NameChange change, const MetaAnswer& answer);

    // The leader takes the read lease back.
    void recall(InodeId ino, uint64_t last_grant);
    void forget(InodeId ino);

    size_t entries() const { return inodes_.size() + names_; }
    bool full() const;
    // Drops everything and keeps nothing more until reopen(): the leader is being told, and what it
    // grants before it knows it may count as dropped.
    void close();
    void reopen();

private:
    struct Entry {
        std::optional<Attr> attr;
        std::unordered_map<std::string, InodeId> names;
        bool complete = false;  // a directory that has no other names than these
    };

    bool kept(const wire::MetaReplyT& reply, InodeId ino) const;
    void keep_attr(const wire::AttrT& attr);
    void keep_name(InodeId parent, const std::string& name, InodeId child);
    void forget_name(InodeId parent, const std::string& name);

    uint64_t epoch_ = 1;
    bool closed_ = false;
    std::unordered_map<InodeId, Entry> inodes_;
    size_t names_ = 0;
    std::map<InodeId, int> changing_;  // changes of ours under way
    std::multiset<std::pair<InodeId, std::string>> changing_names_;
    std::map<InodeId, uint64_t> recalled_;  // the last grant that its last recall has named
};

}  // namespace lumeofs::client
