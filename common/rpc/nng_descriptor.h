// SPDX-License-Identifier: Apache-2.0
// The descriptor behind a TCP stream of NNG, so that the loop itself can wait for it and read it.
//
// An NNG operation that has to wait is completed by NNG's poller, which wakes a task thread of NNG,
// which runs our loop: two threads woken for each message, where one would do (40 us each was measured
// between processors, four times in one change of a name). NNG 1.5.2 has no call that tells the
// descriptor; it is found among those of this process by its two addresses, which no other has.
// NNG goes on owning the connection, and completes what its operations were asked for.
#pragma once

#include <sys/types.h>

#include "common/base/bytes.h"

struct nng_stream;

namespace lumeofs {

// A copy of its own, closed by the owner; -1 if none was found (not TCP, no /proc): then NNG's operations
// are used.
class NngDescriptor {
public:
    NngDescriptor() = default;
    ~NngDescriptor() { close(); }
    NngDescriptor(const NngDescriptor&) = delete;
    NngDescriptor& operator=(const NngDescriptor&) = delete;

    bool open(nng_stream* stream);
    void close();
    int fd() const { return fd_; }
    bool is_open() const { return fd_ >= 0; }

    static constexpr ssize_t kEnded = -1;  // by the peer, orderly
    static constexpr ssize_t kBroken = -2;

    // Bytes received; 0 = there are none now; else one of the above.
    ssize_t receive(const MutableView* places, size_t count);
    // Bytes taken; 0 = the socket is full or broken: an operation of NNG will tell.
    size_t send(const View* pieces, size_t count);

private:
    int fd_ = -1;
};

}  // namespace lumeofs
