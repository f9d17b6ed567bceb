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
double to_seconds(Nanos time);
fuse_entry_param to_entry(const client::Attr& attr);
client::SetAttrs to_set_attrs(const struct stat& attr, int to_set);
// Nanoseconds in 64 bits reach from 1677 to 2262: a time beyond becomes the first or last of these.
inline int64_t to_ns(const timespec& time) {
    int64_t ns = 0;
    if (!__builtin_mul_overflow(int64_t{time.tv_sec}, int64_t{1'000'000'000}, &ns) &&
        !__builtin_add_overflow(ns, int64_t{time.tv_nsec}, &ns)) {
        return ns;
    }
    return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
}

}  // namespace lumeofs::fusefs
