// SPDX-License-Identifier: Apache-2.0
#include "common/env/posix_file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "common/base/assert.h"

namespace lumeofs {
namespace {

constexpr mode_t kDirMode = 0750;
constexpr mode_t kFileMode = 0640;

Status failed(std::string_view call, const std::string& path, int error) {
    auto number = static_cast<uint16_t>(error);
    Errc code = error > 0 && error < 1000 && errc_known(number) ? static_cast<Errc>(number) : Errc::io;
    const char* name = strerrorname_np(error);
    const char* description = strerrordesc_np(error);
    return Status(code,
                  fmt::format("{} {}: {} ({})",
                              call,
                              path,
                              name ? name : std::to_string(error).c_str(),
                              description ? description : "unknown"));
}

template <typename Call>
auto retried(Call call) {
    auto result = call();
    while (result < 0 && errno == EINTR) result = call();
    return result;
}

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }

private:
    const int fd_;
};

class PosixFile final : public File {
public:
    PosixFile(int fd, std::string path, bool direct, bool past_caches)
        : fd_(fd), path_(std::move(path)), direct_(direct), past_caches_(past_caches) {}

    Result<size_t> read_at(uint64_t offset, MutableView into) override {
        check_alignment(offset, into.data(), into.size());
        size_t done = 0;
        while (done < into.size()) {
            ssize_t n = retried([&] {
                return pread(fd_.get(),
                             into.data() + done,
                             into.size() - done,
                             static_cast<off_t>(offset + done));
            });
            if (n < 0) return failed(fmt::format("read at {} of", offset + done), path_, errno);
            if (n == 0) break;
            done += static_cast<size_t>(n);
            // With O_DIRECT a short read is the end; going on from there would be misaligned.
            if (direct_ && done % Buffer::kAlignment != 0) break;
        }
        return done;
    }

    Status write_at(uint64_t offset, View bytes) override { return write_vector_at(offset, {bytes}); }

    Status write_vector_at(uint64_t offset, const std::vector<View>& parts) override {
        std::vector<iovec> vectors;
        vectors.reserve(parts.size());
        for (View part : parts) {
            check_alignment(offset, part.data(), part.size());
            if (part.empty()) continue;
            vectors.push_back({const_cast<uint8_t*>(part.data()), part.size()});
        }
        size_t first = 0;
        while (first < vectors.size()) {
            const size_t count = std::min<size_t>(vectors.size() - first, IOV_MAX);
            ssize_t n = retried([&] {
                return pwritev(fd_.get(),
                               vectors.data() + first,
                               static_cast<int>(count),
                               static_cast<off_t>(offset));
            });
            if (n < 0) return failed(fmt::format("write at {} of", offset), path_, errno);
            if (n == 0) return failed(fmt::format("write at {} of", offset), path_, EIO);
            offset += static_cast<uint64_t>(n);
            first = advance(vectors, first, static_cast<size_t>(n));
        }
        return ok_status();
    }

    Status truncate(uint64_t size) override {
        if (retried([&] { return ftruncate(fd_.get(), static_cast<off_t>(size)); }) < 0) {
            return failed("ftruncate", path_, errno);
        }
        return ok_status();
    }

    Status allocate(uint64_t offset, uint64_t length) override {
        if (length == 0) return ok_status();
        int result = retried([&] {
            return fallocate(fd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(length));
        });
        if (result == 0) return ok_status();
        if (errno != EOPNOTSUPP && errno != ENOSYS) return failed("fallocate", path_, errno);
        return fill_with_zeros(offset + length);
    }

    Status sync() override {
        // Not retried, whatever it says: after a failure the kernel has forgotten what was dirty.
        if (fdatasync(fd_.get()) < 0) return failed("fdatasync", path_, errno);
        return ok_status();
    }

    bool durable_with_any_sync() const override { return past_caches_; }

    Result<uint64_t> size() override {
        struct stat attributes {};
        if (fstat(fd_.get(), &attributes) < 0) return failed("fstat", path_, errno);
        return static_cast<uint64_t>(attributes.st_size);
    }

private:
    void check_alignment(uint64_t offset, const void* data, size_t length) const {
        if (!direct_) return;
        LFS_ASSERT(offset % Buffer::kAlignment == 0 && length % Buffer::kAlignment == 0 &&
                   reinterpret_cast<uintptr_t>(data) % Buffer::kAlignment == 0);
    }

    // Takes `written` bytes off the front; returns the first vector that is left.
    static size_t advance(std::vector<iovec>& vectors, size_t first, size_t written) {
        while (written > 0) {
            iovec& vector = vectors[first];
            const size_t step = std::min(written, vector.iov_len);
            vector.iov_base = static_cast<uint8_t*>(vector.iov_base) + step;
            vector.iov_len -= step;
            written -= step;
            if (vector.iov_len == 0) ++first;
        }
        return first;
    }

