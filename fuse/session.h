// SPDX-License-Identifier: Apache-2.0
// Session: one mounted file system. Mounts, reads /dev/fuse, runs the handlers of fuse/ops, unmounts.
//
// The client's loop waits for /dev/fuse as it does for the daemons' answers, so that one thread takes a
// request through, and often has the next one before it would sleep (answering()). Large writes are
// not copied: the request is received into a counted buffer, of which the data is a slice.
//
// Two libfuse 3.14 matters are handled here: FUSE_HANDLE_KILLPRIV_V2 is put into the INIT reply
// (without it the kernel asks for security.capability before every write), and the per-request "clear
// setuid" flags that go with it, which libfuse does not pass on, are read from the raw request.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "client/vfs.h"
#include "common/env/real_loop.h"
#include "fuse/convert.h"
#include "fuse/mount_options.h"
#include "fuse/request.h"

namespace lumeofs::fusefs {

class Session {
public:
    Session(RealLoop& loop, client::Vfs& vfs, const MountOptions& options);
    ~Session();  // unmounts if still mounted

    Status mount();
    // Serves until the file system is unmounted, or stop() is called (from another thread). Requires: not
    // called on the loop.
    void serve();
    void stop();
    bool stopping() const { return stopping_; }

    client::Vfs& vfs() { return vfs_; }
    bool read_only() const { return options_.client.read_only; }
    // Kernel number <-> inode: the root of the mount is number 1 there.
    InodeId inode(fuse_ino_t number) const {
        return number == kFuseRoot ? vfs_.root() : InodeId{number};
    }

    // Runs `body` with a Request for `req`. On the loop, as all handlers.
    template <typename F>
    void run(fuse_req_t req, const char* name, F body) {
        auto request = std::make_shared<Request>(*this, req, name);
        begin(*request);
        body(std::move(request));
    }

    // Of the request that is being dispatched.
    bool wants_suid_cleared() const { return clear_suid_; }
    // The data of the write that is being dispatched, without a copy where it is large.
    Buffer take_write_data(const fuse_bufvec& data);

    // `req` is answered next.
    void answering(fuse_req_t req);

private:
    void receive();
    bool receive_one();
    void end();
    void let_unmount();
    void begin(Request& request);
    static void interrupted(fuse_req_t req, void* session);
    static ssize_t write_reply(int fd, iovec* parts, int count, void* session);
    static ssize_t read_request(int fd, void* into, size_t size, void* session);

    RealLoop& loop_;
    client::Vfs& vfs_;
    MountOptions options_;
    fuse_session* session_ = nullptr;
    bool mounted_ = false;
    bool init_answered_ = false;
    std::atomic<bool> stopping_{false};
    std::mutex end_mutex_;  // guards ended_
    std::condition_variable end_changed_;
    bool ended_ = false;  // unmounted, or stop()

    std::map<fuse_req_t, client::OpId> under_way_;  // not answered yet
    Timer unmount_timer_;
    bool quiet_ = false;    // nothing has come since the timer rang
    Nanos idle_since_ = 0;  // when the last one under way was answered
    bool lively_ = false;   // the last request came soon after the answer to the one before
    Buffer receive_buffer_;
    bool buffer_taken_ = false;
    bool clear_suid_ = false;

};

// The table of handlers, from fuse/ops.
const fuse_lowlevel_ops& operations();
// The session that a request belongs to.
inline Session& session_of(fuse_req_t req) {
    return *static_cast<Session*>(fuse_req_userdata(req));
}

}  // namespace lumeofs::fusefs
