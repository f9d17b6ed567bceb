// SPDX-License-Identifier: Apache-2.0
// SlotTable: the session's slots, as in NFSv4.1. A slot carries one request at a time; each new one
// has the next sequence number, a retry has the same, so the cluster carries it out exactly once
// [I5]. The last kReservedSlots are for flush, give-back and acknowledgement only: what a recall
// needs never waits for what a recall may hold up [29]. Lowest free slot first, so that few are
// used. Pure; guarded by its owner.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "common/base/assert.h"
#include "common/base/limits.h"

namespace lumeofs::client {

class SlotTable {
public:
    struct Slot {
        uint32_t number = 0;
        uint64_t sequence = 0;
    };

    std::optional<Slot> acquire(bool may_use_reserved) {
        const uint32_t end =
            may_use_reserved ? kSlotsPerSession : kSlotsPerSession - kReservedSlots;
        for (uint32_t i = 0; i < end; ++i) {
            if (busy_[i]) continue;
            busy_[i] = true;
            return Slot{i, ++sequence_[i]};
        }
        return std::nullopt;
    }
    void release(uint32_t number) {
        LFS_ASSERT(number < kSlotsPerSession && busy_[number]);
        busy_[number] = false;
    }
    // A new session starts with fresh slots.
    void reset() {
        busy_.fill(false);
        sequence_.fill(0);
    }

private:
    std::array<bool, kSlotsPerSession> busy_{};
    std::array<uint64_t, kSlotsPerSession> sequence_{};
};

}  // namespace lumeofs::client
