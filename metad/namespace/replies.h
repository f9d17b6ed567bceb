// SPDX-License-Identifier: Apache-2.0
// Rows as messages.
// Pure functions; thread-safe.
#pragma once

#include <memory>

#include "common/base/status.h"
#include "common/wire/messages.h"
#include "metad/namespace/inode_table.h"
#include "metad/namespace/rows.h"

namespace lumeofs::metad {

wire::AttrT to_attr(const InodeRow& row);
// Bytes of file that `row` takes, as far as metadata knows: chunks count whole, but never more than
// the size.
uint64_t allocated_bytes(const InodeRow& row);

wire::MetaReplyT reply_error(Errc code);
wire::MetaReplyT reply_error(Errc code, const InodeRow& row);
wire::MetaReplyT reply_attr(const InodeRow& row);
wire::MetaReplyT reply_value(uint64_t value);

wire::ChunkGrantT grant_of(const ChunkRow& row);
wire::NodeAddressT address_of(const NodeRow& row);

}  // namespace lumeofs::metad
