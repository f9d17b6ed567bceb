// SPDX-License-Identifier: Apache-2.0
#include "common/base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace lumeofs {

void assert_failed(const char* expression, const char* file, int line) {
    std::fprintf(stderr, "lumeofs: assertion failed: %s at %s:%d\n", expression, file, line);
    std::fflush(stderr);
    std::abort();
}

}  // namespace lumeofs
