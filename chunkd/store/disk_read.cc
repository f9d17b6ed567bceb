// SPDX-License-Identifier: Apache-2.0
// Reads: nothing leaves that did not verify on this read (I11).
#include <fmt/format.h>

#include <algorithm>

#include "chunkd/store/disk.h"
#include "common/base/assert.h"
#include "common/base/checksum.h"

namespace lumeofs::store {
namespace {

uint64_t zero_block_sum() {
    static const uint64_t sum = [] {
        const Bytes zeros(kBlock, 0);
        return checksum(zeros);
    }();
    return sum;
}

Status bad_blocks_error(ChunkId chunk, const std::vector<uint32_t>& bad) {
    std::string text = fmt::format("chunk {}: blocks that do not verify:", chunk.value);
    for (size_t i = 0; i < bad.size() && i < 16; ++i) text += fmt::format(" {}", bad[i]);
    if (bad.size() > 16) text += fmt::format(" and {} more", bad.size() - 16);
    return Status(Errc::corrupt, text);
}

Status check_range(uint64_t offset, uint64_t length, uint64_t length_max) {
    if (length > length_max || offset > kChunkSize || length > kChunkSize - offset) {
        return Status(Errc::inval, "range outside the chunk");
    }
    return ok_status();
}

}  // namespace

Status Disk::load_image(const Version& version, MutableView out) {
    if (!version.image.empty()) {
        std::memcpy(out.data(), version.image.data(), kBlock);
        return ok_status();
    }
    if (reinterpret_cast<uintptr_t>(out.data()) % Buffer::kAlignment == 0) {
        return wal_.read_image(version.place, out);
    }
    Buffer block = Buffer::allocate(kBlock);
    LFS_TRY(wal_.read_image(version.place, block.mutable_view()));
    std::memcpy(out.data(), block.data(), kBlock);
    return ok_status();
}

// False: not in the cache, or not what was stored (then the disk is asked).
bool Disk::take_cached(const Chunk& chunk,
                       uint32_t block,
                       const Version& version,
                       MutableView out) {
    if (scrubbing_) return false;
    const uint8_t* cached = cache_.find(version.home_block);
    if (!cached) return false;
    if (stored_sum(checksum({cached, kBlock}), chunk.meta.chunk, block) != version.sum) {
        cache_.erase(version.home_block, 1);
        return false;
    }
    std::memcpy(out.data(), cached, kBlock);
    return true;
}

Status Disk::write_home(uint64_t home_block, const Buffer& data) {
    cache_.erase(home_block, data.size() / kBlock);
    return home_.write(home_block, {data.view()});
}

// `out` is aligned, count * kBlock bytes. Pages of the range must be loaded. The numbers of blocks
// that do not verify are added to *bad (may be null); their bytes in `out` are zeroed.
Status Disk::read_blocks(Chunk& chunk,
                         uint32_t first,
                         uint32_t count,
                         ReadView view,
                         MutableView out,
                         std::vector<uint64_t>* plain,
                         std::vector<bool>* hole,
                         std::vector<uint32_t>* bad) {
    std::vector<Version> versions;
    versions.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
        versions.push_back(view == ReadView::newest ? chunk.newest(first + i)
                                                    : chunk.committed(first + i));
        if (versions.back().kind == Version::Kind::lost && view == ReadView::committed) {
            return Status(Errc::busy, "the committed state is not at hand");
        }
    }
    std::vector<uint32_t> bad_here;
    for (uint32_t i = 0; i < count;) {
        const Version& version = versions[i];
        uint32_t end = i + 1;
        Status status;
        const MutableView here = out.subspan(uint64_t{i} * kBlock, kBlock);
        if (version.kind == Version::Kind::home && take_cached(chunk, first + i, version, here)) {
            ++i;
            continue;
        }
        if (version.kind == Version::Kind::home) {
            while (end < count && versions[end].kind == Version::Kind::home &&
                   (scrubbing_ || !cache_.find(versions[end].home_block)) &&
                   versions[end].home_block == version.home_block + (end - i) &&
                   end - i < home_.contiguous(version.home_block)) {
                ++end;
            }
            status = home_.read(version.home_block,
                                out.subspan(uint64_t{i} * kBlock, uint64_t{end - i} * kBlock));
        } else if (version.kind == Version::Kind::image) {
            status = load_image(version, here);
        } else {
            std::memset(here.data(), 0, kBlock);
        }
        if (!status.is_ok() && status.code() != Errc::corrupt) return failed(status);
        i = end;
    }
    for (uint32_t i = 0; i < count; ++i) {
        const bool is_hole = versions[i].kind == Version::Kind::hole;
        const MutableView block = out.subspan(uint64_t{i} * kBlock, kBlock);
        const uint64_t sum = is_hole ? zero_block_sum() : checksum(block);
        if (plain) plain->push_back(sum);
        if (hole) hole->push_back(is_hole);
        if (is_hole) continue;
        const bool lost = versions[i].kind == Version::Kind::lost;
        if (lost || stored_sum(sum, chunk.meta.chunk, first + i) != versions[i].sum) {
            bad_here.push_back(first + i);
            std::memset(block.data(), 0, kBlock);
            note_bad(chunk.meta.chunk, first + i);
        }
    }
    if (bad_here.empty()) return ok_status();
    if (bad) bad->insert(bad->end(), bad_here.begin(), bad_here.end());
    return bad_blocks_error(chunk.meta.chunk, bad_here);
}