    // For file systems without fallocate: space behind the end becomes real by being written.
    Status fill_with_zeros(uint64_t end) {
        LFS_ASSIGN(uint64_t at, size());
        constexpr uint64_t kStep = 1 << 20;
        Buffer zeros = Buffer::allocate(kStep);
        std::memset(zeros.mutable_data(), 0, kStep);
        while (at < end) {
            const uint64_t step = std::min(end - at, kStep - at % Buffer::kAlignment);
            LFS_TRY(write_at(at, zeros.view().first(step)));
            at += step;
        }
        return ok_status();
    }

    const Descriptor fd_;
    const std::string path_;
    const bool direct_;
    const bool past_caches_;
};

// True on file systems where a direct write into written space changes no metadata (btrfs, for one,
// writes elsewhere, and overlayfs may have anything below it).
bool overwrites_in_place(int fd) {
    constexpr auto kExt4 = 0xEF53;
    constexpr auto kXfs = 0x58465342;
    struct statfs attributes {};
    if (fstatfs(fd, &attributes) < 0) return false;
    return attributes.f_type == kExt4 || attributes.f_type == kXfs;
}

class PosixFileLock final : public FileLock {
public:
    explicit PosixFileLock(int fd) : fd_(fd) {}

private:
    const Descriptor fd_;  // flock() belongs to the open file, so it ends with the descriptor
};

}  // namespace

Result<std::unique_ptr<File>> PosixFileSystem::open(const std::string& path,
                                                    const OpenOptions& options) {
    int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
    if (options.create) flags |= O_CREAT;
    if (options.create && options.exclusive) flags |= O_EXCL;
    if (options.truncate) flags |= O_TRUNC;
    int fd = -1;
    if (options.direct) {
        fd = retried([&] { return ::open(path.c_str(), flags | O_DIRECT, kFileMode); });
        if (fd < 0 && errno != EINVAL) return failed("open", path, errno);
        // A refused O_DIRECT may have made the file: it must not count as somebody else's now.
        if (fd < 0) flags &= ~O_EXCL;
    }
    const bool past_caches = fd >= 0 && overwrites_in_place(fd);
    if (fd < 0) fd = retried([&] { return ::open(path.c_str(), flags, kFileMode); });
    if (fd < 0) return failed("open", path, errno);
    return std::unique_ptr<File>(std::make_unique<PosixFile>(fd, path, options.direct, past_caches));
}

Status PosixFileSystem::make_dirs(const std::string& path) {
    if (mkdir(path.c_str(), kDirMode) == 0) return ok_status();
    if (errno == ENOENT && path != "/" && path != ".") {
        LFS_TRY(make_dirs(parent_dir(path)));
        if (mkdir(path.c_str(), kDirMode) == 0) return ok_status();
    }
    if (errno != EEXIST) return failed("mkdir", path, errno);
    struct stat attributes {};
    if (stat(path.c_str(), &attributes) < 0) return failed("stat", path, errno);
    if (!S_ISDIR(attributes.st_mode)) return failed("mkdir", path, ENOTDIR);
    return ok_status();
}

Result<std::vector<std::string>> PosixFileSystem::list(const std::string& dir) {
    DIR* stream = opendir(dir.c_str());
    if (!stream) return failed("opendir", dir, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(stream)) {
        std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
        errno = 0;
    }
    const int error = errno;
    closedir(stream);
    if (error != 0) return failed("readdir", dir, error);
    std::sort(names.begin(), names.end());
    return names;
}

Result<bool> PosixFileSystem::exists(const std::string& path) {
    struct stat attributes {};
    if (lstat(path.c_str(), &attributes) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return failed("lstat", path, errno);
}

Status PosixFileSystem::rename(const std::string& from, const std::string& to) {
    if (::rename(from.c_str(), to.c_str()) < 0) return failed("rename to " + to + " of", from, errno);
    return ok_status();
}

Status PosixFileSystem::remove(const std::string& path) {
    if (unlink(path.c_str()) < 0) return failed("unlink", path, errno);
    return ok_status();
}

Status PosixFileSystem::sync_dir(const std::string& dir) {
    Descriptor fd(
        retried([&] { return ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (fd.get() < 0) return failed("open", dir, errno);
    if (fsync(fd.get()) < 0) return failed("fsync", dir, errno);
    return ok_status();
}

Result<DiskSpace> PosixFileSystem::space(const std::string& dir) {
    struct statvfs info {};
    if (retried([&] { return statvfs(dir.c_str(), &info); }) < 0) {
        return failed("statvfs", dir, errno);
    }
    return DiskSpace{info.f_frsize * info.f_blocks, info.f_frsize * info.f_bavail};
}

Result<std::unique_ptr<FileLock>> PosixFileSystem::lock(const std::string& path) {
    const int fd = retried([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kFileMode); });
    if (fd < 0) return failed("open", path, errno);
    auto lock = std::make_unique<PosixFileLock>(fd);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK) return Status(Errc::busy, path + " is locked by another process");
        return failed("flock", path, errno);
    }
    return std::unique_ptr<FileLock>(std::move(lock));
}

}  // namespace lumeofs
