// SPDX-License-Identifier: Apache-2.0
// Start of a disk: the index as of the last checkpoint, then the log from there. Deletes nothing.
#include <fmt/format.h>

#include <algorithm>

#include "chunkd/store/disk.h"
#include "common/base/assert.h"
#include "common/base/checksum.h"
#include "common/base/log.h"

namespace lumeofs::store {

Status Disk::recover() {
    LFS_TRY(wal_.open());
    LFS_TRY(home_.open());
    IndexCommit commit;
    const Status opened = index_.open(
        [this](const IndexLog::Record& record) { return visit_index(record); }, &commit);
    if (opened.code() == Errc::not_found && !identity_.ready) {
        LFS_TRY(start_fresh());
    } else if (opened.code() == Errc::not_found) {
        return Status(Errc::corrupt, identity_.dir + ": the index is missing");
    } else {
        LFS_TRY(opened);
        next_trash_ = std::max(next_trash_, commit.next_trash);
        LFS_TRY(replay(commit));
    }
    if (!identity_.ready) {
        identity_.ready = true;
        LFS_TRY(write_identity(fs_, identity_));
    }
    last_write_ = loop_.now();
    start_checkpoint();
    arm_background();
    return ok_status();
}

Status Disk::start_fresh() {
    LFS_TRY(wal_.start(WalHead{}, {}));
    checkpoint_.from = wal_.head();
    return write_index();
}

// --- index ---------------------------------------------------------------------------------------

Status Disk::visit_index(const IndexLog::Record& record) {
    switch (record.kind) {
        case IndexKind::head: {
            ByteReader in(record.body);
            const auto revision = in.get<uint32_t>();
            in.get<uint32_t>();
            if (revision != kIndexRevision || in.get<uint64_t>() != identity_.uuid_high ||
                in.get<uint64_t>() != identity_.uuid_low) {
                return Status(Errc::corrupt,
                              identity_.dir + ": the index is of another disk or version");
            }
            return ok_status();
        }
        case IndexKind::directory:
            return visit_directory(record.body);
        case IndexKind::meta:
            return visit_meta(record);
        case IndexKind::alloc:
            return home_.decode_page(static_cast<uint32_t>(record.key), record.body);
        case IndexKind::gone: {
            ByteReader in(record.body);
            trash_.erase(in.get<uint64_t>());
            return ok_status();
        }
        case IndexKind::page:
        case IndexKind::commit:
            break;
    }
    return ok_status();
}

Status Disk::visit_meta(const IndexLog::Record& record) {
    const ChunkId id{record.key};
    LFS_ASSIGN(auto chunk, decode_meta(record.body, id));
    Entry entry;
    entry.meta_at = record.place;
    entry.epoch = chunk->meta.epoch;
    entry.applied = chunk->meta.applied;
    entry.length = chunk->meta.length;
    entry.in_doubt = !chunk->in_doubt.empty();
    if (chunk->trash == 0) {
        chunks_[id] = std::move(entry);
        return ok_status();
    }
    if (trash_.count(chunk->trash) == 0) chunks_.erase(id);
    TrashItem& item = trash_[chunk->trash];
    item.id = id;
    item.removed_at = chunk->removed_at;
    item.used_units = chunk->used_units;
    item.entry = std::move(entry);
    next_trash_ = std::max(next_trash_, chunk->trash + 1);
    return ok_status();
}

Status Disk::visit_directory(View body) {
    ByteReader in(body);
    const auto count = in.get<uint32_t>();
    for (uint32_t i = 0; i < count && in.ok(); ++i) {
        const ChunkId id{in.get<uint64_t>()};
        const auto trash = in.get<uint64_t>();
        const auto removed_at = in.get<int64_t>();
        const auto used_units = in.get<uint64_t>();
        Entry entry;
        entry.meta_at.file = in.get<uint32_t>();
        entry.meta_at.offset = in.get<uint32_t>();
        entry.meta_at.bytes = in.get<uint32_t>();
        entry.in_doubt = in.get<uint32_t>() != 0;
        entry.epoch = Epoch{in.get<uint64_t>()};
        entry.applied.epoch = Epoch{in.get<uint64_t>()};
        entry.applied.incarnation = Incarnation{in.get<uint64_t>()};
        entry.applied.sequence = in.get<uint64_t>();
        entry.length = in.get<uint64_t>();
        if (!in.ok()) break;
        if (trash == 0) {
            chunks_[id] = std::move(entry);
        } else {
            TrashItem& item = trash_[trash];
            item = {id, removed_at, used_units, std::move(entry)};
            next_trash_ = std::max(next_trash_, trash + 1);
        }
    }
    if (!in.ok()) return Status(Errc::corrupt, identity_.dir + ": index directory is malformed");
    return ok_status();
}

// --- log -----------------------------------------------------------------------------------------

Status Disk::replay(const IndexCommit& commit) {
    uint64_t synced_upto = 0;
    LFS_ASSIGN(auto chain, wal_.follow(commit.replay_from, &synced_upto));
    size_t good = 0;
    for (; good < chain.size(); ++good) {
        const WalBatch& batch = chain[good];
        ByteReader in(batch.records);
        std::vector<LogRecord> records;
        for (uint32_t i = 0; i < batch.record_count; ++i) {
            LFS_ASSIGN(LogRecord record, decode_record(in));
            records.push_back(std::move(record));
        }
        // Up to synced_upto the data is there, or it is damage that readers will meet. Behind that
        // a crash may have torn it; nobody was told about these batches.
        if (batch.number > synced_upto) {
            LFS_ASSIGN(bool whole, tail_is_whole(batch, records));
            if (!whole) {
                LFS_LOG(info,
                        "disk {}: the log ends before batch {}, which a crash tore",
                        number_,
                        batch.number);
                break;
            }
        }
        LFS_TRY(redo(batch, records));
    }
    chain.resize(good);
    LFS_TRY(wal_.start(commit.replay_from, chain));
    LFS_TRY(home_.sync_files());
    return settle_units();
}

// Images and direct data of a batch whose sync nobody vouches for.
Result<bool> Disk::tail_is_whole(const WalBatch& batch, const std::vector<LogRecord>& records) {
    Buffer block = Buffer::allocate(kBlock);
    WalPlace place = batch.first_image;
    uint32_t images = 0;
    for (const LogRecord& record : records) {
        std::map<uint32_t, uint32_t> units;
        for (const UnitAssign& unit : record.units) units[unit.chunk_unit] = unit.home_unit;
        for (const Run& run : record.runs) {
            if (run.kind == RunKind::hole) continue;
            for (uint32_t i = 0; i < run.count; ++i) {
                const uint32_t number = run.first + i;
                Status status;
                if (run.kind == RunKind::image) {
                    if (++images > batch.image_count)
                        return Status(Errc::corrupt, "log: image count");
                    status = wal_.read_image(place, block.mutable_view());
                    place.offset += kBlock;
                } else {
                    auto unit = units.find(number / kUnitBlocks);
                    if (unit == units.end())
                        return Status(Errc::corrupt, "log: direct block without unit");
                    const uint64_t home_block =
                        uint64_t{unit->second} * kUnitBlocks + number % kUnitBlocks;
                    status = home_.read(home_block, block.mutable_view());
                }
                if (status.code() == Errc::corrupt) return false;
                LFS_TRY(status);
                if (stored_sum(checksum(block.view()), record.change.chunk, number) !=
                    run.sums[i]) {
                    return false;
                }
            }
        }
    }
    return true;
}

Status Disk::redo(const WalBatch& batch, const std::vector<LogRecord>& records) {
    ImageCursor images;
    images.place = batch.first_image;
    images.batch = batch.number;
    uint32_t count = 0;
    for (const LogRecord& record : records) count += record.images();
    if (count != batch.image_count) return Status(Errc::corrupt, "log: image count");
    for (const LogRecord& record : records) {
        const WalPlace after{images.place.slot, images.place.offset + record.images() * kBlock};
        LFS_TRY(redo_record(record, images));
        images.place = after;  // also if the record was skipped
    }
    return ok_status();
}

Status Disk::redo_record(const LogRecord& record, ImageCursor& images) {
    const ChunkId id = record.change.chunk;
    switch (record.kind) {
        case LogKind::create: {
            if (has(id)) {
                LFS_ASSIGN(Chunk * chunk, load(id));
                LFS_TRY(redo_touch(*chunk));
            } else {
                create_chunk(id, record.change.name.epoch);
                redo_touched_.insert({0, id});
            }
            break;
        }
        case LogKind::remove: {
            if (!has(id)) return ok_status();  // the index has it in the trash already
            LFS_ASSIGN(Chunk * chunk, load(id));
            LFS_TRY(redo_touch(*chunk));
            next_trash_ = std::max(next_trash_, record.aux + 1);
            if (trash_.count(record.aux) != 0) {
                // So is what we have here its next life, which the records to come will bring back.
                redo_touched_.erase({0, id});
                dirty_.erase({0, id});
                chunks_.erase(id);
                return ok_status();
            }
            move_to_trash(id, record.aux, record.wall);
            redo_touched_.erase({0, id});
            redo_touched_.insert({record.aux, id});
            return ok_status();
        }
        case LogKind::purge: {
            if (trash_.count(record.aux) == 0) return ok_status();
            LFS_ASSIGN(Chunk * chunk, load_trash(record.aux));
            LFS_TRY(redo_touch(*chunk));
            redo_touched_.erase({record.aux, id});
            return drop_trash(record.aux, true);
        }
        case LogKind::data:
        case LogKind::zero:
        case LogKind::truncate:
        case LogKind::set_epoch:
        case LogKind::commit_point:
        case LogKind::rewrite:
            break;
    }
    if (!has(id)) return ok_status();  // it was removed later; its trash entry is complete
    LFS_ASSIGN(Chunk * chunk, load(id));
    LFS_TRY(redo_touch(*chunk));
    apply_change(*chunk, record, images, true);
    return ok_status();
}

// First time that redo meets a chunk: what home space does the index give it?
Status Disk::redo_touch(Chunk& chunk) {
    if (!redo_touched_.insert({chunk.trash, chunk.meta.chunk}).second) return ok_status();
    LFS_TRY(ensure_pages(chunk, 0, kChunkBlocks));
    for (const auto& page : chunk.pages) {
        if (!page) continue;
        for (uint32_t unit : page->units()) {
            if (unit != kNoUnit) redo_before_.push_back(unit);
        }
    }
    return ok_status();
}

// After redo: units without a block are given back, and the map of home space is made to fit.
Status Disk::settle_units() {
    for (uint32_t unit : redo_before_) home_.mark_free(unit);
    for (const Key& key : redo_touched_) {
        Chunk* chunk = find_hot(key);
        LFS_ASSERT(chunk != nullptr);
        for (uint32_t unit = 0; unit < chunk->end_block() / kUnitBlocks + 1; ++unit) {
            if (unit >= kChunkBlocks / kUnitBlocks) break;
            const uint32_t home_unit = chunk->unit_of(unit);
            bool empty = true;
            for (uint32_t block = 0; block < kUnitBlocks && empty; ++block) {
                empty = chunk->is_hole(unit * kUnitBlocks + block);
            }
            if (empty) {
                if (home_unit != kNoUnit) chunk->set_unit(unit, kNoUnit);
                continue;
            }
            if (home_unit == kNoUnit) {
                return Status(Errc::corrupt,
                              fmt::format("chunk {}: unit {} has no home", key.second.value, unit));
            }
            if (home_.used(home_unit)) {
                return Status(Errc::corrupt, fmt::format("home unit {} has two owners", home_unit));
            }
            LFS_TRY(home_.mark_used(home_unit));
        }
    }
    redo_before_.clear();
    redo_touched_.clear();
    return ok_status();
}

}  // namespace lumeofs::store
