// SPDX-License-Identifier: Apache-2.0
// lfsx: one function per operation. Each does to the file what it then does to the model, checks
// what it read, and returns `unsupported` only where the file system itself says so.
// single-thread: main.
#include "tests/posix/lfsx_tester.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace lumeofs::lfsx {

Tester::Outcome Tester::do_read(bool direct) {
    Mount& mount = mounts_[now_.mount];
    if (direct && mount.direct_fd < 0) {
        return Outcome::unsupported;
    }
    size_t expected = now_.offset >= size_ ? 0 : std::min(now_.length, size_ - now_.offset);
    size_t have = 0;
    while (have < now_.length) {
        ssize_t got = pread(direct ? mount.direct_fd : mount.fd,
                            buffer_.data() + have,
                            now_.length - have,
                            at(now_.offset + have));
        if (got < 0) {
            stop(now_.offset, "read: %s", std::strerror(errno));
        }
        have += static_cast<size_t>(got);
        if (got == 0 || (direct && have % kPage != 0)) {  // a direct read goes on only aligned
            break;
        }
    }
    if (have != expected) {
        stop(now_.offset + std::min(have, expected),
             "read length: expected %zu, found %zu",
             expected,
             have);
    }
    check_bytes(buffer_.data(), now_.offset, have, "read");
    return Outcome::done;
}

Tester::Outcome Tester::do_write(int fd, bool direct) {
    if (fd < 0) {
        return Outcome::unsupported;
    }
    fill(now_.offset, now_.length);
    std::memcpy(buffer_.data(), &model_[now_.offset], now_.length);
    size_t have = 0;
    while (have < now_.length) {
        ssize_t put = pwrite(fd, buffer_.data() + have, now_.length - have, at(now_.offset + have));
        if (put <= 0) {
            stop(now_.offset, "write: %s", put == 0 ? "nothing written" : std::strerror(errno));
        }
        have += static_cast<size_t>(put);
        if (direct && have % kPage != 0) {
            stop(now_.offset, "direct write: stopped unaligned after %zu bytes", have);
        }
    }
    grow(now_.offset + now_.length);
    return Outcome::done;
}

Tester::Outcome Tester::do_append() {
    now_.offset = size_;
    now_.length = std::min(now_.length, options_.max_size - size_);
    if (now_.length == 0) {
        return Outcome::done;
    }
    fill(now_.offset, now_.length);
    ssize_t put = write(mounts_[now_.mount].append_fd, &model_[now_.offset], now_.length);
    if (put != static_cast<ssize_t>(now_.length)) {
        stop(now_.offset,
             "append: expected %zu, found %zd (%s)",
             now_.length,
             put,
             put < 0 ? std::strerror(errno) : "short write");
    }
    grow(now_.offset + now_.length);
    return Outcome::done;
}

Tester::Outcome Tester::do_truncate() {
    size_t size = now_.offset;
    now_.length = 0;
    bool by_path = random_.below(4) == 0;
    Mount& mount = mounts_[now_.mount];
    int rc = by_path ? truncate(mount.file.c_str(), at(size)) : ftruncate(mount.fd, at(size));
    if (rc != 0) {
        stop(kNowhere, "truncate to %zu: %s", size, std::strerror(errno));
    }
    if (size < size_) {
        std::memset(&model_[size], 0, size_ - size);
    }
    size_ = size;
    return Outcome::done;
}

Tester::Outcome Tester::do_fallocate(int mode) {
    int rc =
        fallocate(mounts_[now_.mount].fd, mode, at(now_.offset), static_cast<off_t>(now_.length));
    if (rc != 0) {
        if (errno == EOPNOTSUPP) {
            return Outcome::unsupported;
        }
        stop(now_.offset, "fallocate mode %d: %s", mode, std::strerror(errno));
    }
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
        std::memset(&model_[now_.offset], 0, now_.length);
    }
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0) {
        grow(now_.offset + now_.length);
    }
    return Outcome::done;
}

Tester::Outcome Tester::do_copy() {
    // Source and target must not overlap and the source must lie inside the file.
    if (now_.offset >= size_) {
        now_.offset = size_ / 2;
    }
    now_.length = std::min({now_.length, size_ - now_.offset, options_.max_size - now_.target});
    size_t gap = now_.target > now_.offset ? now_.target - now_.offset : now_.offset - now_.target;
    now_.length = std::min(now_.length, gap);
    // The kernel checks the range against the size that it knows, without asking: another mount may
    // have grown the file.
    struct stat known = {};
    if (mounts_.size() > 1) fstat(mounts_[now_.mount].fd, &known);
    size_t have = 0;
    while (have < now_.length) {
        off_t from = at(now_.offset + have);
        off_t to = at(now_.target + have);
        int fd = mounts_[now_.mount].fd;
        ssize_t put = copy_file_range(fd, &from, fd, &to, now_.length - have, 0);
        if (put < 0 && (errno == EOPNOTSUPP || errno == ENOSYS) && have == 0) {
            return Outcome::unsupported;
        }
        if (put <= 0) {
            stop(now_.target,
                 "copy_file_range: %s",
                 put == 0 ? "nothing copied" : std::strerror(errno));
        }
        have += static_cast<size_t>(put);
    }
    if (now_.length > 0) {
        std::memcpy(&model_[now_.target], &model_[now_.offset], now_.length);
        grow(now_.target + now_.length);
    }
    return Outcome::done;
}

