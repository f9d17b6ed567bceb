// SPDX-License-Identifier: Apache-2.0
#include "client/name_cache.h"

#include <doctest/doctest.h>

using namespace lumeofs;
using namespace lumeofs::client;

namespace {

const InodeId kDir{5}, kFile{7}, kOther{8};

wire::AttrT attr_of(InodeId ino, uint64_t version) {
    wire::AttrT attr;
    attr.ino = ino.value;
    attr.mode = 0100644;
    attr.version = version;
    return attr;
}

wire::MetaReplyT reply_of(InodeId ino, uint64_t version, uint64_t number, bool kept = true) {
    wire::MetaReplyT reply;
    reply.attr = std::make_unique<wire::AttrT>(attr_of(ino, version));
    reply.grant_number = number;
    if (kept) reply.kept = {kDir.value, ino.value};
    return reply;
}

wire::MutationOpUnion unlink_of(InodeId parent, const std::string& name) {
    wire::UnlinkT op;
    op.parent = parent.value;
    op.name = name;
    wire::MutationOpUnion result;
    result.Set(std::move(op));
    return result;
}

wire::MutationOpUnion mkdir_of(InodeId parent, const std::string& name) {
    wire::MakeT op;
    op.parent = parent.value;
    op.name = name;
    op.mode = 0040755;
    wire::MutationOpUnion result;
    result.Set(std::move(op));
    return result;
}

struct Fixture {
    NameCache cache;

    // Makes the directory kFile in kDir; `tries` as the answer's.
    void make_directory(int tries, bool kept = true) {
        const NameChange change = cache.begin(mkdir_of(kDir, "d"));
        MetaAnswer answer;
        answer.reply = reply_of(kFile, 1, 1, kept);
        answer.tries = tries;
        cache.end(change, answer);
    }

    void found(const wire::MetaReplyT& reply, const std::string& name, InodeId ino) {
        cache.learn(reply, cache.epoch());
        cache.learn_name(reply, cache.epoch(), kDir, name, ino);
    }
};

}  // namespace

TEST_CASE("what a reply lists is kept until it is recalled, what it does not list is not") {
    Fixture f;
    f.found(reply_of(kFile, 1, 1), "f", kFile);
    f.found(reply_of(kOther, 1, 2, false), "o", kOther);
    REQUIRE(f.cache.attr(kFile));
    CHECK(f.cache.child(kDir, "f") == kFile);
    CHECK_FALSE(f.cache.attr(kOther));
    CHECK_FALSE(f.cache.child(kDir, "o"));
    f.cache.recall(kFile, 2);
    CHECK_FALSE(f.cache.attr(kFile));
    CHECK(f.cache.child(kDir, "f") == kFile);
    f.cache.recall(kDir, 2);
    CHECK_FALSE(f.cache.child(kDir, "f"));
    CHECK(f.cache.entries() == 0);
}

TEST_CASE("a grant that comes after the recall that names it is void, a later one counts") {
    Fixture f;
    f.cache.recall(kFile, 4);
    f.found(reply_of(kFile, 1, 4), "f", kFile);
    CHECK_FALSE(f.cache.attr(kFile));
    CHECK(f.cache.child(kDir, "f") == kFile);  // of another inode: not recalled
    f.found(reply_of(kFile, 1, 5), "f", kFile);
    CHECK(f.cache.attr(kFile));
}

TEST_CASE("an answer to a request of an earlier epoch is not kept") {
    Fixture f;
    const uint64_t before = f.cache.epoch();
    f.cache.clear();
    f.cache.learn(reply_of(kFile, 1, 1), before);
    f.cache.learn_name(reply_of(kFile, 1, 1), before, kDir, "f", kFile);
    CHECK(f.cache.entries() == 0);
}

TEST_CASE("while a change of ours is under way nothing is said of what it touches") {
    Fixture f;
    f.found(reply_of(kFile, 1, 1), "f", kFile);
    f.found(reply_of(kOther, 1, 2), "o", kOther);
    const auto op = unlink_of(kDir, "f");
    const NameChange change = f.cache.begin(op);
    CHECK_FALSE(f.cache.attr(kFile));
    CHECK_FALSE(f.cache.child(kDir, "f"));
    CHECK(f.cache.child(kDir, "o") == kOther);  // this name is not changed
    MetaAnswer answer;
    answer.reply = reply_of(kFile, 2, 3);
    f.cache.end(change, answer);
    REQUIRE(f.cache.attr(kFile));
    CHECK(f.cache.attr(kFile)->version == 2);
    REQUIRE(f.cache.child(kDir, "f"));
    CHECK_FALSE(static_cast<bool>(*f.cache.child(kDir, "f")));  // known to be absent
}

TEST_CASE("what our change's answer does not let us keep is forgotten, a refusal changes nothing") {
    Fixture f;
    f.found(reply_of(kFile, 1, 1), "f", kFile);
    const auto op = unlink_of(kDir, "f");
    NameChange change = f.cache.begin(op);
    MetaAnswer answer;
    answer.status = Status(Errc::acces);
    f.cache.end(change, answer);
    CHECK(f.cache.child(kDir, "f") == kFile);
    CHECK(f.cache.attr(kFile));

    change = f.cache.begin(op);
    answer.status = ok_status();
    answer.reply = reply_of(kFile, 2, 3, false);
    answer.reply.changed.push_back(std::make_unique<wire::AttrT>(attr_of(kDir, 9)));
    f.cache.end(change, answer);
    CHECK_FALSE(f.cache.attr(kFile));
    CHECK_FALSE(f.cache.child(kDir, "f"));
    CHECK(f.cache.entries() == 0);
}

