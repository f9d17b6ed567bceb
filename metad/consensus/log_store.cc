// SPDX-License-Identifier: Apache-2.0
#include "metad/consensus/log_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "metad/consensus/log_recovery.h"

namespace lumeofs::consensus {
namespace {

constexpr const char* kSpare = "spare";
constexpr const char* kSpareInWork = "spare.new";
constexpr uint64_t kReadWindowBytes = 1u << 20;

}  // namespace

LogStore::LogStore(FileSystem& fs, LogStoreOptions options)
    : fs_(fs), options_(std::move(options)) {
    LFS_ASSERT(options_.segment_bytes % kLogAlignment == 0);
    LFS_ASSERT(options_.segment_bytes >= 4 * kLogAlignment);
}

LogStore::~LogStore() = default;

Result<std::unique_ptr<LogStore>> LogStore::create(FileSystem& fs,
                                                   const LogStoreOptions& options,
                                                   const raft::SnapshotDescriptor& floor) {
    LFS_ASSIGN(std::vector<std::string> names, fs.list(options.dir));
    for (const std::string& name : names) LFS_TRY(fs.remove(options.dir + "/" + name));
    std::unique_ptr<LogStore> store(new LogStore(fs, options));
    LFS_TRY(store->start_segment());
    LFS_TRY(store->put_floor(floor, true));
    LFS_TRY(store->sync());
    return store;
}

Result<std::unique_ptr<LogStore>> LogStore::open(FileSystem& fs,
                                                 const LogStoreOptions& options,
                                                 uint64_t synced_hint) {
    std::unique_ptr<LogStore> store(new LogStore(fs, options));
    LogRecovery recovery(*store);
    LFS_TRY(recovery.run(synced_hint));
    LFS_ASSIGN(store->spare_ready_, fs.exists(store->path(kSpare)));
    // What was read may not be durable yet: one sync before anybody relies on it, and a mark that
    // says so to the next start. (Earlier segments were synced before the last one was begun.)
    LFS_TRY(store->segments_.rbegin()->second.file->sync());
    store->synced_batch_ = store->last_batch_;
    LFS_TRY(store->begin_batch(0));
    LFS_TRY(store->end_batch(BatchHeader{}));
    LFS_TRY(store->sync());
    return store;
}

Status LogStore::poison(Status status) {
    if (!status.is_ok() && failure_.is_ok()) failure_ = status.with_context("Raft log");
    return status;
}

uint64_t LogStore::payload_bytes_max() const {
    return options_.segment_bytes - kLogAlignment - kBatchHeaderBytes - kRecordHeaderBytes;
}

// --- writing ------------------------------------------------------------------------------------

Status LogStore::write(const std::optional<LogIndex>& truncate_from,
                       const std::vector<raft::Entry>& entries) {
    if (!failure_.is_ok()) return Status(Errc::poisoned, failure_.text());
    if (truncate_from) {
        LFS_ASSERT(*truncate_from > floor_.index && *truncate_from <= last_ + 1);
        if (*truncate_from <= last_) {
            drop_from(*truncate_from);
            if (entries.empty()) {
                LFS_TRY(begin_batch(0));
                BatchHeader header;
                header.kind = BatchKind::truncate;
                header.first_index = *truncate_from;
                return end_batch(header);
            }
        }
    }
    return write_entries(entries);
}

Status LogStore::write_entries(const std::vector<raft::Entry>& entries) {
    const uint64_t room =
        std::min(kBatchBytesMax, options_.segment_bytes - kLogAlignment) - kBatchHeaderBytes;
    for (size_t begin = 0; begin < entries.size();) {
        uint64_t body_bytes = 0;
        size_t end = begin;
        while (end < entries.size()) {
            const uint64_t size = record_bytes(entries[end]);
            if (end > begin && body_bytes + size > room) break;
            body_bytes += size;
            ++end;
        }
        LFS_ASSERT(entries[begin].index == last_ + 1);
        LFS_ASSIGN(uint8_t * at, begin_batch(body_bytes));
        for (size_t i = begin; i < end; ++i) {
            LFS_ASSERT(entries[i].index == entries[begin].index + i - begin);
            at = encode_record(entries[i], at);
        }
        BatchHeader header;
        header.kind = BatchKind::entries;
        header.first_index = entries[begin].index;
        header.count = static_cast<uint32_t>(end - begin);
        header.body_bytes = static_cast<uint32_t>(body_bytes);
        LFS_TRY(end_batch(header));
        begin = end;
    }
    return Status();
}

// Finds room for a batch (in a new segment if need be) and returns where its body goes.
Result<uint8_t*> LogStore::begin_batch(uint64_t body_bytes) {
    if (!failure_.is_ok()) return Status(Errc::poisoned, failure_.text());
    const uint64_t bytes = log_aligned(kBatchHeaderBytes + body_bytes);
    if (kLogAlignment + bytes > options_.segment_bytes) {
        return poison(Status(Errc::toobig,
                             fmt::format("an entry of {} bytes does not fit into a segment of {}",
                                         body_bytes,
                                         options_.segment_bytes)));
    }
    if (write_offset_ + bytes > segments_.rbegin()->second.header.segment_bytes) {
        LFS_TRY(start_segment());
    }
    if (scratch_.size() < bytes) scratch_ = Buffer::allocate(std::max<uint64_t>(bytes, 1u << 16));
    return scratch_.mutable_data() + kBatchHeaderBytes;
}

// Seals the batch whose body stands in scratch_ and writes it.
Status LogStore::end_batch(BatchHeader header) {
    Segment& segment = segments_.rbegin()->second;
    header.number = last_batch_ + 1;
    header.link = last_link_;
    header.synced_upto = synced_batch_;
    uint8_t* batch = scratch_.mutable_data();
    const uint64_t used = kBatchHeaderBytes + header.body_bytes;
    const uint64_t bytes = header.disk_bytes();
    std::memset(batch + used, 0, bytes - used);
    seal_batch(&header, options_.log_id, segment.header.number, batch);
    LFS_TRY(poison(segment.file->write_at(write_offset_, {batch, bytes})));
    if (header.kind == BatchKind::entries) {
        refs_.push_back(
            {header.first_index, header.count, segment.header.number, write_offset_, bytes});
        live_bytes_ += bytes;
        last_ = refs_.back().last();
    }
    last_batch_ = header.number;
    last_link_ = header.checksum;
    write_offset_ += bytes;
    return Status();
}

Status LogStore::sync() {
    if (!failure_.is_ok()) return Status(Errc::poisoned, failure_.text());
    if (synced_batch_ == last_batch_) return Status();
    ++sync_count_;
    LFS_TRY(poison(segments_.rbegin()->second.file->sync()));
    synced_batch_ = last_batch_;
    return Status();
}

void LogStore::drop_from(LogIndex index) {
    while (!refs_.empty() && refs_.back().last() >= index) {
        BatchRef& ref = refs_.back();
        if (ref.first < index) {
            ref.count = index - ref.first;
            break;
        }
        live_bytes_ -= ref.bytes;
        refs_.pop_back();
    }
    last_ = index - 1;
}

// --- segments -----------------------------------------------------------------------------------

// Requires: nothing. From here on all earlier batches are synced, so that only the last segment can
// have a torn tail.
Status LogStore::start_segment() {
    if (!segments_.empty()) LFS_TRY(sync());
    Segment segment;
    segment.header.number = segments_.empty() ? 1 : segments_.rbegin()->first + 1;
    segment.header.first_batch = last_batch_ + 1;
    segment.header.link = last_link_;
    segment.header.segment_bytes = options_.segment_bytes;
    std::string name;
    Result<std::unique_ptr<File>> file = take_spare(&name);
    if (!file) return poison(file.status());
    segment.file = std::move(*file);
    Buffer block = Buffer::allocate(kLogAlignment);
    encode_segment_header(segment.header, options_.log_id, block.mutable_data());
    LFS_TRY(poison(segment.file->write_at(0, block.view())));
    LFS_TRY(poison(segment.file->sync()));
    segment.path = path(segment_name(segment.header.number));
    LFS_TRY(poison(fs_.rename(path(name), segment.path)));
    LFS_TRY(poison(fs_.sync_dir(options_.dir)));
    segments_.emplace(segment.header.number, std::move(segment));
    write_offset_ = kLogAlignment;
    spare_ready_ = false;
    spare_refused_ = false;
    return Status();
}

// A file of the size of a segment: the recycled or prepared one, else a fresh one.
Result<std::unique_ptr<File>> LogStore::take_spare(std::string* name) {
    if (spare_ready_) {
        LFS_ASSIGN(auto file, fs_.open(path(kSpare), {.direct = true}));
        LFS_ASSIGN(uint64_t size, file->size());
        if (size == options_.segment_bytes) {
            *name = kSpare;
            return file;
        }
    }
    spare_.reset();
    LFS_ASSIGN(auto file,
               fs_.open(path(kSpareInWork), {.create = true, .truncate = true, .direct = true}));
    LFS_TRY(file->allocate(0, options_.segment_bytes));
    *name = kSpareInWork;
    return file;
}

void LogStore::prepare_spare(uint64_t bytes) {
    if (spare_ready_ || spare_refused_ || !failure_.is_ok()) return;
    if (write_offset_ < options_.segment_bytes / 2) return;  // early enough when half full
    const auto step = [&]() -> Status {
        if (!spare_) {
            LFS_ASSIGN(
                spare_,
                fs_.open(path(kSpareInWork), {.create = true, .truncate = true, .direct = true}));
            spare_done_ = 0;
            return spare_->allocate(0, options_.segment_bytes);
        }
        const uint64_t size = std::min(log_aligned(bytes), options_.segment_bytes - spare_done_);
        Buffer zeros = Buffer::allocate(size);
        std::memset(zeros.mutable_data(), 0, size);
        LFS_TRY(spare_->write_at(spare_done_, zeros.view()));
        spare_done_ += size;
        if (spare_done_ < options_.segment_bytes) return Status();
        LFS_TRY(spare_->sync());
        spare_.reset();
        LFS_TRY(fs_.rename(path(kSpareInWork), path(kSpare)));
        spare_ready_ = true;
        return Status();
    };
    if (Status status = step(); !status.is_ok()) {
        LFS_LOG(warn, "no spare Raft log segment: {}", status.to_string());
        spare_.reset();
        spare_refused_ = true;
    }
}

Status LogStore::put_floor(const raft::SnapshotDescriptor& floor, bool reset) {
    const LogIndex last = reset ? floor.index : last_;
    const Bytes body = encode_floor({floor, last});
    LFS_ASSIGN(uint8_t * at, begin_batch(body.size()));
    std::memcpy(at, body.data(), body.size());
    BatchHeader header;
    header.kind = BatchKind::floor;
    header.reset = reset;
    header.first_index = floor.index + 1;
    header.count = 1;
    header.body_bytes = static_cast<uint32_t>(body.size());
    LFS_TRY(end_batch(header));
    if (reset) {
        refs_.clear();
        live_bytes_ = 0;
    }
    floor_ = floor;
    floor_.id = 0;
    last_ = last;
    drop_to_floor();
    return Status();
}

void LogStore::drop_to_floor() {
    while (!refs_.empty() && refs_.front().last() <= floor_.index) {
        live_bytes_ -= refs_.front().bytes;
        refs_.pop_front();
    }
}

Status LogStore::cut(const raft::SnapshotDescriptor& floor) {
    LFS_ASSERT(floor.index >= floor_.index && floor.index <= last_);
    LFS_TRY(put_floor(floor, false));
    LFS_TRY(sync());
    return recycle();
}

Status LogStore::reset(const raft::SnapshotDescriptor& floor) {
    LFS_TRY(put_floor(floor, true));
    LFS_TRY(sync());
    return recycle();
}

// Gives up the segments that hold nothing needed. Requires: the floor that says so is durable, and
// its batch stands in the last segment (put_floor has just written it there).
Status LogStore::recycle() {
    const uint64_t needed = refs_.empty() ? segments_.rbegin()->first : refs_.front().segment;
    bool changed = false;
    while (segments_.begin()->first < needed) {
        Segment& old = segments_.begin()->second;
        const bool keep = !spare_ready_ && old.header.segment_bytes == options_.segment_bytes;
        if (keep) {
            LFS_TRY(poison(fs_.rename(old.path, path(kSpare))));
            spare_ready_ = true;
        } else {
            LFS_TRY(poison(fs_.remove(old.path)));
        }
        segments_.erase(segments_.begin());
        changed = true;
    }
    // Before the spare gets another number: else a power cut could leave it under its old name.
    if (changed) LFS_TRY(poison(fs_.sync_dir(options_.dir)));
    return Status();
}

// --- reading ------------------------------------------------------------------------------------

LogIndex LogStore::index_before_tail(uint64_t bytes) const {
    uint64_t sum = 0;
    for (auto ref = refs_.rbegin(); ref != refs_.rend(); ++ref) {
        sum += ref->bytes;
        if (sum > bytes) return std::max(ref->last(), floor_.index);
    }
    return floor_.index;
}

// The batch and those that follow it in its segment without a gap, up to `bytes_max` in all: a
// start with a long log would else wait for the disk once per batch.
Result<LogStore::Window> LogStore::read_window(size_t at, uint64_t bytes_max) {
    const BatchRef& first = refs_[at];
    uint64_t bytes = first.bytes;
    for (size_t i = at + 1; i < refs_.size(); ++i) {
        const BatchRef& next = refs_[i];
        const bool follows = next.segment == first.segment && next.offset == first.offset + bytes;
        if (!follows || bytes + next.bytes > bytes_max) break;
        bytes += next.bytes;
    }
    Window window{first.segment, first.offset, Buffer::allocate(bytes)};
    File& file = *segments_.at(first.segment).file;
    LFS_ASSIGN(const size_t got, file.read_at(first.offset, window.bytes.mutable_view()));
    window.bytes = window.bytes.slice(0, got);
    return window;
}

Result<std::vector<raft::Entry>> LogStore::decode_batch(const BatchRef& ref, const Window& window) {
    const Segment& segment = segments_.at(ref.segment);
    const auto check = [&]() -> Result<std::vector<raft::Entry>> {
        if (!window.covers(ref)) return Status(Errc::corrupt, "segment is too short");
        const View block = window.bytes.view().subspan(ref.offset - window.offset, ref.bytes);
        LFS_ASSIGN(BatchHeader header,
                   decode_batch_header(block, options_.log_id, segment.header.number));
        if (header.kind != BatchKind::entries || header.first_index != ref.first ||
            header.disk_bytes() != ref.bytes) {
            return Status(Errc::corrupt, "another batch stands in its place");
        }
        const View body = block.subspan(kBatchHeaderBytes, header.body_bytes);
        LFS_TRY(check_batch_body(header, body));
        return decode_records(header, body);
    };
    Result<std::vector<raft::Entry>> entries = check();
    if (entries) return entries;
    return entries.status().with_context(fmt::format("{} at offset {}", segment.path, ref.offset));
}

Result<std::vector<raft::Entry>> LogStore::load_entries(LogIndex first,
                                                        LogIndex last,
                                                        uint64_t bytes_max) {
    LFS_ASSERT(first > floor_.index && first <= last && last <= last_);
    std::vector<raft::Entry> loaded;
    uint64_t cost = 0;
    auto ref =
        std::upper_bound(refs_.begin(), refs_.end(), first, [](LogIndex index, const BatchRef& r) {
            return index < r.first;
        });
    LFS_ASSERT(ref != refs_.begin());
    Window window;
    for (--ref; ref != refs_.end() && ref->first <= last; ++ref) {
        if (!window.covers(*ref)) {
            const uint64_t bytes = std::min(kReadWindowBytes, bytes_max);
            auto read = read_window(static_cast<size_t>(ref - refs_.begin()), bytes);
            if (!read) return poison(read.status());
            window = std::move(*read);
        }
        Result<std::vector<raft::Entry>> entries = decode_batch(*ref, window);
        if (!entries) return poison(entries.status());
        for (raft::Entry& entry : *entries) {
            if (entry.index < first) continue;
            if (entry.index > last || entry.index > ref->last()) break;
            cost += entry.cost_bytes();
            if (!loaded.empty() && cost > bytes_max) return loaded;
            loaded.push_back(std::move(entry));
        }
    }
    return loaded;
}

}  // namespace lumeofs::consensus
