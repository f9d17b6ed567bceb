// SPDX-License-Identifier: Apache-2.0
// Bugs on purpose, to see that the simulation catches them. `planted_bug("room.name")` is true only
// in a build with -DLUMEO_PLANTED_BUGS=ON and only for the one name that set_planted_bug chose; in
// every other build it is a constant false and the branch is gone. No environment, no file: a
// production binary cannot be talked into a bug.
// Guarded by the caller: set before the objects under test are made.
#pragma once

namespace lumeofs {

#if LUMEO_PLANTED_BUGS
bool planted_bug(const char* name);
// Chooses the bug; null or "" = none. `name` must outlive its use.
void set_planted_bug(const char* name);
#else
constexpr bool planted_bug(const char* /*name*/) { return false; }
#endif

}  // namespace lumeofs
