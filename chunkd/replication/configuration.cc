// SPDX-License-Identifier: Apache-2.0
#include "chunkd/replication/configuration.h"

#include <algorithm>

#include "common/base/limits.h"

namespace lumeofs::replication {

namespace {

constexpr uint8_t kRevision = 1;
constexpr uint8_t kSealed = 1;
constexpr uint8_t kComplete = 2;
constexpr uint8_t kFromStart = 4;
constexpr size_t kHeaderBytes = 16;

void append(Bytes* bytes, uint64_t value) {
    const size_t at = bytes->size();
    bytes->resize(at + 8);
    put_le<uint64_t>(bytes->data() + at, value);
}

}  // namespace

bool Configuration::is_member(NodeId node) const {
    return std::find(members.begin(), members.end(), node) != members.end();
}

Result<Configuration> from_wire(const wire::ChunkGrantT& grant) {
    if (grant.chunk == 0 || grant.epoch == 0) return Status(Errc::corrupt, "grant names no chunk");
    if (grant.members.empty() || grant.members.size() > kMaxReplicas) {
        return Status(Errc::corrupt, "grant has no members or too many");
    }
    if (grant.marks.size() > kMaxShrinkMarks) return Status(Errc::corrupt, "too many shrink marks");
    Configuration config;
    config.epoch = Epoch{grant.epoch};
    config.sealed = grant.state == wire::ChunkState::sealed;
    config.joiner = NodeId{grant.joiner};
    for (uint64_t node : grant.members) {
        if (node == 0 || config.is_member(NodeId{node})) {
            return Status(Errc::corrupt, "grant names a member twice or none");
        }
        config.members.push_back(NodeId{node});
    }
    if (config.joiner && config.is_member(config.joiner)) {
        return Status(Errc::corrupt, "the joiner is a member already");
    }
    for (const wire::Mark& mark : grant.marks) {
        if (!config.marks.empty() && mark.epoch() <= config.marks.back().epoch.value) {
            return Status(Errc::corrupt, "shrink marks are out of order");
        }
        config.marks.push_back({Epoch{mark.epoch()}, mark.truncate_to()});
    }
    return config;
}

wire::ChunkGrantT to_wire(ChunkId chunk, const Configuration& config) {
    wire::ChunkGrantT grant;
    grant.chunk = chunk.value;
    grant.epoch = config.epoch.value;
    grant.state = config.sealed ? wire::ChunkState::sealed : wire::ChunkState::open;
    for (NodeId node : config.members) grant.members.push_back(node.value);
    grant.joiner = config.joiner.value;
    for (const ShrinkMark& mark : config.marks) {
        grant.marks.emplace_back(mark.epoch.value, mark.truncate_to);
    }
    return grant;
}

Bytes encode_record(const ReplicaRecord& record) {
    Bytes bytes(8, 0);
    bytes[0] = kRevision;
    bytes[1] = static_cast<uint8_t>((record.config.sealed ? kSealed : 0) |
                                    (record.complete ? kComplete : 0) |
                                    (record.from_start ? kFromStart : 0));
    bytes[2] = static_cast<uint8_t>(record.config.members.size());
    bytes[3] = static_cast<uint8_t>(record.config.marks.size());
    put_le<uint16_t>(bytes.data() + 4, static_cast<uint16_t>(record.voids.size()));
    append(&bytes, record.config.joiner.value);
    for (NodeId node : record.config.members) append(&bytes, node.value);
    for (const ShrinkMark& mark : record.config.marks) {
        append(&bytes, mark.epoch.value);
        append(&bytes, mark.truncate_to);
    }
    for (const Void& gone : record.voids) {
        append(&bytes, gone.session.value);
        append(&bytes, gone.up_to);
    }
    LFS_ASSERT(bytes.size() <= store::kMaxBlobBytes);
    return bytes;
}

Result<ReplicaRecord> decode_record(View blob) {
    if (blob.size() < kHeaderBytes || blob[0] != kRevision) {
        return Status(Errc::corrupt, "chunk record has an unknown form");
    }
    const size_t members = blob[2];
    const size_t marks = blob[3];
    const size_t voids = get_le<uint16_t>(blob.data() + 4);
    if (blob.size() != kHeaderBytes + 8 * members + 16 * marks + 16 * voids ||
        members > kMaxReplicas || marks > kMaxShrinkMarks || voids > kMaxVoids) {
        return Status(Errc::corrupt, "chunk record has a wrong length");
    }
    const uint8_t* at = blob.data() + 8;
    auto take = [&at] {
        const uint64_t value = get_le<uint64_t>(at);
        at += 8;
        return value;
    };
    ReplicaRecord record;
    record.config.sealed = (blob[1] & kSealed) != 0;
    record.complete = (blob[1] & kComplete) != 0;
    record.from_start = (blob[1] & kFromStart) != 0;
    record.config.joiner = NodeId{take()};
    for (size_t i = 0; i < members; ++i) record.config.members.push_back(NodeId{take()});
    for (size_t i = 0; i < marks; ++i) {
        const Epoch epoch{take()};
        record.config.marks.push_back({epoch, take()});
    }
    for (size_t i = 0; i < voids; ++i) {
        const SessionId session{take()};
        record.voids.push_back({session, take()});
    }
    return record;
}

wire::WriteName to_wire(const WriteName& name) {
    return wire::WriteName(name.epoch.value, name.incarnation.value, name.sequence);
}

WriteName from_wire(const wire::WriteName* name) {
    if (name == nullptr) return {};
    return {Epoch{name->epoch()}, Incarnation{name->incarnation()}, name->sequence()};
}

std::unique_ptr<wire::WriteName> to_wire_ptr(const WriteName& name) {
    return std::make_unique<wire::WriteName>(to_wire(name));
}

std::optional<ShrinkStep> shrink_step(const std::vector<ShrinkMark>& marks, Epoch own) {
    std::optional<ShrinkStep> step;
    for (const ShrinkMark& mark : marks) {
        if (mark.epoch <= own) continue;
        if (!step) step = ShrinkStep{mark.truncate_to, mark.epoch};
        step->truncate_to = std::min(step->truncate_to, mark.truncate_to);
        step->newest = std::max(step->newest, mark.epoch);
    }
    return step;
}

bool shrunk_since(const Configuration& config, Epoch epoch) {
    return shrink_step(config.marks, epoch).has_value();
}

}  // namespace lumeofs::replication
