// SPDX-License-Identifier: Apache-2.0
#include "chunkd/store/index_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "chunkd/store/byte_codec.h"
#include "common/base/assert.h"
#include "common/base/checksum.h"

namespace lumeofs::store {
namespace {

constexpr uint64_t kFileBytes = 16u << 20;
constexpr uint64_t kSlackBytes = 8u << 20;  // below this nothing is cleaned

uint64_t record_sum(View header32, View body, uint64_t uuid) {
    const uint64_t body_sum = checksum_seeded(body, uuid);
    uint8_t material[40];
    std::memcpy(material, header32.data(), 32);
    put_le<uint64_t>(material + 32, body_sum);
    return checksum_seeded({material, sizeof material}, uuid);
}

}  // namespace

IndexLog::IndexLog(FileSystem& fs, std::string dir, uint64_t uuid_high, uint64_t uuid_low)
    : fs_(fs), dir_(std::move(dir)), uuid_high_(uuid_high), uuid_low_(uuid_low) {}

std::string IndexLog::path(uint32_t number) const { return fmt::format("{}/{:08}", dir_, number); }

Result<IndexLog::FileState*> IndexLog::state_of(uint32_t number) {
    FileState& state = files_[number];
    if (!state.file) {
        LFS_ASSIGN(state.file, fs_.open(path(number), {}));
        LFS_ASSIGN(state.size, state.file->size());
    }
    return &state;
}

// False: no whole record there.
Result<bool> IndexLog::parse(
    View bytes, uint64_t offset, uint32_t number, Record* record, uint64_t* checkpoint) {
    if (bytes.size() < kIndexHeaderBytes || get_le<uint32_t>(bytes.data()) != kIndexMagic)
        return false;
    const auto body = get_le<uint32_t>(bytes.data() + 4);
    if (body > kMaxIndexBody || body > bytes.size() - kIndexHeaderBytes) return false;
    const View body_view = bytes.subspan(kIndexHeaderBytes, body);
    if (record_sum(bytes.first(32), body_view, uuid_low_) != get_le<uint64_t>(bytes.data() + 32)) {
        return false;
    }
    const auto kind = get_le<uint16_t>(bytes.data() + 8);
    if (kind < 1 || kind > static_cast<uint16_t>(IndexKind::commit)) {
        return Status(Errc::corrupt,
                      fmt::format("{}: index record of unknown kind {}", dir_, kind));
    }
    record->kind = static_cast<IndexKind>(kind);
    record->key = get_le<uint64_t>(bytes.data() + 16);
    record->body = body_view;
    record->place = {number, static_cast<uint32_t>(offset), kIndexHeaderBytes + body};
    *checkpoint = get_le<uint64_t>(bytes.data() + 24);
    return true;
}

Status IndexLog::decode_commit(View body, IndexCommit* commit) {
    ByteReader in(body);
    commit->replay_from.number = in.get<uint64_t>();
    commit->replay_from.link = in.get<uint64_t>();
    commit->replay_from.place.slot = in.get<uint32_t>();
    commit->replay_from.place.offset = in.get<uint32_t>();
    commit->next_trash = in.get<uint64_t>();
    in.get<uint64_t>();
    const auto count = in.get<uint32_t>();
    in.get<uint32_t>();
    if (!in.fits(count, 16)) return Status(Errc::corrupt, dir_ + ": index commit is malformed");
    for (auto& [number, state] : files_) state.live = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const auto number = static_cast<uint32_t>(in.get<uint64_t>());
        const auto live = in.get<uint64_t>();
        if (auto it = files_.find(number); it != files_.end()) it->second.live = live;
    }
    return ok_status();
}

// True if a whole record of a group behind the next one follows: then what stopped the scan was not
// a torn end.
bool IndexLog::later_group(View bytes, uint64_t from, uint32_t number, uint64_t last_checkpoint) {
    for (uint64_t at = from; at + kIndexHeaderBytes <= bytes.size(); ++at) {
        if (get_le<uint32_t>(bytes.data() + at) != kIndexMagic) continue;
        Record record;
        uint64_t checkpoint = 0;
        auto whole = parse(bytes.subspan(at), at, number, &record, &checkpoint);
        if (whole.is_ok() && *whole && checkpoint > last_checkpoint + 1) return true;
    }
    return false;
}

