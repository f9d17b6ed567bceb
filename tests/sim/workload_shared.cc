// SPDX-License-Identifier: Apache-2.0
// What the actors of all clients do with the same files: pages, sizes, the lock file, modes.
#include <fmt/format.h>

#include "common/base/log.h"
#include "tests/sim/workload.h"

namespace lumeofs::sim {

namespace {

constexpr uint32_t kReadWrite = 2;

}  // namespace

// --- shared files -------------------------------------------------------------------------------------

void Actor::open_shared(int file, uint32_t flags, std::function<void(client::HandleId)> then) {
    if (kept_epoch_ != epoch()) {  // handles from before answer EIO
        for (const auto& [number, handle] : std::exchange(kept_, {})) {
            vfs().release(handle, [](const Status&) {});
        }
        kept_epoch_ = epoch();
    }
    if (auto kept = kept_.find(file); kept != kept_.end()) {
        const client::HandleId handle = kept->second;
        kept_.erase(kept);
        return then(handle);
    }
    vfs().create({}, shared_.directory, "x" + std::to_string(file), 0644, flags,
                 want<client::Opened>([this, file, then](const client::Opened& open) {
                     shared_.inodes[file] = open.attr.ino;
                     then(open.handle);
                 }));
}

void Actor::close_shared(int file, client::HandleId handle, Step then) {
    if (finishing_ || kept_.contains(file) || kept_epoch_ != epoch() ||
        random_.below(100) >= shared_.keep_open) {
        return close(handle, std::move(then));
    }
    kept_[file] = handle;
    then();
}

void Actor::shared_truncate() {
    begin("shared truncate");
    const int file = static_cast<int>(random_.below(static_cast<uint64_t>(shared_.files)));
    const uint64_t size = random_.below(kSharedPages + 1);
    open_shared(file, kReadWrite, [=, this](client::HandleId handle) {
        client::SetAttrs attrs;
        attrs.size = size * History::kPage;
        const uint64_t id =
            shared_.history.begin_truncate(file, size, client_, cluster_.world.now());
        vfs().setattr({}, shared_.inodes[file], handle, attrs, want<client::Attr>([=, this](const client::Attr&) {
            shared_.history.truncated(id, cluster_.world.now());
            LFS_LOG(debug, "actor {} truncated x{} to {} pages (change {})", number_, file, size, id);
            close_shared(file, handle, [this] { done(); });
        }));
    });
}

void Actor::shared_write() {
    begin("shared write");
    const int file = static_cast<int>(random_.below(static_cast<uint64_t>(shared_.files)));
    const uint64_t page = random_.below(kSharedPages);
    const uint64_t count = random_.between(1, std::min<uint64_t>(8, kSharedPages - page));
    const bool sync = random_.chance(1, 3);
    open_shared(file, kReadWrite, [=, this](client::HandleId handle) {
        const uint64_t id = shared_.history.begin_write(file, page, count, client_, cluster_.world.now());
        Buffer data = Buffer::allocate(count * History::kPage);
        for (uint64_t i = 0; i < count; ++i) {
            History::fill(id, page + i, data.mutable_view().subspan(i * History::kPage, History::kPage));
        }
        vfs().write({}, handle, page * History::kPage, data, want<uint64_t>([=, this](uint64_t) {
            const uint64_t at = epoch();
            shared_.history.end_write(id, at, cluster_.world.now());
            LFS_LOG(debug,
                    "actor {} wrote value {} to pages [{}, {}) of x{}",
                    number_,
                    id,
                    page,
                    page + count,
                    file);
            auto end = [=, this] { close_shared(file, handle, [this] { done(); }); };
            if (!sync || at != op_epoch_) return end();
            const Nanos from = cluster_.world.now();
            vfs().fsync({}, handle, false, want_ok([=, this] {
                            LFS_LOG(debug, "actor {} synced x{}", number_, file);
                            if (epoch() == at) shared_.history.synced(file, client_, at, from);
                            end();
                        }));
        }));
    });
}

void Actor::shared_read(int file, uint64_t page, uint64_t count) {
    if (!finishing_) begin("shared read");
    open_shared(file, kReadWrite, [=, this](client::HandleId handle) {
        const Nanos from = cluster_.world.now();
        vfs().read({}, handle, page * History::kPage, count * History::kPage,
                   want<client::ReadData>([=, this](const client::ReadData& data) {
            Bytes bytes = flat(data);
            LFS_LOG(debug,
                    "actor {} read {} bytes from page {} of x{}",
                    number_,
                    bytes.size(),
                    page,
                    file);
            bytes.resize((bytes.size() + History::kPage - 1) / History::kPage * History::kPage);
            bytes.resize(count * History::kPage);
            shared_.history.read(file, page, View(bytes), from, cluster_.world.now());
            close_shared(file, handle, [=, this] {
                if (finishing_ && page == 0 && count == kSharedPages) return final_checks(file + 1);
                done();
            });
        }));
    });
}

void Actor::lock_step() {
    begin("lock file");
    const Nanos from = cluster_.world.now();
    if (holding_) {
        shared_.holds[hold_].let_go = from;
        return vfs().unlink({}, shared_.directory, "lock", want_ok([this] {
            if (epoch() == op_epoch_) check_kept();
            holding_ = false;
            done();
        }));
    }
    vfs().create({}, shared_.directory, "lock", 0644, kReadWrite | client::OpenMode::kExclusive,
                 want<client::Opened>([=, this](const client::Opened& open) {
        for (const Shared::Hold& hold : shared_.holds) {
            if (hold.got < from && hold.let_go > cluster_.world.now()) {
                return cluster_.fail(fmt::format("{}: got the lock file that actor {} holds", state(), hold.actor));
            }
        }
        if (epoch() == op_epoch_) {
            hold_ = shared_.holds.size();
            holding_ = true;
            shared_.holds.push_back({number_, cluster_.world.now(), INT64_MAX});
            lock_ = open.attr.ino;
        }
        close(open.handle, [this] { done(); });
    }, {Errc::exist}, [this] { see_lock(); }));
}

// The kernel of this client may go on finding the lock file for as long as the answer says.
void Actor::see_lock() {
    vfs().lookup({}, shared_.directory, "lock", want<client::Attr>([this](const client::Attr& attr) {
        const Nanos until = cluster_.world.now() + attr.name_time;
        if (attr.name_time > 0) shared_.kept.push_back({attr.ino, client_, epoch(), until});
        done();
    }, {Errc::noent}, [this] { done(); }));
}

// The lock file was removed: no kernel of another client may find it any more (I7).
void Actor::check_kept() {
    for (const Shared::Kept& kept : shared_.kept) {
        const bool counts = kept.ino == lock_ && kept.client != client_ &&
                            kept.epoch == cluster_.client(kept.client).epoch;
        if (counts && kept.until > cluster_.world.now()) {
            return cluster_.fail(fmt::format("{}: client {} may find the lock file for {} ms more", state(),
                                             kept.client, (kept.until - cluster_.world.now()) / kMillisecond));
        }
    }
    std::erase_if(shared_.kept, [&](const auto& kept) { return kept.until <= cluster_.world.now(); });
}

// --- modes -------------------------------------------------------------------------------------------

// A file of our own that gets its mode while it is written, once or more often, and maybe synced.
void Actor::set_modes(const std::string& name) {
    begin("modes");
    FilePtr file = names_[name];
    const int sets = static_cast<int>(aside_.between(1, 3));
    const bool empty = aside_.chance(1, 2);
    vfs().lookup({}, home_, name, want<client::Attr>([=, this](const client::Attr& attr) {
        if (empty) file->truncate(0);
        const uint32_t flags = kReadWrite | (empty ? client::OpenMode::kTruncate : 0);
        vfs().open({}, attr.ino, flags, want<client::Opened>([=, this](const client::Opened& open) {
            if (empty && epoch() == op_epoch_) file->truncated();
            set_mode(name, attr.ino, open.handle, sets);
        }));
    }));
}

void Actor::set_mode(const std::string& name, InodeId ino, client::HandleId handle, int left) {
    if (left == 0) return close(handle, [this] { done(); });
    client::SetAttrs attrs;
    attrs.mode = static_cast<uint32_t>(aside_.below(01000));
    const uint64_t id = shared_.modes.begin(ino, *attrs.mode, client_, cluster_.world.now());
    vfs().setattr({}, ino, handle, attrs, want<client::Attr>([=, this](const client::Attr& now) {
        if (epoch() == op_epoch_) shared_.modes.end(id, cluster_.world.now());
        if ((now.mode & 07777) != *attrs.mode) {
            return cluster_.fail(fmt::format("{}: {} has mode {:o} instead of {:o}", state(), name, now.mode & 07777, *attrs.mode));
        }
        if (!aside_.chance(1, 2)) return set_mode(name, ino, handle, left - 1);
        const Bytes bytes = random_bytes(aside_.between(1, 30'000));
        FilePtr file = names_[name];
        const uint64_t offset = aside_.below(file->size() + 1);
        file->write(offset, View(bytes));
        vfs().write({}, handle, offset, Buffer::copy_of(View(bytes)), want<uint64_t>([=, this](uint64_t) {
            if (aside_.chance(2, 3)) return set_mode(name, ino, handle, left - 1);
            vfs().fsync({}, handle, false, want_ok([=, this] {
                if (epoch() == op_epoch_) file->synced();
                set_mode(name, ino, handle, left - 1);
            }));
        }));
    }));
}

// A file of anybody, asked for by its inode: what was answered by now must be seen (I7).
void Actor::see_mode() {
    begin("see mode");
    const InodeId ino = shared_.modes.any(aside_);
    if (!ino) return done();
    const Nanos from = cluster_.world.now();
    vfs().getattr({}, ino, 0, want<client::Attr>([=, this](const client::Attr& attr) {
        if (epoch() == op_epoch_) {
            shared_.modes.seen(ino, attr.mode & 07777, from, cluster_.world.now(), state());
        }
        done();
    }, {Errc::noent, Errc::stale}, [this] { done(); }));
}

}  // namespace lumeofs::sim
