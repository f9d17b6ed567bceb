// SPDX-License-Identifier: Apache-2.0
// What must hold between the tables at every applied index, as queries that list each break.
//
// - Every name leads to an inode of its type, every inode but the root has as many names as nlink
//   says (directories: one name, nlink 2 + sub-directories); those without a name are orphans.
// - A directory's parent is where its name is; following parents ends at the root.
// - Every map row leads to a chunk, every chunk has as many map rows as it counts references; the
//   node table of chunks says what the chunks' rows say; no live chunk is garbage at a member.
// - Map rows of no inode are covered by a clean-up, growers belong to regular files and known
//   sessions, inline data and chunks exclude each other unless a move-out is under way.
// - The totals are the sums.
// Used by tests, the simulation and `lumeofs-metad-tool check`. Reads everything.
// single-thread: the metad loop.
#pragma once

#include <string>
#include <vector>

#include "metad/namespace/db.h"

namespace lumeofs::metad {

// One sentence for each break, at most a few hundred.
std::vector<std::string> broken_invariants(Db& db);

}  // namespace lumeofs::metad
