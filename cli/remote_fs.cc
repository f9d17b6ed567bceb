// SPDX-License-Identifier: Apache-2.0
#include "cli/remote_fs.h"

#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <optional>

#include "cli/admin_client.h"
#include "client/vfs.h"
#include "common/env/daemon.h"
#include "common/env/real_loop.h"
#include "common/rpc/nng_transport.h"

namespace lumeofs::cli {
namespace {

constexpr Nanos kStopPatience = 60 * kSecond;
constexpr uint32_t kPageBytes = 256 * 1024;

template <typename T>
struct Answer {
    std::mutex mutex;
    std::condition_variable came;
    std::optional<T> value;
};

// Starts something on the loop and waits for its one callback.
template <typename T>
T await(RealLoop& loop, const std::function<void(std::function<void(T)>)>& start) {
    auto answer = std::make_shared<Answer<T>>();
    loop.run_and_wait([&] {
        start([answer](T value) {
            std::lock_guard lock(answer->mutex);
            answer->value.emplace(std::move(value));
            answer->came.notify_one();
        });
    });
    std::unique_lock lock(answer->mutex);
    answer->came.wait(lock, [&] { return answer->value.has_value(); });
    return std::move(*answer->value);
}

std::string host_name() {
    char name[256] = "";
    return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

void split(const std::string& path, std::string* parent, std::string* name) {
    std::string whole = path;
    while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
    const size_t slash = whole.rfind('/');
    *parent = slash == std::string::npos ? "" : whole.substr(0, slash);
    *name = slash == std::string::npos ? whole : whole.substr(slash + 1);
}

}  // namespace

struct RemoteFs::Inside {
    RealLoop loop;
    NngTransport transport{loop};
    std::unique_ptr<client::Vfs> vfs;
    client::Caller caller;
};

RemoteFs::RemoteFs() : inside_(std::make_unique<Inside>()) {
    client::Caller& caller = inside_->caller;
    caller.uid = geteuid();
    caller.gid = getegid();
    caller.umask = 022;
    caller.pid = getpid();
    caller.check = true;  // no kernel has looked at permissions
}

RemoteFs::~RemoteFs() {
    Inside& in = *inside_;
    if (in.vfs) {
        ignore(await<Status>(in.loop, [&](auto done) { in.vfs->stop(kStopPatience, done); }),
               "what was written was synced before");
        in.loop.run_and_wait([&] { in.vfs.reset(); });
    }
    in.loop.stop();
}

Status RemoteFs::connect(const std::vector<std::string>& metads) {
    {
        // The client waits for ever; a person wants to know.
        AdminClient admin(metads);
        LFS_TRY(admin.ask({.what = "sessions"}));
    }
    Inside& in = *inside_;
    client::ClientOptions options;
    options.metads = metads;
    options.host = host_name();
    options.mount_path = "lumeofs";
    return await<Status>(in.loop, [&](auto done) {
        in.vfs =
            std::make_unique<client::Vfs>(in.loop, in.transport, Prng(system_random()), options);
        in.vfs->start(done);
    });
}

Result<client::Attr> RemoteFs::find(const std::string& path) {
    Inside& in = *inside_;
    auto found = await<Result<client::Attr>>(in.loop, [&](auto done) {
        in.vfs->resolve_path(in.caller, in.vfs->root(), path, true, done);
    });
    if (!found) return found.status().with_context(path);
    return found;
}

Result<client::Attr> RemoteFs::make_directory(const std::string& path, uint32_t mode) {
    auto there = find(path);
    if (there || there.code() != Errc::noent) return there;
    std::string parent, name;
    split(path, &parent, &name);
    LFS_ASSIGN(const client::Attr above, find(parent));
    Inside& in = *inside_;
    return await<Result<client::Attr>>(
        in.loop, [&](auto done) { in.vfs->mkdir(in.caller, above.ino, name, mode, done); });
}

Result<std::vector<client::DirEntry>> RemoteFs::list(InodeId directory) {
    Inside& in = *inside_;
    LFS_ASSIGN(const client::HandleId handle,
               (await<Result<client::HandleId>>(
                   in.loop, [&](auto done) { in.vfs->opendir(in.caller, directory, done); })));
    std::vector<client::DirEntry> entries;
    Status status;
    uint64_t cookie = 0;
    for (bool more = true; more;) {
        auto page = await<Result<client::DirPage>>(in.loop, [&](auto done) {
            in.vfs->readdir(in.caller, handle, cookie, kPageBytes, done);
        });
        if (!page) {
            status = page.status();
            break;
        }
        for (auto& entry : page->entries) {
            cookie = entry.cookie;
            if (entry.name != "." && entry.name != "..") entries.push_back(std::move(entry));
        }
        more = !page->at_end && !page->entries.empty();
    }
    in.loop.run_and_wait([&] { in.vfs->releasedir(handle); });
    if (!status.is_ok()) return status;
    return entries;
}

Result<client::HandleId> RemoteFs::create(const std::string& path, uint32_t mode) {
    std::string parent, name;
    split(path, &parent, &name);
    LFS_ASSIGN(const client::Attr above, find(parent));
    Inside& in = *inside_;
    auto opened = await<Result<client::Opened>>(in.loop, [&](auto done) {
        in.vfs->create(in.caller, above.ino, name, mode, 1 | client::OpenMode::kTruncate, done);
    });
    if (!opened) return opened.status().with_context(path);
    return opened->handle;
}

Result<client::HandleId> RemoteFs::open(InodeId file) {
    Inside& in = *inside_;
    LFS_ASSIGN(auto opened, (await<Result<client::Opened>>(in.loop, [&](auto done) {
                   in.vfs->open(in.caller, file, 0, done);
               })));
    return opened.handle;
}

Status RemoteFs::write(client::HandleId handle, uint64_t offset, Buffer data) {
    Inside& in = *inside_;
    return await<Result<uint64_t>>(
               in.loop, [&](auto done) { in.vfs->write(in.caller, handle, offset, data, done); })
        .status();
}

Result<client::ReadData> RemoteFs::read(client::HandleId handle, uint64_t offset, uint64_t size) {
    Inside& in = *inside_;
    return await<Result<client::ReadData>>(
        in.loop, [&](auto done) { in.vfs->read(in.caller, handle, offset, size, done); });
}

Status RemoteFs::close_written(client::HandleId handle) {
    Inside& in = *inside_;
    const Status synced =
        await<Status>(in.loop, [&](auto done) { in.vfs->fsync(in.caller, handle, false, done); });
    close(handle);
    return synced;
}

void RemoteFs::close(client::HandleId handle) {
    Inside& in = *inside_;
    ignore(await<Status>(in.loop, [&](auto done) { in.vfs->release(handle, done); }),
           "errors of data come with fsync");
}

}  // namespace lumeofs::cli
