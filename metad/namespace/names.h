// SPDX-License-Identifier: Apache-2.0
// What operations on names share: checks of a name, the parent, and taking a name from an inode.
// single-thread: the metad loop.
#pragma once

#include <optional>
#include <string_view>

#include "common/base/status.h"
#include "metad/namespace/ops/op.h"

namespace lumeofs::metad {

// noent (empty), nametoolong, inval (a slash or a zero byte in it).
Errc check_name(std::string_view name);
// The same for a name that is to be made, removed or renamed: "." and ".." give `dots`.
Errc check_new_name(std::string_view name, Errc dots);

// The directory `ino` in *row; noent, or notdir if it is something else.
Errc load_dir(Tables& t, InodeId ino, InodeRow* row);
// The regular file `ino` in *row; noent, isdir, or inval for other types.
Errc load_regular(Tables& t, InodeId ino, InodeRow* row);

bool listed(const std::vector<uint64_t>& list, InodeId ino);
// The leader looked at this victim when it proposed (ApplyMutation.recalled); if not: start over.
bool foreseen(const OpContext& ctx, InodeId victim);

// Entries of the directory changed: mtime, ctime, version.
void touch_dir(InodeRow& dir, Nanos now_ns);
// ctime and version.
void touch(InodeRow& row, Nanos now_ns);

// One name less, the dentry is gone already. Keeps an inode without names as an orphan if the
// command says that it is open, else frees it. Directories lose all. Returns the row as it is
// afterwards.
InodeRow drop_name(OpContext& ctx, InodeRow row);

uint32_t dentry_type(const InodeRow& row);

}  // namespace lumeofs::metad
