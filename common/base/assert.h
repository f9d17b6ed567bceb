// SPDX-License-Identifier: Apache-2.0
// LFS_ASSERT checks what we ourselves promise, in every build: stopping beats serving wrong data.
// Never assert on bytes from a disk, a peer or a person: those get Errc::corrupt or a clear error.
#pragma once

namespace lumeofs {

// Prints the expression, the place and `note` (may be null) to stderr and aborts.
[[noreturn]] void assert_failed(const char* expression, const char* file, int line);

}  // namespace lumeofs

#define LFS_ASSERT(expr) \
    (static_cast<bool>(expr) ? void(0) : ::lumeofs::assert_failed(#expr, __FILE__, __LINE__))
#define LFS_UNREACHABLE(why) ::lumeofs::assert_failed("unreachable: " why, __FILE__, __LINE__)
