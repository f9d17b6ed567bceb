// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "common/base/checksum.h"
#include "common/base/log.h"
#include "common/base/prng.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t kSmallFileMax = 1 << 20;

std::string hex128(uint64_t high, uint64_t low) { return fmt::format("{:016x}{:016x}", high, low); }

bool parse_hex64(std::string_view text, uint64_t* value) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, 16);
    return error == std::errc() && end == text.data() + text.size();
}

bool parse_hex128(std::string_view text, uint64_t* high, uint64_t* low) {
    return text.size() == 32 && parse_hex64(text.substr(0, 16), high) &&
           parse_hex64(text.substr(16), low);
}

std::string with_sum(std::string text) {
    const uint64_t sum = checksum(as_view(text));
    return text + fmt::format("sum {:016x}\n", sum);
}

// The lines before the sum, if the sum fits.
Result<std::vector<std::string>> checked_lines(const Bytes& bytes, const std::string& path) {
    const std::string text(as_text(bytes));
    const size_t at = text.rfind("sum ");
    uint64_t sum = 0;
    if (at == std::string::npos || text.size() != at + 21 ||
        !parse_hex64(std::string_view(text).substr(at + 4, 16), &sum) ||
        checksum(as_view(std::string_view(text).substr(0, at))) != sum) {
        return Status(
            Errc::corrupt,
            path +
                " does not verify: it was damaged or edited. Restore the file, or give this "
                "chunkd an empty directory and let the cluster copy its chunks again");
    }
    std::vector<std::string> lines;
    size_t start = 0;
    while (start < at) {
        const size_t end = text.find('\n', start);
        lines.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    return lines;
}

std::string value_of(const std::vector<std::string>& lines, std::string_view key) {
    for (const std::string& line : lines) {
        if (line.size() > key.size() && line.compare(0, key.size(), key) == 0 &&
            line[key.size()] == ' ') {
            return line.substr(key.size() + 1);
        }
    }
    return "";
}

Result<Identity> read_identity(FileSystem& fs, const std::string& dir) {
    const std::string path = dir + "/identity";
    LFS_ASSIGN(Bytes bytes, read_file(fs, path, kSmallFileMax));
    LFS_ASSIGN(auto lines, checked_lines(bytes, path));
    Identity identity;
    identity.dir = dir;
    const std::string format = value_of(lines, "format");
    if (format != "1") {
        return Status(Errc::config,
                      fmt::format("{}: expected disk format 1, found '{}': this directory "
                                  "needs another version of lumeofs-chunkd",
                                  path,
                                  format));
    }
    const std::string node = value_of(lines, "node");
    uint64_t number = 0;
    const bool node_ok =
        std::from_chars(node.data(), node.data() + node.size(), number).ec == std::errc();
    if (!parse_hex128(value_of(lines, "uuid"), &identity.uuid_high, &identity.uuid_low) ||
        !node_ok ||
        !parse_hex128(value_of(lines, "cluster"), &identity.cluster_high, &identity.cluster_low)) {
        return Status(Errc::corrupt, path + " is malformed");
    }
    identity.node = NodeId{number};
    identity.ready = value_of(lines, "ready") == "1";
    return identity;
}

struct RecordedDisk {
    std::string uuid;
    std::string dir;
};

Status read_record(FileSystem& fs,
                   const std::string& path,
                   std::map<std::string, RecordedDisk>& into) {
    LFS_ASSIGN(bool there, fs.exists(path));
    if (!there) return ok_status();
    LFS_ASSIGN(Bytes bytes, read_file(fs, path, kSmallFileMax));
    LFS_ASSIGN(auto lines, checked_lines(bytes, path));
    for (const std::string& line : lines) {
        if (line.size() < 38 || line.compare(0, 5, "disk ") != 0) continue;
        RecordedDisk disk{line.substr(5, 32), line.substr(38)};
        into[disk.uuid] = disk;
    }
    return ok_status();
}

Status check_owner(const Identity& identity, const StoreOptions& options) {
    if (identity.cluster_high != options.cluster_id_high ||
        identity.cluster_low != options.cluster_id_low) {
        return Status(
            Errc::config,
            fmt::format("{} belongs to another cluster: expected cluster {}, found {}. Use an "
                        "empty directory, or the configuration of that cluster",
                        identity.dir,
                        hex128(options.cluster_id_high, options.cluster_id_low),
                        hex128(identity.cluster_high, identity.cluster_low)));
    }
    if (identity.node && options.node && identity.node != options.node) {
        return Status(
            Errc::config,
            fmt::format("{} belongs to another node: expected node {}, found {}. Start chunkd "
                        "with that node's configuration, or use an empty directory",
                        identity.dir,
                        options.node.value,
                        identity.node.value));
    }
    return ok_status();
}

std::vector<std::string> record_paths(const StoreOptions& options) {
    std::vector<std::string> paths;
    for (const std::string& dir : options.dirs) paths.push_back(dir + "/disks");
    if (!options.record_path.empty()) paths.push_back(options.record_path);
    return paths;
}

// What to do about a disk that will not come back. The records cannot be edited: they are summed.
std::string forget_advice(const StoreOptions& options) {
    std::string text = "If the disk is lost for good, delete the records, which are written anew:";
    for (const std::string& path : record_paths(options)) text += " " + path;
    return text;
}

Status check_new_dir(FileSystem& fs,
                     const StoreOptions& options,
                     const std::string& dir,
                     const std::map<std::string, RecordedDisk>& record) {
    for (const auto& [uuid, disk] : record) {
        if (disk.dir != dir) continue;
        return Status(
            Errc::config,
            fmt::format("disk missing: {} should hold disk {}, but it is empty. Is it mounted? {}",
                        dir,
                        uuid,
                        forget_advice(options)));
    }
    LFS_ASSIGN(auto names, fs.list(dir));
    for (const std::string& name : names) {
        if (name == "lost+found" || name == "lock" || name == "identity.tmp") continue;
        if (name == "wal" || name == "home" || name == "index") {
            LFS_ASSIGN(auto inside, fs.list(dir + "/" + name));
            if (inside.empty()) continue;
        }
        return Status(
            Errc::config,
            fmt::format("{} is neither a chunkd data directory (no 'identity' in it) nor empty "
                        "(found '{}'): name an empty directory",
                        dir,
                        name));
    }
    return ok_status();
}

Status check_all_there(const StoreOptions& options,
                       const std::map<std::string, RecordedDisk>& record,
                       const std::vector<ClaimedDisk>& claimed) {
    for (const auto& [uuid, disk] : record) {
        const bool found =
            std::any_of(claimed.begin(), claimed.end(), [&](const ClaimedDisk& item) {
                return item.identity.uuid_text() == uuid;
            });
        if (!found) {
            return Status(
                Errc::config,
                fmt::format("disk missing: this node has disk {} (last seen at {}), but no "
                            "configured directory holds it. Add its directory. {}",
                            uuid,
                            disk.dir,
                            forget_advice(options)));
        }
    }
    return ok_status();
}

Status write_records(FileSystem& fs,
                     const StoreOptions& options,
                     const std::vector<ClaimedDisk>& claimed) {
    std::string text;
    for (const ClaimedDisk& item : claimed) {
        text += fmt::format("disk {} {}\n", item.identity.uuid_text(), item.identity.dir);
    }
    text = with_sum(std::move(text));
    for (const std::string& path : record_paths(options)) {
        auto old = read_file(fs, path, kSmallFileMax);
        if (old.is_ok() && as_text(*old) == text) continue;
        LFS_TRY(replace_file(fs, path, as_view(text)));
    }
    return ok_status();
}

}  // namespace