Result<BlockData> Disk::read(
    ChunkId id, uint64_t offset, uint64_t length, ReadView view, std::vector<uint32_t>* bad) {
    LFS_TRY(check_range(offset, length, kMaxIoBytes));
    LFS_ASSIGN(Chunk * chunk, load(id));
    BlockData out;
    const auto first = static_cast<uint32_t>(offset / kBlock);
    const auto end = static_cast<uint32_t>((offset + length + kBlock - 1) / kBlock);
    out.first_block = first;
    if (length == 0) return out;
    Status pages = ensure_pages(*chunk, first, end);
    if (!pages.is_ok()) {
        if (pages.code() == Errc::corrupt && bad) {
            for (uint32_t block = first; block < end; ++block) bad->push_back(block);
        }
        return pages;
    }
    out.data = Buffer::allocate(uint64_t{end - first} * kBlock);
    LFS_TRY(read_blocks(
        *chunk, first, end - first, view, out.data.mutable_view(), &out.plain, &out.hole, bad));
    ++stats_.reads;
    stats_.read_bytes += out.data.size();
    return out;
}

Result<std::vector<uint64_t>> Disk::block_checksums(ChunkId id, uint32_t first, uint32_t count) {
    if (first > kChunkBlocks || count > kChunkBlocks - first)
        return Status(Errc::inval, "block range");
    LFS_ASSIGN(Chunk * chunk, load(id));
    LFS_TRY(ensure_pages(*chunk, first, first + count));
    std::vector<uint64_t> sums;
    sums.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
        auto it = chunk->overlay.find(first + i);
        sums.push_back(it != chunk->overlay.end() ? it->second.sum : chunk->home_sum(first + i));
    }
    return sums;
}

Result<Buffer> Disk::read_block_raw(ChunkId id, uint32_t block) {
    if (block >= kChunkBlocks) return Status(Errc::inval, "block number");
    LFS_ASSIGN(Chunk * chunk, load(id));
    LFS_TRY(ensure_pages(*chunk, block, block + 1));
    Buffer out = Buffer::allocate(kBlock);
    std::memset(out.mutable_data(), 0, kBlock);
    const Version version = chunk->newest(block);
    if (version.kind == Version::Kind::home)
        LFS_TRY(failed(home_.read(version.home_block, out.mutable_view())));
    if (version.kind == Version::Kind::image)
        LFS_TRY(failed(load_image(version, out.mutable_view())));
    return out;
}

