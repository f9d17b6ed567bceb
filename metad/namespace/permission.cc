// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/permission.h"

#include <sys/stat.h>

#include <algorithm>

namespace lumeofs::metad {

bool in_group(const wire::CallerT& caller, uint32_t gid) {
    return caller.gid == gid ||
           std::find(caller.groups.begin(), caller.groups.end(), gid) != caller.groups.end();
}

bool may(const wire::CallerT& caller, const InodeRow& inode, uint32_t wanted) {
    if (!caller.check) return true;
    if (caller.uid == 0) {
        return (wanted & kMayExecute) == 0 || inode.is_dir() || (inode.mode & 0111) != 0;
    }
    uint32_t bits = inode.mode & 7;
    if (caller.uid == inode.uid) {
        bits = (inode.mode >> 6) & 7;
    } else if (in_group(caller, inode.gid)) {
        bits = (inode.mode >> 3) & 7;
    }
    return (bits & wanted) == wanted;
}

bool owns(const wire::CallerT& caller, const InodeRow& inode) {
    return !caller.check || caller.uid == 0 || caller.uid == inode.uid;
}

Errc may_add(const wire::CallerT& caller, const InodeRow& dir) {
    return may(caller, dir, kMayWrite | kMayExecute) ? Errc::ok : Errc::acces;
}

Errc may_remove(const wire::CallerT& caller, const InodeRow& dir, const InodeRow& victim) {
    if (!may(caller, dir, kMayWrite | kMayExecute)) return Errc::acces;
    if ((dir.mode & S_ISVTX) != 0 && !owns(caller, victim) && !owns(caller, dir)) return Errc::perm;
    return Errc::ok;
}

uint32_t without_set_id(uint32_t mode) {
    mode &= ~static_cast<uint32_t>(S_ISUID);
    if ((mode & S_IXGRP) != 0) mode &= ~static_cast<uint32_t>(S_ISGID);
    return mode;
}

}  // namespace lumeofs::metad
