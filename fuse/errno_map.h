// SPDX-License-Identifier: Apache-2.0
// Errc -> errno, the one place (besides posix_file_system) where errno exists. Total: a new code does
// not compile until it is mapped. Immutable.
#pragma once

#include "common/base/status.h"

namespace lumeofs::fusefs {

// The positive errno of a POSIX code; EIO for internal codes, which should never come here.
int to_errno(Errc code);
// True for codes that the client's retries should have consumed.
bool is_internal(Errc code);

}  // namespace lumeofs::fusefs
