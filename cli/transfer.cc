// SPDX-License-Identifier: Apache-2.0
#include "cli/transfer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/format.h"
#include "cli/process.h"
#include "cli/remote_fs.h"
#include "common/base/checksum.h"

namespace lumeofs::cli {
namespace {

namespace files = std::filesystem;

constexpr size_t kPiece = size_t{1} << 20;
constexpr uint32_t kTypeMask = S_IFMT;

struct FileCloser {
    void operator()(FILE* file) const { std::fclose(file); }
};
using LocalFile = std::unique_ptr<FILE, FileCloser>;

// Counts what is done, and shows it on a terminal.
class Report {
public:
    explicit Report(const char* verb) : verb_(verb), shown_(isatty(2) == 1), start_(time_now()) {}

    void file_begins(const std::string& name, uint64_t size) {
        name_ = name;
        size_ = size;
        in_file_ = 0;
        ++files_;
    }
    void bytes_done(uint64_t count) {
        bytes_ += count;
        in_file_ += count;
        const Nanos now = time_now();
        if (!shown_ || now - last_shown_ < 100 * kMillisecond) return;
        last_shown_ = now;
        const double share =
            size_ == 0 ? 1
                       : std::min(1.0, static_cast<double>(in_file_) / static_cast<double>(size_));
        const std::string bar(static_cast<size_t>(share * 30), '#');
        std::fprintf(stderr,
                     "\r\033[K[%-30s] %3d %% %s/s %s",
                     bar.c_str(),
                     static_cast<int>(share * 100),
                     size_text(speed(now)).c_str(),
                     name_.c_str());
    }
    void problem(const std::string& text) { problems_.push_back(text); }

