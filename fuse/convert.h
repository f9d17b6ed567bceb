// SPDX-License-Identifier: Apache-2.0
// Between the client's values and libfuse's structs. Pure.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "client/types.h"

namespace lumeofs::fusefs {

// The kernel's number for the root of the mount, whatever its inode is.
inline constexpr fuse_ino_t kFuseRoot = FUSE_ROOT_ID;

struct stat to_stat(const client::Attr& attr);
fuse_entry_param to_entry(const client::Attr& attr);
client::SetAttrs to_set_attrs(const struct stat& attr, int to_set);
inline int64_t to_ns(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

}  // namespace lumeofs::fusefs
