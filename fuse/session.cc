// SPDX-License-Identifier: Apache-2.0
#include "fuse/session.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "common/base/assert.h"
#include "common/base/log.h"

namespace lumeofs::fusefs {
namespace {

// What libfuse asks read(2) for: 256 pages of data and one for the header.
constexpr size_t kReceiveBytes = 256 * 4096 + 4096;
constexpr int kRequestsPerTask = 16;  // then others on the loop have their turn
// A program that has just been answered often asks again at once (the next name of a path), and waking
// this process costs more than most requests: 47 us of which 17 are left where this was measured.
constexpr int kLooks = 100;
constexpr Nanos kSoon = 100 * 1'000;  // after such a pause it is looked for the next time
constexpr Nanos kUnmountPatience = 5 * kSecond;
constexpr Nanos kUnmountLook = 500 * kMillisecond;
constexpr size_t kKeepWholeFrom = 64 * 1024;  // writes of this size keep the receive buffer

// libfuse splits options at commas, and a source may be a list of hosts.
std::string escaped(const std::string& text) {
    std::string out;
    for (char c : text) {
        if (c == ',' || c == '\\') out += '\\';
        out += c;
    }
    return out;
}

}  // namespace

Session::Session(RealLoop& loop, client::Vfs& vfs, const MountOptions& options)
    : loop_(loop), vfs_(vfs), options_(options), unmount_timer_(loop) {}

Session::~Session() {
    if (mounted_) fuse_session_unmount(session_);
    if (session_) fuse_session_destroy(session_);
}

Status Session::mount() {
    const std::string kernel_options = "fsname=" + escaped(options_.source) +
                                       ",subtype=lumeofs,default_permissions" +
                                       options_.kernel_options;
    fuse_args args = FUSE_ARGS_INIT(0, nullptr);
    fuse_opt_add_arg(&args, "lumeofs-fuse");
    fuse_opt_add_arg(&args, "-o");
    fuse_opt_add_arg(&args, kernel_options.c_str());
    session_ = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), this);
    fuse_opt_free_args(&args);
    if (!session_) {
        return Status(Errc::config, "libfuse refuses the mount options '" + kernel_options + "'");
    }
    if (fuse_session_mount(session_, options_.mount_point.c_str()) != 0) {
        return Status(Errc::io,
                      "cannot mount on " + options_.mount_point +
                          " (is it a directory, is /dev/fuse there, may you mount?)");
    }
    mounted_ = true;
    static const fuse_custom_io io = {write_reply, read_request, nullptr, nullptr};
    if (fuse_session_custom_io(session_, &io, fuse_session_fd(session_)) != 0) {
        return Status(Errc::io, "libfuse does not take the custom I/O functions");
    }
    return ok_status();
}

// The first reply is INIT's: adds the flag that libfuse 3.14 lists but never sends.
ssize_t Session::write_reply(int fd, iovec* parts, int count, void* user) {
    auto* self = static_cast<Session*>(user);
    if (!self->init_answered_) {
        self->init_answered_ = true;
        if (count >= 2 && parts[1].iov_len >= offsetof(fuse_init_out, flags) + sizeof(uint32_t)) {
            auto* init = static_cast<fuse_init_out*>(parts[1].iov_base);
            init->flags |= FUSE_HANDLE_KILLPRIV_V2;
        }
    }
    return writev(fd, parts, count);
}

ssize_t Session::read_request(int fd, void* into, size_t size, void* /*user*/) {
    return read(fd, into, size);
}

void Session::serve() {
    const int device = fuse_session_fd(session_);
    const bool served = loop_.run_and_wait([&] {
        LFS_ASSERT(fcntl(device, F_SETFL, O_RDWR | O_NONBLOCK) == 0);
        loop_.watch(device, [this] { receive(); });
        unmount_timer_.repeat(kUnmountLook, [this] {
            if (std::exchange(quiet_, true)) let_unmount();
        });
        receive();
    });
    if (!served) return;
    std::unique_lock lock(end_mutex_);
    end_changed_.wait(lock, [this] { return ended_; });
    lock.unlock();
    loop_.run_and_wait([&] {
        loop_.unwatch(device);
        unmount_timer_.stop();
    });
}

