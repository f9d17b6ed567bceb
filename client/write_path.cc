// SPDX-License-Identifier: Apache-2.0
// write, flush, fsync. A write is taken into memory under the write lease and answered; without a
// lasting lease (others have the file open) it is written through and committed before it is
// answered. The offset of an appending write is chosen when it is taken in, under the lease, once
// [30].
#include <algorithm>
#include <utility>

#include "client/core.h"
#include "client/layout.h"

namespace lumeofs::client {
namespace {

constexpr uint32_t kSetIdBits = 06000;

}  // namespace

// A failure of write-back is told to each handle once.
Status Core::take_error(Handle& file) {
    if (file.inode->lost) return Status(Errc::io, "the session was ended");
    if (file.errors_seen == file.inode->error_count) return ok_status();
    file.errors_seen = file.inode->error_count;
    return file.inode->error;
}

void Core::write(const Caller& caller,
                 const HandlePtr& file,
                 uint64_t offset,
                 Buffer data,
                 Gone gone,
                 Done<uint64_t> done) {
    const InodePtr inode = file->inode;
    if (gone && *gone) return;  // interrupted while it waited: it must not happen any more
    if (auto error = take_error(*file); !error.is_ok()) return done(error);
    if (data.empty()) return done(uint64_t{0});
    if (!file->appends && (offset >= kFileSizeLimit || data.size() > kFileSizeLimit - offset)) {
        return done(Errc::fbig);
    }
    if (dirty_bytes_ >= options_.dirty_limit) {
        space_waiters_.push_back([this, caller, file, offset, data, gone, done] {
            write(caller, file, offset, data, gone, done);
        });
        return flush_oldest();
    }
    if (inode->may_write() && !inode->exclusive && inode->waiters.empty() && meta_.lease_valid()) {
        return admit_write(inode, file, caller.uid, offset, data, done);
    }
    ++inode->pending;
    need_write_lease(inode, false, [=, this, uid = caller.uid](const Status& status) {
        --inode->pending;
        if (!status.is_ok()) return done(status);
        if (gone && *gone) return;
        admit_write(inode, file, uid, offset, data, done);
    });
}

// Requires: the write lease is held and counts, nobody has exclusive use.
void Core::admit_write(const InodePtr& inode,
                       const HandlePtr& file,
                       uint32_t uid,
                       uint64_t offset,
                       const Buffer& data,
                       const Done<uint64_t>& done) {
    if (file->appends) {
        offset = inode->size;
        if (offset >= kFileSizeLimit || data.size() > kFileSizeLimit - offset)
            return done(Errc::fbig);
    }
    if (uid != 0 && (inode->attr.mode & kSetIdBits) != 0) {
        inode->clear_suid = true;
        inode->attr.mode &= ~kSetIdBits;
    }
    apply_write(*inode, offset, data);
    account(inode);
    const uint64_t size = data.size();
    if (inode->transient) {
        return flush_to(inode,
                        inode->buffer.last_write(),
                        false,
                        [this, file, size, done](const Status& status) {
                            if (!status.is_ok()) return done(status);
                            if (auto error = take_error(*file); !error.is_ok()) return done(error);
                            done(size);
                        });
    }
    done(size);
    pump(inode);  // full pieces go out at once
}

void Core::apply_write(Inode& inode, uint64_t offset, const Buffer& data) {
    const Nanos now = loop_.now();
    const uint64_t end = offset + data.size();
    if (inode.is_inline && !inode.moving_out) {
        if (std::max(inode.size, end) <= kInlineMax) {
            if (inode.inline_data.size() < end) inode.inline_data.resize(end);
            std::memcpy(inode.inline_data.data() + offset, data.data(), data.size());
            inode.inline_from = std::min(inode.inline_from, offset);
            inode.inline_to = std::max(inode.inline_to, end);
            inode.touch(now);
        } else {
            move_out(inode);
        }
    }
    if (!inode.is_inline || inode.moving_out) inode.buffer.write(offset, data, now);
    inode.cache.drop(offset, data.size());
    inode.size = std::max(inode.size, end);
    inode.modified(meta_.cluster_now());
}

// close(2). The last handle's commit gives the lease back, so that the next open elsewhere need not
// recall it.
void Core::flush(const HandlePtr& file, StatusDone done) {
    const InodePtr inode = file->inode;
    if (inode->lost || !inode->dirty()) return done(take_error(*file));
    auto answer = [this, file, done = std::move(done)](const Status& status) {
        if (!status.is_ok()) return done(status);
        done(take_error(*file));
    };
    const bool last = inode->handles == 1 && inode->pending == 0 && inode->waiters.empty();
    const uint64_t target = inode->buffer.last_write();
    if (last) wind_down(inode);  // before anything is sent, so that the commit carries the release
    flush_to(inode, target, false, std::move(answer));
}

void Core::fsync(const HandlePtr& file, bool datasync, StatusDone done) {
    const InodePtr inode = file->inode;
    if (inode->lost) return done(take_error(*file));
    flush_to(inode,
             inode->buffer.last_write(),
             datasync,
             [this, file, done = std::move(done)](const Status& status) {
                 if (!status.is_ok()) return done(status);
                 done(take_error(*file));
             });
}

}  // namespace lumeofs::client
