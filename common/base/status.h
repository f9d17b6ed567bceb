// SPDX-License-Identifier: Apache-2.0
// Status and Errc: how every room says that something did not work.
//
// Errc has one number per errno that a POSIX file call can return (so that an answer reaches the
// application one to one) and internal codes that a room or the client's retry loop must consume.
// The numbers go over the wire and into stored replies: they are never reused or changed.
// A Status that is ok costs no allocation. Dropping one is an error at compile time; where it is
// meant, say `ignore(status, "why")`.
// Immutable value; thread-compatible.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace lumeofs {

enum class Errc : uint16_t {
    ok = 0,
    // POSIX, one to one.
    perm = 1,          // EPERM
    noent = 2,         // ENOENT
    intr = 4,          // EINTR
    io = 5,            // EIO
    nxio = 6,          // ENXIO
    toobig = 7,        // E2BIG
    badf = 9,          // EBADF
    again = 11,        // EAGAIN
    nomem = 12,        // ENOMEM
    acces = 13,        // EACCES
    fault = 14,        // EFAULT
    exist = 17,        // EEXIST
    xdev = 18,         // EXDEV
    nodev = 19,        // ENODEV
    notdir = 20,       // ENOTDIR
    isdir = 21,        // EISDIR
    inval = 22,        // EINVAL
    nfile = 23,        // ENFILE
    mfile = 24,        // EMFILE
    notty = 25,        // ENOTTY
    txtbsy = 26,       // ETXTBSY
    fbig = 27,         // EFBIG
    nospc = 28,        // ENOSPC
    spipe = 29,        // ESPIPE
    rofs = 30,         // EROFS
    mlink = 31,        // EMLINK
    range = 34,        // ERANGE
    deadlk = 35,       // EDEADLK
    nametoolong = 36,  // ENAMETOOLONG
    nolck = 37,        // ENOLCK
    nosys = 38,        // ENOSYS
    notempty = 39,     // ENOTEMPTY
    loop = 40,         // ELOOP
    nodata = 61,       // ENODATA
    overflow = 75,     // EOVERFLOW
    opnotsupp = 95,    // EOPNOTSUPP
    timedout = 110,    // ETIMEDOUT
    stale = 116,       // ESTALE
    dquot = 122,       // EDQUOT
    canceled = 125,    // ECANCELED
    // Internal: consumed by retries, never meant for an application.
    not_leader = 1000,      // ask another metad; the reply may carry a hint
    unavailable = 1001,     // cannot serve now (no quorum, no lease, starting); try again
    timeout = 1002,         // no answer within the deadline; the effect is unknown
    disconnected = 1003,    // the connection ended; the effect is unknown
    stale_epoch = 1004,     // the request's chunk configuration is older than the server's
    newer_epoch = 1005,     // the server has not adopted the configuration named; it was not carried
    corrupt = 1006,         // bytes from a disk or the network failed their checksum or their form
    busy = 1007,            // bounded queue is full; try later
    no_session = 1008,      // the session is unknown to the leader or was ended
    fenced = 1009,          // the session or node was fenced; nothing of it is accepted any more
    not_member = 1010,      // this chunkd is not a member of the chunk's configuration
    conflict = 1011,        // a compare-and-swap found another state; read again
    recall = 1012,          // a lease was recalled meanwhile; take it again
    protocol = 1013,        // the peer broke the protocol (bad frame, version, role, cluster)
    poisoned = 1014,        // an earlier failed sync closed this object for writing
    gap = 1015,             // sequence gap: the sender must send what is missing first
    not_inline = 1016,      // the file's data is no longer inline; the reply carries the layout
    config = 1017,          // the configuration file or command line is wrong
    shutting_down = 1018,   // the daemon is stopping
    not_found = 1019,       // internal look-up without a POSIX meaning (chunk, node, key)
    superseded = 1020,      // a newer request of the same slot was seen; this one is dropped
};

// The stable lower-case name ("noent", "stale_epoch"); "errc_N" for a number we do not know.
std::string errc_name(Errc code);
// True for a number that this build knows.
bool errc_known(uint16_t number);
// True if the same request may simply be sent again (to the same or another server).
bool errc_retryable(Errc code);

class [[nodiscard]] Status {
public:
    Status() = default;
    explicit Status(Errc code) : code_(code) {}
    Status(Errc code, std::string_view text);

    bool is_ok() const { return code_ == Errc::ok; }
    Errc code() const { return code_; }
    // The text given by whoever made it, "" if none.
    std::string_view text() const { return text_ ? std::string_view(*text_) : std::string_view(); }
    // "noent: no such name 'x'" for logs and people.
    std::string to_string() const;
    // The same code with `prefix: ` before the text.
    Status with_context(std::string_view prefix) const;

private:
    Errc code_ = Errc::ok;
    std::shared_ptr<const std::string> text_;
};

inline Status ok_status() { return Status(); }
inline void ignore(const Status& /*status*/, const char* /*why*/) {}

}  // namespace lumeofs
