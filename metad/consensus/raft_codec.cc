// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/raft_codec.h"

#include "common/base/checksum.h"
#include "common/wire/codec.h"
#include "metad/raft/membership.h"
#include "schema/raft_generated.h"

namespace lumeofs::consensus {
namespace {

Status bad(const char* what) { return Status(Errc::corrupt, what); }

wire::RaftSender pack(const Sender& sender) {
    return {sender.cluster.high,
            sender.cluster.low,
            sender.node.value,
            sender.uuid.high,
            sender.uuid.low};
}

Result<Sender> unpack(const wire::RaftSender* sender) {
    if (sender == nullptr) return bad("no sender");
    return Sender{{sender->cluster_high(), sender->cluster_low()},
                  NodeId{sender->node()},
                  {sender->uuid_high(), sender->uuid_low()},
                  ""};
}

flatbuffers::Offset<wire::RaftMessage> pack(flatbuffers::FlatBufferBuilder& builder,
                                            const raft::Message& message) {
    flatbuffers::Offset<flatbuffers::Vector<const wire::RaftEntryHead*>> entries;
    if (!message.entries.empty()) {
        std::vector<wire::RaftEntryHead> heads;
        heads.reserve(message.entries.size());
        for (const raft::Entry& entry : message.entries) {
            const size_t size = entry.payload ? entry.payload->size() : 0;
            heads.emplace_back(
                entry.term.value, static_cast<uint32_t>(size), static_cast<uint8_t>(entry.kind));
        }
        entries = builder.CreateVectorOfStructs(heads);
    }
    wire::RaftMessageBuilder out(builder);
    out.add_type(static_cast<uint8_t>(message.type));
    out.add_term(message.term.value);
    out.add_index(message.index.value);
    out.add_log_term(message.log_term.value);
    out.add_commit(message.commit.value);
    out.add_round(message.round);
    out.add_reject(message.reject);
    out.add_transfer(message.transfer);
    out.add_hint_index(message.hint_index.value);
    out.add_hint_term(message.hint_term.value);
    if (!message.entries.empty()) {
        out.add_first_index(message.entries.front().index.value);
        out.add_entries(entries);
    }
    return out.Finish();
}

// Takes the bytes of the message's entries off the front of `payload`.
Status unpack(const wire::RaftMessage& in, View* payload, raft::Message* message) {
    if (in.type() < 1 || in.type() > 9) return bad("unknown type of Raft message");
    message->type = static_cast<raft::MessageType>(in.type());
    message->term = Term{in.term()};
    message->index = LogIndex{in.index()};
    message->log_term = Term{in.log_term()};
    message->commit = LogIndex{in.commit()};
    message->round = in.round();
    message->reject = in.reject();
    message->transfer = in.transfer();
    message->hint_index = LogIndex{in.hint_index()};
    message->hint_term = Term{in.hint_term()};
    if (in.entries() == nullptr) return Status();
    if (in.entries()->size() > kMaxEntriesPerAppend) return bad("too many entries in a message");
    // The verifier does not look at it, and the heads are read in place.
    const auto place = reinterpret_cast<uintptr_t>(in.entries()->Data());
    if (place % alignof(wire::RaftEntryHead) != 0) return bad("entries at an odd place");
    if (message->type != raft::MessageType::append_request) return bad("entries where none belong");
    if (in.first_index() != in.index() + 1)
        return bad("entries do not follow the index before them");
    message->entries.reserve(in.entries()->size());
    for (const wire::RaftEntryHead* head : *in.entries()) {
        if (head->kind() > 2) return bad("unknown kind of entry");
        if (head->length() > payload->size()) return bad("entries are longer than the payload");
        raft::Entry& entry = message->entries.emplace_back();
        entry.index = LogIndex{in.first_index() + message->entries.size() - 1};
        entry.term = Term{head->term()};
        entry.kind = static_cast<raft::EntryKind>(head->kind());
        if (head->length() > 0) {
            const View bytes = payload->first(head->length());
            entry.payload = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
            *payload = payload->subspan(head->length());
        }
    }
    return Status();
}

Bytes finished(const flatbuffers::FlatBufferBuilder& builder) {
    return Bytes(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
}

template <typename T>
Result<const T*> verified(View body) {
    if (body.size() > kMaxBodyBytes) return bad("message is too large");
    flatbuffers::Verifier verifier(body.data(), body.size(), kMaxVerifyDepth, kMaxVerifyTables);
    if (!verifier.VerifyBuffer<T>(nullptr))
        return bad("message does not have the form of its type");
    return flatbuffers::GetRoot<T>(body.data());
}

}  // namespace

uint64_t payload_bytes(const raft::Message& message) {
    uint64_t bytes = 0;
    for (const raft::Entry& entry : message.entries) {
        if (entry.payload) bytes += entry.payload->size();
    }
    return bytes;
}

EncodedFrame encode_batch(const Sender& sender,
                          NodeId to,
                          const std::vector<raft::Message>& messages) {
    LFS_ASSERT(messages.size() <= kMaxMessagesPerFrame);
    EncodedFrame frame;
    uint64_t bytes = 0;
    for (const raft::Message& message : messages) bytes += payload_bytes(message);
    if (bytes > 0) {
        frame.payload = Buffer::allocate(bytes);
        uint8_t* at = frame.payload.mutable_data();
        for (const raft::Message& message : messages) {
            for (const raft::Entry& entry : message.entries) {
                if (!entry.payload || entry.payload->empty()) continue;
                std::memcpy(at, entry.payload->data(), entry.payload->size());
                at += entry.payload->size();
            }
        }
    }
    flatbuffers::FlatBufferBuilder builder(256);
    std::vector<flatbuffers::Offset<wire::RaftMessage>> offsets;
    offsets.reserve(messages.size());
    for (const raft::Message& message : messages) offsets.push_back(pack(builder, message));
    const auto list = builder.CreateVector(offsets);
    const auto address = builder.CreateString(sender.address);
    const wire::RaftSender packed = pack(sender);
    wire::RaftBatchBuilder out(builder);
    out.add_sender(&packed);
    out.add_to(to.value);
    out.add_checksum(checksum(frame.payload.view()));
    out.add_messages(list);
    out.add_address(address);
    builder.Finish(out.Finish());
    frame.body = finished(builder);
    return frame;
}

Result<DecodedBatch> decode_batch(View body, View payload) {
    LFS_ASSIGN(const wire::RaftBatch* in, verified<wire::RaftBatch>(body));
    DecodedBatch batch;
    LFS_ASSIGN(batch.sender, unpack(in->sender()));
    batch.to = NodeId{in->to()};
    if (in->address() != nullptr) batch.sender.address = in->address()->str();
    if (batch.sender.address.size() > raft::kMaxAddressBytes) return bad("address is too long");
    if (in->checksum() != checksum(payload)) return bad("entries fail their checksum");
    if (in->messages() == nullptr) return batch;
    if (in->messages()->size() > kMaxMessagesPerFrame) return bad("too many messages in a frame");
    for (const wire::RaftMessage* message : *in->messages()) {
        raft::Message& out = batch.messages.emplace_back();
        LFS_TRY(unpack(*message, &payload, &out));
        out.from = batch.sender.node;
        out.to = batch.to;
    }
    if (!payload.empty()) return bad("bytes after the last entry");
    return batch;
}

Bytes encode_piece(const SnapshotPieceHead& head) {
    flatbuffers::FlatBufferBuilder builder(256);
    const auto membership = builder.CreateVector(raft::encode_membership(head.snapshot.membership));
    const wire::RaftSender packed = pack(head.sender);
    wire::SnapshotPieceBuilder out(builder);
    out.add_sender(&packed);
    out.add_to(head.to.value);
    out.add_term(head.term.value);
    out.add_stream(head.stream);
    out.add_index(head.snapshot.index.value);
    out.add_log_term(head.snapshot.term.value);
    out.add_membership(membership);
    out.add_size(head.size);
    out.add_offset(head.offset);
    out.add_checksum(head.checksum);
    out.add_chain(head.chain);
    builder.Finish(out.Finish());
    return finished(builder);
}

Result<SnapshotPieceHead> decode_piece(View body, View payload) {
    LFS_ASSIGN(const wire::SnapshotPiece* in, verified<wire::SnapshotPiece>(body));
    SnapshotPieceHead head;
    LFS_ASSIGN(head.sender, unpack(in->sender()));
    if (in->membership() == nullptr) return bad("no membership");
    head.to = NodeId{in->to()};
    head.term = Term{in->term()};
    head.stream = in->stream();
    head.snapshot.index = LogIndex{in->index()};
    head.snapshot.term = Term{in->log_term()};
    LFS_ASSIGN(head.snapshot.membership,
               raft::decode_membership({in->membership()->data(), in->membership()->size()}));
    head.size = in->size();
    head.offset = in->offset();
    head.checksum = in->checksum();
    head.chain = in->chain();
    if (head.offset > head.size || payload.size() > head.size - head.offset ||
        payload.size() > kSnapshotPieceBytes) {
        return bad("piece lies outside its snapshot");
    }
    if (head.checksum != checksum(payload)) return bad("piece fails its checksum");
    return head;
}

Bytes encode_piece_answer(const SnapshotPieceAnswer& answer) {
    flatbuffers::FlatBufferBuilder builder(64);
    builder.Finish(wire::CreateSnapshotPieceReply(builder, answer.next_offset, answer.done));
    return finished(builder);
}

Result<SnapshotPieceAnswer> decode_piece_answer(View body) {
    LFS_ASSIGN(const wire::SnapshotPieceReply* in, verified<wire::SnapshotPieceReply>(body));
    return SnapshotPieceAnswer{in->next_offset(), in->done()};
}

}  // namespace lumeofs::consensus
