// SPDX-License-Identifier: Apache-2.0
// Chunk: what is in memory of a chunk that is in use. Chunks that are not are an Entry only and are
// loaded from the index on demand; so are the pages of their block tables.
//
// The newest state of a block is its *overlay* image in the log if it has one, else what the page
// says: a checksum and (by its unit) a place at home, or a hole. The undo list holds, per block
// that a record after the commit point has changed, what it was before, for read(committed).
// single-thread: the chunkd loop; changed by Disk only.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "chunkd/store/geometry.h"
#include "chunkd/store/index_format.h"
#include "chunkd/store/types.h"
#include "chunkd/store/wal_format.h"
#include "common/base/result.h"

namespace lumeofs::store {

inline constexpr uint64_t kHole = 0;  // as a stored checksum

// One state of one block.
struct Version {
    enum class Kind : uint8_t { hole, home, image, lost };
    Kind kind = Kind::hole;
    uint64_t sum = kHole;     // salted
    uint64_t home_block = 0;  // home
    uint64_t batch = 0;       // image: the log batch that it is in; 0 = only in memory
    WalPlace place;           // image, once the batch was written
    Buffer image;             // image: may be empty when `place` is valid
};

struct Undo {
    WriteName by;  // the record that replaced it
    Version before;
};

// Table of 512 blocks. Vectors end at the last entry that is not empty.
class Page {
public:
    uint64_t sum(uint32_t block) const { return block < sums_.size() ? sums_[block] : kHole; }
    uint32_t unit(uint32_t unit) const { return unit < units_.size() ? units_[unit] : kNoUnit; }
    void set_sum(uint32_t block, uint64_t sum);
    void set_unit(uint32_t unit, uint32_t home_unit);
    const std::vector<uint64_t>& sums() const { return sums_; }
    const std::vector<uint32_t>& units() const { return units_; }
    size_t memory() const { return sizeof *this + sums_.capacity() * 8 + units_.capacity() * 4; }

    Bytes encode(uint32_t number, uint64_t trash) const;
    static Result<std::unique_ptr<Page>> decode(View body, uint32_t number);

private:
    std::vector<uint64_t> sums_;
    std::vector<uint32_t> units_;
};

struct Chunk {
    explicit Chunk(ChunkId id) { meta.chunk = id; }

    ChunkMeta meta;
    uint64_t trash = 0;  // 0 = live, else its number in the trash
    Nanos removed_at = 0;
    uint32_t used_units = 0;
    std::deque<InDoubt> in_doubt;
    std::vector<SessionWrites> sessions;

    std::array<std::unique_ptr<Page>, kPagesPerChunk> pages;
    std::array<IndexPlace, kPagesPerChunk> page_at{};
    uint32_t dirty_pages = 0;  // bit per page; set bits are loaded
    bool meta_dirty = false;
    std::map<uint32_t, Version> overlay;

    // Per block, oldest first; undo_log says in order of records which blocks have one.
    std::map<uint32_t, std::vector<Undo>> undo;
    std::deque<std::pair<WriteName, std::vector<uint32_t>>> undo_log;
    bool tracking = false;
    std::map<uint32_t, WriteName> touched;

    // The page must be loaded or never have existed.
    const Page* page_of(uint32_t block) const { return pages[block / kBlocksPerPage].get(); }
    Page& make_page(uint32_t number);
    uint64_t home_sum(uint32_t block) const;
    uint32_t unit_of(uint32_t chunk_unit) const;
    void set_home_sum(uint32_t block, uint64_t sum);
    void set_unit(uint32_t chunk_unit, uint32_t home_unit);
    // State now, without the image's bytes copied.
    Version newest(uint32_t block) const;
    Version committed(uint32_t block) const;
    bool is_hole(uint32_t block) const;
    // Number of blocks after the last page that can hold anything.
    uint32_t end_block() const;

    bool dirty() const { return meta_dirty || dirty_pages != 0 || !overlay.empty(); }
    // Nothing here that is not in the index too.
    bool evictable() const {
        return !dirty() && undo.empty() && in_doubt.empty() && !tracking && trash == 0;
    }

    void remember_undo(uint32_t block, const WriteName& by, std::vector<uint32_t>& blocks);
    void forget_undo(uint32_t block) { undo.erase(block); }
    void advance_commit(const WriteName& point);
    void note_session(SessionId session, uint64_t write_no, uint64_t lowest);
    size_t memory() const;
};

// What stays in memory of every chunk.
struct Entry {
    IndexPlace meta_at;  // bytes 0: never written to the index
    Epoch epoch;
    WriteName applied;
    uint64_t length = 0;
    bool in_doubt = false;
    std::unique_ptr<Chunk> chunk;  // if in use
};

Bytes encode_meta(const Chunk& chunk);
Result<std::unique_ptr<Chunk>> decode_meta(View body, ChunkId id);

}  // namespace lumeofs::store
