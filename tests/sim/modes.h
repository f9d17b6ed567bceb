// SPDX-License-Identifier: Apache-2.0
// Which modes of a file may be seen, by whomever. One client sets them, one after the other: whoever
// starts to look after a set was answered must see it or a later one. What a lost session had set may
// be lost with it; since its client may not know of that yet, a wrong mode counts only if the session
// lives to the end.
// single-thread: the simulation.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/prng.h"

namespace lumeofs::sim {

class Modes {
public:
    uint64_t begin(InodeId ino, uint32_t mode, size_t client, Nanos now);
    void end(uint64_t id, Nanos now);
    void session_over(size_t client);

    InodeId any(Prng& random) const;  // 0: there is none
    // Was seen, as `who` says, by an operation that ran from `from` to `to`.
    void seen(InodeId ino, uint32_t mode, Nanos from, Nanos to, const std::string& who);
    // At the end, when every client knows what became of its session: what was wrong, "" = nothing.
    std::string check() const;

private:
    struct Set {
        uint64_t id = 0;
        uint32_t mode = 0;
        Nanos began = 0;
        Nanos ended = INT64_MAX;
    };
    struct File {
        size_t client = 0;
        std::vector<Set> sets;
        std::string wrong;
    };
    static bool may_be(const File& file, uint32_t mode, Nanos from, Nanos to);
    std::map<InodeId, File> files_;
    uint64_t last_id_ = 0;
};

}  // namespace lumeofs::sim
