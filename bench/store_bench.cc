// SPDX-License-Identifier: Apache-2.0
// Figures of the chunk store on a real disk: store_bench [DIR] (default ./store_bench.data, removed
// at the end). Every write is answered only when it is durable.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "chunkd/store/chunk_store.h"
#include "common/base/checksum.h"
#include "common/env/posix_file_system.h"
#include "common/env/real_loop.h"

namespace lumeofs {
namespace {

struct Bench {
    PosixFileSystem fs;
    RealLoop loop;
    std::unique_ptr<store::ChunkStore> chunks;
    uint64_t sequence = 0;
    uint64_t next_chunk = 1;
    Buffer data = Buffer::allocate(4 << 20);

    ChunkId make_chunk() {
        const ChunkId id{next_chunk++};
        store::WriteRecord record;
        record.chunk = id;
        record.kind = store::RecordKind::create;
        record.name.epoch = Epoch{1};
        loop.run_and_wait([&] { ignore(chunks->write(record, {}, {}), "checked by the writes"); });
        return id;
    }
};

struct Load {
    uint64_t size = 0;
    uint64_t count = 0;
    int outstanding = 1;
    bool fresh = true;  // else over what is there, at pseudo-random places of 16 MiB
};

struct Running {
    Bench& bench;
    const Load load;
    ChunkId chunk;
    uint64_t started = 0;
    uint64_t finished = 0;
    uint64_t failed = 0;
    Nanos begun = 0;
    Nanos ended = 0;
    std::vector<uint64_t> plain;