// Visits the complete groups of one file. *complete: it holds at least one.
Status IndexLog::scan(uint32_t number, const Visit& visit, IndexCommit* commit, bool* complete) {
    LFS_ASSIGN(FileState * state, state_of(number));
    *complete = false;
    Bytes bytes(state->size);
    LFS_ASSIGN(size_t got, state->file->read_at(0, bytes));
    bytes.resize(got);
    uint64_t at = 0;
    uint64_t valid_end = 0;
    uint64_t last_checkpoint = 0;
    std::vector<Record> group;
    while (at < bytes.size()) {
        Record record;
        uint64_t checkpoint = 0;
        LFS_ASSIGN(bool whole, parse(View(bytes).subspan(at), at, number, &record, &checkpoint));
        if (!whole) break;
        if (*complete && checkpoint != last_checkpoint + 1) break;  // left over from a torn group
        if (!group.empty() && !*complete && checkpoint != last_checkpoint) break;
        if (!*complete) last_checkpoint = checkpoint;
        at += record.place.bytes;
        if (record.kind != IndexKind::commit) {
            group.push_back(record);
            continue;
        }
        if (!*complete && (group.empty() || group.front().kind != IndexKind::head)) break;
        for (const Record& item : group) LFS_TRY(visit(item));
        LFS_TRY(decode_commit(record.body, commit));
        group.clear();
        *complete = true;
        last_checkpoint = checkpoint;
        valid_end = at;
    }
    if (!*complete) return ok_status();
    checkpoint_ = last_checkpoint;
    if (valid_end < state->size) {
        if (later_group(bytes, valid_end, number, last_checkpoint)) {
            return Status(Errc::corrupt, path(number) + ": index is damaged");
        }
        // A torn group: cut it off, so that its remains are never taken for a later one.
        LFS_TRY(state->file->truncate(valid_end));
        LFS_TRY(state->file->sync());
        state->size = valid_end;
    }
    return ok_status();
}

Status IndexLog::open(const Visit& visit, IndexCommit* commit) {
    LFS_ASSIGN(auto names, fs_.list(dir_));
    std::vector<uint32_t> numbers;
    for (const std::string& name : names) {
        if (name.size() == 8 && name.find_first_not_of("0123456789") == std::string::npos) {
            numbers.push_back(static_cast<uint32_t>(std::stoul(name)));
        }
    }
    if (numbers.empty()) return Status(Errc::not_found, dir_ + ": no index");
    for (uint32_t number : numbers) LFS_TRY(state_of(number));
    for (size_t i = numbers.size(); i-- > 0;) {
        bool complete = false;
        LFS_TRY(scan(numbers[i], visit, commit, &complete));
        if (complete) {
            current_ = numbers[i];
            return ok_status();
        }
        // Its first group was never finished. Only the newest file can be in that state.
        if (i + 1 != numbers.size())
            return Status(Errc::corrupt, path(numbers[i]) + ": index is damaged");
        LFS_TRY(fs_.rename(path(numbers[i]), path(numbers[i]) + ".torn"));
        LFS_TRY(fs_.sync_dir(dir_));
        files_.erase(numbers[i]);
    }
    return Status(Errc::not_found, dir_ + ": no complete index");
}

bool IndexLog::wants_new_file(uint64_t directory_bytes) const {
    if (files_.empty()) return true;
    return files_.at(current_).size > std::max(kFileBytes, 4 * directory_bytes);
}

Status IndexLog::begin(bool new_file, uint64_t bytes) {
    if (new_file) {
        const uint32_t number = files_.empty() ? 1 : files_.rbegin()->first + 1;
        FileState state;
        LFS_ASSIGN(state.file, fs_.open(path(number), {.create = true, .truncate = true}));
        LFS_TRY(fs_.sync_dir(dir_));
        LFS_TRY(state.file->allocate(0, bytes));
        files_[number] = std::move(state);
        current_ = number;
    }
    FileState& current = files_[current_];
    if (!new_file) LFS_TRY(current.file->allocate(current.size, bytes));
    group_.clear();
    group_start_ = current.size;
    if (new_file) {
        ByteWriter body;
        body.put<uint32_t>(kIndexRevision);
        body.put<uint32_t>(0);
        body.put<uint64_t>(uuid_high_);
        body.put<uint64_t>(uuid_low_);
        append(IndexKind::head, 0, body.out());
    }
    return ok_status();
}

IndexPlace IndexLog::append(IndexKind kind, uint64_t key, View body) {
    LFS_ASSERT(body.size() <= kMaxIndexBody);
    uint8_t header[kIndexHeaderBytes] = {};
    put_le<uint32_t>(header, kIndexMagic);
    put_le<uint32_t>(header + 4, static_cast<uint32_t>(body.size()));
    put_le<uint16_t>(header + 8, static_cast<uint16_t>(kind));
    put_le<uint64_t>(header + 16, key);
    put_le<uint64_t>(header + 24, checkpoint_ + 1);
    put_le<uint64_t>(header + 32, record_sum({header, 32}, body, uuid_low_));
    const IndexPlace place{current_,
                           static_cast<uint32_t>(group_start_ + group_.size()),
                           static_cast<uint32_t>(kIndexHeaderBytes + body.size())};
    group_.insert(group_.end(), header, header + sizeof header);
    group_.insert(group_.end(), body.begin(), body.end());
    if (kind == IndexKind::meta || kind == IndexKind::page) files_[current_].live += place.bytes;
    return place;
}

