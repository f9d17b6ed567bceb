// SPDX-License-Identifier: Apache-2.0
#include "fuse/request.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "common/base/log.h"
#include "fuse/session.h"

namespace lumeofs::fusefs {

Request::Request(Session& session, fuse_req_t req, const char* name)
    : session_(session), req_(req), name_(name) {
    const fuse_ctx* context = fuse_req_ctx(req);
    caller_.uid = context->uid;
    caller_.gid = context->gid;
    caller_.pid = context->pid;
    caller_.umask = context->umask;
    caller_.op = session.vfs().new_op();
}

Request::~Request() {
    if (!req_) return;
    if (!session_.stopping()) LFS_LOG(error, "{}: the request was dropped without an answer", name_);
    error(Status(Errc::io));
}

fuse_req_t Request::take() {
    LFS_ASSERT(req_ != nullptr);
    session_.answering(req_);
    return std::exchange(req_, nullptr);
}

void Request::error(const Status& status) {
    if (is_internal(status.code())) {
        LFS_LOG(error, "{}: internal error came to the edge: {}", name_, status.to_string());
    }
    fuse_reply_err(take(), to_errno(status.code()));
}

void Request::none() { fuse_reply_none(take()); }

void Request::entry(const client::Attr& attr) {
    const fuse_entry_param param = to_entry(attr);
    fuse_reply_entry(take(), &param);
}

void Request::attr(const client::Attr& attr) {
    const struct stat st = to_stat(attr);
    fuse_reply_attr(take(), &st, to_seconds(attr.attr_time));
}

namespace {

void fill_info(const client::Opened& opened, fuse_file_info* info) {
    info->fh = opened.handle;
    info->direct_io = opened.direct_io ? 1 : 0;
    info->keep_cache = opened.keep_cache ? 1 : 0;
    // Nothing was written through it: its close has nothing to wait for, and saves a trip to us.
    info->noflush = (info->flags & O_ACCMODE) == O_RDONLY ? 1 : 0;
}

}  // namespace

// An open whose caller has gone (interrupted) is not answered with success: the kernel would never
// release it, so the handle is released here.
void Request::opened(const client::Opened& opened, fuse_file_info info) {
    fill_info(opened, &info);
    if (fuse_reply_open(take(), &info) == -ENOENT) {
        session_.vfs().release(opened.handle, [](const Status&) {});
    }
}

void Request::created(const client::Opened& opened, fuse_file_info info) {
    fill_info(opened, &info);
    const fuse_entry_param param = to_entry(opened.attr);
    if (fuse_reply_create(take(), &param, &info) == -ENOENT) {
        session_.vfs().release(opened.handle, [](const Status&) {});
    }
}

void Request::written(uint64_t count) { fuse_reply_write(take(), count); }

void Request::bytes(View data) {
    fuse_reply_buf(take(), reinterpret_cast<const char*>(data.data()), data.size());
}

void Request::data(const client::ReadData& data) {
    std::vector<iovec> parts;
    parts.reserve(data.parts.size());
    for (const Buffer& part : data.parts) {
        parts.push_back({const_cast<uint8_t*>(part.data()), part.size()});
    }
    fuse_reply_iov(take(), parts.data(), static_cast<int>(parts.size()));
}

void Request::text(const std::string& text) { fuse_reply_readlink(take(), text.c_str()); }
void Request::size(size_t size) { fuse_reply_xattr(take(), size); }
void Request::offset(uint64_t offset) { fuse_reply_lseek(take(), static_cast<off_t>(offset)); }

void Request::statfs(const client::StatFs& info) {
    struct statvfs st = {};
    st.f_bsize = 4096;
    st.f_frsize = 4096;
    st.f_blocks = info.total_bytes / 4096;
    st.f_bfree = info.free_bytes / 4096;
    st.f_bavail = st.f_bfree;
    // Inodes are bounded by the disks of the metads only; as many as the free space could name.
    st.f_ffree = info.free_bytes / 4096;
    st.f_favail = st.f_ffree;
    st.f_files = info.files + st.f_ffree;
    st.f_namemax = kMaxNameBytes;
    fuse_reply_statfs(take(), &st);
}

}  // namespace lumeofs::fusefs