    void one() {
        const uint64_t n = started++;
        store::WriteRecord record;
        const uint64_t per_chunk = kChunkSize / load.size;
        if (load.fresh && n > 0 && n % per_chunk == 0) {
            store::WriteRecord create;
            create.chunk = chunk = ChunkId{bench.next_chunk++};
            create.kind = store::RecordKind::create;
            create.name.epoch = Epoch{1};
            ignore(bench.chunks->write(create, {}, {}), "checked by the writes");
        }
        record.chunk = chunk;
        record.name = {Epoch{1}, Incarnation{1}, ++bench.sequence};
        record.commit_point = {Epoch{1}, Incarnation{1}, bench.sequence - 1};
        record.length = load.size;
        record.offset = load.fresh ? n % per_chunk * load.size
                                   : n * 7919 % ((uint64_t{16} << 20) / load.size) * load.size;
        store::Payload payload;
        payload.data = bench.data.slice(n % 4 * 4096, load.size);
        payload.plain = plain;
        const Status status = bench.chunks->write(record, payload, [this](const Status& done) {
            if (!done.is_ok()) ++failed;
            if (++finished == load.count) ended = bench.loop.now();
            if (started < load.count) one();
        });
        if (!status.is_ok()) {
            std::printf("refused: %s\n", status.to_string().c_str());
            ++failed;
            ++finished;
        }
    }
};

double run(Bench& bench, const char* name, const Load& load) {
    Running running{bench, load, bench.make_chunk(), 0, 0, 0, 0, 0, {}};
    if (!load.fresh) {
        Load fill{1 << 20, 16, 1, true};
        Running filling{bench, fill, running.chunk, 0, 0, 0, 0, 0, {}};
        bench.loop.run_and_wait([&] { filling.one(); });
        while (true) {
            uint64_t finished = 0;
            bench.loop.run_and_wait([&] { finished = filling.finished; });
            if (finished >= fill.count) break;
        }
    }
    bench.loop.run_and_wait([&] {
        running.begun = bench.loop.now();
        for (int i = 0; i < load.outstanding && running.started < load.count; ++i) running.one();
    });
    while (true) {
        uint64_t finished = 0;
        bench.loop.run_and_wait([&] { finished = running.finished; });
        if (finished >= load.count) break;
    }
    const double seconds = static_cast<double>(running.ended - running.begun) / 1e9;
    const double rate = static_cast<double>(load.count) / seconds;
    std::printf("%-44s %10.0f /s %10.1f MB/s%s\n",
                name,
                rate,
                rate * static_cast<double>(load.size) / 1e6,
                running.failed > 0 ? "  FAILED" : "");
    return rate;
}

// Small files: a new chunk and 8 KiB in it, `batch` of them per turn of the loop.
void small_files(Bench& bench, uint64_t count, uint64_t batch) {
    uint64_t finished = 0;
    const Nanos begun = bench.loop.now();
    for (uint64_t done = 0; done < count; done += batch) {
        bench.loop.run_and_wait([&] {
            for (uint64_t i = 0; i < batch; ++i) {
                store::WriteRecord record;
                record.chunk = ChunkId{bench.next_chunk++};
                record.kind = store::RecordKind::create;
                record.name = {Epoch{1}, Incarnation{1}, 0};
                ignore(bench.chunks->write(record, {}, {}), "checked by the write");
                record.kind = store::RecordKind::data;
                record.name.sequence = 1;
                record.commit_point = record.name;
                record.length = 8192;
                store::Payload payload;
                payload.data = bench.data.slice(0, 8192);
                ignore(bench.chunks->write(record, payload, [&](const Status&) { ++finished; }),
                       "counted");
            }
        });
    }
    while (finished < count) bench.loop.run_and_wait([] {});
    const double seconds = static_cast<double>(bench.loop.now() - begun) / 1e9;
    std::printf("%-44s %10.0f /s\n",
                fmt::format("new chunk with 8 KiB, {} at a time", batch).c_str(),
                static_cast<double>(count) / seconds);
}

void reopen(Bench& bench, const store::StoreOptions& options) {
    bench.loop.run_and_wait([&] {
        bench.chunks.reset();
        const Nanos begun = bench.loop.now();
        auto result = store::ChunkStore::open(bench.fs, bench.loop, options);
        if (!result.is_ok()) return;
        bench.chunks = std::move(result).value();
        std::printf("start with %lu chunks: %.0f ms\n",
                    bench.chunks->chunk_count(),
                    static_cast<double>(bench.loop.now() - begun) / 1e6);
    });
}

void read_back(Bench& bench) {
    const uint64_t bytes = uint64_t{512} << 20;
    uint64_t done = 0;
    const Nanos begun = bench.loop.now();
    bench.loop.run_and_wait([&] {
        for (const auto& item : bench.chunks->list(ChunkId{0}, 1000)) {
            for (uint64_t at = 0; at + (1 << 20) <= item.length && done < bytes; at += 1 << 20) {
                auto data = bench.chunks->read(item.chunk, at, 1 << 20);
                if (data.is_ok()) done += 1 << 20;
            }
        }
    });
    const double seconds = static_cast<double>(bench.loop.now() - begun) / 1e9;
    std::printf("%-44s %10s    %10.1f MB/s\n",
                "read and verify, 1 MiB",
                "",
                static_cast<double>(done) / 1e6 / seconds);
}

int bench_main(const std::string& dir) {
    std::filesystem::create_directories(dir);
    Bench bench;
    std::memset(bench.data.mutable_data(), 0x5A, bench.data.size());
    store::StoreOptions options;
    options.dirs = {std::filesystem::absolute(dir).string()};
    options.seed = 1;
    Status opened;
    bench.loop.run_and_wait([&] {
        auto result = store::ChunkStore::open(bench.fs, bench.loop, options);
        if (result.is_ok()) bench.chunks = std::move(result).value();
        opened = result.status();
    });
    if (!bench.chunks) {
        std::fprintf(stderr, "%s\n", opened.to_string().c_str());
        return 1;
    }
    run(bench, "1 MiB fresh, 1 outstanding", {1 << 20, 1000, 1, true});
    run(bench, "1 MiB fresh, 4 outstanding", {1 << 20, 1000, 4, true});
    run(bench, "64 KiB fresh, 1 outstanding", {64 << 10, 4000, 1, true});
    run(bench, "64 KiB fresh, 4 outstanding", {64 << 10, 4000, 4, true});
    run(bench, "1 MiB overwrite, 4 outstanding", {1 << 20, 500, 4, false});
    run(bench, "4 KiB overwrite, 1 outstanding", {4096, 10'000, 1, false});
    run(bench, "4 KiB overwrite, 16 outstanding", {4096, 40'000, 16, false});
    run(bench, "4 KiB append, 16 outstanding", {4096, 40'000, 16, true});
    // What was written is given back; the same again into recycled space.
    bench.loop.run_and_wait([&] {
        for (const auto& item : bench.chunks->list(ChunkId{0}, 1000)) {
            ignore(bench.chunks->remove(item.chunk, {}), "checked by what follows");
        }
        ignore(bench.chunks->purge_trash(INT64_MAX, 1000, {}), "checked by what follows");
        ignore(bench.chunks->checkpoint_now(), "checked by what follows");
    });
    run(bench, "1 MiB recycled, 1 outstanding", {1 << 20, 1000, 1, true});
    run(bench, "1 MiB recycled, 4 outstanding", {1 << 20, 1000, 4, true});
    run(bench, "64 KiB recycled, 1 outstanding", {64 << 10, 4000, 1, true});
    run(bench, "64 KiB recycled, 4 outstanding", {64 << 10, 4000, 4, true});
    read_back(bench);
    small_files(bench, 4000, 1);
    small_files(bench, 32'000, 32);
    bench.loop.run_and_wait([&] {
        const store::StoreStats stats = bench.chunks->stats();
        std::printf(
            "log batches %lu, syncs %lu, home syncs %lu, checkpoints %lu, longest slice %.1f ms, "
            "longest sync %.1f ms\n",
            stats.log_batches,
            stats.log_syncs,
            stats.home_syncs,
            stats.checkpoints,
            static_cast<double>(stats.checkpoint_nanos_max) / 1e6,
            static_cast<double>(stats.sync_nanos_max) / 1e6);
    });
    reopen(bench, options);
    if (!bench.chunks) return 1;
    bench.loop.run_and_wait([&] { bench.chunks.reset(); });
    bench.loop.stop();
    std::filesystem::remove_all(dir);
    return 0;
}

}  // namespace
}  // namespace lumeofs

int main(int argc, char** argv) {
    return lumeofs::bench_main(argc > 1 ? argv[1] : "./store_bench.data");
}
