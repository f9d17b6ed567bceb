// SPDX-License-Identifier: Apache-2.0
#include "chunkd/replication/write_plan.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/planted_bug.h"

namespace lumeofs::replication {

namespace {

Plan refuse(Errc errc, bool send_config = false) { return {Step::refuse, errc, send_config}; }

bool range_fits(const RangeFacts& range, uint64_t length_max) {
    return range.length > 0 && range.length <= length_max && range.offset < kChunkSize &&
           range.length <= kChunkSize - range.offset;
}

// A refusal for an old epoch carries our configuration only if nothing was cut since: whoever holds
// a size or a limit from before a cut must ask metad [6, 8].
Plan refuse_old(const OwnFacts& own, const Configuration& grant) {
    return refuse(Errc::stale_epoch, !shrunk_since(*own.config, grant.epoch));
}

}  // namespace

uint64_t piece_count(uint64_t offset, uint64_t length) {
    if (length == 0) return 0;
    return (offset + length - 1) / kBlockSize - offset / kBlockSize + 1;
}

Plan plan_write(const OwnFacts& own, const WriteFacts& write) {
    if (!range_fits(write.range, write.data ? kMaxIoBytes : kChunkSize)) return refuse(Errc::inval);
    if (write.data && (write.payload_bytes != write.range.length ||
                       write.checksum_count != piece_count(write.range.offset, write.range.length))) {
        return refuse(Errc::corrupt);
    }
    if (!write.grant_is_of_session || write.write_no == 0 ||
        write.lowest_outstanding > write.write_no) {
        return refuse(Errc::inval);
    }
    if (own.session_fenced && !planted_bug("chunkd.ignore_fence")) return refuse(Errc::fenced);
    if (write.grant->epoch > own.config->epoch) return {Step::adopt, Errc::ok, false};
    if (write.grant->epoch < own.config->epoch) return refuse_old(own, *write.grant);
    if (!own.config->is_member(own.self)) return refuse(Errc::not_member, true);
    if (own.config->sealed) return refuse(Errc::stale_epoch);
    if (!own.lease_valid) return refuse(Errc::unavailable);
    if (write.range.offset + write.range.length > write.write_limit) return refuse(Errc::inval);
    if (own.role == Role::member) {
        if (write.forwarded) return refuse(Errc::stale_epoch, true);
        const bool small = write.data ? write.range.length <= kForwardMax : true;
        return {small ? Step::forward : Step::redirect, Errc::ok, false};
    }
    if (own.lost) return refuse(Errc::nodata);
    // Too few copies, or not settled yet: nothing is done, nor is a repeat said to be.
    const bool waits = own.role == Role::recovering || (own.role == Role::serving && own.few_members);
    if (waits) {
        return write.full_up ? refuse(Errc::busy) : Plan{Step::wait, Errc::ok, false};
    }
    if (own.role != Role::serving) return refuse(Errc::not_member, true);
    if (!planted_bug("chunkd.no_dedup")) {
        if (write.under_way) return {Step::join, Errc::ok, false};
        if (write.known_done) return {Step::done_already, Errc::ok, false};
        if (write.write_no < write.known_lowest) return refuse(Errc::superseded);
    }
    if (write.full_up) return refuse(Errc::busy);
    if (write.data && write.free_bytes < write.range.length) return refuse(Errc::nospc);
    return {Step::accept, Errc::ok, false};
}

Plan plan_read(const OwnFacts& own, const ReadFacts& read) {
    if (!range_fits(read.range, kChunkSize)) return refuse(Errc::inval);
    if (own.session_fenced && !planted_bug("chunkd.ignore_fence")) return refuse(Errc::fenced);
    if (read.grant->epoch > own.config->epoch) return {Step::adopt, Errc::ok, false};
    // An older epoch is served if only the membership changed since and we are still in it [38].
    if (read.grant->epoch < own.config->epoch && read.shrunk_since_grant) {
        return refuse(Errc::stale_epoch);
    }
    if (!own.config->is_member(own.self)) return refuse(Errc::not_member, true);
    if (!own.lease_valid) return refuse(Errc::unavailable);
    switch (own.role) {
        case Role::outside:
        case Role::joiner: return refuse(Errc::not_member, true);
        case Role::serving: return {Step::serve, Errc::ok, false};
        case Role::recovering:
            if (own.lost) return refuse(Errc::nodata);
            // What nobody can doubt is served; the rest waits for the settlement.
            if (!read.has_chunk || read.undecided) return {Step::wait, Errc::ok, false};
            return {Step::serve, Errc::ok, false};
        case Role::member: break;
    }
    // A member cannot know whether an undecided write was answered already: only the primary can, and
    // it answers with the bytes from before until it was [41]. Nor can it tell a chunk that was never
    // written from one that it lost.
    if (!read.has_chunk) return {Step::redirect, Errc::ok, false};
    if (read.undecided && !planted_bug("chunkd.read_undecided")) {
        return {Step::redirect, Errc::ok, false};
    }
    return {Step::serve, Errc::ok, false};
}

Plan plan_replica(const OwnFacts& own, const ReplicaFacts& message) {
    const Configuration& config = *message.config;
    if (config.epoch < own.config->epoch) return refuse(Errc::stale_epoch, true);
    if (config.primary() != message.sender || message.sender == own.self) {
        return refuse(Errc::protocol);
    }
    if (config.epoch > own.config->epoch) return {Step::adopt, Errc::ok, false};
    if (message.to_joiner) {
        if (config.joiner != own.self) return refuse(Errc::not_member, true);
    } else if (!own.config->is_member(own.self)) {
        return refuse(Errc::not_member, true);
    }
    if (message.sender_is < message.promised) return refuse(Errc::stale_epoch, true);
    return {Step::accept, Errc::ok, false};
}

}  // namespace lumeofs::replication
