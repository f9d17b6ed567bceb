// SPDX-License-Identifier: Apache-2.0
// The parts below the core: majorities, the log's picture of itself, a follower's progress, the
// bytes of a membership.
#include <doctest/doctest.h>

#include "metad/raft/membership.h"
#include "metad/raft/progress.h"
#include "metad/raft/quorum.h"
#include "metad/raft/raft_log.h"
#include "tests/unit/metad/raft/group.h"

namespace lumeofs::raft::testing {
namespace {

Entry entry(uint64_t index, uint64_t term) {
    return {LogIndex{index}, Term{term}, EntryKind::command, payload("0123456789")};
}

TEST_CASE("quorum: what a majority has reached") {
    CHECK(quorum_value({}) == 0);
    CHECK(quorum_value({7}) == 7);
    CHECK(quorum_value({7, 3}) == 3);
    CHECK(quorum_value({7, 3, 5}) == 5);
    CHECK(quorum_value({9, 9, 1, 1}) == 1);
    CHECK(quorum_value({1, 9, 9, 9, 1}) == 9);
    CHECK(vote_result(3, 2, 0) == VoteResult::won);
    CHECK(vote_result(3, 1, 1) == VoteResult::pending);
    CHECK(vote_result(3, 1, 2) == VoteResult::lost);
    CHECK(vote_result(4, 2, 2) == VoteResult::lost);
    CHECK(vote_result(4, 2, 1) == VoteResult::pending);
    CHECK(vote_result(0, 0, 0) == VoteResult::lost);
}

TEST_CASE("raft_log: terms as runs") {
    TestDisk disk;
    RaftLog log(LogIndex{5}, Term{2}, &disk, 1 << 20);
    for (uint64_t i = 6; i <= 8; ++i) log.append(entry(i, 3));
    for (uint64_t i = 9; i <= 12; ++i) log.append(entry(i, 5));
    CHECK(log.term_at(LogIndex{4}) == Term{0});
    CHECK(log.term_at(LogIndex{5}) == Term{2});
    CHECK(log.term_at(LogIndex{8}) == Term{3});
    CHECK(log.term_at(LogIndex{9}) == Term{5});
    CHECK(log.term_at(LogIndex{13}) == Term{0});
    CHECK(log.newest_with_term_at_most(LogIndex{20}, Term{9}) == LogIndex{12});
    CHECK(log.newest_with_term_at_most(LogIndex{11}, Term{4}) == LogIndex{8});
    CHECK(log.newest_with_term_at_most(LogIndex{11}, Term{2}) == LogIndex{5});
    CHECK(log.up_to_date(LogIndex{1}, Term{6}));
    CHECK(!log.up_to_date(LogIndex{11}, Term{5}));
    log.truncate(LogIndex{8});
    CHECK(log.last() == LogIndex{7});
    CHECK(log.last_term() == Term{3});
    log.truncate(LogIndex{6});
    CHECK(log.last_term() == Term{2});
    log.append(entry(6, 7));
    CHECK(log.last_term() == Term{7});
}

TEST_CASE("raft_log: a report covers only what was not replaced since (ABA)") {
    TestDisk disk;
    RaftLog log(LogIndex{0}, Term{0}, &disk, 1 << 20);
    log.append(entry(1, 1));
    log.append(entry(2, 2));
    log.note_write(1);
    log.truncate(LogIndex{2});  // another leader's entry
    log.append(entry(2, 3));
    log.note_write(2);
    log.truncate(LogIndex{2});  // and the first one's again, same index, same term
    log.append(entry(2, 2));
    log.note_write(3);
    log.persisted(1);
    CHECK(log.stable() == LogIndex{1});
    log.persisted(2);
    CHECK(log.stable() == LogIndex{1});
    log.persisted(3);
    CHECK(log.stable() == LogIndex{2});
}

TEST_CASE("raft_log: the tail in memory is bounded, the rest comes from the view") {
    TestDisk disk;
    RaftLog log(LogIndex{0}, Term{0}, &disk, 100);
    for (uint64_t i = 1; i <= 10; ++i) {
        log.append(entry(i, 1));
        disk.log.push_back(entry(i, 1));
    }
    CHECK(log.tail_entries() == 10);  // nothing may go before it is durable and applied
    log.note_write(1);
    log.persisted(1);
    log.commit_to(LogIndex{9});
    log.handed_to(LogIndex{9});
    log.applied_to(LogIndex{9});
    CHECK(log.tail_entries() == 2);  // 42 bytes each
    CHECK(log.slice(LogIndex{3}, LogIndex{10}, 4, 1000)->size() == 4);
    CHECK(log.slice(LogIndex{3}, LogIndex{10}, 100, 1)->size() == 1);
    CHECK(log.slice(LogIndex{7}, LogIndex{10}, 100, 1000)->size() == 2);  // up to the tail
    CHECK(log.slice(LogIndex{9}, LogIndex{10}, UINT64_MAX, 1000)->size() == 2);
    disk.log[3].term = Term{9};
    CHECK(log.slice(LogIndex{3}, LogIndex{10}, 4, 1000).code() == Errc::corrupt);
    log.compact(LogIndex{9});
    CHECK(log.term_at(LogIndex{9}) == Term{1});
    CHECK(log.term_at(LogIndex{8}) == Term{0});
    CHECK(log.last() == LogIndex{10});
}

TEST_CASE("progress: probe, replicate, window") {
    Progress progress(LogIndex{11}, {2, 1000});
    CHECK(progress.may_send());
    progress.sent(LogIndex{12}, 10, 1);
    CHECK(!progress.may_send());
    progress.heard(1);
    CHECK(!progress.may_send());  // answered before the probe could be
    progress.heard(2);
    CHECK(progress.may_send());
    CHECK(!progress.rejected(LogIndex{9}, LogIndex{3}));  // of an older probe
    CHECK(progress.rejected(LogIndex{10}, LogIndex{3}));
    CHECK(progress.next() == LogIndex{4});
    CHECK(progress.acknowledged(LogIndex{5}));
    CHECK(progress.state() == Progress::State::replicate);
    progress.sent(LogIndex{6}, 10, 2);
    progress.sent(LogIndex{8}, 2000, 2);
    CHECK(!progress.may_send());
    CHECK(progress.acknowledged(LogIndex{6}));
    CHECK(!progress.may_send());  // too many bytes
    CHECK(!progress.acknowledged(LogIndex{6}));
    CHECK(!progress.rejected(LogIndex{6}, LogIndex{2}));  // older than the ack
    CHECK(progress.rejected(LogIndex{8}, LogIndex{2}));
    CHECK(progress.state() == Progress::State::probe);
    CHECK(progress.next() == LogIndex{7});
}

TEST_CASE("progress: snapshot") {
    Progress progress(LogIndex{11}, {2, 1000});
    progress.wants_snapshot();
    CHECK(!progress.may_send());
    CHECK(!progress.rejected(LogIndex{10}, LogIndex{1}));
    progress.snapshot_ended(LogIndex{20});
    CHECK(progress.state() == Progress::State::probe);
    CHECK(progress.next() == LogIndex{21});
    CHECK(!progress.may_send());  // until it is installed, or a beat is answered
    CHECK(!progress.acknowledged(LogIndex{0}));
    CHECK(progress.acknowledged(LogIndex{20}));
    CHECK(progress.state() == Progress::State::replicate);
}

TEST_CASE("membership: bytes and changes") {
    Membership now = members({1, 2, 3}, {7});
    now.members[0].address = "127.0.0.1:7000";
    const Bytes bytes = encode_membership(now);
    CHECK(decode_membership(bytes).value() == now);
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
        CHECK(decode_membership(View(bytes).first(cut)).code() == Errc::corrupt);
    }
    Bytes longer = bytes;
    longer.push_back(0);
    CHECK(decode_membership(longer).code() == Errc::corrupt);
    using Kind = MembershipProposed::Kind;
    const auto change = [&](Kind kind, uint64_t id) {
        return change_membership(now, {kind, {NodeId{id}, MemberRole::voter, ""}});
    };
    CHECK(change(Kind::add_voter, 5)->voters().size() == 4);
    CHECK(change(Kind::add_learner, 5)->voters().size() == 3);
    CHECK(change(Kind::add_voter, 3).code() == Errc::inval);
    CHECK(change(Kind::promote, 7)->voters().size() == 4);
    CHECK(change(Kind::promote, 3).code() == Errc::inval);
    CHECK(change(Kind::remove, 7)->voters().size() == 3);
    CHECK(change(Kind::remove, 9).code() == Errc::inval);
    CHECK(change_membership(members({1}, {2}), {Kind::remove, {NodeId{1}, {}, ""}}).code() ==
          Errc::inval);
}

}  // namespace
}  // namespace lumeofs::raft::testing
