// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/home.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "common/base/assert.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t kFillPiece = 1 << 20;
constexpr uint64_t kFillAtOnce = 8 << 20;  // when a small direct write finds no written space

bool bit(const std::vector<uint64_t>& map, uint32_t at) {
    return (map[at / 64] >> (at % 64) & 1) != 0;
}

std::string file_path(const std::string& dir, size_t index) {
    return fmt::format("{}/home/{:06}", dir, index);
}

}  // namespace

Home::Home(FileSystem& fs, HomeOptions options)
    : fs_(fs),
      options_(std::move(options)),
      units_per_file_(static_cast<uint32_t>(options_.file_size / kUnitBytes)) {
    LFS_ASSERT(units_per_file_ > 0 && units_per_file_ % 64 == 0);
}

Status Home::open() {
    for (size_t index = 0;; ++index) {
        const std::string path = file_path(options_.dir, index);
        LFS_ASSIGN(bool there, fs_.exists(path));
        if (!there) break;
        FileState state;
        LFS_ASSIGN(state.file, fs_.open(path, {.direct = true}));
        LFS_ASSIGN(uint64_t size, state.file->size());
        state.units = static_cast<uint32_t>(std::min<uint64_t>(size / kUnitBytes, units_per_file_));
        total_units_ += state.units;
        files_.push_back(std::move(state));
    }
    resize_maps();
    return ok_status();
}

void Home::resize_maps() {
    used_.resize(files_.size() * units_per_file_ / 64, 0);
    written_.resize(used_.size(), 0);
}

bool Home::exists(uint32_t unit) const {
    const size_t index = unit / units_per_file_;
    return index < files_.size() && unit % units_per_file_ < files_[index].units;
}

bool Home::used(uint32_t unit) const { return exists(unit) && bit(used_, unit); }
bool Home::written(uint32_t unit) const { return bit(written_, unit); }

void Home::set_used(uint32_t unit, bool used) {
    LFS_ASSERT(exists(unit) && bit(used_, unit) != used);
    used_[unit / 64] ^= uint64_t{1} << (unit % 64);
    dirty_pages_.insert(unit / kUnitsPerAllocPage);
    used_units_ += used ? 1 : uint64_t(-1);
    if (written(unit)) free_written_ += used ? uint64_t(-1) : 1;
}

void Home::set_written(uint32_t unit) {
    if (written(unit)) return;
    written_[unit / 64] |= uint64_t{1} << (unit % 64);
    dirty_pages_.insert(unit / kUnitsPerAllocPage);
    if (!bit(used_, unit)) ++free_written_;
}

Status Home::grow_file(size_t index, uint32_t units) {
    FileState& state = files_[index];
    LFS_TRY(state.file->allocate(uint64_t{state.units} * kUnitBytes, uint64_t{units} * kUnitBytes));
    LFS_TRY(state.file->sync());
    ++syncs_;
    state.units += units;
    total_units_ += units;
    return ok_status();
}

// False: the disk has no room for it.
Result<bool> Home::grow(uint32_t units_wanted) {
    LFS_ASSIGN(DiskSpace space, fs_.space(options_.dir));
    const uint64_t keep = options_.keep_free();
    const uint64_t room = space.free_bytes > keep ? (space.free_bytes - keep) / kUnitBytes : 0;
    if (room == 0) return false;
    if (files_.empty() || files_.back().units >= units_per_file_) {
        FileState state;
        LFS_ASSIGN(
            state.file,
            fs_.open(file_path(options_.dir, files_.size()), {.create = true, .direct = true}));
        LFS_TRY(state.file->sync());
        LFS_TRY(fs_.sync_dir(options_.dir + "/home"));
        files_.push_back(std::move(state));
        resize_maps();
    }
    const uint64_t step = std::max<uint64_t>(options_.step / kUnitBytes, units_wanted);
    const uint64_t units = std::min({step, room, uint64_t{units_per_file_} - files_.back().units});
    Status grown = grow_file(files_.size() - 1, static_cast<uint32_t>(units));
    if (grown.code() == Errc::nospc) return false;
    LFS_TRY(grown);
    return true;
}

// Takes free units from `from` on, around the end once, until `count` are there.
void Home::collect(std::vector<uint32_t>& out, uint32_t count, uint32_t from, bool written_only) {
    const auto words = static_cast<uint32_t>(used_.size());
    if (words == 0) return;
    if (from / 64 >= words) from = 0;
    uint32_t word = from / 64;
    uint64_t mask = ~uint64_t{0} << (from % 64);
    for (uint32_t seen = 0; seen <= words && out.size() < count; ++seen) {
        uint64_t free = ~used_[word] & mask;
        if (written_only) free &= written_[word];
        while (free != 0 && out.size() < count) {
            const uint32_t unit = word * 64 + static_cast<uint32_t>(std::countr_zero(free));
            free &= free - 1;
            if (!exists(unit)) continue;
            set_used(unit, true);
            out.push_back(unit);
        }
        mask = ~uint64_t{0};
        word = word + 1 == words ? 0 : word + 1;
    }
}

