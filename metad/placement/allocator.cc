// SPDX-License-Identifier: Apache-2.0
#include "metad/placement/allocator.h"

#include <algorithm>
#include <set>

#include "common/base/limits.h"

namespace lumeofs::metad {
namespace {

std::string zone_key(const Candidate& candidate) {
    return candidate.zone.empty() ? "node:" + candidate.node.to_string() : "zone:" + candidate.zone;
}

// Index of a draw weighted by free space among `pool` (indices into candidates).
size_t draw(const std::vector<Candidate>& candidates, const std::vector<size_t>& pool, Prng& prng) {
    uint64_t sum = 0;
    for (size_t index : pool) sum += candidates[index].free_bytes / kBlockSize + 1;
    uint64_t point = prng.below(sum);
    for (size_t index : pool) {
        const uint64_t weight = candidates[index].free_bytes / kBlockSize + 1;
        if (point < weight) return index;
        point -= weight;
    }
    return pool.back();
}

}  // namespace

std::vector<NodeId> choose_nodes(const std::vector<Candidate>& candidates,
                                 size_t count,
                                 const std::vector<NodeId>& taken,
                                 Prng& prng) {
    std::set<std::string> used_zones;
    std::vector<size_t> open;
    for (size_t i = 0; i < candidates.size(); ++i) {
        const bool held = std::find(taken.begin(), taken.end(), candidates[i].node) != taken.end();
        if (held) {
            used_zones.insert(zone_key(candidates[i]));
        } else if (candidates[i].usable && candidates[i].free_bytes >= kChunkSize) {
            open.push_back(i);
        }
    }
    std::vector<NodeId> chosen;
    while (chosen.size() < count && !open.empty()) {
        std::vector<size_t> pool;
        for (size_t index : open) {
            if (!used_zones.contains(zone_key(candidates[index]))) pool.push_back(index);
        }
        if (pool.empty())
            pool = open;  // every zone has one: doubling up beats having fewer replicas
        const size_t pick = draw(candidates, pool, prng);
        chosen.push_back(candidates[pick].node);
        used_zones.insert(zone_key(candidates[pick]));
        open.erase(std::find(open.begin(), open.end(), pick));
    }
    return chosen;
}

Result<std::vector<NodeId>> place_chunk(const std::vector<Candidate>& candidates,
                                        size_t wanted,
                                        size_t least,
                                        Prng& prng) {
    auto chosen = choose_nodes(candidates, wanted, {}, prng);
    if (chosen.size() >= least) return chosen;
    const auto there = std::count_if(
        candidates.begin(), candidates.end(), [](const Candidate& one) { return one.usable; });
    if (static_cast<size_t>(there) < least) {
        return Status(Errc::unavailable, "too few chunkds are online");
    }
    return Status(Errc::nospc, "too few chunkds have room for a chunk");
}

}  // namespace lumeofs::metad
