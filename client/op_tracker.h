// SPDX-License-Identifier: Apache-2.0
// OpTracker: every operation that somebody waits for, so that each is answered exactly once, can be
// interrupted, times out with `soft`, and shows up in status().
//
// Abandoning an operation (signal, timeo, stop) only means that nobody waits any more: what it sent
// goes on in its slot, and its late result goes to `abandoned` (to close a file that nobody got).
// Here, at the last step before the edge, internal codes become Errc::io with a line in the log.
// single-thread: the loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "client/types.h"
#include "common/env/loop.h"

namespace lumeofs::client {

// The code an application may see; internal ones become io.
Status to_posix(const Status& status, const char* operation);

class OpTracker {
public:
    struct Options {
        Nanos interrupt_patience = 0;
        Nanos soft_timeout = 0;  // 0 = wait for ever
    };
    struct Entry {
        OpId op = 0;
        const char* name = "";
        InodeId ino;
        int32_t pid = 0;
        Nanos started = 0;
        bool interrupted = false;
        std::function<void(Errc)> give_up;
    };

    OpTracker(Loop& loop, Options options) : loop_(loop), options_(options), timer_(loop) {}

    OpId new_op() { return ++last_op_; }

    // `gone` becomes true when nobody waits any more: what was not begun by then need not begin.
    template <typename T>
    Done<T> track(const Caller& caller,
                  const char* name,
                  InodeId ino,
                  Done<T> done,
                  std::function<void(T&)> abandoned = {},
                  std::shared_ptr<bool> gone = {}) {
        auto answer = std::make_shared<Done<T>>(std::move(done));
        auto finish = [answer, name, gone](Result<T> result) {
            Done<T> call = std::exchange(*answer, nullptr);
            if (gone) *gone = true;
            if (!result.is_ok()) result = to_posix(result.status(), name);
            call(std::move(result));
        };
        const uint64_t serial = add(caller, name, ino, [finish](Errc code) { finish(code); });
        return [this, serial, answer, finish, abandoned = std::move(abandoned)](Result<T> result) {
            if (!*answer) {
                if (abandoned && result.is_ok()) abandoned(*result);
                return;
            }
            remove(serial);
            finish(std::move(result));
        };
    }
    // The same for operations that answer with a status only.
    StatusDone track_status(const Caller& caller, const char* name, InodeId ino, StatusDone done);

    void interrupt(OpId op);
    // Answers everything that runs with `code`.
    void give_up_all(Errc code);
    const std::map<uint64_t, Entry>& running() const { return running_; }

private:
    uint64_t add(const Caller& caller,
                 const char* name,
                 InodeId ino,
                 std::function<void(Errc)> give_up);
    void remove(uint64_t serial);
    void schedule();
    void expire();
    Nanos due(const Entry& entry) const;  // when to give it up; 0 = never

    Loop& loop_;
    const Options options_;
    OpId last_op_ = 0;
    uint64_t last_serial_ = 0;
    std::map<uint64_t, Entry> running_;  // by start
    std::map<OpId, uint64_t> by_op_;
    Timer timer_;
};

}  // namespace lumeofs::client
