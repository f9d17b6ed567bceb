// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/sim_disk.h"

#include <algorithm>

#include "common/base/assert.h"

namespace lumeofs::sim {
namespace {

constexpr uint64_t kSector = 512;

Status power_off() { return Status(Errc::io, "the power is off"); }

}  // namespace

class SimFile final : public File {
public:
    SimFile(SimDisk& disk, SimDisk::InodeRef inode, std::string path, const OpenOptions& options)
        : disk_(disk),
          inode_(std::move(inode)),
          path_(std::move(path)),
          options_(options),
          generation_(disk.generation_) {}

    Result<size_t> read_at(uint64_t offset, MutableView into) override {
        LFS_TRY(check(DiskOp::read, false));
        check_alignment(offset, into.data(), into.size());
        if (offset >= inode_->size) return size_t{0};
        const size_t count = std::min<uint64_t>(into.size(), inode_->size - offset);
        for (size_t done = 0; done < count;) {
            const uint64_t page = (offset + done) / SimDisk::kPage;
            const uint64_t from = (offset + done) % SimDisk::kPage;
            const size_t step = std::min<uint64_t>(SimDisk::kPage - from, count - done);
            auto it = inode_->now.find(page);
            if (it == inode_->now.end() || !it->second.bytes) {
                std::memset(into.data() + done, 0, step);
            } else {
                std::memcpy(into.data() + done, it->second.bytes->data() + from, step);
            }
            done += step;
        }
        return count;
    }

    Status write_at(uint64_t offset, View bytes) override {
        return write_vector_at(offset, {bytes});
    }

    Status write_vector_at(uint64_t offset, const std::vector<View>& parts) override {
        const Status status = check(DiskOp::write, true);
        // A write during which the power fails may reach the disk in part: the cut decides.
        if (!status.is_ok() && (!disk_.failing_now_ || generation_ != disk_.generation_))
            return status;
        uint64_t total = 0;
        for (View part : parts) {
            check_alignment(offset, part.data(), part.size());
            total += part.size();
        }
        LFS_ASSERT(!options_.read_only);
        if (status.is_ok() && disk_.used_bytes() + total > disk_.capacity_ &&
            !overwrites(offset, total)) {
            return Status(Errc::nospc, path_ + ": the disk is full");
        }
        for (View part : parts) {
            for (size_t done = 0; done < part.size();) {
                const uint64_t page = (offset + done) / SimDisk::kPage;
                const uint64_t from = (offset + done) % SimDisk::kPage;
                const size_t step = std::min<uint64_t>(SimDisk::kPage - from, part.size() - done);
                disk_.write_page(*inode_, page, from, part.subspan(done, step), options_.direct);
                done += step;
            }
            offset += part.size();
        }
        inode_->size = std::max(inode_->size, offset);
        return status;
    }

    Status truncate(uint64_t size) override {
        LFS_TRY(check(DiskOp::truncate, true));
        if (size < inode_->size) {
            const uint64_t first = (size + SimDisk::kPage - 1) / SimDisk::kPage;
            for (auto it = inode_->now.lower_bound(first); it != inode_->now.end();) {
                if (inode_->dirty.insert(it->first).second) inode_->durable[it->first] = it->second;
                it = inode_->now.erase(it);
            }
            if (size % SimDisk::kPage != 0 && inode_->now.count(size / SimDisk::kPage) != 0) {
                const Bytes zeros(SimDisk::kPage - size % SimDisk::kPage, 0);
                disk_.write_page(
                    *inode_, size / SimDisk::kPage, size % SimDisk::kPage, zeros, false);
            }
        }
        inode_->size = size;
        return ok_status();
    }

    Status allocate(uint64_t offset, uint64_t length) override {
        LFS_TRY(check(DiskOp::allocate, true));
        uint64_t missing = 0;
        for (uint64_t page = offset / SimDisk::kPage; page * SimDisk::kPage < offset + length;
             ++page) {
            if (inode_->now.count(page) == 0) ++missing;
        }
        if (disk_.used_bytes() + missing * SimDisk::kPage > disk_.capacity_) {
            return Status(Errc::nospc, path_ + ": the disk is full");
        }
        inode_->size = std::max(inode_->size, offset + length);
        return ok_status();
    }

