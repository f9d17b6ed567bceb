// SPDX-License-Identifier: Apache-2.0
#include "common/base/planted_bug.h"

#include <cstring>

namespace lumeofs {

#if LUMEO_PLANTED_BUGS
namespace {
const char* chosen_bug = "";
}  // namespace

bool planted_bug(const char* name) { return std::strcmp(name, chosen_bug) == 0; }

void set_planted_bug(const char* name) { chosen_bug = name == nullptr ? "" : name; }
#endif

}  // namespace lumeofs
