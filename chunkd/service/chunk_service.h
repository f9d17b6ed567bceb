// SPDX-License-Identifier: Apache-2.0
// ChunkService: requests of clients (and forwarded ones of other chunkds) as frames: decoded, handed to
// the driver, answered as ChunkReply. Everything wrong with a message is an answer, never an assert.
// PeerService half: requests and pushes between chunkds go to the driver with the sender's node id.
// single-thread: the chunkd loop.
#pragma once

#include "chunkd/replication/driver.h"
#include "common/rpc/peer.h"

namespace lumeofs::chunkd {

// `peer` is who sent it; its role decides what it may ask for.
void serve_request(replication::Driver& driver, const Hello& peer, RpcRequest request);
void serve_push(replication::Driver& driver, const Hello& peer, const RpcPush& push);

}  // namespace lumeofs::chunkd
