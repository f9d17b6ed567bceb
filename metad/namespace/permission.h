// SPDX-License-Identifier: Apache-2.0
// POSIX permission rules on inode rows, for callers whose kernel has not checked already.
//
// Every function says "allowed" when caller.check is false. Pure functions; thread-safe.
#pragma once

#include <cstdint>

#include "common/base/status.h"
#include "common/wire/messages.h"
#include "metad/namespace/inode_table.h"

namespace lumeofs::metad {

inline constexpr uint32_t kMayExecute = 1;
inline constexpr uint32_t kMayWrite = 2;
inline constexpr uint32_t kMayRead = 4;

bool in_group(const wire::CallerT& caller, uint32_t gid);
// All bits of `wanted` by the file's mode; root may all (execute a file: if anybody may).
bool may(const wire::CallerT& caller, const InodeRow& inode, uint32_t wanted);
// Is the caller the owner, or root?
bool owns(const wire::CallerT& caller, const InodeRow& inode);
// May a name of `victim` be taken out of `dir`? acces without write and search permission, perm by
// the sticky bit: only the owner of the file or of the directory.
Errc may_remove(const wire::CallerT& caller, const InodeRow& dir, const InodeRow& victim);
// Write and search permission on a directory that gets a name.
Errc may_add(const wire::CallerT& caller, const InodeRow& dir);
// The mode without setuid, and without setgid if the group may execute (else setgid is a locking
// mark): what a write or chown by somebody without privilege leaves.
uint32_t without_set_id(uint32_t mode);

}  // namespace lumeofs::metad
