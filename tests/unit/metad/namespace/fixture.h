// SPDX-License-Identifier: Apache-2.0
// The language of the namespace tests: a state machine with one cluster, and short verbs that apply
// one command each, the way the leader would (victims and missing chunks looked up first).
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "common/wire/codec.h"
#include "doctest/doctest.h"
#include "metad/namespace/state_machine.h"

namespace lumeofs::metad {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kRoot = 1;

class Machine {
public:
    explicit Machine(StateMachineOptions options = {}) : options_(std::move(options)) { open(); }

    void open() {
        auto result = StateMachine::open(options_);
        REQUIRE_MESSAGE(result.is_ok(), result.status().to_string());
        sm = std::move(*result);
    }
    void reopen() {
        sm.reset();
        open();
    }
    void boot(uint32_t replicas = 3) {
        wire::ApplyBootstrapT op;
        op.cluster_id_high = 7;
        op.cluster_id_low = 8;
        op.default_replicas = replicas;
        op.min_write_replicas = std::min(replicas, 2u);
        REQUIRE(command(op).errc == 0);
    }
    uint64_t session(uint64_t client = 1) {
        wire::ApplyOpenSessionT op;
        op.client_id_high = client;
        op.client_id_low = client;
        op.host = "host";
        return command(op).value;
    }

    template <typename Op>
    Bytes encode_command(Op op) {
        wire::CommandT whole;
        whole.now_ns = ++clock;
        whole.op.Set(std::move(op));
        return wire::encode<wire::Command>(whole);
    }
    wire::MetaReplyT raw(const Bytes& bytes) {
        log.push_back(bytes);
        auto replies = sm->apply(LogIndex{sm->applied().value + 1}, {View(bytes)});
        REQUIRE_MESSAGE(replies.is_ok(), replies.status().to_string());
        auto reply = wire::decode<wire::MetaReply>(replies->front());
        REQUIRE(reply.is_ok());
        return std::move(*reply);
    }
    template <typename Op>
    wire::MetaReplyT command(Op op) {
        return raw(encode_command(std::move(op)));
    }

    // --- mutations, by `caller` in session `as`
    template <typename Op>
    wire::ApplyMutationT mutation(Op op) {
        wire::ApplyMutationT apply;
        apply.mutation = std::make_unique<wire::MutationT>();
        apply.mutation->session = as;
        apply.mutation->slot = slot;
        apply.mutation->sequence = ++sequence;
        apply.mutation->caller = std::make_unique<wire::CallerT>(caller);
        if constexpr (std::is_same_v<Op, wire::AllocateT>) {
            for (uint32_t index : sm->missing_chunks(InodeId{op.ino}, op.first, op.count)) {
                auto placement = std::make_unique<wire::PlacementT>();
                placement->index = index;
                placement->members = nodes;
                apply.placements.push_back(std::move(placement));
            }
        }
        apply.mutation->op.Set(std::move(op));
        for (InodeId ino : sm->victims(*apply.mutation)) apply.recalled.push_back(ino.value);
        for (InodeId ino : sm->lease_targets(*apply.mutation)) apply.recalled.push_back(ino.value);
        apply.openers = opened;
        return apply;
    }
    template <typename Op>
    wire::MetaReplyT mutate(Op op) {
        return command(mutation(std::move(op)));
    }

