// SPDX-License-Identifier: Apache-2.0
// HardStateStore: term and vote as one durable record (reliability rules 1 and 2).
//
// Layout of the file `hard_state`: two slots of 4096 bytes, each
//   0 8 magic "LFSVOTE\n"   16 8 sequence   32 8 vote               48 8 zero
//   8 4 revision (1)        24 8 term       40 8 synced log batch   56 8 XXH3-64 of 0..55, seeded
//  12 4 zero                                                             with the log id
// save() writes the SAME record to one slot, syncs, then to the other, syncs, and only then
// returns. Crash argument: while one slot is being written the other is whole. A power cut leaves
// the new or the old record, and the old one only if save() never returned. And because afterwards
// both slots are equal, a slot that rots later never brings an older vote back to life: two
// alternating slots with different records could not tell that from a torn write. Elections are
// rare; two syncs are cheap. `synced log batch` is a free witness for the log's recovery
// (log_format.h). A failed write or sync poisons the store (I3).
// single-thread: the loop.
#pragma once

#include <memory>
#include <string>

#include "common/env/file_system.h"
#include "metad/raft/types.h"

namespace lumeofs::consensus {

class HardStateStore {
public:
    static Result<std::unique_ptr<HardStateStore>> create(FileSystem& fs,
                                                          const std::string& path,
                                                          uint64_t log_id);
    // corrupt: no slot is valid; the node must not vote.
    static Result<std::unique_ptr<HardStateStore>> open(FileSystem& fs,
                                                        const std::string& path,
                                                        uint64_t log_id);

    Status save(const raft::HardState& state, uint64_t synced_batch);

    const raft::HardState& state() const { return state_; }
    uint64_t synced_batch() const { return synced_batch_; }

private:
    HardStateStore(std::unique_ptr<File> file, uint64_t log_id)
        : file_(std::move(file)), log_id_(log_id) {}
    Status write_both(uint64_t first);

    std::unique_ptr<File> file_;
    uint64_t log_id_;
    uint64_t sequence_ = 0;
    raft::HardState state_;
    uint64_t synced_batch_ = 0;
    bool poisoned_ = false;
};

}  // namespace lumeofs::consensus
