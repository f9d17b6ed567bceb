// SPDX-License-Identifier: Apache-2.0
// A disk in memory that loses power: what was not synced is lost, kept or torn, write by write and
// sector by sector; names that were not synced with their directory likewise. Every call that
// changes something is an operation with a number; power can go at any of them, and a call can be
// made to fail.
// single-thread: tests.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/env/file_system.h"

namespace lumeofs::consensus_test {

struct Inode {
    struct Change {
        uint64_t offset = 0;
        Bytes bytes;        // a write, or if empty:
        uint64_t size = 0;  // the file's new size
    };
    Bytes now;
    Bytes durable;
    std::vector<Change> unsynced;

    static void apply(Bytes* content, const Change& change) {
        if (change.bytes.empty()) {
            content->resize(change.size);
            return;
        }
        if (content->size() < change.offset + change.bytes.size()) {
            content->resize(change.offset + change.bytes.size());
        }
        std::copy(change.bytes.begin(),
                  change.bytes.end(),
                  content->begin() + static_cast<ptrdiff_t>(change.offset));
    }
    void change(Change change) {
        apply(&now, change);
        unsynced.push_back(std::move(change));
    }
};

class FakeDisk final : public FileSystem {
public:
    // Power goes at operation number `at` (counted from 1): it and all later calls fail with io.
    void cut_power_at(uint64_t at) { power_off_at_ = at; }
    bool is_off() const { return off_; }
    uint64_t operations() const { return operations_; }
    uint64_t syncs() const { return syncs_; }
    // The next `count` syncs of files whose path contains `part` fail.
    void fail_syncs(std::string part, int count) {
        fail_part_ = std::move(part);
        fail_syncs_ = count;
    }
    void fail_writes(std::string part, Errc code) {
        fail_write_part_ = std::move(part);
        fail_write_code_ = code;
    }

    // Power is back: every unsynced change is kept, torn or lost as `prng` says.
    void restart(Prng& prng) {
        for (auto& [names, change] : pending_names_) {
            if (prng.chance(1, 2)) change(&durable_names_);
        }
        pending_names_.clear();
        std::set<Inode*> seen;
        for (auto& [path, inode] : durable_names_) {
            if (!seen.insert(inode.get()).second) continue;
            for (const Inode::Change& change : inode->unsynced)
                keep_some(inode.get(), change, prng);
            inode->unsynced.clear();
            inode->now = inode->durable;
        }
        names_ = durable_names_;
        locks_.clear();
        off_ = false;
        power_off_at_ = 0;
    }
    // Only the process died: nothing is lost, but what was not synced is not safer than before.
    void forget_locks() { locks_.clear(); }

    std::vector<std::string> paths(const std::string& part) const {
        std::vector<std::string> found;
        for (const auto& [path, inode] : names_) {
            if (path.find(part) != std::string::npos) found.push_back(path);
        }
        return found;
    }
    // The bytes behind everybody's back: bit rot.
    Bytes& raw(const std::string& path) { return names_.at(path)->now; }
    void wipe() {
        names_.clear();
        durable_names_.clear();
        pending_names_.clear();
        locks_.clear();
    }

    Result<std::unique_ptr<File>> open(const std::string& path,
                                       const OpenOptions& options) override;
    Status make_dirs(const std::string&) override { return power(); }
    Result<std::vector<std::string>> list(const std::string& dir) override {
        LFS_TRY(power());
        std::vector<std::string> found;
        for (const auto& [path, inode] : names_) {
            if (parent_dir(path) == dir) found.push_back(path.substr(dir.size() + 1));
        }
        return found;
    }
    Result<bool> exists(const std::string& path) override {
        LFS_TRY(power());
        return names_.contains(path);
    }
    Status rename(const std::string& from, const std::string& to) override {
        LFS_TRY(operation());
        if (!names_.contains(from)) return Status(Errc::noent, from);
        auto inode = names_.at(from);
        change_names(parent_dir(to), [from, to, inode](Names* names) {
            names->erase(from);
            (*names)[to] = inode;
        });
        return Status();
    }
    Status remove(const std::string& path) override {
        LFS_TRY(operation());
        if (!names_.contains(path)) return Status(Errc::noent, path);
        change_names(parent_dir(path), [path](Names* names) { names->erase(path); });
        return Status();
    }
    Status sync_dir(const std::string& dir) override {
        LFS_TRY(operation());
        for (auto at = pending_names_.begin(); at != pending_names_.end();) {
            if (at->first != dir) {
                ++at;
                continue;
            }
            at->second(&durable_names_);
            at = pending_names_.erase(at);
        }
        return Status();
    }
    Result<DiskSpace> space(const std::string&) override { return DiskSpace{1u << 30, 1u << 29}; }
    Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
        if (!locks_.insert(path).second) return Status(Errc::busy, path);
        return std::unique_ptr<FileLock>(new Lock(this, path));
    }

private:
    friend class FakeFile;
    using Names = std::map<std::string, std::shared_ptr<Inode>>;
    struct Lock : FileLock {
        Lock(FakeDisk* of, std::string at) : disk(of), path(std::move(at)) {}
        ~Lock() override { disk->locks_.erase(path); }
        FakeDisk* disk;
        std::string path;
    };

