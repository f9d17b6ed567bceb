// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "common/base/log.h"

namespace lumeofs::sim {

namespace {

constexpr Nanos kOldSessionGone = 60 * kSecond;
constexpr uint64_t kPrivateMax = uint64_t{3} << 20;
constexpr uint32_t kReadWrite = 2;
const char* const kNames[] = {"a", "b", "c", "d", "e"};

}  // namespace

Actor::Actor(Cluster& cluster, Shared& shared, size_t client, int number, uint64_t seed)
    : cluster_(cluster), shared_(shared), client_(client), number_(number), random_(seed), aside_(Prng(seed).fork("modes")) {}

std::string Actor::state() const {
    return fmt::format("actor {} of client {}: {} since {:.3f} s",
                       number_,
                       client_ + 1,
                       doing_,
                       static_cast<double>(cluster_.world.now() - began_) / 1e9);
}

uint64_t Actor::epoch() {
    Process& me = process();
    if (me.vfs) {
        const uint64_t lost = me.vfs->status().sessions_lost;
        if (lost != me.sessions_lost) {
            me.sessions_lost = lost;
            ++me.epoch;
            shared_.history.session_over(client_, cluster_.world.now());
            shared_.modes.session_over(client_);
        }
    }
    return me.epoch;
}

bool Actor::troubled(const Status& status, const std::vector<Errc>& allowed, const Step& instead) {
    if (epoch() != op_epoch_) {
        recovering_needed_ = true;
        if (holding_) shared_.holds[hold_].let_go = began_;
        holding_ = false;
        if (!status.is_ok()) {
            // Not at once: a session that is being lost may fail everything for a while.
            process().loop->after(kSecond, [this, alive = std::weak_ptr<char>(alive_)] {
                if (!alive.expired()) done();
            });
            return true;
        }
    }
    if (status.is_ok()) return false;
    if (std::find(allowed.begin(), allowed.end(), status.code()) != allowed.end()) {
        instead();
        return true;
    }
    cluster_.fail(fmt::format("{}: unexpected error: {}", state(), status.to_string()));
    return true;
}

std::function<void(Status)> Actor::want_ok(Step next, std::vector<Errc> allowed, Step instead) {
    return [this, alive = std::weak_ptr<char>(alive_), next = std::move(next),
            allowed = std::move(allowed), instead = std::move(instead)](const Status& status) {
        if (alive.expired()) return;
        process().loop->post([this, alive, next, allowed, instead, status] {
            if (alive.expired()) return;
            if (!troubled(status, allowed, instead)) next();
        });
    };
}

void Actor::client_started() {
    alive_ = std::make_shared<char>();
    op_epoch_ = epoch();
    began_ = cluster_.world.now();
    done();
}

void Actor::client_died() {
    alive_.reset();
    kept_.clear();
    shared_.history.session_over(client_, cluster_.world.now());
    shared_.modes.session_over(client_);
    doing_ = "nothing (client dead)";
    recovering_needed_ = true;
    private_from_ = cluster_.world.now() + kOldSessionGone;
    if (holding_) shared_.holds[hold_].let_go = began_;
    holding_ = false;
}

void Actor::finish() { finishing_ = true; }

void Actor::begin(const char* what) {
    doing_ = what;
    began_ = cluster_.world.now();
    op_epoch_ = epoch();
    ++operations_;
    cluster_.world.note(operations_);
    LFS_LOG(debug, "actor {} begins: {}", number_, what);
}

void Actor::done() {
    doing_ = "between operations";
    began_ = cluster_.world.now();
    if (!cluster_.violation().empty()) return;
    const Nanos pause = static_cast<Nanos>(
        random_.below(static_cast<uint64_t>(random_.chance(1, 20) ? 3 * kSecond : 30 * kMillisecond)));
    process().loop->after(pause, [this, alive = std::weak_ptr<char>(alive_)] {
        if (!alive.expired()) next();
    });
}

void Actor::setup() {
    begin("setup");
    if (shared_.directory) return setup_private();
    auto found = want<client::Attr>([this](const client::Attr& attr) {
        shared_.directory = attr.ino;
        setup_private();
    });
    auto look = [this, found] { vfs().lookup({}, kRootInode, "shared", found); };
    vfs().mkdir({}, kRootInode, "shared", 0755, want<client::Attr>(
        [this](const client::Attr& attr) {
            shared_.directory = attr.ino;
            setup_private();
        },
        {Errc::exist}, look));
}

void Actor::setup_private() {
    const std::string name = "actor" + std::to_string(number_);
    auto found = want<client::Attr>([this](const client::Attr& attr) {
        home_ = attr.ino;
        done();
    });
    auto look = [this, found, name] { vfs().lookup({}, kRootInode, name, found); };
    vfs().mkdir({}, kRootInode, name, 0755, want<client::Attr>(
        [this](const client::Attr& attr) {
            home_ = attr.ino;
            done();
        },
        {Errc::exist}, look));
}

void Actor::next() {
    if (!home_) return setup();
    const bool may_private = cluster_.world.now() >= private_from_;
    if (epoch() != op_epoch_) recovering_needed_ = true;
    if (recovering_needed_ && may_private) return recover();
    if (finishing_) {
        if (!may_private) {
            process().loop->after(kSecond, [this, alive = std::weak_ptr<char>(alive_)] {
                if (!alive.expired()) next();
            });
            return;
        }
        if (++last_steps_ > kLastSteps) return final_checks(0);
    }
    // What grows or is read after the trouble shows what it has left behind.
    if (!finishing_ && (!may_private || random_.below(100) < shared_.share)) {
        const uint64_t what = random_.below(100);
        if (what < 12) return lock_step();
        if (what < 12 + shared_.truncates) return shared_truncate();
        if (what < 55) return shared_write();
        const uint64_t page = random_.below(kSharedPages);
        return shared_read(static_cast<int>(random_.below(static_cast<uint64_t>(shared_.files))),
                           page,
                           random_.between(1, std::min<uint64_t>(16, kSharedPages - page)));
    }
    const uint64_t pick = random_.between(36, 99);
    const auto name = any_file();
    if (name && aside_.chance(1, 16)) return set_modes(*name);
    if (aside_.chance(1, 10)) return see_mode();
    if (pick < 42 || !name) return create_file();
    if (pick < 62) return write_file(*name);
    if (pick < 76) return read_file(*name);
    if (pick < 82) return truncate_file(*name);
    if (pick < 87) return rename_name(*name);
    if (pick < 90) return unlink_name(*name);
    if (pick < 95) return stat_name(*name);
    if (pick < 98) return list_names();
    make_or_remove_directory();
}

// --- private files ------------------------------------------------------------------------------

std::optional<std::string> Actor::any_file() {
    std::vector<std::string> files;
    for (const auto& [name, file] : names_) {
        if (file) files.push_back(name);
    }
    if (files.empty()) return std::nullopt;
    return files[random_.below(files.size())];
}

Bytes Actor::random_bytes(size_t size) {
    Bytes bytes(size);
    uint64_t word = random_.next();
    for (size_t i = 0; i < size; ++i) {
        if (i % 8 == 0) word = word * 0x9E3779B97F4A7C15ULL + 0x632BE59BD9B4E019ULL;
        bytes[i] = static_cast<uint8_t>((word >> (8 * (i % 8))) | 1);
    }
    return bytes;
}

Bytes Actor::flat(const client::ReadData& data) {
    Bytes bytes;
    bytes.reserve(data.size);
    for (const Buffer& part : data.parts) {
        bytes.insert(bytes.end(), part.data(), part.data() + part.size());
    }
    return bytes;
}

void Actor::close(client::HandleId handle, Step then) {
    auto release = [this, handle, then = std::move(then)] { vfs().release(handle, want_ok(then)); };
    if (random_.chance(4, 5)) return vfs().flush({}, handle, want_ok(release));
    release();
}

void Actor::create_file() {
    begin("create");
    const std::string name = kNames[random_.below(std::size(kNames))];
    const bool exists = names_.contains(name);
    auto file = std::make_shared<PrivateFile>();
    if (!exists) {
        doubt_ = names_;
        (*doubt_)[name] = file;
    }
    auto opened = [this, exists, name, file](const client::Opened& open) {
        if (exists) return cluster_.fail(state() + ": created " + name + " although it exists");
        doubt_.reset();
        names_[name] = file;
        close(open.handle, [this] { done(); });
    };
    auto there = [this, exists, name] {
        if (!exists) return cluster_.fail(state() + ": " + name + " exists although it was not made");
        done();
    };
    vfs().create({}, home_, name, 0644, kReadWrite | client::OpenMode::kExclusive,
                 want<client::Opened>(opened, {Errc::exist}, there));
}

void Actor::write_file(const std::string& name) {
    begin("write");
    FilePtr file = names_[name];
    const bool append = random_.chance(1, 4);
    const uint64_t offset = append ? file->size()
                                   : random_.below(std::min(kPrivateMax, file->size() + 20'000));
    uint64_t size = random_.between(1, random_.chance(1, 3) ? 5'000 : 70'000);
    if (random_.chance(1, 12)) size = random_.between(1, 1'500'000);
    if (offset + size > kPrivateMax) return done();
    const Bytes bytes = random_bytes(size);
    const bool sync = random_.chance(1, 3);
    vfs().lookup({}, home_, name, want<client::Attr>([=, this](const client::Attr& attr) {
        vfs().open({}, attr.ino, kReadWrite | (append ? client::OpenMode::kAppend : 0),
                   want<client::Opened>([=, this](const client::Opened& open) {
            file->write(offset, View(bytes));
            vfs().write({}, open.handle, offset, Buffer::copy_of(View(bytes)),
                        want<uint64_t>([=, this](uint64_t wrote) {
                if (wrote != size) return cluster_.fail(state() + ": a short write");
                auto end = [=, this] { close(open.handle, [this] { done(); }); };
                if (!sync) return end();
                vfs().fsync({}, open.handle, random_.chance(1, 2), want_ok([=, this] {
                    if (epoch() == op_epoch_) file->synced();
                    end();
                }));
            }));
        }));
    }));
}

void Actor::read_file(const std::string& name) {
    begin("read");
    FilePtr file = names_[name];
    const uint64_t offset = random_.below(file->size() + 1);
    const uint64_t size = random_.between(1, random_.chance(1, 4) ? kPrivateMax : 130'000);
    vfs().lookup({}, home_, name, want<client::Attr>([=, this](const client::Attr& attr) {
        vfs().open({}, attr.ino, 0, want<client::Opened>([=, this](const client::Opened& open) {
            vfs().read({}, open.handle, offset, size, want<client::ReadData>([=, this](const client::ReadData& data) {
                const Bytes got = flat(data);
                const size_t expected = std::min<size_t>(size, file->size() - offset);
                if (epoch() == op_epoch_) {
                    if (got.size() != expected) {
                        return cluster_.fail(fmt::format("{}: {} at {}: {} bytes, expected {} (size {})", state(), name, offset, got.size(), expected, file->size()));
                    }
                    if (std::string wrong = file->read(offset, got); !wrong.empty()) {
                        return cluster_.fail(state() + ": " + name + ": " + wrong);
                    }
                }
                close(open.handle, [this] { done(); });
            }));
        }));
    }));
}

void Actor::truncate_file(const std::string& name) {
    begin("truncate");
    FilePtr file = names_[name];
    client::SetAttrs attrs;
    attrs.size = random_.below(random_.chance(1, 4) ? 6'000 : std::min(kPrivateMax, file->size() + 90'000) + 1);
    vfs().lookup({}, home_, name, want<client::Attr>([=, this](const client::Attr& attr) {
        file->truncate(*attrs.size);
        vfs().setattr({}, attr.ino, 0, attrs, want<client::Attr>([=, this](const client::Attr& now) {
            if (now.size != file->size()) {
                return cluster_.fail(fmt::format("{}: size {} instead of {}", state(), now.size, file->size()));
            }
            if (epoch() == op_epoch_) file->truncated();
            done();
        }));
    }));
}

void Actor::rename_name(const std::string& name) {
    begin("rename");
    const std::string to = kNames[random_.below(std::size(kNames))];
    auto target = names_.find(to);
    if (to == name || (target != names_.end() && !target->second)) return done();
    doubt_ = names_;
    (*doubt_)[to] = names_[name];
    doubt_->erase(name);
    vfs().rename({}, home_, name, home_, to, 0, want_ok([this] {
        names_ = *doubt_;
        doubt_.reset();
        done();
    }));
}

void Actor::unlink_name(const std::string& name) {
    begin("unlink");
    doubt_ = names_;
    doubt_->erase(name);
    vfs().unlink({}, home_, name, want_ok([this] {
        names_ = *doubt_;
        doubt_.reset();
        done();
    }));
}

void Actor::stat_name(const std::string& name) {
    begin("stat");
    FilePtr file = names_[name];
    vfs().lookup({}, home_, name, want<client::Attr>([=, this](const client::Attr& attr) {
        vfs().getattr({}, attr.ino, 0, want<client::Attr>([=, this](const client::Attr& now) {
            if (epoch() == op_epoch_ && now.size != file->size()) {
                return cluster_.fail(fmt::format("{}: {} has size {} instead of {}", state(), name, now.size, file->size()));
            }
            done();
        }));
    }));
}

void Actor::make_or_remove_directory() {
    begin("mkdir or rmdir");
    const std::string name = "dir";
    const bool exists = names_.contains(name);
    doubt_ = names_;
    if (exists) doubt_->erase(name);
    if (!exists) (*doubt_)[name] = nullptr;
    auto settled = [this] {
        names_ = *doubt_;
        doubt_.reset();
        done();
    };
    if (exists) return vfs().rmdir({}, home_, name, want_ok(settled));
    vfs().mkdir({}, home_, name, 0755, want<client::Attr>([settled](const client::Attr&) { settled(); }));
}

void Actor::list(std::function<void(client::DirPage)> then) {
    vfs().opendir({}, home_, want<client::HandleId>([=, this](client::HandleId handle) {
        vfs().readdirplus({}, handle, 0, 64 * 1024, want<client::DirPage>([=, this](const client::DirPage& page) {
            vfs().releasedir(handle);
            then(page);
        }));
    }));
}

void Actor::list_names() {
    begin("readdir");
    list([this](const client::DirPage& page) {
        std::string expected;
        for (const auto& name : names_) expected += name.first + " ";
        std::vector<std::string> sorted;
        if (epoch() == op_epoch_) {
            for (const client::DirEntry& entry : page.entries) {
                if (entry.name != "." && entry.name != "..") sorted.push_back(entry.name);
            }
            std::sort(sorted.begin(), sorted.end());
            std::string text;
            for (const std::string& name : sorted) text += name + " ";
            if (text != expected) return cluster_.fail(state() + ": names " + text + "instead of " + expected);
        }
        done();
    });
}

// --- after a lost session or a dead client ---------------------------------------------------------

void Actor::recover() {
    begin("recovery");
    recovering_needed_ = false;
    list([this](const client::DirPage& page) { compare_names(page); });
}

void Actor::compare_names(const client::DirPage& page) {
    std::vector<std::string> found;
    for (const client::DirEntry& entry : page.entries) {
        if (entry.name != "." && entry.name != "..") found.push_back(entry.name);
    }
    std::sort(found.begin(), found.end());
    auto same = [&](const Names& names) {
        return std::equal(names.begin(), names.end(), found.begin(), found.end(),
                          [](const auto& a, const std::string& b) { return a.first == b; });
    };
    if (!same(names_)) {
        if (!doubt_ || !same(*doubt_)) {
            std::string text = state() + ": after trouble the names are";
            for (const std::string& name : found) text += " " + name;
            text += ", expected";
            for (const auto& name : names_) text += " " + name.first;
            if (doubt_) text += ", or";
            if (doubt_) for (const auto& name : *doubt_) text += " " + name.first;
            return cluster_.fail(text);
        }
        names_ = *doubt_;
    }
    doubt_.reset();
    compare_file(found, 0);
}

void Actor::compare_file(const std::vector<std::string>& names, size_t at) {
    if (at == names.size()) return done();
    FilePtr file = names_[names[at]];
    if (!file) return compare_file(names, at + 1);
    read_whole(names[at], [=, this](const Bytes& found) {
        if (std::string wrong = file->settle(found, cluster_.world.now()); !wrong.empty()) {
            return cluster_.fail(state() + ": after trouble " + names[at] + ": " + wrong);
        }
        compare_file(names, at + 1);
    });
}

// As it is on the cluster: an operation that went on in a new session may have left something unwritten
// at this client, which would count as found and may still be lost.
void Actor::read_whole(const std::string& name, std::function<void(Bytes)> then) {
    vfs().lookup({}, home_, name, want<client::Attr>([=, this](const client::Attr& attr) {
        vfs().open({}, attr.ino, 0, want<client::Opened>([=, this](const client::Opened& open) {
            vfs().fsync({}, open.handle, false, want_ok([=, this] {
                vfs().read({}, open.handle, 0, kPrivateMax + 1, want<client::ReadData>([=, this](const client::ReadData& data) {
                    Bytes bytes = flat(data);
                    vfs().release(open.handle, want_ok([=] { then(bytes); }));
                }));
            }));
        }));
    }));
}

// --- the end -----------------------------------------------------------------------------------------------

// All shared pages, then all private files, once more; then nothing.
void Actor::final_checks(int file) {
    if (file == 0) begin("final checks");
    if (file < kSharedFiles) return shared_read(file, 0, kSharedPages);
    // Everything that is not lost must read as expected: settle() with nothing in doubt.
    std::vector<std::string> names;
    for (const auto& [name, content] : names_) {
        if (content) names.push_back(name);
    }
    auto step = std::make_shared<std::function<void(size_t)>>();
    *step = [=, this](size_t at) {
        if (at == names.size()) {
            doing_ = "nothing (finished)";
            finished_ = true;
            return;
        }
        FilePtr content = names_[names[at]];
        read_whole(names[at], [=, this](const Bytes& found) {
            if (epoch() == op_epoch_) {
                std::string wrong = found.size() == content->size()
                                        ? content->read(0, found)
                                        : fmt::format("{} bytes", found.size());
                if (!wrong.empty()) {
                    return cluster_.fail(state() + ": at the end " + names[at] + ": " + wrong);
                }
            }
            (*step)(at + 1);
        });
    };
    (*step)(0);
}

}  // namespace lumeofs::sim
