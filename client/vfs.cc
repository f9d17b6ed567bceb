// SPDX-License-Identifier: Apache-2.0
// The edge of Core: arguments are checked, operations tracked, handles looked up.
#include "client/vfs.h"

#include <utility>

#include "client/core.h"

namespace lumeofs::client {
namespace {

constexpr uint32_t kTypeMask = 0170000;
constexpr uint32_t kDirectory = 0040000;
constexpr uint32_t kSymlink = 0120000;

Status check_name(const std::string& name) {
    if (name.empty() || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos) {
        return Status(Errc::inval);
    }
    if (name.size() > kMaxNameBytes) return Status(Errc::nametoolong);
    return ok_status();
}

Status check_xattr(const std::string& name) {
    constexpr std::string_view kUser = "user.";
    if (name.size() > kMaxXattrNameBytes) return Status(Errc::range);
    if (name.compare(0, kUser.size(), kUser) != 0) return Status(Errc::opnotsupp);
    if (name.size() == kUser.size()) return Status(Errc::inval);
    return ok_status();
}

}  // namespace

Vfs::Vfs(Loop& loop, Transport& transport, Prng prng, ClientOptions options)
    : core_(std::make_unique<Core>(loop, transport, prng, std::move(options))) {}

Vfs::~Vfs() = default;

void Vfs::start(StatusDone done) {
    core_->start(core_->ops().track_status({}, "start", kRootInode, std::move(done)));
}

void Vfs::stop(Nanos patience, StatusDone done) {
    core_->stop(patience,
                [done = std::move(done)](const Status& status) { done(to_posix(status, "stop")); });
}

InodeId Vfs::root() const { return core_->root(); }
OpId Vfs::new_op() { return core_->ops().new_op(); }
void Vfs::interrupt(OpId op) { core_->ops().interrupt(op); }
ClientStatus Vfs::status() const { return core_->status(); }

void Vfs::set_invalidate_hook(std::function<void(InodeId)> hook) {
    core_->set_invalidate_hook(std::move(hook));
}

// --- names

void Vfs::lookup(const Caller& caller, InodeId parent, std::string name, Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "lookup", parent, std::move(done));
    if (name == ".") return core_->getattr(caller, parent, std::move(done));
    if (auto status = check_name(name); !status.is_ok()) return done(status);
    core_->lookup(caller, parent, name, std::move(done));
}

namespace {

// The checks that all operations on a new or old name share.
template <typename T>
bool may_change(const Core& core, const std::string& name, const Done<T>& done) {
    Status status = core.read_only() ? Status(Errc::rofs) : check_name(name);
    if (status.is_ok()) return true;
    done(status);
    return false;
}

}  // namespace

void Vfs::mkdir(
    const Caller& caller, InodeId parent, std::string name, uint32_t mode, Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "mkdir", parent, std::move(done));
    if (!may_change(*core_, name, done)) return;
    wire::MakeT op;
    op.parent = parent.value;
    op.name = std::move(name);
    op.mode = kDirectory | (mode & 07777 & ~caller.umask);
    core_->make(caller, std::move(op), std::move(done));
}

void Vfs::mknod(const Caller& caller,
                InodeId parent,
                std::string name,
                uint32_t mode,
                uint32_t rdev,
                Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "mknod", parent, std::move(done));
    if (!may_change(*core_, name, done)) return;
    wire::MakeT op;
    op.parent = parent.value;
    op.name = std::move(name);
    op.mode = (mode & kTypeMask) | (mode & 07777 & ~caller.umask);
    op.rdev = rdev;
    core_->make(caller, std::move(op), std::move(done));
}

void Vfs::symlink(
    const Caller& caller, InodeId parent, std::string name, std::string target, Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "symlink", parent, std::move(done));
    if (!may_change(*core_, name, done)) return;
    if (target.size() > kMaxSymlinkBytes) return done(Errc::nametoolong);
    if (target.empty()) return done(Errc::noent);
    wire::MakeT op;
    op.parent = parent.value;
    op.name = std::move(name);
    op.mode = kSymlink | 0777;
    op.target = std::move(target);
    core_->make(caller, std::move(op), std::move(done));
}

