// SPDX-License-Identifier: Apache-2.0
#include "metad/service/read_leases.h"

#include <doctest/doctest.h>

using namespace lumeofs;
using namespace lumeofs::metad;

namespace {

const SessionId kA{1}, kB{2}, kC{3};
const InodeId kF{10}, kG{11};

struct Fixture {
    std::vector<PendingRecall> sent;
    ReadLeases table{Term{3}, [this](const PendingRecall& recall) { sent.push_back(recall); }};
    int answered = 0;

    // A change by `session`, up to the point where it may be proposed.
    void change(SessionId session, Nanos now = 0) {
        table.block(kF);
        table.recall_others(session, kF, now, [this] { ++answered; });
    }
};

}  // namespace

TEST_CASE("many sessions keep one inode, and a change waits for all but its own") {
    Fixture f;
    CHECK(f.table.grant(kA, kF, 0));
    CHECK(f.table.grant(kB, kF, 0));
    CHECK(f.table.grant(kC, kF, 0));
    f.change(kA);
    CHECK(f.answered == 0);
    REQUIRE(f.sent.size() == 2);
    CHECK(f.sent[0].number != f.sent[1].number);
    f.table.acknowledge(kB, kF, f.sent[0].number);
    CHECK(f.answered == 0);
    f.table.acknowledge(kC, kF, f.sent[1].number);
    CHECK(f.answered == 1);
    CHECK(f.table.has(kA, kF));
    CHECK_FALSE(f.table.others_have(kA, kF));
    CHECK(f.table.pending().empty());
}

TEST_CASE("while an inode is being changed nobody gets it, and for a while after a recall") {
    Fixture f;
    CHECK(f.table.grant(kB, kF, 0));
    f.change(kA);
    CHECK_FALSE(f.table.grant(kC, kF, 0));
    CHECK_FALSE(f.table.grant(kB, kF, 0));  // recalled: what is answered now must not be kept
    f.table.acknowledge(kB, kF, f.sent[0].number);
    CHECK(f.answered == 1);
    CHECK_FALSE(f.table.grant(kB, kF, kSecond));
    f.table.unblock(kF);
    CHECK_FALSE(f.table.grant(kB, kF, kMillisecond));
    CHECK(f.table.grant(kB, kF, 3 * kSecond));
}

TEST_CASE("only the number of the recall that is under way answers it") {
    Fixture f;
    f.table.grant(kB, kF, 0);
    f.change(kA);
    f.table.acknowledge(kB, kF, 0);
    f.table.acknowledge(kB, kF, f.sent[0].number + 1);
    f.table.acknowledge(kB, kG, f.sent[0].number);
    f.table.acknowledge(kC, kF, f.sent[0].number);
    CHECK(f.answered == 0);
    CHECK((f.sent[0].number >> 24) == 3);  // of this term: an answer to an earlier leader is none
    f.table.resend(kSecond, kSecond);
    REQUIRE(f.sent.size() == 2);
    CHECK(f.sent[1].number == f.sent[0].number);
    f.table.acknowledge(kB, kF, f.sent[1].number);
    CHECK(f.answered == 1);
}

TEST_CASE("a session that drops everything or is ended answers all its recalls") {
    Fixture f;
    f.table.grant(kB, kF, 0);
    f.table.grant(kB, kG, 0);
    f.change(kA);
    CHECK(f.table.count() == 2);
    f.table.drop_session(kB);
    CHECK(f.answered == 1);
    CHECK(f.table.count() == 0);
    CHECK(f.table.pending().empty());
}
