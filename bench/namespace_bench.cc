// SPDX-License-Identifier: Apache-2.0
// Speed of the state machine alone, on a file database: creates and size commits in batches of
// 1, 16 and 256, unlinks, look-ups and directory entries a second. No log, no network, no
// replication.
//
//     namespace_bench [DIRECTORY [FILES]]     (default: /tmp, 100000)
#include <sys/stat.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/base/prng.h"
#include "common/wire/codec.h"
#include "metad/namespace/state_machine.h"

using namespace lumeofs;
using namespace lumeofs::metad;

namespace {

double now_seconds() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

class Bench {
public:
    Bench(const std::string& folder, uint64_t files) : files_(files) {
        StateMachineOptions options;
        options.path = folder + "/namespace_bench.db";
        for (const char* suffix : {"", "-wal", "-shm"}) {
            std::remove((options.path + suffix).c_str());
        }
        auto opened = StateMachine::open(options);
        if (!opened) fail(opened.status());
        machine_ = std::move(*opened);
        wire::ApplyBootstrapT boot;
        boot.default_replicas = 3;
        boot.min_write_replicas = 2;
        one(boot);
        session_ = one(wire::ApplyOpenSessionT()).value;
        for (uint64_t i = 0; i < kDirs; ++i) {
            auto reply = one(mutation(make(kRootInode.value, "d" + std::to_string(i), S_IFDIR)));
            dirs_[i] = reply.attr->ino;
        }
    }

    void run() {
        uint64_t next = 0;
        for (size_t batch : {size_t{1}, size_t{16}, size_t{256}}) {
            measure("create", batch, files_ / 3, [&](uint64_t i) {
                return mutation(make(
                    dirs_[(next + i) % kDirs], "f" + std::to_string(next + i), S_IFREG | 0644));
            });
            next += files_ / 3;
        }
        lookups(next);
        readdirs();
        for (size_t batch : {size_t{1}, size_t{16}, size_t{256}}) {
            measure("setattr", batch, files_ / 6, [&](uint64_t i) {
                wire::SetAttrT op;
                op.ino = dirs_[kDirs - 1] + 1 + i * 7 % next;
                op.valid = static_cast<uint32_t>(wire::SetAttrBits::mtime_now);
                return mutation(op);
            });
        }
        for (size_t batch : {size_t{1}, size_t{16}, size_t{256}}) {
            measure("unlink", batch, files_ / 3, [&](uint64_t i) {
                wire::UnlinkT op;
                op.parent = dirs_[(next - 1 - i) % kDirs];
                op.name = "f" + std::to_string(next - 1 - i);
                const uint64_t victim = dirs_[kDirs - 1] + (next - i);
                auto command = mutation(op);
                command.recalled = {victim};
                return command;
            });
            next -= files_ / 3;
        }
        const double start = now_seconds();
        if (auto done = machine_->checkpoint(); !done) fail(done.status());
        std::printf("checkpoint %.0f ms\n", 1e3 * (now_seconds() - start));
    }

private:
    static constexpr uint64_t kDirs = 100;

    [[noreturn]] static void fail(const Status& status) {
        std::fprintf(stderr, "namespace_bench: %s\n", status.to_string().c_str());
        std::exit(1);
    }
    static wire::MakeT make(uint64_t parent, const std::string& name, uint32_t mode) {
        wire::MakeT op;
        op.parent = parent;
        op.name = name;
        op.mode = mode;
        op.exclusive = true;
        return op;
    }
    template <typename Op>
    wire::ApplyMutationT mutation(Op op) {
        wire::ApplyMutationT apply;
        apply.mutation = std::make_unique<wire::MutationT>();
        apply.mutation->session = session_;
        apply.mutation->slot = static_cast<uint32_t>(sequence_ % 64);
        apply.mutation->sequence = ++sequence_;
        apply.mutation->op.Set(std::move(op));
        return apply;
    }
    template <typename Op>
    Bytes command(Op op) {
        wire::CommandT whole;
        whole.now_ns = ++clock_;
        whole.op.Set(std::move(op));
        return wire::encode<wire::Command>(whole);
    }
    template <typename Op>
    wire::MetaReplyT one(Op op) {
        const Bytes bytes = command(std::move(op));
        auto replies = machine_->apply(LogIndex{machine_->applied().value + 1}, {View(bytes)});
        if (!replies) fail(replies.status());
        return std::move(*wire::decode<wire::MetaReply>(replies->front()));
    }

    template <typename Next>
    void measure(const char* what, size_t batch, uint64_t count, Next next) {
        std::vector<Bytes> commands;
        for (uint64_t i = 0; i < count; ++i) commands.push_back(command(next(i)));
        uint64_t errors = 0;
        const double start = now_seconds();
        for (uint64_t at = 0; at < count; at += batch) {
            std::vector<View> views;
            for (uint64_t i = at; i < std::min<uint64_t>(at + batch, count); ++i) {
                views.emplace_back(commands[i]);
            }
            auto replies = machine_->apply(LogIndex{machine_->applied().value + 1}, views);
            if (!replies) fail(replies.status());
            for (const Bytes& reply : *replies) {
                errors += flatbuffers::GetRoot<wire::MetaReply>(reply.data())->errc() != 0;
            }
        }
        const double seconds = now_seconds() - start;
        std::printf("%-8s batch %3zu %9.0f /s  %6.1f us%s\n",
                    what,
                    batch,
                    static_cast<double>(count) / seconds,
                    1e6 * seconds / static_cast<double>(count),
                    errors != 0 ? "  ERRORS" : "");
    }

    void lookups(uint64_t files) {
        Prng prng(1);
        const uint64_t count = files_;
        uint64_t found = 0;
        const double start = now_seconds();
        for (uint64_t i = 0; i < count; ++i) {
            const uint64_t file = prng.below(files);
            wire::QueryT query;
            wire::LookupT op;
            op.parent = dirs_[file % kDirs];
            op.name = "f" + std::to_string(file);
            query.op.Set(std::move(op));
            found += machine_->query(query).errc == 0;
        }
        const double seconds = now_seconds() - start;
        std::printf("lookup             %9.0f /s  %6.1f us%s\n",
                    static_cast<double>(count) / seconds,
                    1e6 * seconds / static_cast<double>(count),
                    found == count ? "" : "  ERRORS");
    }
    void readdirs() {
        uint64_t entries = 0;
        const double start = now_seconds();
        for (uint64_t dir : dirs_) {
            wire::ReadDirT op;
            op.ino = dir;
            op.max_bytes = 128 * 1024;
            op.plus = true;
            for (bool end = false; !end;) {
                wire::QueryT query;
                query.op.Set(wire::ReadDirT(op));
                auto reply = machine_->query(query);
                entries += reply.entries.size();
                if (!reply.entries.empty()) op.cookie = reply.entries.back()->cookie;
                end = reply.value == 1 || reply.errc != 0;
            }
        }
        std::printf("readdirplus        %9.0f entries/s\n",
                    static_cast<double>(entries) / (now_seconds() - start));
    }

    uint64_t files_;
    std::unique_ptr<StateMachine> machine_;
    uint64_t session_ = 0;
    uint64_t sequence_ = 0;
    Nanos clock_ = 1;
    uint64_t dirs_[kDirs] = {};
};

}  // namespace

int main(int argc, char** argv) {
    const std::string folder = argc > 1 ? argv[1] : "/tmp";
    const uint64_t files = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 100'000;
    Bench(folder, std::max<uint64_t>(files, 1000)).run();
    return 0;
}