void Vfs::readlink(const Caller& caller, InodeId ino, Done<std::string> done) {
    core_->readlink(
        caller, ino, core_->ops().track<std::string>(caller, "readlink", ino, std::move(done)));
}

void Vfs::link(
    const Caller& caller, InodeId ino, InodeId new_parent, std::string new_name, Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "link", ino, std::move(done));
    if (!may_change(*core_, new_name, done)) return;
    wire::LinkT op;
    op.ino = ino.value;
    op.new_parent = new_parent.value;
    op.new_name = std::move(new_name);
    core_->link(caller, std::move(op), std::move(done));
}

void Vfs::unlink(const Caller& caller, InodeId parent, std::string name, StatusDone done) {
    done = core_->ops().track_status(caller, "unlink", parent, std::move(done));
    Status status = core_->read_only() ? Status(Errc::rofs) : check_name(name);
    if (!status.is_ok()) return done(status);
    wire::UnlinkT op;
    op.parent = parent.value;
    op.name = std::move(name);
    core_->unlink(caller, std::move(op), std::move(done));
}

void Vfs::rmdir(const Caller& caller, InodeId parent, std::string name, StatusDone done) {
    done = core_->ops().track_status(caller, "rmdir", parent, std::move(done));
    Status status = core_->read_only() ? Status(Errc::rofs) : check_name(name);
    if (!status.is_ok()) return done(status);
    if (name == ".") return done(Status(Errc::inval));
    if (name == "..") return done(Status(Errc::notempty));
    wire::UnlinkT op;
    op.parent = parent.value;
    op.name = std::move(name);
    op.directory = true;
    core_->unlink(caller, std::move(op), std::move(done));
}

void Vfs::rename(const Caller& caller,
                 InodeId parent,
                 std::string name,
                 InodeId new_parent,
                 std::string new_name,
                 uint32_t flags,
                 StatusDone done) {
    done = core_->ops().track_status(caller, "rename", parent, std::move(done));
    Status status = core_->read_only() ? Status(Errc::rofs) : check_name(name);
    if (status.is_ok()) status = check_name(new_name);
    if (status.is_ok() && ((flags & ~(kRenameNoReplace | kRenameExchange)) != 0 ||
                           flags == (kRenameNoReplace | kRenameExchange))) {
        status = Status(Errc::inval);
    }
    if (!status.is_ok()) return done(status);
    wire::RenameT op;
    op.parent = parent.value;
    op.name = std::move(name);
    op.new_parent = new_parent.value;
    op.new_name = std::move(new_name);
    op.flags = flags;
    core_->rename(caller, std::move(op), std::move(done));
}

// --- attributes

void Vfs::getattr(const Caller& caller, InodeId ino, HandleId handle, Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "getattr", ino, std::move(done));
    const HandlePtr file = core_->handle(handle);
    if (file && file->inode && file->inode->lost) return done(Errc::io);
    core_->getattr(caller, ino, std::move(done));
}

void Vfs::setattr(
    const Caller& caller, InodeId ino, HandleId handle, const SetAttrs& attrs, Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "setattr", ino, std::move(done));
    if (core_->read_only()) return done(Errc::rofs);
    const HandlePtr file = core_->handle(handle);
    if (file && file->inode && file->inode->lost) return done(Errc::io);
    core_->setattr(caller, ino, attrs, std::move(done));
}

void Vfs::statfs(const Caller& caller, InodeId ino, Done<StatFs> done) {
    core_->statfs(caller, ino, core_->ops().track<StatFs>(caller, "statfs", ino, std::move(done)));
}