    // Prints the outcome; the exit status.
    int finish(bool as_json) const {
        if (shown_) std::fputs("\r\033[K", stderr);
        if (as_json) {
            const nlohmann::json out = {{"action", verb_},
                                        {"files", files_},
                                        {"bytes", bytes_},
                                        {"bytes_per_second", speed(time_now())},
                                        {"problems", problems_}};
            std::printf("%s\n",
                        out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
        } else {
            for (const std::string& text : problems_) {
                std::fprintf(stderr, "lumeofs: %s\n", text.c_str());
            }
            std::printf("%s: %llu files, %s, %s/s, %zu problems\n",
                        verb_,
                        static_cast<unsigned long long>(files_),
                        size_text(bytes_).c_str(),
                        size_text(speed(time_now())).c_str(),
                        problems_.size());
        }
        return problems_.empty() ? 0 : 1;
    }

private:
    uint64_t speed(Nanos now) const {
        const double seconds = static_cast<double>(std::max<Nanos>(now - start_, 1)) / 1e9;
        return static_cast<uint64_t>(static_cast<double>(bytes_) / seconds);
    }

    const char* verb_;
    const bool shown_;
    const Nanos start_;
    Nanos last_shown_ = 0;
    std::string name_;
    uint64_t size_ = 0, in_file_ = 0, files_ = 0, bytes_ = 0;
    std::vector<std::string> problems_;
};

std::string below(const std::string& directory, const std::string& name) {
    return directory.empty() || directory.back() == '/' ? directory + name : directory + "/" + name;
}

bool is_directory(const client::Attr& attr) { return (attr.mode & kTypeMask) == S_IFDIR; }
bool is_file(const client::Attr& attr) { return (attr.mode & kTypeMask) == S_IFREG; }

// Names in a local directory, in order; a problem if it cannot be read.
std::set<std::string> local_names(const std::string& path, Report& report) {
    std::set<std::string> names;
    std::error_code error;
    for (files::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
        names.insert(it->path().filename().string());
    }
    if (error) report.problem(path + ": " + error.message());
    return names;
}

LocalFile open_local(const std::string& path, const char* mode, Report& report) {
    LocalFile file(std::fopen(path.c_str(), mode));
    if (!file) report.problem("cannot open " + path);
    return file;
}

void upload_file(RemoteFs& remote,
                 const std::string& from,
                 const std::string& to,
                 const struct stat& attr,
                 Report& report) {
    report.file_begins(from, static_cast<uint64_t>(attr.st_size));
    const LocalFile file = open_local(from, "re", report);
    if (!file) return;
    auto handle = remote.create(to, attr.st_mode & 07777);
    if (!handle) return report.problem(handle.status().to_string());
    Status status;
    for (uint64_t offset = 0; status.is_ok();) {
        Buffer piece = Buffer::allocate(kPiece);
        const size_t count = std::fread(piece.mutable_data(), 1, kPiece, file.get());
        if (std::ferror(file.get())) report.problem("cannot read " + from);
        if (count == 0) break;
        status = remote.write(*handle, offset, piece.slice(0, count));
        offset += count;
        report.bytes_done(count);
    }
    const Status synced = remote.close_written(*handle);
    if (status.is_ok()) status = synced;
    if (!status.is_ok()) report.problem(to + ": " + status.to_string());
}

void upload_tree(RemoteFs& remote, const std::string& from, const std::string& to, Report& report) {
    struct stat attr = {};
    if (lstat(from.c_str(), &attr) != 0) return report.problem("no " + from);
    if (S_ISREG(attr.st_mode)) return upload_file(remote, from, to, attr, report);
    if (!S_ISDIR(attr.st_mode)) return report.problem(from + ": neither file nor directory");
    auto made = remote.make_directory(to, attr.st_mode & 07777);
    if (!made) return report.problem(to + ": " + made.status().to_string());
    for (const std::string& name : local_names(from, report)) {
        upload_tree(remote, below(from, name), below(to, name), report);
    }
}

// Gives the file's bytes, piece by piece.
template <typename Take>
Status read_remote(RemoteFs& remote, InodeId file, Take take) {
    LFS_ASSIGN(const client::HandleId handle, remote.open(file));
    Status status;
    for (uint64_t offset = 0;;) {
        auto data = remote.read(handle, offset, kPiece);
        if (!data) status = data.status();
        if (!data || data->size == 0) break;
        for (const Buffer& part : data->parts) take(part.view());
        offset += data->size;
    }
    remote.close(handle);
    return status;
}

void download_tree(RemoteFs& remote,
                   const std::string& from,
                   const client::Attr& attr,
                   const std::string& to,
                   Report& report) {
    if (is_directory(attr)) {
        if (mkdir(to.c_str(), attr.mode & 07777) != 0 && !files::is_directory(to)) {
            return report.problem("cannot make " + to);
        }
        auto entries = remote.list(attr.ino);
        if (!entries) return report.problem(from + ": " + entries.status().to_string());
        for (const client::DirEntry& entry : *entries) {
            auto child = remote.find(below(from, entry.name));
            if (!child) {
                report.problem(child.status().to_string());
            } else {
                download_tree(
                    remote, below(from, entry.name), *child, below(to, entry.name), report);
            }
        }
        return;
    }
    if (!is_file(attr)) return report.problem(from + ": neither file nor directory");
    report.file_begins(from, attr.size);
    LocalFile file = open_local(to, "we", report);
    if (!file) return;
    bool good = fchmod(fileno(file.get()), attr.mode & 0777) == 0;
    const Status status = read_remote(remote, attr.ino, [&](View part) {
        good = std::fwrite(part.data(), 1, part.size(), file.get()) == part.size() && good;
        report.bytes_done(part.size());
    });
    good = std::fclose(file.release()) == 0 && good;
    if (!status.is_ok()) report.problem(from + ": " + status.to_string());
    if (!good) report.problem("cannot write " + to);
}

// A sum over a stream, the same however it comes in pieces: XXH3 of each full piece, seeded with
// the sum so far.
class Sum {
public:
    void add(View bytes) {
        while (!bytes.empty()) {
            const size_t count = std::min(bytes.size(), kPiece - piece_.size());
            piece_.insert(
                piece_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(count));
            bytes = bytes.subspan(count);
            size_ += count;
            if (piece_.size() == kPiece) close_piece();
        }
    }
    uint64_t result() {
        close_piece();
        return sum_;
    }
    uint64_t size() const { return size_; }

private:
    void close_piece() {
        sum_ = checksum_seeded(piece_, sum_);
        piece_.clear();
    }

