// SPDX-License-Identifier: Apache-2.0
// Handlers: directories (a page of entries per call, cookies from the leader), init, and the table.
#include "fuse/ops/ops.h"

namespace lumeofs::fusefs {
namespace {

void open_directory(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "opendir", [=, &s, info = *info](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().opendir(caller,
                        s.inode(ino),
                        done_with<client::HandleId>(r, [info](Request& q, auto& handle) {
                            client::Opened opened;
                            opened.handle = handle;
                            q.opened(opened, info);
                        }));
    });
}

// Entries as the kernel wants them, as many as fit; the client may have returned a few too many.
Bytes packed(fuse_req_t req, const client::DirPage& page, size_t size, bool plus) {
    Bytes out(size);
    size_t used = 0;
    for (const client::DirEntry& entry : page.entries) {
        char* at = reinterpret_cast<char*>(out.data()) + used;
        const size_t room = size - used;
        size_t needed = 0;
        const auto next = static_cast<off_t>(entry.cookie);
        if (plus) {
            fuse_entry_param param = {};  // ino 0: the kernel learns no attributes from this entry
            if (entry.attr) {
                param = to_entry(*entry.attr);
            } else {
                param.attr.st_ino = entry.ino.value;
                param.attr.st_mode = static_cast<mode_t>(entry.type) << 12;
            }
            needed = fuse_add_direntry_plus(req, at, room, entry.name.c_str(), &param, next);
        } else {
            struct stat st = {};
            st.st_ino = entry.ino.value;
            st.st_mode = static_cast<mode_t>(entry.type) << 12;
            needed = fuse_add_direntry(req, at, room, entry.name.c_str(), &st, next);
        }
        if (needed > room) break;
        used += needed;
    }
    out.resize(used);
    return out;
}

void read_directory(fuse_req_t req, fuse_ino_t /*ino*/, size_t size, off_t offset, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "readdir", [=, &s, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().readdir(caller,
                        handle,
                        static_cast<uint64_t>(offset),
                        static_cast<uint32_t>(size),
                        done_with<client::DirPage>(r, [size](Request& q, auto& page) {
                            q.bytes(packed(q.raw(), page, size, false));
                        }));
    });
}

void read_directory_plus(fuse_req_t req,
                         fuse_ino_t /*ino*/,
                         size_t size,
                         off_t offset,
                         fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "readdirplus", [=, &s, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().readdirplus(caller,
                            handle,
                            static_cast<uint64_t>(offset),
                            static_cast<uint32_t>(size),
                            done_with<client::DirPage>(r, [size](Request& q, auto& page) {
                                q.bytes(packed(q.raw(), page, size, true));
                            }));
    });
}

void sync_directory(fuse_req_t req, fuse_ino_t /*ino*/, int /*datasync*/, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "fsyncdir", [&s, handle = info->fh](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().fsyncdir(caller, handle, done_status(r));
    });
}

void release_directory(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* info) {
    Session& s = session_of(req);
    s.run(req, "releasedir", [&s, handle = info->fh](RequestPtr r) {
        s.vfs().releasedir(handle);
        r->ok();
    });
}

void init(void* /*session*/, fuse_conn_info* connection) {
    const unsigned wanted = FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
                            FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA |
                            FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_READDIRPLUS |
                            FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_HANDLE_KILLPRIV;
    // Everything else that libfuse switches on by itself is off: splice costs more than it gains, and
    // the kernel's write-back cache would ignore sizes that other clients commit.
    connection->want = connection->capable & wanted;
    connection->max_background = 64;
    connection->congestion_threshold = 48;
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops* table) {
    table->opendir = open_directory;
    table->readdir = read_directory;
    table->readdirplus = read_directory_plus;
    table->fsyncdir = sync_directory;
    table->releasedir = release_directory;
    table->init = init;
}

const fuse_lowlevel_ops& operations() {
    static const fuse_lowlevel_ops table = [] {
        fuse_lowlevel_ops ops = {};
        add_name_operations(&ops);
        add_attribute_operations(&ops);
        add_file_operations(&ops);
        add_directory_operations(&ops);
        return ops;
    }();
    return table;
}

}  // namespace lumeofs::fusefs