void Vfs::setxattr(const Caller& caller,
                   InodeId ino,
                   std::string name,
                   View value,
                   uint32_t flags,
                   StatusDone done) {
    done = core_->ops().track_status(caller, "setxattr", ino, std::move(done));
    Status status = core_->read_only() ? Status(Errc::rofs) : check_xattr(name);
    if (status.is_ok() && value.size() > kMaxXattrValueBytes) status = Status(Errc::toobig);
    if (!status.is_ok()) return done(status);
    wire::SetXattrT op;
    op.ino = ino.value;
    op.name = std::move(name);
    op.value.assign(value.begin(), value.end());
    op.flags = flags;
    core_->setxattr(caller, std::move(op), std::move(done));
}

void Vfs::getxattr(const Caller& caller, InodeId ino, std::string name, Done<Bytes> done) {
    done = core_->ops().track<Bytes>(caller, "getxattr", ino, std::move(done));
    if (auto status = check_xattr(name); !status.is_ok()) return done(status);
    wire::GetXattrT op;
    op.ino = ino.value;
    op.name = std::move(name);
    core_->getxattr(caller, std::move(op), std::move(done));
}

void Vfs::listxattr(const Caller& caller, InodeId ino, Done<Bytes> done) {
    core_->listxattr(
        caller, ino, core_->ops().track<Bytes>(caller, "listxattr", ino, std::move(done)));
}

void Vfs::removexattr(const Caller& caller, InodeId ino, std::string name, StatusDone done) {
    done = core_->ops().track_status(caller, "removexattr", ino, std::move(done));
    Status status = core_->read_only() ? Status(Errc::rofs) : check_xattr(name);
    if (!status.is_ok()) return done(status);
    wire::RemoveXattrT op;
    op.ino = ino.value;
    op.name = std::move(name);
    core_->removexattr(caller, std::move(op), std::move(done));
}

// --- files

void Vfs::create(const Caller& caller,
                 InodeId parent,
                 std::string name,
                 uint32_t mode,
                 uint32_t flags,
                 Done<Opened> done) {
    done = core_->ops().track<Opened>(
        caller, "create", parent, std::move(done), [this](Opened& opened) {
            core_->release(opened.handle);
        });
    if (!may_change(*core_, name, done)) return;
    core_->create(caller, parent, std::move(name), mode, flags, std::move(done));
}

void Vfs::open(const Caller& caller, InodeId ino, uint32_t flags, Done<Opened> done) {
    done = core_->ops().track<Opened>(caller, "open", ino, std::move(done), [this](Opened& opened) {
        core_->release(opened.handle);
    });
    core_->open(caller, ino, flags, std::move(done));
}

void Vfs::read(
    const Caller& caller, HandleId handle, uint64_t offset, uint64_t size, Done<ReadData> done) {
    const HandlePtr file = core_->handle(handle);
    if (!file || file->is_dir || (file->flags & OpenMode::kAccess) == 1) return done(Errc::badf);
    core_->read(caller,
                file,
                offset,
                size,
                core_->ops().track<ReadData>(caller, "read", file->ino, std::move(done)));
}

void Vfs::write(
    const Caller& caller, HandleId handle, uint64_t offset, Buffer data, Done<uint64_t> done) {
    const HandlePtr file = core_->handle(handle);
    if (!file || file->is_dir || !file->writer) return done(Errc::badf);
    auto gone = std::make_shared<bool>(false);
    done = core_->ops().track<uint64_t>(caller, "write", file->ino, std::move(done), {}, gone);
    core_->write(caller, file, offset, std::move(data), gone, std::move(done));
}

void Vfs::set_append(HandleId handle, bool append) {
    const HandlePtr file = core_->handle(handle);
    if (!file || (append && !opens_direct(file->flags))) return;
    file->appends = append;
}

void Vfs::flush(const Caller& caller, HandleId handle, StatusDone done) {
    const HandlePtr file = core_->handle(handle);
    if (!file || file->is_dir) return done(Status(Errc::badf));
    core_->flush(file, core_->ops().track_status(caller, "flush", file->ino, std::move(done)));
}

