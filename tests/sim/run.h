// SPDX-License-Identifier: Apache-2.0
// One run: a cluster, its actors and its troubles, all from one seed.
//
// Safety phase: everything goes wrong that the seed's mix of faults holds. Liveness phase: all is
// healed and started; every operation must end, the cluster must become healthy, both within a bound
// of virtual time. Then everything is compared. A run in which no fault fired counts as failed.
// single-thread: the simulation.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/limits.h"

namespace lumeofs::sim {

struct RunResult {
    std::string violation;  // "" = none
    uint64_t hash = 0;      // of all events
    uint64_t events = 0;
    uint64_t faults = 0;
    uint64_t operations = 0;
    uint64_t reads = 0, writes = 0;  // of pages of shared files
    uint64_t chunks = 0;             // compared at the end
    uint64_t leftovers = 0;          // copies of chunks that nobody knows any more
    Nanos virtual_time = 0;
};

RunResult run_seed(uint64_t seed, bool faults = true);

}  // namespace lumeofs::sim
