// SPDX-License-Identifier: Apache-2.0
// Handlers: names: look-up, making, linking, renaming and removing them.
#include "fuse/ops/ops.h"

namespace lumeofs::fusefs {
namespace {

void entry_answer(Request& request, const client::Attr& attr) { request.entry(attr); }

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
    Session& s = session_of(req);
    s.run(req, "lookup", [&s, parent, name = std::string(name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().lookup(caller, s.inode(parent), name, done_with<client::Attr>(r, entry_answer));
    });
}

void make_node(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
    Session& s = session_of(req);
    s.run(req, "mknod", [=, &s, name = std::string(name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().mknod(caller,
                      s.inode(parent),
                      name,
                      mode,
                      static_cast<uint32_t>(rdev),
                      done_with<client::Attr>(r, entry_answer));
    });
}

void make_directory(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
    Session& s = session_of(req);
    s.run(req, "mkdir", [=, &s, name = std::string(name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().mkdir(caller, s.inode(parent), name, mode, done_with<client::Attr>(r, entry_answer));
    });
}

void make_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
    Session& s = session_of(req);
    s.run(req,
          "symlink",
          [=, &s, target = std::string(target), name = std::string(name)](RequestPtr r) {
              const auto& caller = r->caller();
              s.vfs().symlink(
                  caller, s.inode(parent), name, target, done_with<client::Attr>(r, entry_answer));
          });
}

void read_link(fuse_req_t req, fuse_ino_t ino) {
    Session& s = session_of(req);
    s.run(req, "readlink", [=, &s](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().readlink(caller, s.inode(ino), done_with<std::string>(r, [](Request& q, auto& target) {
                             q.text(target);
                         }));
    });
}

void hard_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
    Session& s = session_of(req);
    s.run(req, "link", [=, &s, name = std::string(new_name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().link(caller,
                     s.inode(ino),
                     s.inode(new_parent),
                     name,
                     done_with<client::Attr>(r, entry_answer));
    });
}

void unlink_file(fuse_req_t req, fuse_ino_t parent, const char* name) {
    Session& s = session_of(req);
    s.run(req, "unlink", [=, &s, name = std::string(name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().unlink(caller, s.inode(parent), name, done_status(r));
    });
}

void remove_directory(fuse_req_t req, fuse_ino_t parent, const char* name) {
    Session& s = session_of(req);
    s.run(req, "rmdir", [=, &s, name = std::string(name)](RequestPtr r) {
        const auto& caller = r->caller();
        s.vfs().rmdir(caller, s.inode(parent), name, done_status(r));
    });
}

void rename_entry(fuse_req_t req,
                  fuse_ino_t parent,
                  const char* name,
                  fuse_ino_t new_parent,
                  const char* new_name,
                  unsigned int flags) {
    Session& s = session_of(req);
    s.run(req,
          "rename",
          [=, &s, name = std::string(name), new_name = std::string(new_name)](RequestPtr r) {
              const auto& caller = r->caller();
              s.vfs().rename(caller,
                             s.inode(parent),
                             name,
                             s.inode(new_parent),
                             new_name,
                             flags,
                             done_status(r));
          });
}

// Inodes are named by number alone (client/vfs.h): there is nothing to forget.
void forget(fuse_req_t req, fuse_ino_t /*ino*/, uint64_t /*count*/) { fuse_reply_none(req); }
void forget_many(fuse_req_t req, size_t /*count*/, fuse_forget_data* /*list*/) {
    fuse_reply_none(req);
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops* table) {
    table->lookup = lookup;
    table->mknod = make_node;
    table->mkdir = make_directory;
    table->symlink = make_symlink;
    table->readlink = read_link;
    table->link = hard_link;
    table->unlink = unlink_file;
    table->rmdir = remove_directory;
    table->rename = rename_entry;
    table->forget = forget;
    table->forget_multi = forget_many;
}

}  // namespace lumeofs::fusefs