void Vfs::fsync(const Caller& caller, HandleId handle, bool datasync, StatusDone done) {
    const HandlePtr file = core_->handle(handle);
    if (!file || file->is_dir) return done(Status(Errc::badf));
    core_->fsync(
        file, datasync, core_->ops().track_status(caller, "fsync", file->ino, std::move(done)));
}

void Vfs::release(HandleId handle, StatusDone done) {
    core_->release(handle);
    done(ok_status());
}

void Vfs::fallocate(const Caller& caller,
                    HandleId handle,
                    uint32_t mode,
                    uint64_t offset,
                    uint64_t length,
                    StatusDone done) {
    const HandlePtr file = core_->handle(handle);
    if (!file || file->is_dir || !file->writer) return done(Status(Errc::badf));
    core_->fallocate(caller,
                     file,
                     mode,
                     offset,
                     length,
                     core_->ops().track_status(caller, "fallocate", file->ino, std::move(done)));
}

void Vfs::lseek(
    const Caller& caller, HandleId handle, uint64_t offset, Seek what, Done<uint64_t> done) {
    const HandlePtr file = core_->handle(handle);
    if (!file || file->is_dir) return done(Errc::badf);
    core_->lseek(caller,
                 file,
                 offset,
                 what,
                 core_->ops().track<uint64_t>(caller, "lseek", file->ino, std::move(done)));
}

void Vfs::copy_file_range(const Caller& caller,
                          HandleId from,
                          uint64_t from_offset,
                          HandleId to,
                          uint64_t to_offset,
                          uint64_t length,
                          Done<uint64_t> done) {
    const HandlePtr source = core_->handle(from);
    const HandlePtr target = core_->handle(to);
    if (!source || source->is_dir || !target || !target->writer) return done(Errc::badf);
    const bool overlap = source->ino == target->ino && from_offset < to_offset + length &&
                         to_offset < from_offset + length;
    if (overlap) return done(Errc::inval);
    auto gone = std::make_shared<bool>(false);
    done = core_->ops().track<uint64_t>(
        caller, "copy_file_range", target->ino, std::move(done), {}, gone);
    core_->copy(caller, source, from_offset, target, to_offset, length, 0, gone, std::move(done));
}

// --- directories

void Vfs::opendir(const Caller& caller, InodeId ino, Done<HandleId> done) {
    core_->opendir(caller, ino, std::move(done));
}

void Vfs::readdir(const Caller& caller,
                  HandleId handle,
                  uint64_t cookie,
                  uint32_t max_bytes,
                  Done<DirPage> done) {
    const HandlePtr dir = core_->handle(handle);
    if (!dir || !dir->is_dir) return done(Errc::badf);
    core_->readdir(caller,
                   dir,
                   cookie,
                   max_bytes,
                   false,
                   core_->ops().track<DirPage>(caller, "readdir", dir->ino, std::move(done)));
}

void Vfs::readdirplus(const Caller& caller,
                      HandleId handle,
                      uint64_t cookie,
                      uint32_t max_bytes,
                      Done<DirPage> done) {
    const HandlePtr dir = core_->handle(handle);
    if (!dir || !dir->is_dir) return done(Errc::badf);
    core_->readdir(caller,
                   dir,
                   cookie,
                   max_bytes,
                   true,
                   core_->ops().track<DirPage>(caller, "readdirplus", dir->ino, std::move(done)));
}

void Vfs::fsyncdir(const Caller& /*caller*/, HandleId handle, StatusDone done) {
    const HandlePtr dir = core_->handle(handle);
    done(dir && dir->is_dir ? ok_status() : Status(Errc::badf));
}

void Vfs::releasedir(HandleId handle) { core_->releasedir(handle); }

void Vfs::resolve_path(
    const Caller& caller, InodeId from, std::string path, bool follow, Done<Attr> done) {
    done = core_->ops().track<Attr>(caller, "resolve", from, std::move(done));
    core_->resolve_path(caller, from, std::move(path), follow, 0, std::move(done));
}

}  // namespace lumeofs::client
