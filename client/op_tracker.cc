// SPDX-License-Identifier: Apache-2.0
#include "client/op_tracker.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/log.h"

namespace lumeofs::client {

Status to_posix(const Status& status, const char* operation) {
    if (static_cast<uint16_t>(status.code()) < static_cast<uint16_t>(Errc::not_leader))
        return status;
    LFS_LOG(warn, "{} failed with an internal error: {}", operation, status.to_string());
    return Status(Errc::io, status.to_string());
}

StatusDone OpTracker::track_status(const Caller& caller,
                                   const char* name,
                                   InodeId ino,
                                   StatusDone done) {
    auto wrapped = track<bool>(caller, name, ino, [done = std::move(done)](Result<bool> result) {
        done(result.status());
    });
    return [wrapped = std::move(wrapped)](const Status& status) {
        if (status.is_ok()) {
            wrapped(true);
        } else {
            wrapped(status);
        }
    };
}

uint64_t OpTracker::add(const Caller& caller,
                        const char* name,
                        InodeId ino,
                        std::function<void(Errc)> give_up) {
    const uint64_t serial = ++last_serial_;
    running_.emplace(
        serial, Entry{caller.op, name, ino, caller.pid, loop_.now(), false, std::move(give_up)});
    if (caller.op != 0) by_op_[caller.op] = serial;
    if (options_.soft_timeout > 0 && !timer_.running()) schedule();
    return serial;
}

void OpTracker::remove(uint64_t serial) {
    auto it = running_.find(serial);
    if (it == running_.end()) return;
    auto op = by_op_.find(it->second.op);
    if (op != by_op_.end() && op->second == serial) by_op_.erase(op);
    running_.erase(it);
}

void OpTracker::interrupt(OpId op) {
    auto it = by_op_.find(op);
    if (op == 0 || it == by_op_.end()) return;
    running_.at(it->second).interrupted = true;
    schedule();
}

Nanos OpTracker::due(const Entry& entry) const {
    Nanos when = 0;
    if (options_.soft_timeout > 0) when = entry.started + options_.soft_timeout;
    if (entry.interrupted) {
        const Nanos signalled = entry.started + options_.interrupt_patience;
        when = when == 0 ? signalled : std::min(when, signalled);
    }
    return when;
}

void OpTracker::schedule() {
    Nanos next = 0;
    for (const auto& [serial, entry] : running_) {
        const Nanos when = due(entry);
        if (when != 0 && (next == 0 || when < next)) next = when;
    }
    if (next == 0) return timer_.stop();
    timer_.start(std::max<Nanos>(next - loop_.now(), 0), [this] { expire(); });
}

void OpTracker::expire() {
    std::vector<uint64_t> over;
    for (const auto& [serial, entry] : running_) {
        const Nanos when = due(entry);
        if (when != 0 && when <= loop_.now()) over.push_back(serial);
    }
    for (uint64_t serial : over) {
        auto it = running_.find(serial);
        if (it == running_.end()) continue;
        const Errc code = it->second.interrupted ? Errc::intr : Errc::timedout;
        auto give_up = std::move(it->second.give_up);
        LFS_LOG(info,
                "{} of inode {} is no longer waited for ({})",
                it->second.name,
                it->second.ino.to_string(),
                errc_name(code));
        remove(serial);
        give_up(code);
    }
    schedule();
}

void OpTracker::give_up_all(Errc code) {
    while (!running_.empty()) {
        auto give_up = std::move(running_.begin()->second.give_up);
        remove(running_.begin()->first);
        give_up(code);
    }
}

}  // namespace lumeofs::client
