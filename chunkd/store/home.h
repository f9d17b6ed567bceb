// SPDX-License-Identifier: Apache-2.0
// Home: the space of one disk where blocks live, as large files DIR/home/NNNNNN that grow in steps
// and never shrink. Space is allocated in units of 16 KiB; a block is addressed by its *home block*
// = unit * 4 + block inside the unit, counted over all files.
//
// A unit is free, used, or in limbo: freed, but an index on disk or an undecided write may still
// name it, so nobody may overwrite it before release_limbo(). *Written* units have been written and
// synced once: a direct write into them is covered by any later sync of the disk (File::
// durable_with_any_sync); into others (allocated, never written) only by a sync of the file itself,
// because the conversion of the extent is metadata [hazard 16d].
// What is used and written is stored by the index, in pages of kUnitsPerAllocPage units.
// single-thread: the chunkd loop.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "chunkd/store/geometry.h"
#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/env/file_system.h"

namespace lumeofs::store {

struct HomeOptions {
    std::string dir;  // the disk's own; files go to dir/home
    uint64_t file_size = 0;
    uint64_t step = 0;
    uint64_t fill_ahead = 0;
    // Bytes of the file system that growing must leave alone.
    std::function<uint64_t()> keep_free;
};

class Home {
public:
    Home(FileSystem& fs, HomeOptions options);
    Status open();

    // `count` free units, in as few runs as it can, near behind unit `hint` if that is not kNoUnit.
    // `direct`: for writes that are acknowledged with the next log batch. They want written units;
    // if few are needed and none are left, some more are made now, because one sync of the file for
    // many small direct writes is far cheaper than one for each (the conversion of an unwritten
    // extent waits for the journal of the host's file system). Large ones rather pay that than
    // write twice. nospc: not even by growing; nothing was taken then. io: growing failed.
    Result<std::vector<uint32_t>> allocate(uint32_t count, uint32_t hint, bool direct);
    void give_back(uint32_t unit);  // allocated by a write that was refused: free at once
    void free_to_limbo(uint32_t unit);
    // Units of which `keep` says true stay in limbo.
    void release_limbo(const std::function<bool(uint32_t)>& keep);

    // Recovery: sets states outright. corrupt: the unit is outside every file.
    Status mark_used(uint32_t unit);
    void mark_free(uint32_t unit);
    bool used(uint32_t unit) const;

    Status write(uint64_t home_block, const std::vector<View>& parts);  // aligned, inside one file
    Status read(uint64_t home_block, MutableView into);
    // How many blocks from home_block on lie in one file.
    uint64_t contiguous(uint64_t home_block) const;
    // Before a log batch that names direct writes: syncs the files that no other sync covers.
    Status sync_uncovered();
    Status sync_all();    // every file written to since its last sync
    Status sync_files();  // every file: what another process may have left unsynced

    // One piece of writing free unwritten space ahead; false if there is nothing to do.
    Result<bool> fill_step();

    // State for the index. A page covers units [page * kUnitsPerAllocPage, ...): used, written.
    uint32_t alloc_pages() const;
    bool take_page_dirty(uint32_t page);
    Bytes encode_page(uint32_t page) const;  // units in limbo count as free
    Status decode_page(uint32_t page, View bytes);

    uint64_t free_units() const { return total_units_ - used_units_; }
    uint64_t used_units() const { return used_units_ - limbo_.size(); }
    uint64_t grown_bytes() const { return total_units_ * kUnitBytes; }
    uint64_t syncs() const { return syncs_; }
    uint64_t limbo_units() const { return limbo_.size(); }

private:
    struct FileState {
        std::unique_ptr<File> file;
        uint32_t units = 0;  // grown so far
        bool dirty = false;
        bool uncovered = false;
        std::vector<uint32_t> became_written;  // whole units written since the last sync
    };

    Result<bool> grow(uint32_t units_wanted);
    Result<uint32_t> fill_piece();
    Status grow_file(size_t index, uint32_t units);
    void set_used(uint32_t unit, bool used);
    void set_written(uint32_t unit);
    bool written(uint32_t unit) const;
    bool exists(uint32_t unit) const;
    void resize_maps();
    Status sync_file(FileState& state);
    void collect(std::vector<uint32_t>& out, uint32_t count, uint32_t from, bool written_only);

    FileSystem& fs_;
    const HomeOptions options_;
    const uint32_t units_per_file_;
    std::vector<FileState> files_;
    std::vector<uint64_t> used_;  // bit per unit, over whole files
    std::vector<uint64_t> written_;
    std::vector<uint32_t> limbo_;
    std::set<uint32_t> dirty_pages_;
    uint64_t total_units_ = 0;
    uint64_t used_units_ = 0;  // limbo included
    uint64_t free_written_ = 0;
    uint32_t cursor_ = 0;        // where the next direct write without a hint looks first
    uint32_t image_cursor_ = 0;  // and the next image
    Buffer zeros_;
    uint32_t fill_cursor_ = 0;
    uint64_t syncs_ = 0;
};

}  // namespace lumeofs::store