TEST_CASE("what goes with a change is forgotten by the list of all that it has changed") {
    Fixture f;
    f.found(reply_of(kFile, 1, 1), "f", kFile);
    const auto op = unlink_of(kDir, "unknown");
    const NameChange change = f.cache.begin(op);
    MetaAnswer answer;
    answer.reply.kept = {kDir.value};
    answer.reply.grant_number = 2;
    wire::AttrT gone;
    gone.ino = kFile.value;
    answer.reply.changed.push_back(std::make_unique<wire::AttrT>(gone));
    f.cache.end(change, answer);
    CHECK_FALSE(f.cache.attr(kFile));
}

TEST_CASE("of a directory that we have just made all names are known, until it is recalled") {
    Fixture f;
    f.make_directory(1);
    REQUIRE(f.cache.child(kFile, "x"));
    CHECK_FALSE(static_cast<bool>(*f.cache.child(kFile, "x")));
    const NameChange change = f.cache.begin(mkdir_of(kFile, "x"));
    CHECK_FALSE(f.cache.child(kFile, "x"));  // not while it is being made
    MetaAnswer answer;
    answer.reply = reply_of(kOther, 1, 2);
    answer.reply.kept = {kFile.value, kOther.value};
    f.cache.end(change, answer);
    CHECK(f.cache.child(kFile, "x") == kOther);
    CHECK(f.cache.child(kFile, "y") == InodeId{});
    f.cache.recall(kFile, 3);
    CHECK_FALSE(f.cache.child(kFile, "y"));
}

TEST_CASE("names of a directory are not all known if its making was repeated or may not be kept") {
    Fixture repeated, refused;
    repeated.make_directory(2);  // somebody may have used it since the first answer
    CHECK_FALSE(repeated.cache.child(kFile, "x"));
    refused.make_directory(1, false);
    CHECK_FALSE(refused.cache.child(kFile, "x"));
}

TEST_CASE("a rename of a known name to one that is known to be another leaves nothing open") {
    Fixture f;
    f.make_directory(1);
    auto in_directory = [&](const wire::MutationOpUnion& op, InodeId ino, uint64_t number) {
        const NameChange change = f.cache.begin(op);
        MetaAnswer answer;
        answer.reply = reply_of(ino, 1, number);
        answer.reply.kept = {kFile.value, ino.value};
        f.cache.end(change, answer);
    };
    in_directory(mkdir_of(kFile, "x"), kOther, 2);
    wire::RenameT op;
    op.parent = op.new_parent = kFile.value;
    op.name = "x";
    op.new_name = "y";
    wire::MutationOpUnion rename;
    rename.Set(std::move(op));
    in_directory(rename, kOther, 3);
    CHECK(f.cache.child(kFile, "y") == kOther);
    CHECK(f.cache.child(kFile, "x") == InodeId{});
    CHECK(f.cache.child(kFile, "z") == InodeId{});

    // Recalled on the way: the other client may have made them names of one inode.
    const wire::MutationOpUnion back = [] {
        wire::RenameT again;
        again.parent = again.new_parent = kFile.value;
        again.name = "y";
        again.new_name = "x";
        wire::MutationOpUnion result;
        result.Set(std::move(again));
        return result;
    }();
    const NameChange change = f.cache.begin(back);
    f.cache.recall(kFile, 4);
    MetaAnswer answer;
    answer.reply = reply_of(kOther, 1, 5);
    answer.reply.kept = {kFile.value, kOther.value};
    f.cache.end(change, answer);
    CHECK(f.cache.child(kFile, "x") == kOther);
    CHECK_FALSE(f.cache.child(kFile, "y"));
}

TEST_CASE("a rename leaves it open what its old name means now") {
    Fixture f;
    f.make_directory(1);
    wire::RenameT op;
    op.parent = kFile.value;
    op.name = "x";
    op.new_parent = kDir.value;
    op.new_name = "y";
    wire::MutationOpUnion rename;
    rename.Set(std::move(op));
    const NameChange change = f.cache.begin(rename);
    MetaAnswer answer;
    answer.reply.kept = {kDir.value, kFile.value};
    answer.reply.grant_number = 2;
    f.cache.end(change, answer);
    CHECK_FALSE(f.cache.child(kFile, "x"));
    CHECK_FALSE(f.cache.child(kFile, "z"));
}

TEST_CASE("between telling the leader that all was dropped and its answer nothing is kept") {
    Fixture f;
    f.found(reply_of(kFile, 1, 1), "f", kFile);
    f.cache.close();
    CHECK(f.cache.entries() == 0);
    const uint64_t before = f.cache.epoch();
    f.found(reply_of(kFile, 1, 2), "f", kFile);
    CHECK(f.cache.entries() == 0);
    f.cache.reopen();
    f.cache.learn(reply_of(kFile, 1, 3), before);  // asked before the answer
    CHECK(f.cache.entries() == 0);
    f.found(reply_of(kFile, 1, 4), "f", kFile);
    CHECK(f.cache.attr(kFile));
}
