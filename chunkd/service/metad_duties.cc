// SPDX-License-Identifier: Apache-2.0
#include "chunkd/service/metad_duties.h"

#include "common/base/log.h"
#include "common/wire/codec.h"

namespace lumeofs::chunkd {

namespace {

constexpr uint32_t kReportPage = 1024;
constexpr Nanos kReportEvery = 3600 * kSecond;
constexpr Nanos kReportPause = 100 * kMillisecond;  // between pages: a herd of nodes reports at once

}  // namespace

MetadDuties::MetadDuties(Loop& loop,
                         store::ChunkStore& store,
                         replication::Driver& driver,
                         NodeId self,
                         Needs needs)
    : loop_(loop),
      store_(store),
      driver_(driver),
      self_(self),
      needs_(std::move(needs)),
      report_timer_(loop) {
    driver_.on_write_decided([this] { acknowledge_fence(); });
}

MetadDuties::~MetadDuties() { driver_.on_write_decided({}); }

void MetadDuties::start(const wire::RegisterReplyT& reply) {
    incarnation_ = reply.incarnation;
    driver_.fence(reply.fenced_sessions);
    fence_wanted_ = fence_acked_ = reply.fence_number;
    nodes_version_ = reply.nodes_version;
    removals_.clear();
    removals_sent_.clear();
    orders_done_.clear();
    orders_sent_.clear();
    orders_open_.clear();
    alive_ = std::make_shared<char>();
    reporting_ = false;
    report_holdings();
}

void MetadDuties::stop() {
    alive_ = std::make_shared<char>();
    report_timer_.stop();
}

Nanos MetadDuties::cluster_time() const { return loop_.now() + cluster_offset_; }

void MetadDuties::fill_heartbeat(wire::HeartbeatT* beat) {
    beat->node = self_.value;
    beat->incarnation = incarnation_;
    const store::DiskSpaceInfo space = store_.space();
    const store::StoreStats stats = store_.stats();
    beat->total_bytes = space.total_bytes;
    beat->free_bytes = space.free_bytes;
    beat->chunks = store_.chunk_count();
    for (const store::DiskInfo& disk : store_.disks()) {
        auto info = std::make_unique<wire::DiskInfoT>();
        info->path = disk.dir;
        info->uuid = disk.uuid;
        info->total_bytes = disk.space.total_bytes;
        info->free_bytes = disk.space.free_bytes;
        info->chunks = disk.chunks;
        info->failed = disk.state != store::DiskState::ok;
        beat->disks.push_back(std::move(info));
    }
    beat->acked_fence = fence_acked_;
    removals_sent_.merge(removals_);
    orders_sent_.merge(orders_done_);
    beat->acked_removals.assign(removals_sent_.begin(), removals_sent_.end());
    beat->orders_term = term_;
    beat->done_orders.assign(orders_sent_.begin(), orders_sent_.end());
    beat->nodes_version = nodes_version_;
    beat->writes = stats.writes;
    beat->reads = stats.reads;
    beat->corrupt_blocks = stats.bad_blocks_seen;
    beat->dirty_log_bytes = stats.log_live_bytes;
    beat->lost_chunks = driver_.lost_chunks();
}

void MetadDuties::on_beat_lost() {
    removals_.merge(removals_sent_);
    orders_done_.merge(orders_sent_);
}

void MetadDuties::on_beat(const wire::HeartbeatReplyT& reply) {
    removals_sent_.clear();
    for (uint64_t number : orders_sent_) orders_open_.erase(number);
    orders_sent_.clear();
    cluster_offset_ = reply.cluster_time_ns - loop_.now();
    if (reply.term > term_) {
        // Another leader: it numbers its orders anew, and knows nothing of what we hold.
        const bool first = term_ == 0;
        term_ = reply.term;
        orders_open_.clear();
        orders_done_.clear();
        if (!first) report_holdings();
    }
    driver_.fence(reply.fenced_sessions);
    fence_wanted_ = std::max(fence_wanted_, reply.fence_number);
    acknowledge_fence();
    for (const auto& grant : reply.removals) {
        if (!grant) continue;
        driver_.adopt(*grant,
                      [this, chunk = grant->chunk, alive = std::weak_ptr<char>(alive_)](
                          const Status& status) {
                          if (alive.expired() || !status.is_ok()) return;
                          removals_.insert(chunk);
                          needs_.beat_soon();
                      });
    }
    for (const auto& order : reply.orders) {
        if (order) obey(*order, reply.term);
    }
    // Copies of chunks that were deleted are found by it, however they came about.
    if (loop_.now() - reported_at_ >= kReportEvery) report_holdings();
    if (reply.nodes_version != nodes_version_ && !reply.nodes.empty()) {
        nodes_version_ = reply.nodes_version;
        needs_.learn_nodes(reply.nodes);
    }
}

void MetadDuties::acknowledge_fence() {
    if (fence_acked_ >= fence_wanted_ || driver_.pending_fenced()) return;
    fence_acked_ = fence_wanted_;
    needs_.beat_soon();
}

void MetadDuties::order_done(uint64_t number) {
    orders_done_.insert(number);
    needs_.beat_soon();
}

void MetadDuties::obey(const wire::OrderT& order, uint64_t term) {
    if (!order.grant || order.term < term_ || term < term_) return;  // of a deposed leader
    if (!orders_open_.insert(order.number).second) return;           // repeated until it is done
    auto done = [this, number = order.number, kind = order.kind, chunk = order.grant->chunk, term,
                 alive = std::weak_ptr<char>(alive_)](const Status& status) {
        // The number means something else to the leader of another term.
        if (alive.expired() || term != term_) return;
        if (status.is_ok()) return order_done(number);
        orders_open_.erase(number);  // tried again with the next heartbeat
        LFS_LOG(warn,
                "order {} of kind {} on chunk {}: {}",
                number,
                static_cast<int>(kind),
                chunk,
                status.to_string());
    };
    switch (order.kind) {
        case wire::OrderKind::remove_chunk:
            return driver_.remove_chunk(ChunkId{order.grant->chunk}, Epoch{order.grant->epoch}, done);
        case wire::OrderKind::fill_joiner:
            // Done when it is taken up; metad gives it again while the joiner is one.
            return driver_.fill_joiner(*order.grant, NodeId{order.node}, done);
        case wire::OrderKind::adopt: return driver_.adopt(*order.grant, done);
        case wire::OrderKind::check_copies: return driver_.check_copies(*order.grant, done);
    }
    done(Status(Errc::nosys, "an order that this release does not know"));
}

// ----------------------------------------------------------------------------------------- reports

void MetadDuties::report_holdings() {
    reported_at_ = loop_.now();
    report_after_ = ChunkId{};
    ++report_number_;
    if (reporting_) return;
    reporting_ = true;
    report_timer_.start(kReportPause, [this] { report_page(); });
}

void MetadDuties::report_page() {
    const auto page = store_.list(report_after_, kReportPage);
    wire::ChunkReportT report;
    report.node = self_.value;
    report.incarnation = incarnation_;
    report.first = report_after_.value;
    report.last = page.size() < kReportPage;
    for (const store::ChunkListing& one : page) {
        auto held = std::make_unique<wire::HeldChunkT>();
        held->chunk = one.chunk.value;
        held->epoch = one.epoch.value;
        held->length = one.length;
        report.chunks.push_back(std::move(held));
    }
    const bool last = report.last;
    const ChunkId after = page.empty() ? report_after_ : page.back().chunk;
    wire::NodeOpUnion op;
    op.Set(std::move(report));
    needs_.call(std::move(op),
                5 * kSecond,
                [this, last, after, number = report_number_, alive = std::weak_ptr<char>(alive_)](
                    Result<wire::ConfigReplyT> reply) {
                    if (alive.expired()) return;
                    if (reply.is_ok()) {
                        for (const auto& grant : reply->grants) {
                            if (grant) driver_.adopt(*grant, {});
                        }
                        // Unless it was started anew meanwhile.
                        if (report_number_ == number) {
                            report_after_ = after;
                            if (last) {
                                reporting_ = false;
                                return;
                            }
                        }
                    }
                    report_timer_.start(kReportPause, [this] { report_page(); });
                });
}

}  // namespace lumeofs::chunkd