    Bytes piece_;
    uint64_t sum_ = 0, size_ = 0;
};

void verify_file(RemoteFs& remote,
                 const std::string& local,
                 const std::string& path,
                 const client::Attr& attr,
                 Report& report) {
    report.file_begins(path, attr.size);
    const LocalFile file = open_local(local, "re", report);
    if (!file) return;
    Sum here, there;
    auto piece = Buffer::allocate(kPiece);
    for (size_t count; (count = std::fread(piece.mutable_data(), 1, kPiece, file.get())) > 0;) {
        here.add({piece.data(), count});
    }
    if (std::ferror(file.get())) return report.problem("cannot read " + local);
    const Status status = read_remote(remote, attr.ino, [&](View part) {
        there.add(part);
        report.bytes_done(part.size());
    });
    if (!status.is_ok()) return report.problem(path + ": " + status.to_string());
    if (here.size() != there.size()) {
        report.problem(path + " differs: " + std::to_string(there.size()) + " bytes, " + local +
                       " has " + std::to_string(here.size()));
    } else if (here.result() != there.result()) {
        report.problem(path + " differs from " + local);
    }
}

void verify_tree(RemoteFs& remote,
                 const std::string& local,
                 const std::string& path,
                 Report& report) {
    struct stat here = {};
    if (stat(local.c_str(), &here) != 0) return report.problem("no " + local);
    auto attr = remote.find(path);
    if (!attr) return report.problem(attr.status().to_string());
    if (S_ISREG(here.st_mode) && is_file(*attr)) {
        return verify_file(remote, local, path, *attr, report);
    }
    if (!S_ISDIR(here.st_mode) || !is_directory(*attr)) {
        return report.problem(path + " and " + local + " are not of one kind");
    }
    std::set<std::string> names = local_names(local, report);
    auto entries = remote.list(attr->ino);
    if (!entries) return report.problem(path + ": " + entries.status().to_string());
    for (const client::DirEntry& entry : *entries) names.insert(entry.name);
    for (const std::string& name : names) {
        verify_tree(remote, below(local, name), below(path, name), report);
    }
}

Status connect(RemoteFs& remote, const ClusterOptions& options) {
    LFS_ASSIGN(const auto metads, metads_to_ask(options));
    return remote.connect(metads);
}

int complain(const Status& status) {
    std::fprintf(stderr, "lumeofs: %s\n", std::string(status.text()).c_str());
    return status.code() == Errc::unavailable ? kExitUnreachable : 1;
}

std::string last_part(const std::string& path) {
    const std::string name = files::path(path).lexically_normal().filename().string();
    return name.empty() ? files::path(path).lexically_normal().parent_path().filename().string()
                        : name;
}

}  // namespace

// As cp: what goes onto an existing directory goes into it.
int upload(const ClusterOptions& options, const std::string& local, const std::string& remote) {
    RemoteFs fs;
    if (const Status up = connect(fs, options); !up.is_ok()) return complain(up);
    Report report("upload");
    auto there = fs.find(remote);
    const bool into = there && is_directory(*there);
    upload_tree(fs, local, into ? below(remote, last_part(local)) : remote, report);
    return report.finish(options.json);
}

int download(const ClusterOptions& options, const std::string& remote, const std::string& local) {
    RemoteFs fs;
    if (const Status up = connect(fs, options); !up.is_ok()) return complain(up);
    Report report("download");
    auto there = fs.find(remote);
    if (there) {
        const bool into = files::is_directory(local) && !last_part(remote).empty();
        download_tree(fs, remote, *there, into ? below(local, last_part(remote)) : local, report);
    } else {
        report.problem(there.status().to_string());
    }
    return report.finish(options.json);
}

int verify(const ClusterOptions& options, const std::string& local, const std::string& remote) {
    RemoteFs fs;
    if (const Status up = connect(fs, options); !up.is_ok()) return complain(up);
    Report report("verify");
    verify_tree(fs, local, remote, report);
    return report.finish(options.json);
}

}  // namespace lumeofs::cli