Result<std::vector<uint32_t>> Home::allocate(uint32_t count, uint32_t hint, bool direct) {
    while (free_units() < count) {
        LFS_ASSIGN(bool grown, grow(count));
        if (!grown) return Status(Errc::nospc, options_.dir + ": no home space left");
    }
    std::vector<uint32_t> units;
    units.reserve(count);
    uint32_t& cursor = direct ? cursor_ : image_cursor_;
    const uint32_t from = hint != kNoUnit ? hint + 1 : cursor;
    if (direct && options_.fill_ahead > 0 && free_written_ < count &&
        uint64_t{count} * kUnitBytes <= kFillPiece / 2) {
        for (uint64_t filled = 0; filled < kFillAtOnce;) {
            LFS_ASSIGN(uint32_t more, fill_piece());
            if (more == 0) break;
            filled += uint64_t{more} * kUnitBytes;
        }
        LFS_TRY(sync_uncovered());
    }
    if (direct && free_written_ >= count) collect(units, count, from, true);
    collect(units, count, from, false);
    LFS_ASSERT(units.size() == count);
    cursor = units.back() + 1;
    return units;
}

void Home::give_back(uint32_t unit) { set_used(unit, false); }

void Home::free_to_limbo(uint32_t unit) {
    LFS_ASSERT(used(unit));
    limbo_.push_back(unit);
    dirty_pages_.insert(unit / kUnitsPerAllocPage);
}

void Home::release_limbo(const std::function<bool(uint32_t)>& keep) {
    std::vector<uint32_t> kept;
    for (uint32_t unit : limbo_) {
        if (keep(unit)) {
            kept.push_back(unit);
        } else {
            set_used(unit, false);
        }
    }
    limbo_ = std::move(kept);
}

Status Home::mark_used(uint32_t unit) {
    if (!exists(unit))
        return Status(Errc::corrupt, fmt::format("{}: no home unit {}", options_.dir, unit));
    if (!bit(used_, unit)) set_used(unit, true);
    return ok_status();
}

void Home::mark_free(uint32_t unit) {
    if (used(unit)) set_used(unit, false);
}

uint64_t Home::contiguous(uint64_t home_block) const {
    const uint64_t per_file = uint64_t{units_per_file_} * kUnitBlocks;
    return per_file - home_block % per_file;
}

Status Home::write(uint64_t home_block, const std::vector<View>& parts) {
    uint64_t bytes = 0;
    for (View part : parts) bytes += part.size();
    const auto first_unit = static_cast<uint32_t>(home_block / kUnitBlocks);
    const auto last_unit = static_cast<uint32_t>((home_block + bytes / kBlock - 1) / kUnitBlocks);
    LFS_ASSERT(exists(first_unit) && exists(last_unit) && bytes / kBlock <= contiguous(home_block));
    FileState& state = files_[first_unit / units_per_file_];
    const uint64_t offset = home_block % (uint64_t{units_per_file_} * kUnitBlocks) * kBlock;
    LFS_TRY(state.file->write_vector_at(offset, parts));
    state.dirty = true;
    bool covered = state.file->durable_with_any_sync();
    for (uint32_t unit = first_unit; unit <= last_unit; ++unit) {
        if (written(unit)) continue;
        covered = false;
        const uint64_t start = uint64_t{unit} * kUnitBlocks;
        if (start >= home_block && start + kUnitBlocks <= home_block + bytes / kBlock) {
            state.became_written.push_back(unit);
        }
    }
    state.uncovered = state.uncovered || !covered;
    return ok_status();
}

Status Home::read(uint64_t home_block, MutableView into) {
    const auto unit = static_cast<uint32_t>(home_block / kUnitBlocks);
    if (!exists(unit)) return Status(Errc::corrupt, "home block behind the end of home space");
    FileState& state = files_[unit / units_per_file_];
    const uint64_t offset = home_block % (uint64_t{units_per_file_} * kUnitBlocks) * kBlock;
    LFS_ASSIGN(size_t got, state.file->read_at(offset, into));
    // A file cut short by somebody reads as zeros: the checksums will tell.
    if (got < into.size()) std::memset(into.data() + got, 0, into.size() - got);
    return ok_status();
}

Status Home::sync_file(FileState& state) {
    LFS_TRY(state.file->sync());
    ++syncs_;
    state.dirty = false;
    state.uncovered = false;
    for (uint32_t unit : state.became_written) set_written(unit);
    state.became_written.clear();
    return ok_status();
}