std::string Identity::uuid_text() const { return hex128(uuid_high, uuid_low); }

Status write_identity(FileSystem& fs, const Identity& identity) {
    const std::string text = fmt::format("format 1\nuuid {}\ncluster {}\nnode {}\nready {}\n",
                                         identity.uuid_text(),
                                         hex128(identity.cluster_high, identity.cluster_low),
                                         identity.node.value,
                                         identity.ready ? 1 : 0);
    return replace_file(fs, identity.dir + "/identity", as_view(with_sum(text)));
}

Result<std::vector<ClaimedDisk>> claim_disks(FileSystem& fs, const StoreOptions& options) {
    std::map<std::string, RecordedDisk> record;
    if (!options.record_path.empty()) LFS_TRY(read_record(fs, options.record_path, record));
    for (const std::string& dir : options.dirs) LFS_TRY(read_record(fs, dir + "/disks", record));

    Prng random(options.seed);
    std::vector<ClaimedDisk> claimed;
    for (const std::string& dir : options.dirs) {
        LFS_TRY(fs.make_dirs(dir));
        ClaimedDisk disk;
        auto lock = fs.lock(dir + "/lock");
        if (lock.code() == Errc::busy) {
            return Status(Errc::busy,
                          dir + " is in use by another lumeofs-chunkd (its lock is held)");
        }
        LFS_ASSIGN(disk.lock, std::move(lock));
        LFS_ASSIGN(bool known, fs.exists(dir + "/identity"));
        if (known) {
            LFS_ASSIGN(disk.identity, read_identity(fs, dir));
            LFS_TRY(check_owner(disk.identity, options));
            if (!disk.identity.node && options.node) {
                disk.identity.node = options.node;
                LFS_TRY(write_identity(fs, disk.identity));
            }
        } else {
            LFS_TRY(check_new_dir(fs, options, dir, record));
            disk.identity = {dir,
                             random.next(),
                             random.next(),
                             options.cluster_id_high,
                             options.cluster_id_low,
                             options.node,
                             false};
        }
        for (const ClaimedDisk& other : claimed) {
            if (other.identity.uuid_text() == disk.identity.uuid_text()) {
                return Status(Errc::config,
                              fmt::format("{} and {} are the same disk ({})",
                                          other.identity.dir,
                                          dir,
                                          disk.identity.uuid_text()));
            }
        }
        claimed.push_back(std::move(disk));
    }
    LFS_TRY(check_all_there(options, record, claimed));
    for (ClaimedDisk& disk : claimed) {
        const std::string& dir = disk.identity.dir;
        for (const char* part : {"/wal", "/home", "/index"}) LFS_TRY(fs.make_dirs(dir + part));
        LFS_TRY(fs.sync_dir(dir));
        LFS_TRY(fs.sync_dir(parent_dir(dir)));
        LFS_ASSIGN(bool known, fs.exists(dir + "/identity"));
        if (!known) LFS_TRY(write_identity(fs, disk.identity));
    }
    LFS_TRY(write_records(fs, options, claimed));
    return claimed;
}

}  // namespace lumeofs::store
