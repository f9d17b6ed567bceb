// SPDX-License-Identifier: Apache-2.0
#include "fuse/errno_map.h"

#include <cerrno>

namespace lumeofs::fusefs {

bool is_internal(Errc code) { return static_cast<uint16_t>(code) >= 1000; }

int to_errno(Errc code) {
    switch (code) {
        case Errc::ok: return 0;
        case Errc::perm: return EPERM;
        case Errc::noent: return ENOENT;
        case Errc::intr: return EINTR;
        case Errc::io: return EIO;
        case Errc::nxio: return ENXIO;
        case Errc::toobig: return E2BIG;
        case Errc::badf: return EBADF;
        case Errc::again: return EAGAIN;
        case Errc::nomem: return ENOMEM;
        case Errc::acces: return EACCES;
        case Errc::fault: return EFAULT;
        case Errc::exist: return EEXIST;
        case Errc::xdev: return EXDEV;
        case Errc::nodev: return ENODEV;
        case Errc::notdir: return ENOTDIR;
        case Errc::isdir: return EISDIR;
        case Errc::inval: return EINVAL;
        case Errc::nfile: return ENFILE;
        case Errc::mfile: return EMFILE;
        case Errc::notty: return ENOTTY;
        case Errc::txtbsy: return ETXTBSY;
        case Errc::fbig: return EFBIG;
        case Errc::nospc: return ENOSPC;
        case Errc::spipe: return ESPIPE;
        case Errc::rofs: return EROFS;
        case Errc::mlink: return EMLINK;
        case Errc::range: return ERANGE;
        case Errc::deadlk: return EDEADLK;
        case Errc::nametoolong: return ENAMETOOLONG;
        case Errc::nolck: return ENOLCK;
        case Errc::nosys: return ENOSYS;
        case Errc::notempty: return ENOTEMPTY;
        case Errc::loop: return ELOOP;
        case Errc::nodata: return ENODATA;
        case Errc::overflow: return EOVERFLOW;
        case Errc::opnotsupp: return EOPNOTSUPP;
        case Errc::timedout: return ETIMEDOUT;
        case Errc::stale: return ESTALE;
        case Errc::dquot: return EDQUOT;
        case Errc::canceled: return ECANCELED;
        case Errc::not_leader:
        case Errc::unavailable:
        case Errc::timeout:
        case Errc::disconnected:
        case Errc::stale_epoch:
        case Errc::newer_epoch:
        case Errc::corrupt:
        case Errc::busy:
        case Errc::no_session:
        case Errc::fenced:
        case Errc::not_member:
        case Errc::conflict:
        case Errc::recall:
        case Errc::protocol:
        case Errc::poisoned:
        case Errc::gap:
        case Errc::not_inline:
        case Errc::config:
        case Errc::shutting_down:
        case Errc::not_found:
        case Errc::superseded:
            return EIO;
    }
    return EIO;
}

}  // namespace lumeofs::fusefs
