// SPDX-License-Identifier: Apache-2.0
#include "client/core.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/wire/frame.h"

namespace lumeofs::client {
namespace {

constexpr Nanos kTick = 500 * kMillisecond;
constexpr Nanos kStopPoll = 5 * kMillisecond;
constexpr size_t kFilesSaid = 20;  // lines of the log when a stop gives up
constexpr Nanos kFlushMargin = 1 * kSecond;  // a flush takes time: begin before kDirtyAgeMax

// "inode 7: write lease, winding, 3 jobs …" for people.
std::string describe(const Inode& inode) {
    std::string text = "inode " + inode.ino.to_string() + ": lease " +
                       std::to_string(static_cast<int>(inode.lease));
    auto flag = [&text](bool on, const char* name) {
        if (on) text += std::string(", ") + name;
    };
    auto count = [&text](size_t number, const char* name) {
        if (number != 0) text += ", " + std::to_string(number) + " " + name;
    };
    flag(inode.transient, "transient");
    flag(inode.acquiring, "acquiring");
    flag(inode.reacquire, "reacquiring");
    flag(inode.winding, "winding");
    flag(inode.releasing, "releasing");
    flag(inode.exclusive, "exclusive");
    flag(inode.commit_running, "committing");
    flag(inode.allocating, "allocating");
    flag(inode.moving_out, "moving out");
    flag(inode.dirty(), "dirty");
    count(inode.handles, "handles");
    count(inode.pending, "pending");
    count(inode.waiters.size(), "waiters");
    count(inode.jobs.size(), "jobs");
    count(inode.parked.size(), "parked pieces");
    count(inode.buffer.pieces_in_flight(), "pieces in flight");
    count(static_cast<size_t>(inode.give_backs), "give-backs");
    count(inode.session_ops.size() + (inode.session_op ? 1 : 0), "session requests");
    return text;
}

}  // namespace

Core::Core(Loop& loop, Transport& transport, Prng prng, ClientOptions options)
    : loop_(loop),
      options_(std::move(options)),
      lent_(options_.kernel_time),
      ops_(loop, {options_.interrupt_patience, options_.soft ? options_.timeo : 0}),
      meta_(loop,
            transport,
            prng.fork("meta"),
            options_,
            MetaEvents{
                [this] {
                    names_.clear();  // the new leader counts on it [32]
                    return lent_.until_all();
                },
                [this] { return declare(); },
                [this](const wire::RecallT& recall) { on_recall(recall); },
                [this] { on_lease(); },
                [this] { on_session_lost(); },
                [this](const wire::NodeAddressT& node) { chunks_.learn_node(node); },
            }),
      chunks_(loop,
              transport,
              prng.fork("chunk"),
              ChunkEvents{
                  [this] {
                      Hello hello;
                      hello.protocol_revision = kProtocolRevision;
                      hello.role = Role::client;
                      hello.cluster_id_high = meta_.cluster_id_high();
                      hello.cluster_id_low = meta_.cluster_id_low();
                      return hello;
                  },
                  [this] { return meta_.session(); },
                  [this](const wire::ReportChunkT& report,
                         std::function<void(Result<wire::ChunkGrantT>)> done) {
                      report_chunk(report, std::move(done));
                  },
                  [this] { meta_.renew_now(); },
              }),
      alive_(std::make_shared<char>()),
      linger_timer_(loop),
      tick_timer_(loop),
      stop_timer_(loop) {}

Core::~Core() {
    // What waits holds its inode, which holds what waits.
    auto forget = [](const InodePtr& inode) {
        inode->waiters.clear();
        inode->jobs.clear();
        inode->session_ops.clear();
        inode->after_release.clear();
    };
    for (const auto& [ino, inode] : inodes_) forget(inode);
    for (const auto& [id, file] : handles_) {
        if (file->inode) forget(file->inode);
    }
}

void Core::post(Task task) {
    loop_.post([alive = std::weak_ptr<char>(alive_), task = std::move(task)] {
        if (!alive.expired()) task();
    });
}

void Core::at(Nanos when, Task task) {
    if (when <= loop_.now()) return task();
    loop_.after(when - loop_.now(), [alive = std::weak_ptr<char>(alive_), task = std::move(task)] {
        if (!alive.expired()) task();
    });
}

void Core::start(StatusDone done) {
    meta_.start();
    tick_timer_.repeat(kTick, [this] { tick(); });
    const Caller people;
    resolve_path(people,
                 kRootInode,
                 options_.subdir,
                 true,
                 0,
                 [this, done = std::move(done)](const Result<Attr>& attr) {
                     if (!attr.is_ok()) return done(attr.status());
                     if ((attr->mode & 0170000) != 0040000) return done(Status(Errc::notdir));
                     root_ = attr->ino;
                     done(ok_status());
                 });
}

void Core::stop(Nanos patience, StatusDone done) {
    stopping_ = true;
    ops_.give_up_all(Errc::canceled);
    const auto inodes = inodes_;
    for (const auto& [ino, inode] : inodes) {
        if (inode->has_lease()) wind_down(inode);
    }
    wait_clean(loop_.now() + patience,
               [this, patience, done = std::move(done)](const Status& status) {
                   finish_stop(patience, status, done);
               });
}

void Core::wait_clean(Nanos until, StatusDone done) {
    Status status;
    bool busy = false;
    for (const auto& [ino, inode] : inodes_) {
        busy = busy || inode->dirty() || inode->has_lease() || inode->commit_running ||
               inode->winding || inode->reacquire || inode->give_backs > 0;
        if (inode->error_count > 0) status = inode->error;
    }
    if (busy && loop_.now() >= until) {
        say_unwritten();
        return done(Status(Errc::io, "changes could not be written back in time"));
    }
    if (!busy) return done(status);
    stop_timer_.start(kStopPoll,
                      [this, until, done = std::move(done)] { wait_clean(until, done); });
}

void Core::say_unwritten() const {
    size_t files = 0;
    for (const auto& [ino, inode] : inodes_) {
        if (!inode->dirty()) continue;
        if (++files > kFilesSaid) continue;
        const std::string waits = chunks_.waits_for(ino);
        LFS_LOG(error,
                "inode {}: {} bytes and its size of {} are not written; it waited for {}",
                ino.to_string(),
                inode->buffer.bytes() + inode->inline_data.size(),
                inode->size,
                waits.empty() ? "the metadata leader" : waits);
    }
    if (files > kFilesSaid) LFS_LOG(error, "and {} files more", files - kFilesSaid);
}

void Core::finish_stop(Nanos patience, const Status& status, StatusDone done) {
    tick_timer_.stop();
    linger_timer_.stop();
    chunks_.stop();
    meta_.stop(std::min(patience, kRpcTimeout), [this, status, done = std::move(done)] {
        alive_ = std::make_shared<char>();
        done(status);
    });
}

// --- requests that change something

void Core::mutate(Urgency urgency,
                  Binding binding,
                  const Caller& caller,
                  wire::MutationOpUnion op,
                  MetaDone done) {
    NameChange change = names_.begin(op);
    meta_.mutate(urgency,
                 binding,
                 caller,
                 std::move(op),
                 [this, change = std::move(change), done = std::move(done)](MetaAnswer answer) {
                     names_.end(change, answer);
                     drop_names_if_full();
                     done(std::move(answer));
                 });
}

void Core::drop_names_if_full() {
    if (!names_.full()) return;
    names_.close();
    at(lent_.until_all(), [this] {
        wire::GiveBackT op;
        op.ino = 0;
        wire::SessionOpUnion request;
        request.Set(std::move(op));
        meta_.session_request(std::move(request), [this](const MetaAnswer&) { names_.reopen(); });
    });
}

// --- the table

InodePtr Core::find(InodeId ino) const {
    auto it = inodes_.find(ino);
    return it == inodes_.end() ? nullptr : it->second;
}

InodePtr Core::obtain(InodeId ino) {
    InodePtr& inode = inodes_[ino];
    if (!inode) {
        inode = std::make_shared<Inode>();
        inode->ino = ino;
        inode->attr.ino = ino;
    }
    return inode;
}

void Core::forget_if_idle(const InodePtr& inode) {
    if (inode->handles == 0 && inode->pending == 0 && !inode->lost) close_inode(inode, true);
}

HandleId Core::add_handle(HandlePtr file) {
    handles_[++last_handle_] = std::move(file);
    return last_handle_;
}

HandlePtr Core::handle(HandleId id) const {
    auto it = handles_.find(id);
    return it == handles_.end() ? nullptr : it->second;
}

// --- the session

std::vector<wire::OpenRecordT> Core::declare() const {
    std::vector<wire::OpenRecordT> records;
    for (const auto& [ino, inode] : inodes_) {
        wire::OpenRecordT record;
        record.ino = ino.value;
        record.readers = inode->registered ? 1 : 0;
        record.writers = inode->registered_writer ? 1 : 0;
        record.lease = inode->lease;
        // In doubt whether our commit has given it back: the leader knows. If it has not, the lease
        // must protect our changes until the commit is repeated.
        if (auto slot = meta_.slot_of(inode->release_request); slot && inode->releasing) {
            record.release_slot = slot->number;
            record.release_sequence = slot->sequence;
        }
        if (inode->registered || record.lease != wire::LeaseMode::none) records.push_back(record);
    }
    return records;
}

void Core::on_lease() {
    if (!std::exchange(stalled_, false)) return;
    for (Task& task : std::exchange(lease_time_waiters_, {})) task();
    const auto inodes = inodes_;
    for (const auto& [ino, inode] : inodes) {
        pump(inode);
        advance(inode);
    }
}

void Core::fail_inode(const InodePtr& inode) {
    inode->lost = true;
    if (inode->dirty()) {
        ++inode->error_count;
        inode->error = Status(Errc::io, "the session was ended with data not written back");
        LFS_LOG(
            error, "changes of inode {} are lost: the session was ended", inode->ino.to_string());
    }
    inode->releasing = false;
    inode->winding = false;
    inode->reacquire = false;
    inode->buffer.discard_all();
    for (const auto& piece : std::exchange(inode->parked, {})) inode->buffer.finish(piece.offset);
    inode->committed = inode->buffer.last_write();
    drop_lease(*inode);
    account(inode);
    finish_jobs(inode);
    for (Task& task : std::exchange(inode->after_release, {})) task();
    advance(inode);
}

// Everything from before is gone: what was dirty fails, handles answer io, and what is opened from
// now on has nothing to do with it [21].
void Core::on_session_lost() {
    const auto inodes = std::exchange(inodes_, {});
    for (const auto& [ino, inode] : inodes) inode->lost = true;
    given_up_.clear();
    names_.clear();
    chunks_.fail_writes();
    for (const auto& [ino, inode] : inodes) fail_inode(inode);
    for (Task& task : std::exchange(lease_time_waiters_, {})) task();
}

void Core::report_chunk(const wire::ReportChunkT& report,
                        std::function<void(Result<wire::ChunkGrantT>)> done) {
    wire::SessionOpUnion request;
    request.Set(wire::ReportChunkT(report));
    meta_.session_request(std::move(request), [done = std::move(done)](const MetaAnswer& answer) {
        const Errc code = answer.status.code();
        // The file has no such chunk any more (a truncate, a punch): whoever asks starts over.
        if (code == Errc::not_found || code == Errc::conflict) return done(Errc::noent);
        if (!answer.status.is_ok()) return done(answer.status);
        if (answer.reply.grants.empty()) return done(Errc::noent);
        done(*answer.reply.grants.front());
    });
}

// --- time

void Core::tick() {
    const auto inodes = inodes_;
    for (const auto& [ino, inode] : inodes) {
        if (!inode->dirty() || !inode->jobs.empty() || inode->dirty_since == 0) continue;
        if (loop_.now() - inode->dirty_since < kDirtyAgeMax - kFlushMargin) continue;
        flush_to(inode, inode->buffer.last_write(), false, [](const Status&) {});
    }
}

// --- for people

ClientStatus Core::status() const {
    ClientStatus status;
    status.session = meta_.session();
    status.sessions_lost = meta_.sessions_lost();
    status.leader = meta_.leader_address();
    status.lease_valid = meta_.lease_valid();
    status.open_inodes = inodes_.size();
    status.open_handles = handles_.size();
    status.dirty_bytes = dirty_bytes_;
    for (const auto& [ino, inode] : inodes_) {
        if (inode->has_lease()) ++status.leases;
        if (!inode->idle()) status.inodes.push_back(describe(*inode));
        status.cached_bytes += inode->cache.bytes();
    }
    status.meta_requests = meta_.requests_sent();
    status.chunk_requests = chunks_.requests_sent();
    status.retries = meta_.retries() + chunks_.retries();
    status.corrupt_reads = chunks_.corrupt_replies();
    for (const auto& [serial, entry] : ops_.running()) {
        const Nanos waited = loop_.now() - entry.started;
        if (waited < kSlowRequest) continue;
        std::string whom = meta_.ready() ? chunks_.waits_for(entry.ino) : std::string();
        if (whom.empty()) whom = meta_.waits_for();
        status.waiting.push_back(
            {entry.op, entry.name, entry.ino, entry.pid, waited, std::move(whom)});
    }
    return status;
}

}  // namespace lumeofs::client
