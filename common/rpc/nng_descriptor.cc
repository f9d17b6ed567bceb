// SPDX-License-Identifier: Apache-2.0
#include "common/rpc/nng_descriptor.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <nng/nng.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "common/rpc/frame_stream.h"

namespace lumeofs {
namespace {

bool same(const sockaddr_storage& socket, const nng_sockaddr& stream) {
    if (stream.s_family == NNG_AF_INET && socket.ss_family == AF_INET) {
        const auto& in = reinterpret_cast<const sockaddr_in&>(socket);
        return in.sin_port == stream.s_in.sa_port && in.sin_addr.s_addr == stream.s_in.sa_addr;
    }
    if (stream.s_family == NNG_AF_INET6 && socket.ss_family == AF_INET6) {
        const auto& in = reinterpret_cast<const sockaddr_in6&>(socket);
        return in.sin6_port == stream.s_in6.sa_port &&
               std::memcmp(&in.sin6_addr, stream.s_in6.sa_addr, sizeof in.sin6_addr) == 0;
    }
    return false;
}

bool is_socket_of(int fd, const nng_sockaddr& local, const nng_sockaddr& remote) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
    if (!same(address, local)) return false;
    size = sizeof address;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
    return same(address, remote);
}

template <typename Span>
msghdr message_of(const Span* spans, size_t count, iovec (&parts)[FrameWriter::kMaxPieces]) {
    for (size_t i = 0; i < count; ++i) {
        parts[i] = {const_cast<uint8_t*>(spans[i].data()), spans[i].size()};
    }
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    return message;
}

}  // namespace

bool NngDescriptor::open(nng_stream* stream) {
    nng_sockaddr local{};
    nng_sockaddr remote{};
    if (nng_stream_get_addr(stream, NNG_OPT_LOCADDR, &local) != 0) return false;
    if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &remote) != 0) return false;
    std::unique_ptr<DIR, int (*)(DIR*)> all(opendir("/proc/self/fd"), closedir);
    if (!all) return false;
    while (const dirent* entry = readdir(all.get())) {
        const int fd = std::atoi(entry->d_name);
        if (!is_socket_of(fd, local, remote)) continue;
        fd_ = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return fd_ >= 0;
    }
    return false;
}

void NngDescriptor::close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

ssize_t NngDescriptor::receive(const MutableView* places, size_t count) {
    iovec parts[FrameWriter::kMaxPieces];
    msghdr message = message_of(places, count, parts);
    for (;;) {
        const ssize_t got = recvmsg(fd_, &message, MSG_DONTWAIT);
        if (got > 0) return got;
        if (got == 0) return kEnded;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
        if (errno != EINTR) return kBroken;
    }
}

size_t NngDescriptor::send(const View* pieces, size_t count) {
    iovec parts[FrameWriter::kMaxPieces];
    const msghdr message = message_of(pieces, count, parts);
    const ssize_t sent = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent > 0 ? static_cast<size_t>(sent) : 0;
}

}  // namespace lumeofs