    Status sync() override {
        LFS_TRY(check(DiskOp::sync, true));
        ++disk_.syncs_;
        disk_.sync_inode(*inode_);
        disk_.sync_covered();
        return ok_status();
    }

    bool durable_with_any_sync() const override { return options_.direct; }

    Result<uint64_t> size() override {
        LFS_TRY(check(DiskOp::read, false));
        return inode_->size;
    }

private:
    Status check(DiskOp op, bool changes) {
        if (generation_ != disk_.generation_) return power_off();
        return disk_.check(op, path_, changes);
    }
    void check_alignment(uint64_t offset, const void* data, size_t length) const {
        LFS_ASSERT(!options_.direct ||
                   (offset % SimDisk::kPage == 0 && length % SimDisk::kPage == 0 &&
                    reinterpret_cast<uintptr_t>(data) % SimDisk::kPage == 0));
    }
    bool overwrites(uint64_t offset, uint64_t length) const {
        return offset + length <= inode_->size;
    }

    SimDisk& disk_;
    const SimDisk::InodeRef inode_;
    const std::string path_;
    const OpenOptions options_;
    const uint64_t generation_;
};

class SimLock final : public FileLock {
public:
    SimLock(SimDisk& disk, std::string path)
        : disk_(disk), path_(std::move(path)), generation_(disk.generation_) {}
    ~SimLock() override {
        if (generation_ == disk_.generation_) disk_.locks_.erase(path_);
    }

private:
    SimDisk& disk_;
    const std::string path_;
    const uint64_t generation_;
};

SimDisk::SimDisk(uint64_t capacity_bytes) : capacity_(capacity_bytes) { dirs_.insert("/"); }
SimDisk::~SimDisk() = default;

// --- faults --------------------------------------------------------------------------------------

Status SimDisk::check(DiskOp op, const std::string& path, bool changes) {
    failing_now_ = false;
    if (!powered_) return power_off();
    if (changes) {
        if (power_fails_at_ != 0 && changes_ >= power_fails_at_) return power_off();
        ++changes_;
        if (power_fails_at_ != 0 && changes_ == power_fails_at_) {
            failing_now_ = true;
            if (power_lost_) power_lost_();
            return power_off();
        }
    } else if (power_fails_at_ != 0 && changes_ >= power_fails_at_) {
        return power_off();
    }
    for (DiskFault& fault : faults_) {
        if (fault.op != op || path.find(fault.path) == std::string::npos) continue;
        if (fault.after > 0) {
            --fault.after;
            continue;
        }
        if (fault.times == 0) continue;
        --fault.times;
        return Status(fault.error, path + ": injected fault");
    }
    return ok_status();
}

void SimDisk::fail_power_after(uint64_t op) { power_fails_at_ = changes_ + op; }

void SimDisk::power_cut(uint64_t seed) {
    Prng random(seed);
    settle_names(random);
    std::set<Inode*> seen;
    for (auto& [path, inode] : names_) {
        if (seen.insert(inode.get()).second) settle_inode(*inode, random);
    }
    kill_process();
    powered_ = false;
}

void SimDisk::power_on() {
    powered_ = true;
    power_fails_at_ = 0;
}

void SimDisk::kill_process() {
    ++generation_;
    locks_.clear();
}

void SimDisk::settle_inode(Inode& inode, Prng& random) {
    // Some cuts lose everything, some keep nearly all: the mixtures in between are drawn per page.
    const uint64_t keep_percent = std::array<uint64_t, 4>{0, 30, 70, 100}[random.below(4)];
    for (uint64_t page : inode.dirty) {
        const Page before = inode.durable[page];
        auto it = inode.now.find(page);
        const Page after = it == inode.now.end() ? Page{} : it->second;
        const bool keep = random.below(100) < keep_percent;
        Page result = keep ? after : before;
        if (random.below(3) == 0) {
            auto mixed = std::make_shared<PageBytes>();
            for (uint64_t at = 0; at < kPage; at += kSector) {
                const Page& from = random.below(2) == 0 ? before : after;
                if (from.bytes) {
                    std::memcpy(mixed->data() + at, from.bytes->data() + at, kSector);
                } else {
                    std::memset(mixed->data() + at, 0, kSector);
                }
            }
            result.bytes = mixed;
            result.real = before.real || after.real;
        }
        if (result.real) {
            inode.now[page] = result;
        } else {
            inode.now.erase(page);
        }
    }
    inode.dirty.clear();
    inode.durable.clear();
    inode.covered.clear();
    if (inode.size != inode.durable_size && random.below(2) == 0) inode.size = inode.durable_size;
    inode.now.erase(inode.now.lower_bound((inode.size + kPage - 1) / kPage), inode.now.end());
    inode.durable_size = inode.size;
}

void SimDisk::settle_names(Prng& random) {
    const bool prefix = random.below(2) == 0;
    const uint64_t kept = name_changes_.empty() ? 0 : random.below(name_changes_.size() + 1);
    names_ = durable_names_;
    for (size_t i = 0; i < name_changes_.size(); ++i) {
        if (prefix ? i >= kept : random.below(2) == 0) continue;
        for (const auto& [path, inode] : name_changes_[i].to) {
            if (inode) {
                names_[path] = inode;
            } else {
                names_.erase(path);
            }
        }
    }
    name_changes_.clear();
    durable_names_ = names_;
}

bool SimDisk::flip_bit(const std::string& path, uint64_t offset, int bit) {
    auto it = names_.find(path);
    if (it == names_.end() || offset >= it->second->size) return false;
    Inode& inode = *it->second;
    auto flip = [&](Page& page) {
        auto changed = std::make_shared<PageBytes>();
        if (page.bytes) {
            *changed = *page.bytes;
        } else {
            changed->fill(0);
        }
        (*changed)[offset % kPage] ^= static_cast<uint8_t>(1u << bit);
        page.bytes = changed;
        page.real = true;
    };
    flip(inode.now[offset / kPage]);
    if (auto old = inode.durable.find(offset / kPage); old != inode.durable.end())
        flip(old->second);
    return true;
}

void SimDisk::lose_tree(const std::string& dir) {
    auto inside = [&](const std::string& path) {
        return path.size() > dir.size() && path.compare(0, dir.size(), dir) == 0 &&
               path[dir.size()] == '/';
    };
    std::erase_if(names_, [&](const auto& item) { return inside(item.first); });
    std::erase_if(durable_names_, [&](const auto& item) { return inside(item.first); });
    std::erase_if(dirs_, inside);
    std::erase_if(name_changes_, [&](const NameChange& change) {
        return std::any_of(change.to.begin(), change.to.end(), [&](const auto& item) {
            return inside(item.first);
        });
    });
}

std::vector<std::string> SimDisk::files() const {
    std::vector<std::string> out;
    for (const auto& [path, inode] : names_) out.push_back(path);
    return out;
}

uint64_t SimDisk::pages_of(const Inode& inode) const { return (inode.size + kPage - 1) / kPage; }

uint64_t SimDisk::used_bytes() const {
    uint64_t pages = 0;
    for (const auto& [path, inode] : names_) pages += pages_of(*inode);
    return pages * kPage;
}

// --- contents ------------------------------------------------------------------------------------

void SimDisk::write_page(Inode& inode, uint64_t page, uint64_t from, View bytes, bool direct) {
    Page& now = inode.now[page];
    const bool was_clean = inode.dirty.insert(page).second;
    if (was_clean) inode.durable[page] = now;
    const bool written_before = inode.durable[page].real;
    if (direct && written_before) {
        inode.covered.insert(page);
    } else {
        inode.covered.erase(page);
    }
    const bool zeros =
        std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
    if (zeros && (bytes.size() == kPage || !now.bytes)) {
        if (bytes.size() == kPage) now.bytes = nullptr;
    } else {
        auto changed = std::make_shared<PageBytes>();
        if (now.bytes) {
            *changed = *now.bytes;
        } else {
            changed->fill(0);
        }
        std::memcpy(changed->data() + from, bytes.data(), bytes.size());
        now.bytes = changed;
    }
    now.real = true;
}

void SimDisk::sync_inode(Inode& inode) {
    inode.dirty.clear();
    inode.durable.clear();
    inode.covered.clear();
    inode.durable_size = inode.size;
}

// A sync empties the device's cache: direct writes into space that was there before are in it.
void SimDisk::sync_covered() {
    for (auto& [path, inode] : names_) {
        for (uint64_t page : inode->covered) {
            inode->dirty.erase(page);
            inode->durable.erase(page);
        }
        inode->covered.clear();
    }
}

// --- names ---------------------------------------------------------------------------------------

void SimDisk::change_names(NameChange change) {
    for (const auto& [path, inode] : change.to) {
        change.dirs.insert(parent_dir(path));
        if (inode) {
            names_[path] = inode;
        } else {
            names_.erase(path);
        }
    }
    name_changes_.push_back(std::move(change));
}

Result<std::unique_ptr<File>> SimDisk::open(const std::string& path, const OpenOptions& options) {
    LFS_TRY(check(DiskOp::read, path, false));
    auto it = names_.find(path);
    if (it != names_.end() && options.create && options.exclusive) return Status(Errc::exist, path);
    if (it == names_.end()) {
        if (!options.create || dirs_.count(parent_dir(path)) == 0) return Status(Errc::noent, path);
        LFS_TRY(check(DiskOp::create, path, true));
        auto inode = std::make_shared<Inode>();
        change_names({{}, {{path, inode}}});
        return std::unique_ptr<File>(new SimFile(*this, inode, path, options));
    }
    std::unique_ptr<File> file(new SimFile(*this, it->second, path, options));
    if (options.truncate && it->second->size > 0) LFS_TRY(file->truncate(0));
    return file;
}

Status SimDisk::make_dirs(const std::string& path) {
    LFS_TRY(check(DiskOp::read, path, false));
    // Directories are durable at once: losing an empty one is no interesting fault.
    for (std::string at = path; dirs_.insert(at).second && at != "/";) at = parent_dir(at);
    return ok_status();
}

Result<std::vector<std::string>> SimDisk::list(const std::string& dir) {
    LFS_TRY(check(DiskOp::read, dir, false));
    if (dirs_.count(dir) == 0) return Status(Errc::noent, dir);
    std::set<std::string> found;
    auto add = [&](const std::string& path) {
        if (path != dir && parent_dir(path) == dir)
            found.insert(path.substr(dir == "/" ? 1 : dir.size() + 1));
    };
    for (const auto& [path, inode] : names_) add(path);
    for (const std::string& path : dirs_) add(path);
    return std::vector<std::string>(found.begin(), found.end());
}

Result<bool> SimDisk::exists(const std::string& path) {
    LFS_TRY(check(DiskOp::read, path, false));
    return names_.count(path) != 0 || dirs_.count(path) != 0;
}

Status SimDisk::rename(const std::string& from, const std::string& to) {
    LFS_TRY(check(DiskOp::rename, from, true));
    auto it = names_.find(from);
    if (it == names_.end()) return Status(Errc::noent, from);
    change_names({{}, {{from, nullptr}, {to, it->second}}});
    return ok_status();
}

Status SimDisk::remove(const std::string& path) {
    LFS_TRY(check(DiskOp::remove, path, true));
    if (names_.count(path) == 0) return Status(Errc::noent, path);
    change_names({{}, {{path, nullptr}}});
    return ok_status();
}

Status SimDisk::sync_dir(const std::string& dir) {
    LFS_TRY(check(DiskOp::sync_dir, dir, true));
    std::vector<NameChange> left;
    for (NameChange& change : name_changes_) {
        if (change.dirs.count(dir) == 0) {
            left.push_back(std::move(change));
            continue;
        }
        for (const auto& [path, inode] : change.to) {
            if (inode) {
                durable_names_[path] = inode;
            } else {
                durable_names_.erase(path);
            }
        }
    }
    name_changes_ = std::move(left);
    return ok_status();
}

Result<DiskSpace> SimDisk::space(const std::string& dir) {
    LFS_TRY(check(DiskOp::read, dir, false));
    const uint64_t used = used_bytes();
    return DiskSpace{capacity_, capacity_ > used ? capacity_ - used : 0};
}

Result<std::unique_ptr<FileLock>> SimDisk::lock(const std::string& path) {
    LFS_TRY(check(DiskOp::read, path, false));
    if (!locks_.insert(path).second) return Status(Errc::busy, path + " is locked");
    return std::unique_ptr<FileLock>(new SimLock(*this, path));
}

}  // namespace lumeofs::sim
