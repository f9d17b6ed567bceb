// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/checkers.h"

#include <fmt/format.h>

#include <algorithm>

#include "chunkd/replication/driver.h"
#include "chunkd/store/chunk_store.h"
#include "metad/consensus/driver.h"
#include "metad/namespace/state_machine.h"
#include "metad/service/leader.h"
#include "metad/service/metad_service.h"

namespace lumeofs::sim {

namespace {

bool runs(const Process& process) {
    return process.loop != nullptr && process.up && !process.power_lost;
}

std::string members_of(const metad::ChunkRow& row) {
    std::string text = fmt::format("epoch {}, members", row.epoch.value);
    for (NodeId node : row.members) text += fmt::format(" {}", node.value);
    text += fmt::format(", joiner {}, absent", row.joiner.value);
    for (NodeId node : row.absent) text += fmt::format(" {}", node.value);
    return text;
}

std::string busy_chunks(chunkd::ChunkdServer& server, metad::StateMachine& state) {
    std::string text;
    if (!server.driver()) return " (no store)";
    for (const store::ChunkListing& one : server.store()->list(ChunkId{}, UINT32_MAX)) {
        replication::ChunkReplica* replica = server.driver()->find(one.chunk);
        if (replica == nullptr || replica->idle()) continue;
        const auto row = state.chunk(one.chunk);
        if (!row) continue;  // a copy that nobody needs: see leftovers()
        text += fmt::format(" [chunk {} epoch {} role {}; metad: {}{}]",
                            one.chunk.value,
                            one.epoch.value,
                            static_cast<int>(replica->role()),
                            members_of(*row),
                            state.is_garbage(one.chunk) ? ", garbage" : "");
    }
    return text;
}

}  // namespace

void Checkers::tick() {
    leaders();
    histories();
    node_leases();
}

void Checkers::leaders() {
    for (size_t i = 0; i < kMetads; ++i) {
        Process& process = cluster_.metad(i);
        if (!runs(process)) continue;
        const ConsensusStatus status = process.metad->raft().status();
        if (status.role != RaftRole::leader) continue;
        auto [found, fresh] = leader_of_.emplace(status.term.value, process.id);
        if (!fresh && found->second != process.id) {
            cluster_.fail(fmt::format("I2: metads {} and {} both lead term {}",
                                      found->second,
                                      process.id,
                                      status.term.value));
        }
    }
}

void Checkers::histories() {
    for (size_t i = 0; i < kMetads; ++i) {
        Process& process = cluster_.metad(i);
        if (!runs(process)) continue;
        const uint64_t applied = process.metad->state().applied().value;
        const uint64_t history = process.metad->state().history();
        auto [found, fresh] = history_.emplace(applied, history);
        if (!fresh && found->second != history) {
            cluster_.fail(fmt::format(
                "I4: {} has another history at applied index {}", process.name, applied));
        }
    }
}

void Checkers::node_leases() {
    metad::MetadServer* server = cluster_.leader();
    if (server == nullptr) return;
    metad::Leader* leader = server->service().leader();
    if (leader == nullptr) return;
    // One that was paused and is deposed, but does not know it yet: its book is old.
    if (!leader_of_.empty() && server->raft().term().value < leader_of_.rbegin()->first) return;
    for (size_t i = 0; i < kChunkds; ++i) {
        Process& process = cluster_.chunkd(i);
        if (!runs(process) || !process.chunkd->serving()) continue;
        if (!leader->nodes.contains(NodeId{process.id}) || leader->may_serve(NodeId{process.id})) {
            continue;
        }
        cluster_.fail(
            fmt::format("I10: {} serves although its node lease is over", process.name));
    }
}

std::string Checkers::unrest() {
    metad::MetadServer* server = cluster_.leader();
    if (server == nullptr || server->service().leader() == nullptr) return "no leader";
    metad::StateMachine& state = server->state();
    for (size_t i = 0; i < kMetads; ++i) {
        Process& process = cluster_.metad(i);
        if (!runs(process)) return process.name + " does not run";
        if (process.metad->state().applied() != state.applied()) return process.name + " lags";
    }
    for (size_t i = 0; i < kChunkds; ++i) {
        Process& process = cluster_.chunkd(i);
        if (!runs(process) || !process.chunkd->serving()) return process.name + " does not serve";
        const std::string busy = busy_chunks(*process.chunkd, state);
        if (!busy.empty()) return process.name + " is at work" + busy;
    }
    for (const metad::ChunkRow& row : state.chunks(ChunkId{}, UINT32_MAX)) {
        if (row.members.size() < std::min<size_t>(row.wanted, kChunkds) || row.joiner) {
            return fmt::format("chunk {} has {} of {} members, joiner {}",
                               row.id.value,
                               row.members.size(),
                               row.wanted,
                               row.joiner.value);
        }
    }
    return {};
}

void Checkers::quiet() {
    metad::MetadServer* server = cluster_.leader();
    if (server == nullptr) return cluster_.fail("no leader at the end");
    for (const std::string& broken : server->state().check_invariants()) {
        return cluster_.fail("state: " + broken);
    }
    auto expected = server->state().digest();
    if (!expected.is_ok()) return cluster_.fail("digest: " + expected.status().to_string());
    for (size_t i = 0; i < kMetads; ++i) {
        metad::StateMachine& state = cluster_.metad(i).metad->state();
        if (state.applied() != server->state().applied()) continue;
        auto digest = state.digest();
        if (!digest.is_ok() || *digest != *expected) {
            cluster_.fail(cluster_.metad(i).name + " has another digest at the same index (I4)");
        }
    }
    leftover_copies_ = leftovers(server->state());
    compare_chunks(*server);
}

store::ChunkStore* Checkers::store_of(NodeId node) {
    for (size_t i = 0; i < kChunkds; ++i) {
        if (cluster_.chunkd(i).id == node.value) return cluster_.chunkd(i).chunkd->store();
    }
    return nullptr;
}

// The bytes of a block as far as they belong to the file, as a reader would get them.
bool Checkers::equal_below(const metad::ChunkRow& row, uint64_t block, size_t member) {
    const uint64_t offset = block * kBlockSize;
    const uint64_t length = std::min(kBlockSize, row.length - offset);
    auto bytes = [&](NodeId node) -> Result<Bytes> {
        auto read = store_of(node)->read(row.id, offset, length);
        if (read.code() == Errc::not_found) return Bytes(length);
        if (!read.is_ok()) return read.status();
        Bytes found(read->data.data(), read->data.data() + length);
        // A shrink that this copy has not carried out yet; it will before it is next read.
        auto meta = store_of(node)->meta(row.id);
        if (!meta.is_ok()) return meta.status();
        for (const metad::ShrinkMark& mark : row.marks) {
            if (mark.epoch <= meta->epoch) continue;
            const uint64_t keep = std::clamp(mark.truncate_to, offset, offset + length) - offset;
            std::fill(found.begin() + static_cast<ptrdiff_t>(keep), found.end(), uint8_t{0});
        }
        return found;
    };
    auto first = bytes(row.members[0]);
    auto other = bytes(row.members[member]);
    return first.is_ok() && other.is_ok() && *first == *other;
}

// For people: each copy's last write and the first bytes of the block that are not zero.
std::string Checkers::describe_copies(const metad::ChunkRow& row, uint64_t block) {
    std::string text;
    for (NodeId node : row.members) {
        auto meta = store_of(node)->meta(row.id);
        auto read = store_of(node)->read(row.id, block * kBlockSize, kBlockSize);
        if (!meta.is_ok() || !read.is_ok()) {
            text += fmt::format(" {}: none;", node.value);
            continue;
        }
        uint64_t from = 0, to = kBlockSize;
        while (from < kBlockSize && read->data.data()[from] == 0) ++from;
        while (to > from && read->data.data()[to - 1] == 0) --to;
        text += fmt::format(" {}: epoch {} length {} applied {}/{}/{} data [{}, {});",
                            node.value,
                            meta->epoch.value,
                            meta->length,
                            meta->applied.epoch.value,
                            meta->applied.incarnation.value,
                            meta->applied.sequence,
                            from,
                            to);
    }
    return text;
}

uint64_t Checkers::leftovers(metad::StateMachine& state) {
    uint64_t count = 0;
    for (size_t i = 0; i < kChunkds; ++i) {
        for (const auto& one : cluster_.chunkd(i).chunkd->store()->list(ChunkId{}, UINT32_MAX)) {
            if (!state.chunk(one.chunk) && !state.is_garbage(one.chunk)) ++count;
        }
    }
    return count;
}

void Checkers::compare_chunks(metad::MetadServer& leader) {
    for (const metad::ChunkRow& row : leader.state().chunks(ChunkId{}, UINT32_MAX)) {
        std::vector<uint64_t> expected;
        ++chunks_compared_;
        for (size_t m = 0; m < row.members.size(); ++m) {
            store::ChunkStore* store = store_of(row.members[m]);
            if (store == nullptr) continue;
            auto sums = store->block_checksums(row.id, 0, static_cast<uint32_t>(kBlocksPerChunk));
            // No copy is as good as one of holes: nothing was ever written to it.
            if (sums.code() == Errc::not_found) {
                sums = std::vector<uint64_t>(kBlocksPerChunk, 0);
            }
            if (!sums.is_ok()) {
                return cluster_.fail(fmt::format("I9: chunk {} ({}, length {}) at member {}: {}",
                                                 row.id.value,
                                                 members_of(row),
                                                 row.length,
                                                 row.members[m].value,
                                                 sums.status().to_string()));
            }
            if (m == 0) expected = *sums;
            sums->resize(kBlocksPerChunk);
            expected.resize(kBlocksPerChunk);
            const size_t compared = std::min(expected.size(), sums->size());
            for (size_t b = 0; b < compared && b * kBlockSize < row.length; ++b) {
                if ((*sums)[b] == expected[b]) continue;
                if (equal_below(row, b, m)) continue;
                return cluster_.fail(
                    fmt::format("I9: chunk {} of file {} ({}, length {}): block {} differs: {}",
                                row.id.value,
                                row.owner.value,
                                members_of(row),
                                row.length,
                                b,
                                describe_copies(row, b)));
            }
        }
    }
}

}  // namespace lumeofs::sim