Status Home::sync_uncovered() {
    for (FileState& state : files_) {
        if (state.uncovered) LFS_TRY(sync_file(state));
    }
    return ok_status();
}

Status Home::sync_all() {
    for (FileState& state : files_) {
        if (state.dirty) LFS_TRY(sync_file(state));
    }
    return ok_status();
}

Status Home::sync_files() {
    for (FileState& state : files_) LFS_TRY(sync_file(state));
    return ok_status();
}

Result<bool> Home::fill_step() {
    if (free_written_ * kUnitBytes >= options_.fill_ahead) return false;
    if (free_units() * kUnitBytes < options_.fill_ahead) {
        LFS_ASSIGN(bool grown, grow(1));
        if (!grown && free_units() <= free_written_) return false;
    }
    LFS_ASSIGN(uint32_t filled, fill_piece());
    if (filled == 0) return false;
    LFS_TRY(sync_uncovered());
    return true;
}

// Writes zeros into the next free units that were never written, at most kFillPiece; not yet
// synced. Returns how many, 0 if there are none.
Result<uint32_t> Home::fill_piece() {
    const auto words = static_cast<uint32_t>(used_.size());
    uint32_t unit = kNoUnit;
    for (uint32_t seen = 0; seen < words && unit == kNoUnit; ++seen) {
        const uint32_t word = (fill_cursor_ / 64 + seen) % words;
        uint64_t wanted = ~used_[word] & ~written_[word];
        if (seen == 0) wanted &= ~uint64_t{0} << (fill_cursor_ % 64);
        if (wanted == 0) continue;
        const uint32_t found = word * 64 + static_cast<uint32_t>(std::countr_zero(wanted));
        if (exists(found)) unit = found;
    }
    if (unit == kNoUnit) {
        fill_cursor_ = 0;
        return uint32_t{0};
    }
    uint32_t count = 0;
    while (count < kFillPiece / kUnitBytes && exists(unit + count) &&
           (unit + count) / units_per_file_ == unit / units_per_file_ &&
           !bit(used_, unit + count) && !written(unit + count)) {
        ++count;
    }
    if (zeros_.empty()) {
        zeros_ = Buffer::allocate(kFillPiece);
        std::memset(zeros_.mutable_data(), 0, kFillPiece);
    }
    LFS_TRY(
        write(uint64_t{unit} * kUnitBlocks, {zeros_.view().first(uint64_t{count} * kUnitBytes)}));
    fill_cursor_ = unit + count;
    return count;
}

uint32_t Home::alloc_pages() const {
    const uint64_t units = files_.size() * uint64_t{units_per_file_};
    return static_cast<uint32_t>((units + kUnitsPerAllocPage - 1) / kUnitsPerAllocPage);
}

bool Home::take_page_dirty(uint32_t page) { return dirty_pages_.erase(page) != 0; }

Bytes Home::encode_page(uint32_t page) const {
    constexpr size_t kWords = kUnitsPerAllocPage / 64;
    std::vector<uint64_t> words(2 * kWords, 0);
    for (size_t i = 0; i < kWords && page * kWords + i < used_.size(); ++i) {
        words[i] = used_[page * kWords + i];
        words[kWords + i] = written_[page * kWords + i];
    }
    for (uint32_t unit : limbo_) {
        if (unit / kUnitsPerAllocPage != page) continue;
        const uint32_t at = unit % kUnitsPerAllocPage;
        words[at / 64] &= ~(uint64_t{1} << (at % 64));
    }
    const auto* data = reinterpret_cast<const uint8_t*>(words.data());
    return Bytes(data, data + words.size() * 8);
}

Status Home::decode_page(uint32_t page, View bytes) {
    constexpr size_t kWords = kUnitsPerAllocPage / 64;
    if (bytes.size() != 2 * kWords * 8) return Status(Errc::corrupt, "allocation page: size");
    for (uint32_t at = 0; at < kUnitsPerAllocPage; ++at) {
        const uint32_t unit = page * kUnitsPerAllocPage + at;
        const auto used_word = get_le<uint64_t>(bytes.data() + at / 64 * 8);
        const auto written_word = get_le<uint64_t>(bytes.data() + (kWords + at / 64) * 8);
        const bool is_used = (used_word >> (at % 64) & 1) != 0;
        const bool is_written = (written_word >> (at % 64) & 1) != 0;
        if (!exists(unit)) {
            if (is_used) return Status(Errc::corrupt, "home space in use is missing");
            continue;
        }
        if (is_written) set_written(unit);
        if (is_used != bit(used_, unit)) set_used(unit, is_used);
    }
    take_page_dirty(page);
    return ok_status();
}

}  // namespace lumeofs::store
