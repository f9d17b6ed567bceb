// SPDX-License-Identifier: Apache-2.0
// Handlers: attributes and extended attributes, access and statfs.
#include "fuse/ops/ops.h"

namespace lumeofs::fusefs {
namespace {

void get_attributes(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) {
    Session& s = session_of(req);
    const client::HandleId handle = info ? info->fh : 0;
    s.run(req, "getattr", [=, &s](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().getattr(caller,
                        s.inode(ino),
                        handle,
                        done_with_inode<client::Attr>(
                            r, [](Request& q, auto& attr) { q.attr(attr); }));
    });
}

void set_attributes(fuse_req_t req,
                    fuse_ino_t ino,
                    struct stat* attr,
                    int to_set,
                    fuse_file_info* info) {
    Session& s = session_of(req);
    const client::HandleId handle = info ? info->fh : 0;
    client::SetAttrs attrs = to_set_attrs(*attr, to_set);
    attrs.kill_suid = s.wants_suid_cleared();
    s.run(req, "setattr", [=, &s](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().setattr(caller,
                        s.inode(ino),
                        handle,
                        attrs,
                        done_with<client::Attr>(r, [](Request& q, auto& now) { q.attr(now); }));
    });
}

void file_system_info(fuse_req_t req, fuse_ino_t ino) {
    Session& s = session_of(req);
    s.run(req, "statfs", [=, &s](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().statfs(caller,
                       s.inode(ino),
                       done_with<client::StatFs>(r, [](Request& q, auto& info) { q.statfs(info); }));
    });
}

void set_xattr(fuse_req_t req,
               fuse_ino_t ino,
               const char* name,
               const char* value,
               size_t size,
               int flags) {
    Session& s = session_of(req);
    const auto* bytes = reinterpret_cast<const uint8_t*>(value);
    s.run(req,
          "setxattr",
          [=, &s, name = std::string(name), value = Bytes(bytes, bytes + size)](RequestPtr r) {
              const auto& caller = r->caller();
              s.vfs().setxattr(caller,
                               s.inode(ino),
                               name,
                               value,
                               static_cast<uint32_t>(flags),
                               done_status(r));
          });
}

// size 0 asks how large the answer would be.
auto sized_answer(size_t size) {
    return [size](Request& q, const Bytes& value) {
        if (size == 0) {
            q.size(value.size());
        } else if (value.size() > size) {
            q.error(Status(Errc::range));
        } else {
            q.bytes(value);
        }
    };
}

void get_xattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
    Session& s = session_of(req);
    s.run(req, "getxattr", [=, &s, name = std::string(name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().getxattr(caller, s.inode(ino), name, done_with<Bytes>(r, sized_answer(size)));
    });
}

void list_xattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    Session& s = session_of(req);
    s.run(req, "listxattr", [=, &s](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().listxattr(caller, s.inode(ino), done_with<Bytes>(r, sized_answer(size)));
    });
}

void remove_xattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
    Session& s = session_of(req);
    s.run(req, "removexattr", [=, &s, name = std::string(name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().removexattr(caller, s.inode(ino), name, done_status(r));
    });
}

}  // namespace

void add_attribute_operations(fuse_lowlevel_ops* table) {
    table->getattr = get_attributes;
    table->setattr = set_attributes;
    table->statfs = file_system_info;
    table->setxattr = set_xattr;
    table->getxattr = get_xattr;
    table->listxattr = list_xattr;
    table->removexattr = remove_xattr;
}

}  // namespace lumeofs::fusefs
