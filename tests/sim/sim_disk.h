// SPDX-License-Identifier: Apache-2.0
// SimDisk: the file system of one simulated machine, in memory, that forgets what was not synced.
//
// It promises what common/env/file_system.h promises and no more. At a power cut
//  - each 4 KiB page written since its file's last sync is, by the seed, lost, kept, or torn at 512
//    byte sectors; a file's new size is kept or not;
//  - names made, renamed or removed since sync_dir() of their directory are kept or not, each
//    change on its own or as a prefix (a rename is one change);
//  - pages of files opened `direct` that had been written and synced before count as kept once any
//    file was synced after the write (File::durable_with_any_sync); pages in space that was only
//    allocated do not: their own file must be synced [hazard 16d].
// While the power is off every call fails with Errc::io and no handle from before works again.
// Zero pages take no memory.
// single-thread: the test or the simulator.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "common/env/file_system.h"

namespace lumeofs::sim {

enum class DiskOp : uint8_t {
    read,
    write,
    sync,
    truncate,
    allocate,
    create,
    rename,
    remove,
    sync_dir
};

// Makes matching calls fail. `path` matches if it is part of the file's path; "" matches all.
struct DiskFault {
    DiskOp op = DiskOp::sync;
    std::string path;
    Errc error = Errc::io;
    uint64_t after = 0;           // so many matching calls succeed first
    uint64_t times = UINT64_MAX;  // then so many fail
};

class SimDisk final : public FileSystem {
public:
    explicit SimDisk(uint64_t capacity_bytes = uint64_t{64} << 30);
    ~SimDisk() override;

    // --- faults ---------------------------------------------------------------------------------
    // Decides what survives and turns the power off. Locks are released.
    void power_cut(uint64_t seed);
    void power_on();
    bool powered() const { return powered_; }
    // The power fails during the `op`-th changing call from now (1 = the next one): that call and
    // all later ones fail, what it did is as uncertain as anything unsynced. power_cut() must
    // follow.
    void fail_power_after(uint64_t op);
    // Called once when that happens (the simulator then ends the machine's processes).
    void set_power_lost_hook(std::function<void()> hook) { power_lost_ = std::move(hook); }
    uint64_t changes() const { return changes_; }  // changing calls so far
    void inject(DiskFault fault) { faults_.push_back(std::move(fault)); }
    void clear_faults() { faults_.clear(); }
    void set_capacity(uint64_t bytes) { capacity_ = bytes; }
    // Rot: flips one bit of what is stored; false if the file has no such byte.
    bool flip_bit(const std::string& path, uint64_t offset, int bit);
    // Takes a whole tree away, or empties it, as a disk that was not mounted.
    void lose_tree(const std::string& dir);
    // Ends all locks and handles as the death of the process would; what it wrote stays.
    void kill_process();
    uint64_t syncs() const { return syncs_; }
    std::vector<std::string> files() const;  // paths, sorted
    uint64_t used_bytes() const;

    // --- FileSystem -----------------------------------------------------------------------------
    Result<std::unique_ptr<File>> open(const std::string& path,
                                       const OpenOptions& options) override;
    Status make_dirs(const std::string& path) override;
    Result<std::vector<std::string>> list(const std::string& dir) override;
    Result<bool> exists(const std::string& path) override;
    Status rename(const std::string& from, const std::string& to) override;
    Status remove(const std::string& path) override;
    Status sync_dir(const std::string& dir) override;
    Result<DiskSpace> space(const std::string& dir) override;
    Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;

private:
    friend class SimFile;
    friend class SimLock;

    static constexpr uint64_t kPage = 4096;
    using PageBytes = std::array<uint8_t, kPage>;
    struct Page {
        std::shared_ptr<const PageBytes> bytes;  // null = zeros
        bool real = false;                       // written, not only allocated or skipped
    };
    struct Inode {
        std::map<uint64_t, Page> now;
        std::map<uint64_t, Page>
            durable;  // only of pages in `dirty`: what they were at the last sync
        std::set<uint64_t> dirty;
        std::set<uint64_t> covered;  // of `dirty`: the next sync of any file makes them durable
        uint64_t size = 0;
        uint64_t durable_size = 0;
    };
    using InodeRef = std::shared_ptr<Inode>;
    struct NameChange {  // one directory operation, not yet synced
        std::set<std::string> dirs;
        std::map<std::string, InodeRef> to;  // null = no such name afterwards
    };

    Status check(DiskOp op, const std::string& path, bool changes);
    void change_names(NameChange change);
    void sync_inode(Inode& inode);
    void sync_covered();
    void settle_inode(Inode& inode, Prng& random);
    void settle_names(Prng& random);
    void write_page(Inode& inode, uint64_t page, uint64_t from, View bytes, bool direct);
    uint64_t pages_of(const Inode& inode) const;

    uint64_t capacity_;
    bool powered_ = true;
    uint64_t generation_ = 1;  // handles of older ones are dead
    uint64_t changes_ = 0;
    uint64_t power_fails_at_ = 0;
    bool failing_now_ = false;  // the call under way is the one during which the power fails
    uint64_t syncs_ = 0;
    std::function<void()> power_lost_;
    std::vector<DiskFault> faults_;
    std::map<std::string, InodeRef> names_;
    std::map<std::string, InodeRef> durable_names_;
    std::vector<NameChange> name_changes_;
    std::set<std::string> dirs_;
    std::set<std::string> locks_;
};

}  // namespace lumeofs::sim
