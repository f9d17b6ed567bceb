// SPDX-License-Identifier: Apache-2.0
// Handlers: open files: data, sync, space, seek and copy.
#include <fcntl.h>

#include "fuse/ops/ops.h"

namespace lumeofs::fusefs {
namespace {

void create_file(fuse_req_t req,
                 fuse_ino_t parent,
                 const char* name,
                 mode_t mode,
                 fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "create", [=, &s, name = std::string(name), info = *info](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().create(caller,
                       s.inode(parent),
                       name,
                       mode,
                       static_cast<uint32_t>(info.flags),
                       done_with<client::Opened>(
                           r, [info](Request& q, auto& opened) { q.created(opened, info); }));
    });
}

void open_file(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "open", [=, &s, info = *info](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().open(caller,
                     s.inode(ino),
                     static_cast<uint32_t>(info.flags),
                     done_with_inode<client::Opened>(
                         r, [info](Request& q, auto& opened) { q.opened(opened, info); }));
    });
}

void read_file_data(fuse_req_t req, fuse_ino_t /*ino*/, size_t size, off_t offset, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "read", [=, &s, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().read(
            caller,
            handle,
            static_cast<uint64_t>(offset),
            size,
            done_with<client::ReadData>(r, [](Request& q, auto& data) { q.data(data); }));
    });
}

// O_SYNC and O_DSYNC: the kernel syncs after writes through its cache, but not on direct_io handles.
void write_file_data(fuse_req_t req,
                     fuse_ino_t /*ino*/,
                     fuse_bufvec* data,
                     off_t offset,
                     fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(
        req,
        "write",
        [=, &s, handle = info->fh, flags = info->flags, buffer = s.take_write_data(*data)](
            RequestPtr r) {
            client::Done<uint64_t> answer =
                done_with<uint64_t>(r, [](Request& q, auto& count) { q.written(count); });
            if ((flags & O_DSYNC) != 0) {  // O_SYNC contains it
                const bool data_only = (flags & O_SYNC) != O_SYNC;
                answer = [&s, r, handle, data_only, answer](Result<uint64_t> written) {
                    if (!written.is_ok()) return answer(std::move(written));
                    s.vfs().fsync(
                        r->caller(), handle, data_only, [answer, written](const Status& synced) {
                            answer(synced.is_ok() ? written : Result<uint64_t>(synced));
                        });
                };
            }
            s.vfs().set_append(handle, (flags & O_APPEND) != 0);  // the file's flags as of now
            s.vfs().write(r->caller(), handle, static_cast<uint64_t>(offset), buffer, answer);
        });
}

void flush_file(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "flush", [&s, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().flush(caller, handle, done_status(r));
    });
}

void sync_file(fuse_req_t req, fuse_ino_t /*ino*/, int datasync, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "fsync", [&s, datasync, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().fsync(caller, handle, datasync != 0, done_status(r));
    });
}

void release_file(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "release", [&s, handle = info->fh](RequestPtr r) {
        s.vfs().release(handle, done_status(r));
    });
}

void allocate_file(fuse_req_t req,
                   fuse_ino_t /*ino*/,
                   int mode,
                   off_t offset,
                   off_t length,
                   fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "fallocate", [=, &s, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().fallocate(caller,
                          handle,
                          static_cast<uint32_t>(mode),
                          static_cast<uint64_t>(offset),
                          static_cast<uint64_t>(length),
                          done_status(r));
    });
}

void seek_file(fuse_req_t req, fuse_ino_t /*ino*/, off_t offset, int whence, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "lseek", [=, &s, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().lseek(caller,
                      handle,
                      static_cast<uint64_t>(offset),
                      whence == SEEK_DATA ? client::Seek::data : client::Seek::hole,
                      done_with<uint64_t>(r, [](Request& q, auto& at) { q.offset(at); }));
    });
}

void copy_range(fuse_req_t req,
                fuse_ino_t /*from_ino*/,
                off_t from_offset,
                fuse_file_info* from,
                fuse_ino_t /*to_ino*/,
                off_t to_offset,
                fuse_file_info* to,
                size_t length,
                int /*flags*/) {
    Session& s = session_of(req);
    s.run(req, "copy_file_range", [=, &s, from_fh = from->fh, to_fh = to->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().copy_file_range(
            caller,
            from_fh,
            static_cast<uint64_t>(from_offset),
            to_fh,
            static_cast<uint64_t>(to_offset),
            length,
            done_with<uint64_t>(r, [](Request& q, auto& count) { q.written(count); }));
    });
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops* table) {
    table->create = create_file;
    table->open = open_file;
    table->read = read_file_data;
    table->write_buf = write_file_data;
    table->flush = flush_file;
    table->fsync = sync_file;
    table->release = release_file;
    table->fallocate = allocate_file;
    table->lseek = seek_file;
    table->copy_file_range = copy_range;
}

}  // namespace lumeofs::fusefs
