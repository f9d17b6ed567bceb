// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/raft_codec.h"

#include <doctest/doctest.h>

#include "common/base/checksum.h"
#include "common/base/limits.h"
#include "common/base/prng.h"

namespace lumeofs::consensus {
namespace {

Sender sender() { return {{1, 2}, NodeId{3}, {4, 5}, "host:9100"}; }

raft::Message append(uint64_t after, size_t count) {
    raft::Message message;
    message.type = raft::MessageType::append_request;
    message.from = NodeId{3};
    message.to = NodeId{1};
    message.term = Term{8};
    message.index = LogIndex{after};
    message.log_term = Term{7};
    message.commit = LogIndex{after - 1};
    message.round = 99;
    for (size_t i = 0; i < count; ++i) {
        raft::Entry& entry = message.entries.emplace_back();
        entry.index = LogIndex{after + 1 + i};
        entry.term = Term{8};
        entry.kind = i % 3 == 0 ? raft::EntryKind::empty : raft::EntryKind::command;
        if (i % 3 != 0)
            entry.payload = std::make_shared<const Bytes>(i * 7, static_cast<uint8_t>(i));
    }
    return message;
}

TEST_CASE("messages come back as they went") {
    raft::Message vote;
    vote.type = raft::MessageType::vote_response;
    vote.from = NodeId{3};
    vote.to = NodeId{1};
    vote.term = Term{9};
    vote.reject = true;
    vote.transfer = true;
    vote.hint_index = LogIndex{4};
    vote.hint_term = Term{2};
    const std::vector<raft::Message> sent = {append(10, 9), vote, append(19, 2), append(30, 0)};
    const EncodedFrame frame = encode_batch(sender(), NodeId{1}, sent);
    Result<DecodedBatch> got = decode_batch(frame.body, frame.payload.view());
    REQUIRE(got.is_ok());
    CHECK(got->sender.cluster == Uuid{1, 2});
    CHECK(got->sender.node == NodeId{3});
    CHECK(got->sender.uuid == Uuid{4, 5});
    CHECK(got->sender.address == "host:9100");
    CHECK(got->to == NodeId{1});
    REQUIRE(got->messages.size() == sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
        const raft::Message& a = sent[i];
        const raft::Message& b = got->messages[i];
        CHECK(a.type == b.type);
        CHECK(a.from == b.from);
        CHECK(a.to == b.to);
        CHECK(a.term == b.term);
        CHECK(a.index == b.index);
        CHECK(a.log_term == b.log_term);
        CHECK(a.commit == b.commit);
        CHECK(a.round == b.round);
        CHECK(a.reject == b.reject);
        CHECK(a.transfer == b.transfer);
        CHECK(a.hint_index == b.hint_index);
        CHECK(a.hint_term == b.hint_term);
        REQUIRE(a.entries.size() == b.entries.size());
        for (size_t k = 0; k < a.entries.size(); ++k) {
            CHECK(a.entries[k].index == b.entries[k].index);
            CHECK(a.entries[k].term == b.entries[k].term);
            CHECK(a.entries[k].kind == b.entries[k].kind);
            const bool same = (!a.entries[k].payload && !b.entries[k].payload) ||
                              *a.entries[k].payload == *b.entries[k].payload;
            CHECK(same);
        }
    }
}

TEST_CASE("damaged bytes give corrupt or something well-formed, never a crash") {
    const EncodedFrame frame = encode_batch(sender(), NodeId{1}, {append(10, 9), append(19, 5)});
    Prng prng(1);
    int refused = 0;
    for (int i = 0; i < 20'000; ++i) {
        Bytes body = frame.body;
        Bytes payload(frame.payload.data(), frame.payload.data() + frame.payload.size());
        for (uint64_t flips = prng.between(1, 3); flips-- > 0;) {
            Bytes& target = prng.chance(1, 4) ? payload : body;
            target[prng.below(target.size())] = static_cast<uint8_t>(prng.next());
        }
        if (prng.chance(1, 5)) body.resize(prng.below(body.size()));
        Result<DecodedBatch> got = decode_batch(body, payload);
        refused += got.is_ok() ? 0 : 1;
        if (!got) CHECK(got.code() == Errc::corrupt);
    }
    CHECK(refused > 5'000);
    Bytes payload(frame.payload.data(), frame.payload.data() + frame.payload.size());
    payload[3] ^= 1;
    CHECK(decode_batch(frame.body, payload).code() == Errc::corrupt);
    CHECK(decode_batch({}, {}).code() == Errc::corrupt);
}

TEST_CASE("more entries than a message may have are refused") {
    const EncodedFrame frame =
        encode_batch(sender(), NodeId{1}, {append(1, kMaxEntriesPerAppend + 1)});
    CHECK(decode_batch(frame.body, frame.payload.view()).code() == Errc::corrupt);
}

TEST_CASE("pieces of a snapshot") {
    SnapshotPieceHead head;
    head.sender = sender();
    head.to = NodeId{2};
    head.term = Term{5};
    head.stream = 6;
    head.snapshot.index = LogIndex{100};
    head.snapshot.term = Term{4};
    head.snapshot.membership.members = {{NodeId{1}, raft::MemberRole::voter, "a:1"}};
    head.size = 1000;
    head.offset = 900;
    const Bytes bytes(100, 7);
    head.checksum = checksum(bytes);
    head.chain = 12;
    Result<SnapshotPieceHead> got = decode_piece(encode_piece(head), bytes);
    REQUIRE(got.is_ok());
    CHECK(got->snapshot == head.snapshot);
    CHECK(got->offset == 900);
    CHECK(got->chain == 12);
    CHECK(decode_piece(encode_piece(head), Bytes(100, 8)).code() == Errc::corrupt);
    head.offset = 901;  // beyond the end
    CHECK(decode_piece(encode_piece(head), bytes).code() == Errc::corrupt);
    head.offset = ~uint64_t{0};
    CHECK(decode_piece(encode_piece(head), bytes).code() == Errc::corrupt);
    Result<SnapshotPieceAnswer> answer = decode_piece_answer(encode_piece_answer({77, true}));
    REQUIRE(answer.is_ok());
    CHECK(answer->next_offset == 77);
    CHECK(answer->done);
}

}  // namespace
}  // namespace lumeofs::consensus
