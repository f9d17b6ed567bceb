// SPDX-License-Identifier: Apache-2.0
#include "metad/placement/allocator.h"

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "common/base/limits.h"

using namespace lumeofs;
using namespace lumeofs::metad;

namespace {

Candidate node(uint64_t id, const char* zone, uint64_t free_gib, bool usable = true) {
    return {NodeId{id}, zone, uint64_t{1000} << 30, free_gib << 30, usable};
}

}  // namespace

TEST_CASE("replicas go to different zones while there are any") {
    const std::vector<Candidate> nodes = {
        node(1, "a", 10), node(2, "a", 10), node(3, "b", 10), node(4, "c", 10)};
    for (uint64_t seed = 0; seed < 50; ++seed) {
        Prng prng(seed);
        const auto chosen = choose_nodes(nodes, 3, {}, prng);
        REQUIRE(chosen.size() == 3);
        const std::set<NodeId> set(chosen.begin(), chosen.end());
        CHECK(set.size() == 3);
        CHECK(!(set.contains(NodeId{1}) && set.contains(NodeId{2})));
    }
}

TEST_CASE("a zone is used twice rather than a replica missed") {
    Prng prng(1);
    CHECK(choose_nodes({node(1, "a", 1), node(2, "a", 1), node(3, "a", 1)}, 3, {}, prng).size() ==
          3);
}

TEST_CASE("unusable, full and taken nodes are never chosen") {
    Prng prng(1);
    const std::vector<Candidate> nodes = {
        node(1, "", 10, false), node(2, "", 0), node(3, "", 10), node(4, "", 10)};
    CHECK(choose_nodes(nodes, 3, {NodeId{3}}, prng) == std::vector<NodeId>{NodeId{4}});
}

TEST_CASE("emptier nodes get more, full ones are not starved") {
    Prng prng(7);
    std::map<uint64_t, int> first;
    const std::vector<Candidate> nodes = {node(1, "", 90), node(2, "", 30), node(3, "", 30)};
    for (int i = 0; i < 3000; ++i) ++first[choose_nodes(nodes, 1, {}, prng)[0].value];
    CHECK(first[1] > 1600);
    CHECK(first[1] < 2000);
    CHECK(first[2] > 450);
    CHECK(first[3] > 450);
}

TEST_CASE("no room is an answer, too few nodes are a matter of time") {
    Prng prng(1);
    const auto code = [&prng](const std::vector<Candidate>& nodes) {
        return place_chunk(nodes, 3, 2, prng).code();
    };
    CHECK(place_chunk({node(1, "", 1), node(2, "", 0), node(3, "", 1)}, 3, 2, prng)->size() == 2);
    CHECK(code({node(1, "", 1), node(2, "", 0), node(3, "", 0)}) == Errc::nospc);
    CHECK(code({node(1, "", 0), node(2, "", 0), node(3, "", 9, false)}) == Errc::nospc);
    CHECK(code({node(1, "", 9), node(2, "", 9, false), node(3, "", 9, false)}) ==
          Errc::unavailable);
    CHECK(code({}) == Errc::unavailable);
}
