// SPDX-License-Identifier: Apache-2.0
// SnapshotStore: receives a snapshot in pieces and puts it in place (reliability rules 12 and 13).
//
// Receiving: pieces go to `snapshot/incoming` in order; each is checked against its own sum and the
// chain over all before it; a gap or a repeat is answered with the offset that is wanted, so a
// stream resumes after a lost connection. When the last byte is there the file is synced, read back
// and checked against the chain, renamed to `snapshot/<id>.snapshot`, and the directory is synced.
// Installing, in the driver, in this order:
//   1. `install` names the file and the descriptor (atomic, durable). From here on it is decided.
//   2. the state machine takes the file   3. the log is reset to the descriptor
//   4. `install` is removed
// A start that finds `install` does 2-4 again: 2 is skipped if the file is gone (the state machine
// has it already). So neither can a new state stand beside an old log nor the reverse. Files of
// streams that ended half-way are removed at the next start; nothing else ever is.
// single-thread: the loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/env/file_system.h"
#include "common/env/loop.h"
#include "metad/consensus/raft_codec.h"

namespace lumeofs::consensus {

struct PendingInstall {
    raft::SnapshotDescriptor snapshot;
    std::string path;
};

class SnapshotStore {
public:
    // `dir` exists; `install_path` is the file of step 1.
    SnapshotStore(Loop& loop, FileSystem& fs, std::string dir, std::string install_path);
    ~SnapshotStore();

    // What an interrupted install left to do; removes what was not received to its end.
    Result<std::optional<PendingInstall>> open();

    struct Outcome {
        uint64_t next_offset = 0;
        bool complete = false;  // all bytes are here: call finish()
    };
    // An error is one of this disk; the bytes were checked by decode_piece.
    Result<Outcome> put(const SnapshotPieceHead& head, View bytes);
    bool receiving() const { return incoming_ != nullptr; }
    bool finishing() const;
    // The stream that is being received is this one.
    bool same_stream(const SnapshotPieceHead& head) const;

    // Verifies what was received, a few MiB per task so that heartbeats go on. The descriptor's id
    // names the file. corrupt: it is not what was sent and was thrown away.
    void finish(std::function<void(Result<raft::SnapshotDescriptor>)> done);

    std::string path_of(uint64_t id) const;
    Status remove(uint64_t id);
    Status begin_install(const raft::SnapshotDescriptor& snapshot);
    Status end_install();

private:
    struct Incoming;
    void abandon();
    void verify_some();
    Result<raft::SnapshotDescriptor> publish();

    Loop& loop_;
    FileSystem& fs_;
    std::string dir_;
    std::string install_path_;
    std::shared_ptr<Incoming> incoming_;
    uint64_t last_id_ = 0;
};

}  // namespace lumeofs::consensus
