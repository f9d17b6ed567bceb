// SPDX-License-Identifier: Apache-2.0
// An SQLite VFS over a FileSystem, so that a metad's database lives on the simulated disk and loses
// at a power cut what was not synced. One VFS per machine, registered under a name for as long as
// the object lives. No shared memory: needs locking_mode=EXCLUSIVE. Locks are not kept (one process
// per machine has the database). Random bytes come from the seed, time stands still.
// single-thread: the simulation.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/env/file_system.h"

struct sqlite3_vfs;

namespace lumeofs::sim {

class SimSqliteVfs {
public:
    SimSqliteVfs(std::string name, FileSystem& fs, uint64_t seed);
    ~SimSqliteVfs();
    SimSqliteVfs(const SimSqliteVfs&) = delete;
    SimSqliteVfs& operator=(const SimSqliteVfs&) = delete;

    const std::string& name() const { return name_; }
    // SQLite's own random numbers start anew, from the seed: call it at the start of a run.
    static void seed_sqlite(uint64_t seed);

private:
    struct State;
    std::string name_;
    std::unique_ptr<State> state_;
    std::unique_ptr<sqlite3_vfs> vfs_;
};

}  // namespace lumeofs::sim