Result<std::vector<Extent>> Disk::extents(ChunkId id, uint64_t offset, uint64_t length) {
    LFS_TRY(check_range(offset, length, kChunkSize));
    LFS_ASSIGN(Chunk * chunk, load(id));
    const auto first = static_cast<uint32_t>(offset / kBlock);
    const auto end = std::min(static_cast<uint32_t>((offset + length + kBlock - 1) / kBlock),
                              chunk->end_block());
    LFS_TRY(ensure_pages(*chunk, first, end));
    std::vector<Extent> out;
    for (uint32_t block = first; block < end; ++block) {
        if (chunk->is_hole(block)) continue;
        const uint64_t at = uint64_t{block} * kBlock;
        if (!out.empty() && out.back().offset + out.back().length == at) {
            out.back().length += kBlock;
        } else {
            out.push_back({at, kBlock});
        }
    }
    return out;
}

// Verifies up to `max` blocks of one chunk from scrub_block_ on; sets it to 0 when it is through.
Status Disk::scrub_chunk(Chunk& chunk,
                         uint32_t max,
                         uint32_t* looked_at,
                         std::vector<BadBlock>& out) {
    constexpr uint32_t kPiece = 256;
    Buffer piece = Buffer::allocate(uint64_t{kPiece} * kBlock);
    const uint32_t end = chunk.end_block();
    while (scrub_block_ < end && *looked_at < max) {
        const uint32_t count = std::min({kPiece, end - scrub_block_, max - *looked_at});
        std::vector<uint32_t> bad;
        Status status = ensure_pages(chunk, scrub_block_, scrub_block_ + count);
        if (status.is_ok()) {
            status = read_blocks(chunk,
                                 scrub_block_,
                                 count,
                                 ReadView::newest,
                                 piece.mutable_view().first(uint64_t{count} * kBlock),
                                 nullptr,
                                 nullptr,
                                 &bad);
        } else if (status.code() == Errc::corrupt) {
            for (uint32_t i = 0; i < count; ++i) bad.push_back(scrub_block_ + i);
        }
        if (!status.is_ok() && status.code() != Errc::corrupt) return status;
        for (uint32_t block : bad) out.push_back({chunk.meta.chunk, block, number_});
        scrub_block_ += count;
        *looked_at += count;
        stats_.scrubbed_blocks += count;
    }
    if (scrub_block_ >= end) scrub_block_ = 0;
    return ok_status();
}

std::vector<BadBlock> Disk::scrub(uint32_t max_blocks, uint32_t* looked_at, bool* round_done) {
    std::vector<BadBlock> out;
    *round_done = false;
    scrubbing_ = true;
    while (*looked_at < max_blocks && state_ == DiskState::ok) {
        auto it = scrub_block_ > 0 ? chunks_.lower_bound(scrub_at_.second)
                                   : chunks_.upper_bound(scrub_at_.second);
        if (it == chunks_.end()) {
            scrub_at_ = {0, ChunkId{0}};
            scrub_block_ = 0;
            *round_done = true;
            break;
        }
        if (it->first != scrub_at_.second) scrub_block_ = 0;
        scrub_at_ = {0, it->first};
        auto chunk = load(it->first);
        // Metadata that does not verify: the whole chunk is bad; its block 0 stands for it.
        if (chunk.code() == Errc::corrupt) out.push_back({it->first, 0, number_});
        if (!chunk.is_ok()) {
            ++*looked_at;
            continue;
        }
        if (!scrub_chunk(**chunk, max_blocks, looked_at, out).is_ok()) break;
        ++*looked_at;  // an empty chunk counts too, or the call might look at all of them
    }
    scrubbing_ = false;
    return out;
}

}  // namespace lumeofs::store
