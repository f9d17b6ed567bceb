// SPDX-License-Identifier: Apache-2.0
#include "fuse/convert.h"

namespace lumeofs::fusefs {
namespace {

timespec to_timespec(int64_t ns) {
    constexpr int64_t kBillion = 1'000'000'000;
    int64_t seconds = ns / kBillion;
    int64_t rest = ns % kBillion;
    if (rest < 0) {  // before 1970: the nanoseconds still count upwards
        rest += kBillion;
        --seconds;
    }
    return {static_cast<time_t>(seconds), static_cast<long>(rest)};
}

}  // namespace

struct stat to_stat(const client::Attr& attr) {
    struct stat out = {};
    out.st_ino = attr.ino.value;
    out.st_mode = attr.mode;
    out.st_nlink = attr.nlink;
    out.st_uid = attr.uid;
    out.st_gid = attr.gid;
    out.st_rdev = attr.rdev;
    out.st_size = static_cast<off_t>(attr.size);
    out.st_blksize = 4096;
    out.st_blocks = static_cast<blkcnt_t>((attr.allocated + 511) / 512);
    out.st_atim = to_timespec(attr.atime_ns);
    out.st_mtim = to_timespec(attr.mtime_ns);
    out.st_ctim = to_timespec(attr.ctime_ns);
    return out;
}

double to_seconds(Nanos time) { return static_cast<double>(time) / static_cast<double>(kSecond); }

fuse_entry_param to_entry(const client::Attr& attr) {
    fuse_entry_param entry = {};
    entry.ino = attr.ino.value;
    entry.attr = to_stat(attr);
    entry.attr_timeout = to_seconds(attr.attr_time);
    entry.entry_timeout = to_seconds(attr.name_time);
    return entry;
}

client::SetAttrs to_set_attrs(const struct stat& attr, int to_set) {
    client::SetAttrs out;
    if (to_set & FUSE_SET_ATTR_MODE) out.mode = attr.st_mode & 07777;
    if (to_set & FUSE_SET_ATTR_UID) out.uid = attr.st_uid;
    if (to_set & FUSE_SET_ATTR_GID) out.gid = attr.st_gid;
    if (to_set & FUSE_SET_ATTR_SIZE) out.size = static_cast<uint64_t>(attr.st_size);
    if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
        out.atime_now = true;
    } else if (to_set & FUSE_SET_ATTR_ATIME) {
        out.atime_ns = to_ns(attr.st_atim);
    }
    if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
        out.mtime_now = true;
    } else if (to_set & FUSE_SET_ATTR_MTIME) {
        out.mtime_ns = to_ns(attr.st_mtim);
    }
    return out;
}

}  // namespace lumeofs::fusefs
