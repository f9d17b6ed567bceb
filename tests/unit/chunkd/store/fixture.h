// SPDX-License-Identifier: Apache-2.0
// A store on a SimDisk and a loop that is turned by hand, with short names for what tests do.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chunkd/store/chunk_store.h"
#include "common/base/checksum.h"
#include "common/base/prng.h"
#include "tests/sim/sim_disk.h"

namespace lumeofs::store {

// Virtual time; tasks, ends of batches and timers run when the test says so.
class TestLoop final : public Loop {
public:
    Nanos now() const override { return now_; }
    Nanos wall_now() const override { return now_ + 1'000 * kSecond; }
    void post(Task task) override { tasks_.push_back(std::move(task)); }
    TimerId after(Nanos delay, Task task) override {
        timers_.emplace(std::pair(now_ + delay, ++last_id_), std::move(task));
        return last_id_;
    }
    void cancel(TimerId timer) override {
        std::erase_if(timers_, [&](const auto& item) { return item.first.second == timer; });
    }
    void at_end_of_batch(Task idle) override { idle_.push_back(std::move(idle)); }

    // Runs what is due now.
    void run() {
        while (!tasks_.empty() || !idle_.empty()) {
            auto& queue = tasks_.empty() ? idle_ : tasks_;
            Task task = std::move(queue.front());
            queue.pop_front();
            task();
        }
    }
    // Lets time pass; timers run in order.
    void pass(Nanos span) {
        const Nanos end = now_ + span;
        run();
        while (!timers_.empty() && timers_.begin()->first.first <= end) {
            now_ = std::max(now_, timers_.begin()->first.first);
            Task task = std::move(timers_.begin()->second);
            timers_.erase(timers_.begin());
            task();
            run();
        }
        now_ = end;
    }
    void drop_all() {
        tasks_.clear();
        idle_.clear();
        timers_.clear();
    }

private:
    Nanos now_ = kSecond;
    TimerId last_id_ = 0;
    std::deque<Task> tasks_;
    std::deque<Task> idle_;
    std::map<std::pair<Nanos, TimerId>, Task> timers_;
};

inline Bytes pattern(size_t size, uint64_t seed) {
    Prng random(seed);
    Bytes bytes(size);
    for (size_t i = 0; i < size; i += 8) {
        const uint64_t word = random.next();
        std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, size - i));
    }
    return bytes;
}

inline StoreOptions small_options() {
    StoreOptions options;
    options.dirs = {"/disk"};
    options.cluster_id_high = 1;
    options.cluster_id_low = 2;
    options.node = NodeId{3};
    options.seed = 7;
    options.wal_segment_size = uint64_t{5} << 20;
    options.wal_max_size = uint64_t{40} << 20;
    options.reserve_min_bytes = 1 << 20;
    options.home_file_size = uint64_t{16} << 20;
    options.home_step = uint64_t{2} << 20;
    options.fill_ahead = 0;
    options.checkpoint_age = 0;
    options.read_cache_bytes = 0;  // so that what is on the disk is what is tested
    return options;
}

struct StoreFixture {
    explicit StoreFixture(StoreOptions opts = small_options()) : options(std::move(opts)) {}

    Status open() {
        store.reset();
        loop.drop_all();
        auto opened = ChunkStore::open(disk, loop, options);
        if (!opened.is_ok()) return opened.status();
        store = std::move(opened).value();
        return ok_status();
    }
    // As kill -9: what was written stays, what was not answered may be gone.
    Status reopen() {
        store.reset();
        loop.drop_all();
        disk.kill_process();
        return open();
    }
    Status power_cycle(uint64_t seed) {
        store.reset();
        loop.drop_all();
        disk.power_cut(seed);
        disk.power_on();
        return open();
    }
    WriteRecord named(ChunkId chunk, RecordKind kind) {
        WriteRecord record;
        record.chunk = chunk;
        record.kind = kind;
        record.name = {epoch, Incarnation{1}, ++sequence};
        return record;
    }
    Status submit(WriteRecord record,
                  View bytes,
                  Status* answer = nullptr,
                  std::vector<uint32_t>* bad = nullptr) {
        Payload payload;
        payload.data = Buffer::copy_of(bytes);
        return store->write(
            std::move(record),
            std::move(payload),
            [answer](const Status& status) {
                if (answer) *answer = status;
            },
            bad);
    }
    // Submits, runs the loop, returns the answer.
    Status apply(WriteRecord record, View bytes = {}, std::vector<uint32_t>* bad = nullptr) {
        Status answer(Errc::unavailable);
        LFS_TRY(submit(std::move(record), bytes, &answer, bad));
        loop.run();
        return answer;
    }
    Status create(ChunkId chunk) {
        WriteRecord record = named(chunk, RecordKind::create);
        return apply(record);
    }
    Status put(ChunkId chunk, uint64_t offset, View bytes) {
        WriteRecord record = named(chunk, RecordKind::data);
        record.offset = offset;
        record.length = bytes.size();
        return apply(record, bytes);
    }
    Status zero(ChunkId chunk, uint64_t offset, uint64_t length) {
        WriteRecord record = named(chunk, RecordKind::zero);
        record.offset = offset;
        record.length = length;
        return apply(record);
    }
    Status truncate(ChunkId chunk, uint64_t length) {
        WriteRecord record = named(chunk, RecordKind::truncate);
        record.length = length;
        return apply(record);
    }
    Result<Bytes> get(ChunkId chunk,
                      uint64_t offset,
                      uint64_t length,
                      ReadView view = ReadView::newest) {
        Bytes out;
        while (length > 0) {
            const uint64_t step = std::min<uint64_t>(length, kMaxIoBytes);
            LFS_ASSIGN(BlockData data, store->read(chunk, offset, step, view));
            const uint64_t skip = offset - data.first_block * kBlockSize;
            const View part = data.data.view().subspan(skip, step);
            out.insert(out.end(), part.begin(), part.end());
            for (size_t i = 0; i < data.plain.size(); ++i) {
                if (checksum(data.data.view().subspan(i * kBlockSize, kBlockSize)) !=
                    data.plain[i]) {
                    return Status(Errc::corrupt, "plain checksum of the answer does not fit");
                }
            }
            offset += step;
            length -= step;
        }
        return out;
    }

    sim::SimDisk disk;
    TestLoop loop;
    StoreOptions options;
    std::unique_ptr<ChunkStore> store;
    uint64_t sequence = 0;
    Epoch epoch{1};
};

}  // namespace lumeofs::store