void IndexLog::drop(const IndexPlace& place) {
    if (place.bytes == 0) return;
    auto it = files_.find(place.file);
    if (it == files_.end()) return;
    it->second.live -= std::min<uint64_t>(it->second.live, place.bytes);
}

Status IndexLog::commit(const IndexCommit& commit) {
    ByteWriter body;
    body.put<uint64_t>(commit.replay_from.number);
    body.put<uint64_t>(commit.replay_from.link);
    body.put<uint32_t>(commit.replay_from.place.slot);
    body.put<uint32_t>(commit.replay_from.place.offset);
    body.put<uint64_t>(commit.next_trash);
    body.put<uint64_t>(group_.size());
    body.put<uint32_t>(static_cast<uint32_t>(files_.size()));
    body.put<uint32_t>(0);
    for (const auto& [number, state] : files_) {
        body.put<uint64_t>(number);
        body.put<uint64_t>(state.live);
    }
    append(IndexKind::commit, 0, body.out());
    FileState& state = files_[current_];
    LFS_TRY(state.file->write_at(group_start_, group_));
    LFS_TRY(state.file->sync());
    state.size = group_start_ + group_.size();
    group_.clear();
    ++checkpoint_;
    return remove_empty_files();
}

Status IndexLog::remove_empty_files() {
    bool removed = false;
    for (auto it = files_.begin(); it != files_.end();) {
        if (it->first == current_ || it->second.live > 0) {
            ++it;
            continue;
        }
        LFS_TRY(fs_.remove(path(it->first)));
        removed = true;
        it = files_.erase(it);
    }
    return removed ? fs_.sync_dir(dir_) : ok_status();
}

Result<Bytes> IndexLog::read(const IndexPlace& place, IndexKind kind, uint64_t key) {
    if (files_.count(place.file) == 0) {
        return Status(Errc::corrupt, fmt::format("{}: index file {} is missing", dir_, place.file));
    }
    LFS_ASSIGN(FileState * state, state_of(place.file));
    Bytes bytes(place.bytes);
    LFS_ASSIGN(size_t got, state->file->read_at(place.offset, bytes));
    Record record;
    uint64_t checkpoint = 0;
    bool whole = false;
    if (got == bytes.size()) {
        LFS_ASSIGN(whole, parse(bytes, place.offset, place.file, &record, &checkpoint));
    }
    if (!whole || record.kind != kind || record.key != key || record.place.bytes != place.bytes) {
        return Status(Errc::corrupt,
                      fmt::format("{}: index record at {} of file {} does not verify",
                                  dir_,
                                  place.offset,
                                  place.file));
    }
    return Bytes(record.body.begin(), record.body.end());
}

bool IndexLog::victim(uint32_t* file) const {
    uint64_t live = 0;
    for (const auto& [number, state] : files_) live += state.live;
    if (total_bytes() < 2 * live + kSlackBytes + kFileBytes) return false;
    double least = 1.0;
    bool found = false;
    for (const auto& [number, state] : files_) {
        if (number == current_ || state.size == 0) continue;
        const double share = static_cast<double>(state.live) / static_cast<double>(state.size);
        if (share < least) {
            least = share;
            *file = number;
            found = true;
        }
    }
    return found;
}

Status IndexLog::visit_file(uint32_t file, const Visit& visit) {
    LFS_ASSIGN(FileState * state, state_of(file));
    Bytes bytes(state->size);
    LFS_ASSIGN(size_t got, state->file->read_at(0, bytes));
    bytes.resize(got);
    uint64_t at = 0;
    while (at < bytes.size()) {
        Record record;
        uint64_t checkpoint = 0;
        LFS_ASSIGN(bool whole, parse(View(bytes).subspan(at), at, file, &record, &checkpoint));
        if (!whole) break;
        at += record.place.bytes;
        if (record.kind == IndexKind::meta || record.kind == IndexKind::page)
            LFS_TRY(visit(record));
    }
    return ok_status();
}

uint64_t IndexLog::total_bytes() const {
    uint64_t bytes = 0;
    for (const auto& [number, state] : files_) bytes += state.size;
    return bytes;
}

}  // namespace lumeofs::store