Tester::Outcome Tester::do_map_read() {
    if (now_.offset >= size_) {
        return Outcome::done;
    }
    now_.length = std::min(now_.length, size_ - now_.offset);
    size_t start = now_.offset / kPage * kPage;
    size_t length = round_up(now_.offset + now_.length) - start;
    void* map = mmap(nullptr, length, PROT_READ, MAP_SHARED, mounts_[now_.mount].fd, at(start));
    if (map == MAP_FAILED) {
        return errno == ENODEV
                   ? Outcome::unsupported
                   : (stop(now_.offset, "mmap: %s", std::strerror(errno)), Outcome::done);
    }
    // The tail of the last page is behind the end of the file: zero, as in the model.
    check_bytes(static_cast<uint8_t*>(map), start, length, "mapped read");
    munmap(map, length);
    return Outcome::done;
}

Tester::Outcome Tester::do_map_write() {
    Mount& mount = mounts_[now_.mount];
    if (now_.offset + now_.length > size_) {
        if (ftruncate(mount.fd, at(now_.offset + now_.length)) != 0) {
            stop(now_.offset, "truncate for a mapping: %s", std::strerror(errno));
        }
        size_ = now_.offset + now_.length;
    }
    size_t start = now_.offset / kPage * kPage;
    size_t length = now_.offset + now_.length - start;
    void* map = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, mount.fd, at(start));
    if (map == MAP_FAILED) {
        return errno == ENODEV
                   ? Outcome::unsupported
                   : (stop(now_.offset, "mmap: %s", std::strerror(errno)), Outcome::done);
    }
    fill(now_.offset, now_.length);
    std::memcpy(
        static_cast<uint8_t*>(map) + (now_.offset - start), &model_[now_.offset], now_.length);
    if (random_.below(3) == 0 && msync(map, length, MS_SYNC) != 0) {
        stop(now_.offset, "msync: %s", std::strerror(errno));
    }
    munmap(map, length);
    return Outcome::done;
}

Tester::Outcome Tester::do_seek() {
    int fd = mounts_[now_.mount].fd;
    now_.length = 0;
    off_t data = lseek(fd, at(now_.offset), SEEK_DATA);
    if (data < 0 && errno == EINVAL) {
        return Outcome::unsupported;
    }
    if (data < 0 && errno != ENXIO) {
        stop(now_.offset, "SEEK_DATA: %s", std::strerror(errno));
    }
    if (now_.offset >= size_) {
        return data < 0 ? Outcome::done
                        : (stop(now_.offset,
                                "SEEK_DATA behind the end: expected ENXIO, found %lld",
                                static_cast<long long>(data)),
                           Outcome::done);
    }
    if (data >= 0 && (data < at(now_.offset) || data >= at(size_))) {
        stop(now_.offset,
             "SEEK_DATA from 0x%zx: found %lld, outside of the file",
             now_.offset,
             static_cast<long long>(data));
    }
    check_zero(
        now_.offset, data < 0 ? size_ : static_cast<size_t>(data - options_.base), "SEEK_DATA");
    off_t hole = lseek(fd, at(now_.offset), SEEK_HOLE);
    if (hole < at(now_.offset) || hole > at(size_)) {
        stop(now_.offset,
             "SEEK_HOLE from 0x%zx: found %lld",
             now_.offset,
             static_cast<long long>(hole));
    }
    if (hole < at(size_)) {
        off_t next = lseek(fd, hole, SEEK_DATA);
        if (next < 0 && errno != ENXIO) {
            stop(now_.offset, "SEEK_DATA after a hole: %s", std::strerror(errno));
        }
        check_zero(static_cast<size_t>(hole - options_.base),
                   next < 0 ? size_ : static_cast<size_t>(next - options_.base),
                   "SEEK_HOLE");
    }
    return Outcome::done;
}

Tester::Outcome Tester::do_reopen() {
    now_.offset = now_.length = 0;
    close_mount(mounts_[now_.mount]);
    open_mount(mounts_[now_.mount]);
    return Outcome::done;
}

Tester::Outcome Tester::do_sync() {
    now_.offset = now_.length = 0;
    int fd = mounts_[now_.mount].fd;
    int rc = now_.op == Op::fdatasync ? fdatasync(fd) : fsync(fd);
    if (rc != 0) {
        stop(kNowhere, "fsync: %s", std::strerror(errno));
    }
    if (now_.op == Op::drop_cache) {
        // Advice only: a failure says nothing about the data.
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    return Outcome::done;
}

Tester::Outcome Tester::perform() {
    switch (now_.op) {
        case Op::read:
            return do_read(false);
        case Op::write:
            return do_write(mounts_[now_.mount].fd, false);
        case Op::append:
            return do_append();
        case Op::truncate:
            return do_truncate();
        case Op::punch:
            return do_fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
        case Op::zero:
            return do_fallocate(FALLOC_FL_ZERO_RANGE);
        case Op::zero_keep:
            return do_fallocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
        case Op::allocate:
            return do_fallocate(0);
        case Op::allocate_keep:
            return do_fallocate(FALLOC_FL_KEEP_SIZE);
        case Op::copy:
            return do_copy();
        case Op::map_read:
            return do_map_read();
        case Op::map_write:
            return do_map_write();
        case Op::direct_read:
            return do_read(true);
        case Op::direct_write:
            return do_write(mounts_[now_.mount].direct_fd, true);
        case Op::seek:
            return do_seek();
        case Op::reopen:
            return do_reopen();
        case Op::fsync:
        case Op::fdatasync:
        case Op::drop_cache:
            return do_sync();
        case Op::count:
            break;
    }
    std::abort();
}

}  // namespace lumeofs::lfsx
