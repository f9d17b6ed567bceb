// SPDX-License-Identifier: Apache-2.0
// The bytes of a membership entry, and the arithmetic of changing one server at a time.
// Layout, little-endian: u8 format revision (1), u16 count, then per member in rising order of id:
// u64 id, u8 role, u16 address length, address. Valid only if it ends exactly there.
// Pure functions; thread-safe.
#pragma once

#include "common/base/result.h"
#include "metad/raft/types.h"

namespace lumeofs::raft {

inline constexpr size_t kMaxMembers = 64;
inline constexpr size_t kMaxAddressBytes = 1024;

Bytes encode_membership(const Membership& membership);
// corrupt: not such bytes.
Result<Membership> decode_membership(View bytes);

// The membership after one change. inval: unknown member, a member that is already there, the last
// voter, or an address that is too long.
Result<Membership> change_membership(const Membership& now, const MembershipProposed& change);

}  // namespace lumeofs::raft
