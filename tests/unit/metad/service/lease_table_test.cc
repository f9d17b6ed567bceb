// SPDX-License-Identifier: Apache-2.0
#include "metad/service/lease_table.h"

#include <doctest/doctest.h>

using namespace lumeofs;
using namespace lumeofs::metad;

namespace {

const SessionId kA{1}, kB{2}, kC{3};
const InodeId kF{10};

struct Fixture {
    std::vector<PendingRecall> sent;
    LeaseTable table{[this](const PendingRecall& recall) { sent.push_back(recall); }};
    int answered = 0;

    void claim(SessionId session, RecallWhat what) {
        table.claim(session, kF, what, 0, [this] { ++answered; });
    }
};

}  // namespace

TEST_CASE("a free inode is claimed at once, a held one after the holder gave it back") {
    Fixture f;
    f.claim(kB, RecallWhat::revoke);
    CHECK(f.answered == 1);
    f.table.grant(kA, kF, Lease::write);
    f.claim(kB, RecallWhat::revoke);
    CHECK(f.answered == 1);
    REQUIRE(f.sent.size() == 1);
    CHECK(f.sent[0].session == kA);
    f.table.give_back(kA, kF, 0);
    CHECK(f.answered == 2);
    CHECK(f.table.inodes() == 0);
}

TEST_CASE("the holder itself and readers of a read lease do not wait") {
    Fixture f;
    f.table.grant(kA, kF, Lease::write);
    f.claim(kA, RecallWhat::revoke);
    CHECK(f.answered == 1);
    f.table.give_back(kA, kF, 0);
    f.table.grant(kA, kF, Lease::read);
    f.claim(kB, RecallWhat::flush);
    CHECK(f.answered == 2);
    CHECK(f.sent.empty());
}

TEST_CASE("a flush that was under way does not answer a later claim") {
    Fixture f;
    f.table.grant(kA, kF, Lease::write);
    f.claim(kB, RecallWhat::flush);
    f.claim(kC, RecallWhat::flush);
    REQUIRE(f.sent.size() == 2);
    f.table.acknowledge(kA, kF, f.sent[0].number, 0);
    CHECK(f.answered == 1);
    f.table.acknowledge(kA, kF, f.sent[1].number, 0);
    CHECK(f.answered == 2);
    CHECK(f.table.held(kA, kF) == Lease::write);
    CHECK(f.table.pending().empty());
}

TEST_CASE("acknowledging a revoke without giving back frees nothing") {
    Fixture f;
    f.table.grant(kA, kF, Lease::write);
    f.claim(kB, RecallWhat::revoke);
    f.table.acknowledge(kA, kF, f.sent[0].number, 0);
    CHECK(f.answered == 0);
    CHECK(f.table.pending().size() == 1);
}

TEST_CASE("a blocked inode gives no lease until it is unblocked") {
    Fixture f;
    f.table.block(kF);
    CHECK(!f.table.grantable(kA, kF));
    f.claim(kA, RecallWhat::revoke);
    CHECK(f.answered == 0);
    f.table.unblock(kF, 0);
    CHECK(f.answered == 1);
    CHECK(f.table.grantable(kA, kF));
}

TEST_CASE("waiters are served in turn and recall each other") {
    Fixture f;
    f.table.grant(kA, kF, Lease::write);
    int order = 0, b_at = 0, c_at = 0;
    f.table.claim(kB, kF, RecallWhat::revoke, 0, [&] {
        b_at = ++order;
        f.table.grant(kB, kF, Lease::write);
    });
    f.table.claim(kC, kF, RecallWhat::revoke, 0, [&] { c_at = ++order; });
    f.table.give_back(kA, kF, 0);
    CHECK(b_at == 1);
    CHECK(c_at == 0);
    REQUIRE(!f.sent.empty());
    CHECK(f.sent.back().session == kB);
    f.table.give_back(kB, kF, 0);
    CHECK(c_at == 2);
}

TEST_CASE("an ended session lets go of everything") {
    Fixture f;
    f.table.add_opener(kA, kF, true);
    f.table.grant(kA, kF, Lease::write);
    f.claim(kB, RecallWhat::revoke);
    f.table.drop_session(kA, 0);
    CHECK(f.answered == 1);
    CHECK(!f.table.is_open(kF));
    CHECK(f.table.inodes() == 0);
}

TEST_CASE("the end of a session that had it open only is no flush of its holder") {
    Fixture f;
    f.table.add_opener(kB, kF, false);
    f.table.grant(kA, kF, Lease::write);
    f.claim(kC, RecallWhat::flush);
    REQUIRE(f.sent.size() == 1);
    f.table.drop_session(kB, 0);
    CHECK(f.answered == 0);
    f.table.acknowledge(kA, kF, f.sent[0].number, 0);
    CHECK(f.answered == 1);
}

TEST_CASE("opens are a set per session") {
    Fixture f;
    f.table.add_opener(kA, kF, false);
    f.table.add_opener(kA, kF, false);
    CHECK(f.table.only_opener(kA, kF));
    CHECK(!f.table.only_opener(kB, kF));
    f.table.remove_opener(kA, kF);
    CHECK(!f.table.is_open(kF));
}