// As long as there are requests; after some of them it goes to the end of the queue.
void Session::receive() {
    for (int i = 0; i < kRequestsPerTask; ++i) {
        if (!receive_one()) return;
    }
    loop_.post([this] { receive(); });
}

// False: nothing is there, or the session has ended.
bool Session::receive_one() {
    if (stopping_) return false;
    if (receive_buffer_.empty() || buffer_taken_) {
        receive_buffer_ = Buffer::allocate(kReceiveBytes);
        buffer_taken_ = false;
    }
    fuse_buf received = {};
    received.mem = receive_buffer_.mutable_data();
    const int size = fuse_session_receive_buf(session_, &received);
    if (size == -EINTR) return true;
    if (size == -EAGAIN) return false;
    if (size <= 0) {  // unmounted
        end();
        return false;
    }
    quiet_ = false;
    const auto* header = static_cast<const fuse_in_header*>(received.mem);
    clear_suid_ = false;
    if (header->opcode == FUSE_WRITE &&
        received.size >= sizeof(fuse_in_header) + sizeof(fuse_write_in)) {
        const auto* write = reinterpret_cast<const fuse_write_in*>(header + 1);
        clear_suid_ = (write->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    } else if (header->opcode == FUSE_SETATTR &&
               received.size >= sizeof(fuse_in_header) + sizeof(fuse_setattr_in)) {
        const auto* set = reinterpret_cast<const fuse_setattr_in*>(header + 1);
        clear_suid_ = (set->valid & FATTR_KILL_SUIDGID) != 0;
    }
    fuse_session_process_buf(session_, &received);
    if (!fuse_session_exited(session_)) return true;
    end();
    return false;
}

// umount(8) looks at the root of the mount before it unmounts, and goes on if it cannot. Without a
// cluster that look would take for ever. Called when nothing has come from the kernel for a while.
void Session::let_unmount() {
    for (const client::OpStatus& op : vfs_.status().waiting) {
        if (op.name != "getattr" || op.ino != vfs_.root() || op.waited < kUnmountPatience) continue;
        char name[32] = "";
        FILE* comm = std::fopen(("/proc/" + std::to_string(op.pid) + "/comm").c_str(), "re");
        if (!comm) continue;
        const bool named = std::fgets(name, sizeof name, comm) != nullptr;
        std::fclose(comm);
        if (!named || std::string_view(name).find("umount") == std::string_view::npos) continue;
        LFS_LOG(warn, "no metad answers: umount goes on without a look at the mount");
        vfs_.interrupt(op.op);
    }
}

Buffer Session::take_write_data(const fuse_bufvec& data) {
    const auto* bytes = static_cast<const uint8_t*>(data.buf[0].mem);
    const size_t size = data.buf[0].size;
    const uint8_t* start = receive_buffer_.data();
    const bool inside = bytes >= start && bytes + size <= start + receive_buffer_.size();
    if (size < kKeepWholeFrom || !inside) return Buffer::copy_of({bytes, size});
    buffer_taken_ = true;
    return receive_buffer_.slice(static_cast<size_t>(bytes - start), size);
}

void Session::stop() {
    stopping_ = true;
    if (session_) fuse_session_exit(session_);
    end();
}

void Session::end() {
    std::lock_guard lock(end_mutex_);
    ended_ = true;
    end_changed_.notify_all();
}

void Session::begin(Request& request) {
    if (under_way_.empty()) lively_ = loop_.now() - idle_since_ < kSoon;
    under_way_[request.raw()] = request.caller().op;
    fuse_req_interrupt_func(request.raw(), interrupted, this);
}

void Session::answering(fuse_req_t req) {
    // libfuse's own registration first, so that interrupted() never meets a request that was answered.
    fuse_req_interrupt_func(req, nullptr, nullptr);
    under_way_.erase(req);
    // Nothing is looked for while a request is under way: the daemons may need the processor for it.
    if (!under_way_.empty()) return;
    idle_since_ = loop_.now();
    if (lively_) loop_.expect(kLooks);
}

void Session::interrupted(fuse_req_t req, void* user) {
    auto* self = static_cast<Session*>(user);
    auto it = self->under_way_.find(req);
    if (it == self->under_way_.end()) return;
    // Posted, never inline: libfuse holds the request's lock here, and an answer would take it.
    self->loop_.post([self, op = it->second] { self->vfs_.interrupt(op); });
}

}  // namespace lumeofs::fusefs