    wire::MetaReplyT make(uint64_t parent,
                          const std::string& name,
                          uint32_t mode,
                          const std::string& target = "",
                          bool exclusive = true) {
        wire::MakeT op;
        op.parent = parent;
        op.name = name;
        op.mode = mode;
        op.target = target;
        op.exclusive = exclusive;
        return mutate(op);
    }
    uint64_t file(uint64_t parent, const std::string& name) {
        return made(make(parent, name, S_IFREG | 0644));
    }
    uint64_t dir(uint64_t parent, const std::string& name) {
        return made(make(parent, name, S_IFDIR | 0755));
    }
    wire::MetaReplyT link(uint64_t ino, uint64_t parent, const std::string& name) {
        wire::LinkT op;
        op.ino = ino;
        op.new_parent = parent;
        op.new_name = name;
        return mutate(op);
    }
    wire::MetaReplyT unlink(uint64_t parent, const std::string& name, bool directory = false) {
        wire::UnlinkT op;
        op.parent = parent;
        op.name = name;
        op.directory = directory;
        return mutate(op);
    }
    wire::MetaReplyT rmdir(uint64_t parent, const std::string& name) {
        return unlink(parent, name, true);
    }
    wire::MetaReplyT rename(uint64_t parent,
                            const std::string& name,
                            uint64_t new_parent,
                            const std::string& new_name,
                            uint32_t flags = 0) {
        wire::RenameT op;
        op.parent = parent;
        op.name = name;
        op.new_parent = new_parent;
        op.new_name = new_name;
        op.flags = flags;
        return mutate(op);
    }
    wire::MetaReplyT truncate(uint64_t ino, uint64_t size) {
        wire::SetAttrT op;
        op.ino = ino;
        op.valid = static_cast<uint32_t>(wire::SetAttrBits::size);
        op.size = size;
        return mutate(op);
    }
    wire::MetaReplyT write_inline(uint64_t ino, uint64_t offset, const std::string& text) {
        wire::WriteInlineT op;
        op.ino = ino;
        op.offset = offset;
        op.data.assign(text.begin(), text.end());
        op.truncate_generation = attr(ino).truncate_generation;
        return mutate(op);
    }
    wire::MetaReplyT allocate(uint64_t ino, uint32_t first, uint32_t count) {
        wire::AllocateT op;
        op.ino = ino;
        op.first = first;
        op.count = count;
        op.truncate_generation = attr(ino).truncate_generation;
        op.move_out_version = attr(ino).version;
        return mutate(op);
    }
    wire::MetaReplyT commit(uint64_t ino,
                            uint64_t size,
                            bool release = false,
                            bool moved_out = false) {
        wire::CommitWriteT op;
        op.ino = ino;
        op.size = size;
        op.truncate_generation = attr(ino).truncate_generation;
        op.release = release;
        op.moved_out = moved_out;
        return mutate(op);
    }
    // A file with all its chunks, committed and released.
    uint64_t big_file(uint64_t parent, const std::string& name, uint64_t size) {
        const uint64_t ino = file(parent, name);
        const auto count = static_cast<uint32_t>((size + kChunkSize - 1) / kChunkSize);
        for (uint32_t i = 0; i < count; i += kMaxChunksPerAllocate) {
            REQUIRE(allocate(ino, i, std::min(kMaxChunksPerAllocate, count - i)).errc == 0);
        }
        REQUIRE(commit(ino, size, true).errc == 0);
        return ino;
    }
    wire::MetaReplyT fence(uint64_t id) { return end(id, true); }
    wire::MetaReplyT end(uint64_t id, bool fence_only = false) {
        wire::ApplyEndSessionT op;
        op.session = id;
        op.fence_only = fence_only;
        return command(op);
    }
    wire::MetaReplyT cleanup() { return command(wire::ApplyCleanupT()); }

    // --- reads
    template <typename Op>
    wire::MetaReplyT query(Op op) {
        wire::QueryT whole;
        whole.session = as;
        whole.caller = std::make_unique<wire::CallerT>(caller);
        whole.op.Set(std::move(op));
        return sm->query(whole);
    }
    wire::MetaReplyT lookup(uint64_t parent, const std::string& name) {
        wire::LookupT op;
        op.parent = parent;
        op.name = name;
        return query(op);
    }
    wire::AttrT attr(uint64_t ino) {
        auto found = sm->inode(InodeId{ino});
        return found ? *found : wire::AttrT();
    }
    std::string data(uint64_t ino) {
        auto reply = sm->layout(InodeId{ino}, 0, 16, SessionId{as}, false);
        return std::string(reply.data.begin(), reply.data.end());
    }
    std::vector<std::string> names(uint64_t ino, uint32_t max_bytes = kMaxReaddirBytes) {
        std::vector<std::string> found;
        wire::ReadDirT op;
        op.ino = ino;
        op.max_bytes = max_bytes;
        for (;;) {
            auto reply = query(op);
            REQUIRE(reply.errc == 0);
            for (const auto& entry : reply.entries) {
                CHECK(entry->cookie > op.cookie);
                op.cookie = entry->cookie;
                found.push_back(entry->name);
            }
            if (reply.value == 1) return found;
        }
    }
    uint64_t digest() {
        auto value = sm->digest();
        REQUIRE(value.is_ok());
        return *value;
    }
    void check() {
        for (const std::string& sentence : sm->check_invariants()) FAIL_CHECK(sentence);
    }

    static uint64_t made(const wire::MetaReplyT& reply) {
        REQUIRE(reply.errc == 0);
        REQUIRE(reply.attr);
        return reply.attr->ino;
    }

    std::unique_ptr<StateMachine> sm;
    std::vector<Bytes> log;  // all commands so far
    wire::CallerT caller;
    std::vector<uint64_t> nodes{11, 12, 13};  // where new chunks go
    std::vector<uint64_t> opened;             // inodes that some session has open
    uint64_t as = 0;
    uint32_t slot = 0;
    uint64_t sequence = 0;
    Nanos clock = 1'000'000;

private:
    StateMachineOptions options_;
};

// A machine with a cluster and one session.
struct Cluster : Machine {
    Cluster() {
        boot();
        as = session();
        REQUIRE(as != 0);
    }
    ~Cluster() { check(); }
};

inline Errc errc(const wire::MetaReplyT& reply) { return static_cast<Errc>(reply.errc); }

}  // namespace lumeofs::metad

// Prints the names of error codes that differ.
#define CHECK_ERRC(reply, expected)                          \
    CHECK(lumeofs::errc_name(lumeofs::metad::errc(reply)) == \
          lumeofs::errc_name(lumeofs::Errc::expected))
