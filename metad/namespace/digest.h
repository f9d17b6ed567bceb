// SPDX-License-Identifier: Apache-2.0
// The digest over all tables in a defined order: equal states have equal digests, on any node (I4).
//
// Each value goes in with its type and length, each row with its table, so that no two different
// states run together to the same bytes. Reads everything; about two million rows a second.
// single-thread: the metad loop.
#pragma once

#include "common/base/result.h"
#include "metad/namespace/db.h"

namespace lumeofs::metad {

Result<uint64_t> digest_of(Db& db);

}  // namespace lumeofs::metad
