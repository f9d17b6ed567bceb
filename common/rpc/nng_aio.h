// SPDX-License-Identifier: Apache-2.0
// One asynchronous NNG operation at a time, completed on the loop, and the rules of its life.
//
// Life of an aio (NNG 1.5.2, read in its source):
// 1. nng_aio_free() waits for the aio's callback, so it deadlocks inside it. ~NngAio therefore uses
//    nng_aio_reap(), which waits on NNG's own reaper thread.
// 2. While an operation is under way the aio holds its *owner* (a shared_ptr to the object that it is
//    part of); the callback moves that reference into the task that it posts. So an owner dies only
//    when none of its operations is under way, and may be dropped from inside any of its handlers.
// 3. An operation started on a stream after nng_stream_close() never completes (tcp_recv queues it,
//    tcp_close does not look again). Owners close and start operations on the loop only, and start
//    none after close.
// 4. A send may complete with fewer bytes than asked for.
// 5. NNG runs callbacks on its task threads. They only read the result and post; a free loop is then
//    run by that very thread, without a hand-off (see real_loop.h).
// 6. NngHub counts operations, from begin() until their callback has nothing more to touch, so that a
//    transport can wait for them before it goes and its loop may go after it.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "common/env/loop.h"

struct nng_aio;
struct nng_iov;
struct nng_stream;

namespace lumeofs {

// Anything that a going transport must end: its streams, dials and listeners.
class NngClosable {
public:
    virtual ~NngClosable() = default;
    virtual void shut() = 0;  // ends all operations, without telling anybody
};

// What a transport and the parts that may outlive it share. `loop` is not touched after gone.
class NngHub {
public:
    explicit NngHub(Loop& l) : loop(l) {}

    Loop& loop;

    uint64_t next_id();
    void add(uint64_t id, std::weak_ptr<NngClosable> part);
    void remove(uint64_t id);
    // Ends everything and waits until no NNG thread is in our code (but for this one, if it is).
    void shut_and_wait();
    bool gone() const { return gone_; }

    // A few lines at once about refused or broken connections, and one per second for long; a flood
    // is counted, not written out.
    void complain(const std::string& line);

    // While held, who has frames to send leaves a task here; on the loop.
    bool held = false;
    std::vector<std::function<void()>> after_hold;

    bool loop_reads = true;  // see nng_descriptor.h
    int handshakes = 0;  // accepted connections that have not said hello yet; on the loop

private:
    friend class NngAio;
    void operation_began();
    void operation_ended();

    std::mutex mutex_;
    std::condition_variable idle_;
    int operations_ = 0;
    bool gone_ = false;  // changed on the loop, or when it has stopped
    uint64_t last_id_ = 0;
    std::map<uint64_t, std::weak_ptr<NngClosable>> parts_;
    static constexpr Nanos kLinesAtOnce = 8;
    Nanos lines_paid_until_ = 0;  // on the loop: each line costs a second
    uint64_t suppressed_ = 0;
};

using NngStreamPtr = std::shared_ptr<nng_stream>;

class NngAio {
public:
    // rv (0 or an NNG error), bytes moved, and the stream that a dial or accept made.
    using Handler = std::function<void(int rv, size_t count, NngStreamPtr stream)>;

    // `handler` runs on the loop, with the owner held.
    NngAio(std::shared_ptr<NngHub> hub, Handler handler);
    ~NngAio();
    NngAio(const NngAio&) = delete;
    NngAio& operator=(const NngAio&) = delete;

    // Before each operation: then call exactly one of nng_stream_send/recv/accept/dial with get().
    // timeout 0 = none. Requires: none is under way.
    void begin(std::shared_ptr<void> owner, Nanos timeout);
    nng_aio* get() { return aio_; }
    bool busy() const { return busy_; }  // on the loop: until the handler runs

private:
    static void callback(void* self);

    std::shared_ptr<NngHub> hub_;
    Handler handler_;
    nng_aio* aio_ = nullptr;
    std::shared_ptr<void> owner_;
    bool busy_ = false;
};

// A send that is over when the call returns. An operation with a callback is completed by a task
// thread of NNG even if the socket took the bytes at once: two switches of threads for each frame.
// This one has no callback; what the socket does not take at once is cancelled before a byte of it has
// left (tcp_dowrite completes an operation with its first successful sendmsg).
class NngTrySend {
public:
    NngTrySend();
    ~NngTrySend();
    NngTrySend(const NngTrySend&) = delete;
    NngTrySend& operator=(const NngTrySend&) = delete;

    // Bytes taken. 0: the socket is full or broken; an NngAio will tell.
    // Requires: no other send is under way on the stream.
    size_t send(nng_stream* stream, const nng_iov* parts, size_t count);

private:
    nng_aio* aio_ = nullptr;
};

}  // namespace lumeofs
