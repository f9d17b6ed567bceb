// SPDX-License-Identifier: Apache-2.0
// What consensus needs of the state machine that it replicates, and nothing more.
//
// Consensus hands over committed commands in order, in batches; the state machine makes each batch
// one transaction with the applied index inside it. apply() is a pure function of (state, command):
// the same log gives the same state on every node (I4).
// single-thread: the metad loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/result.h"

namespace lumeofs {

// The database file as of one applied index, pinned for as long as this object lives; the state
// machine goes on meanwhile.
class PinnedSnapshot {
public:
    virtual ~PinnedSnapshot() = default;
    virtual LogIndex applied() const = 0;
    virtual uint64_t size_bytes() const = 0;
    virtual Result<Bytes> read(uint64_t offset, size_t length) = 0;
};

class ReplicatedState {
public:
    virtual ~ReplicatedState() = default;

    // The index of the last command that the durable or in-cache state contains.
    virtual LogIndex applied() const = 0;
    // Applies commands first, first+1, …; one reply each, in order. An empty command (length 0: the
    // first entry of a term, a membership change) only moves the index; its reply is empty.
    // A failed Status is final: the process must stop (an entry is never skipped on one node).
    virtual Result<std::vector<Bytes>> apply(LogIndex first, const std::vector<View>& commands) = 0;
    // Makes everything up to the returned index durable in the main database file (a checkpoint).
    // The log may be cut up to that index, never further [12].
    virtual Result<LogIndex> checkpoint() = 0;
    virtual Result<std::unique_ptr<PinnedSnapshot>> pin_snapshot() = 0;
    // Replaces the whole state by the snapshot file at `path` (same disk), which was checked and
    // synced; the file is moved. All caches and read transactions are dropped first [31].
    virtual Status install_snapshot(const std::string& path) = 0;
};

}  // namespace lumeofs