    Status power() const { return off_ ? Status(Errc::io, "no power") : Status(); }
    Status operation() {
        ++operations_;
        if (power_off_at_ != 0 && operations_ >= power_off_at_) off_ = true;
        return power();
    }
    void change_names(const std::string& dir, std::function<void(Names*)> change) {
        change(&names_);
        pending_names_.emplace_back(dir, std::move(change));
    }
    static void keep_some(Inode* inode, const Inode::Change& change, Prng& prng) {
        if (change.bytes.empty() || prng.chance(1, 3)) {
            if (change.bytes.empty() && prng.chance(1, 2)) return;
            return Inode::apply(&inode->durable, change);
        }
        if (prng.chance(1, 2)) return;
        for (size_t at = 0; at < change.bytes.size(); at += 512) {  // torn
            if (prng.chance(1, 2)) continue;
            const size_t end = std::min(at + 512, change.bytes.size());
            Inode::apply(&inode->durable,
                         {change.offset + at,
                          Bytes(change.bytes.begin() + static_cast<ptrdiff_t>(at),
                                change.bytes.begin() + static_cast<ptrdiff_t>(end)),
                          0});
        }
    }

    Names names_;
    Names durable_names_;
    std::deque<std::pair<std::string, std::function<void(Names*)>>> pending_names_;
    std::set<std::string> locks_;
    uint64_t operations_ = 0;
    uint64_t syncs_ = 0;
    uint64_t power_off_at_ = 0;
    bool off_ = false;
    std::string fail_part_;
    int fail_syncs_ = 0;
    std::string fail_write_part_;
    Errc fail_write_code_ = Errc::ok;
};

class FakeFile final : public File {
public:
    FakeFile(FakeDisk* disk, std::shared_ptr<Inode> inode, std::string path, bool direct)
        : disk_(disk), inode_(std::move(inode)), path_(std::move(path)), direct_(direct) {}

    Result<size_t> read_at(uint64_t offset, MutableView into) override {
        LFS_TRY(disk_->power());
        LFS_ASSERT(!direct_ || (offset % 4096 == 0 && into.size() % 4096 == 0));
        if (offset >= inode_->now.size()) return size_t{0};
        const size_t length = std::min<uint64_t>(into.size(), inode_->now.size() - offset);
        std::copy_n(inode_->now.begin() + static_cast<ptrdiff_t>(offset), length, into.begin());
        return length;
    }
    Status write_at(uint64_t offset, View bytes) override {
        const bool counted_off = !disk_->off_;
        const Status status = disk_->operation();
        // The write during which the power goes may have reached the disk, or parts of it.
        if (!status.is_ok() && !counted_off) return status;
        LFS_ASSERT(!direct_ || (offset % 4096 == 0 && bytes.size() % 4096 == 0 &&
                                reinterpret_cast<uintptr_t>(bytes.data()) % 4096 == 0));
        if (status.is_ok() && disk_->fail_write_code_ != Errc::ok &&
            path_.find(disk_->fail_write_part_) != std::string::npos) {
            return Status(disk_->fail_write_code_, path_);
        }
        inode_->change({offset, Bytes(bytes.begin(), bytes.end()), 0});
        return status;
    }
    Status write_vector_at(uint64_t offset, const std::vector<View>& parts) override {
        for (const View& part : parts) {
            LFS_TRY(write_at(offset, part));
            offset += part.size();
        }
        return Status();
    }
    Status truncate(uint64_t size) override {
        LFS_TRY(disk_->operation());
        inode_->change({0, {}, size});
        return Status();
    }
    Status allocate(uint64_t offset, uint64_t length) override {
        LFS_TRY(disk_->operation());
        if (offset + length > inode_->now.size()) inode_->change({0, {}, offset + length});
        return Status();
    }
    Status sync() override {
        LFS_TRY(disk_->operation());
        ++disk_->syncs_;
        if (disk_->fail_syncs_ > 0 && path_.find(disk_->fail_part_) != std::string::npos) {
            --disk_->fail_syncs_;
            inode_->unsynced.clear();  // the kernel has dropped the pages
            return Status(Errc::io, path_);
        }
        for (const Inode::Change& change : inode_->unsynced) Inode::apply(&inode_->durable, change);
        inode_->unsynced.clear();
        return Status();
    }
    Result<uint64_t> size() override { return uint64_t{inode_->now.size()}; }

private:
    FakeDisk* disk_;
    std::shared_ptr<Inode> inode_;
    std::string path_;
    bool direct_;
};

inline Result<std::unique_ptr<File>> FakeDisk::open(const std::string& path,
                                                    const OpenOptions& options) {
    LFS_TRY(power());
    if (!names_.contains(path)) {
        if (!options.create) return Status(Errc::noent, path);
        LFS_TRY(operation());
        auto inode = std::make_shared<Inode>();
        change_names(parent_dir(path), [path, inode](Names* names) { (*names)[path] = inode; });
    } else if (options.exclusive) {
        return Status(Errc::exist, path);
    }
    auto file = std::make_unique<FakeFile>(this, names_.at(path), path, options.direct);
    if (options.truncate) LFS_TRY(file->truncate(0));
    return std::unique_ptr<File>(std::move(file));
}

}  // namespace lumeofs::consensus_test
