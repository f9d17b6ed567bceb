// SPDX-License-Identifier: Apache-2.0
// What a log record does to the state in memory, the same when it is new and when it is done again
// after a crash. Cannot fail: everything was checked before. A record sets what it touches
// outright, so that doing it twice, or on a newer state and then its successors again, ends the
// same.
#include <algorithm>

#include "chunkd/store/disk.h"
#include "common/base/assert.h"
#include "common/base/planted_bug.h"

namespace lumeofs::store {

Version Disk::ImageCursor::next(uint64_t sum) {
    Version version;
    version.kind = Version::Kind::image;
    version.sum = sum;
    version.batch = batch;
    if (buffers) {
        const Buffer& from = (*buffers)[buffer];
        version.image = from.slice(offset, kBlock);
        offset += kBlock;
        if (offset == from.size()) {
            ++buffer;
            offset = 0;
        }
    } else {
        version.place = place;
        place.offset += kBlock;
    }
    return version;
}

Chunk* Disk::create_chunk(ChunkId id, Epoch epoch) {
    Entry& entry = chunks_[id];
    if (!entry.chunk) {
        entry.chunk = std::make_unique<Chunk>(id);
        hot_order_.push_back({0, id});
    }
    Chunk* chunk = entry.chunk.get();
    chunk->meta.epoch = std::max(chunk->meta.epoch, epoch);
    chunk->meta_dirty = true;
    mark_dirty(*chunk);
    return chunk;
}

void Disk::move_to_trash(ChunkId id, uint64_t number, Nanos wall) {
    auto it = chunks_.find(id);
    LFS_ASSERT(it != chunks_.end() && it->second.chunk && trash_.count(number) == 0);
    TrashItem item;
    item.id = id;
    item.removed_at = wall;
    item.entry = std::move(it->second);
    chunks_.erase(it);
    dirty_.erase({0, id});
    Chunk& chunk = *item.entry.chunk;
    chunk.trash = number;
    chunk.removed_at = wall;
    chunk.meta_dirty = true;
    chunk.undo.clear();
    chunk.undo_log.clear();
    item.used_units = chunk.used_units;
    noted_.erase(id);
    std::erase_if(quarantine_, [&](const auto& bad) { return bad.first == id; });
    hot_order_.push_back({number, id});
    mark_dirty(chunk);
    trash_.emplace(number, std::move(item));
}

Status Disk::drop_trash(uint64_t number, bool redo) {
    auto it = trash_.find(number);
    if (it == trash_.end()) return ok_status();
    LFS_ASSIGN(Chunk * chunk, load_trash(number));
    Gone gone{{number, it->second.id}, {}};
    if (it->second.entry.meta_at.bytes != 0) gone.places.push_back(it->second.entry.meta_at);
    for (uint32_t page = 0; page < kPagesPerChunk; ++page) {
        if (chunk->page_at[page].bytes != 0) gone.places.push_back(chunk->page_at[page]);
        const Status loaded =
            ensure_pages(*chunk, page * kBlocksPerPage, (page + 1) * kBlocksPerPage);
        // A table that does not verify costs the space that it named, until the disk is made anew.
        if (loaded.code() == Errc::corrupt) continue;
        LFS_TRY(loaded);
        if (!chunk->pages[page] || redo) continue;
        for (uint32_t unit : chunk->pages[page]->units()) {
            if (unit != kNoUnit) home_.free_to_limbo(unit);
        }
    }
    if (!gone.places.empty()) gone_.push_back(std::move(gone));
    dirty_.erase({number, it->second.id});
    trash_.erase(it);
    return ok_status();
}

void Disk::apply_change(Chunk& chunk, const LogRecord& record, ImageCursor& images, bool redo) {
    for (const UnitAssign& unit : record.units) chunk.set_unit(unit.chunk_unit, unit.home_unit);
    apply_runs(chunk, record, images, redo);
    apply_meta(chunk, record);
    chunk.meta_dirty = true;
    mark_dirty(chunk);
}

void Disk::apply_runs(Chunk& chunk, const LogRecord& record, ImageCursor& images, bool redo) {
    const WriteName& name = record.change.name;
    const bool undoable = !redo && name.sequence != 0 && name > chunk.meta.commit_point &&
                          record.kind != LogKind::rewrite;
    std::vector<uint32_t> replaced;
    const uint32_t end = chunk.end_block();
    for (const Run& run : record.runs) {
        // Behind the last page everything is a hole already.
        const uint32_t last = run.kind == RunKind::hole ? std::min(run.first + run.count, end)
                                                        : run.first + run.count;
        for (uint32_t block = run.first; block < last; ++block) {
            const bool was_hole = chunk.is_hole(block);
            if (run.kind == RunKind::hole && was_hole && chunk.undo.count(block) == 0) continue;
            if (undoable) {
                chunk.remember_undo(block, name, replaced);
            } else {
                chunk.forget_undo(block);
            }
            if (run.kind == RunKind::image) {
                Version image = images.next(run.sums[block - run.first]);
                if (!redo)
                    image_cache_.push_back({{chunk.trash, chunk.meta.chunk}, block, image.batch});
                chunk.overlay[block] = std::move(image);
            } else {
                chunk.overlay.erase(block);
                const bool direct = run.kind == RunKind::direct;
                const uint64_t sum = direct ? run.sums[block - run.first] : kHole;
                if (chunk.home_sum(block) != sum) chunk.set_home_sum(block, sum);
            }
            if (chunk.tracking && name.sequence != 0) chunk.touched[block] = name;
            if (!quarantine_.empty()) quarantine_.erase({chunk.meta.chunk, block});
        }
        if (run.kind == RunKind::hole && !redo) {
            free_empty_units(chunk, run.first, last > run.first ? last - run.first : 0, name);
        }
    }
    if (!replaced.empty()) chunk.undo_log.emplace_back(name, std::move(replaced));
}

// Units of [first, first + count) in which no block is left. Redo does this once at its end: in the
// middle of it blocks may be in a later state than the record.
void Disk::free_empty_units(Chunk& chunk, uint32_t first, uint32_t count, const WriteName& by) {
    if (count == 0) return;
    for (uint32_t unit = first / kUnitBlocks; unit <= (first + count - 1) / kUnitBlocks; ++unit) {
        const uint32_t home_unit = chunk.unit_of(unit);
        if (home_unit == kNoUnit) continue;
        bool empty = true;
        for (uint32_t block = 0; block < kUnitBlocks && empty; ++block) {
            empty = chunk.is_hole(unit * kUnitBlocks + block);
        }
        if (!empty) continue;
        chunk.set_unit(unit, kNoUnit);
        home_.free_to_limbo(home_unit);
        if (planted_bug("store.reuse_space_at_once"))
            home_.release_limbo([](uint32_t) { return false; });
        if (by > chunk.meta.commit_point) undecided_units_[home_unit] = {chunk.meta.chunk, by};
    }
}

void Disk::apply_meta(Chunk& chunk, const LogRecord& record) {
    const WriteRecord& change = record.change;
    ChunkMeta& meta = chunk.meta;
    const bool named = change.name.sequence != 0 &&
                       (record.kind == LogKind::data || record.kind == LogKind::zero ||
                        record.kind == LogKind::truncate);
    if (named && change.name > meta.applied) meta.applied = change.name;
    // In redo a later commit point may be known already: then the record is decided.
    const bool known = !chunk.in_doubt.empty() && change.name <= chunk.in_doubt.back().name;
    if (named && change.name > meta.commit_point && !known) {
        chunk.in_doubt.push_back({change.name,
                                  static_cast<RecordKind>(record.kind),
                                  change.session,
                                  change.write_no,
                                  change.lowest_outstanding,
                                  change.offset,
                                  change.length});
    }
    if (named) chunk.note_session(change.session, change.write_no, change.lowest_outstanding);
    switch (record.kind) {
        case LogKind::data:
            meta.length = std::max(meta.length, change.offset + change.length);
            break;
        case LogKind::rewrite:
            meta.length = std::max(meta.length, change.length);
            break;
        case LogKind::truncate:
            meta.length = std::min(meta.length, change.length);
            [[fallthrough]];
        case LogKind::create:
        case LogKind::set_epoch:
            meta.epoch = std::max(meta.epoch, change.name.epoch);
            meta.shrink_epoch = std::max(meta.shrink_epoch, change.shrink_epoch);
            break;
        case LogKind::zero:
        case LogKind::commit_point:
        case LogKind::remove:
        case LogKind::purge:
            break;
    }
    if (change.version_vector) meta.version_vector = *change.version_vector;
    if (change.blob) meta.blob = *change.blob;
    chunk.advance_commit(change.commit_point);
}

}  // namespace lumeofs::store
