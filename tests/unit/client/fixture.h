// SPDX-License-Identifier: Apache-2.0
// Two metads, three chunkds and any number of clients on one loop of virtual time, with calls that
// wait for their answer: the language of the client's tests.
// single-thread.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/vfs.h"
#include "tests/unit/client/fake_chunkd.h"

namespace lumeofs::client_test {

using namespace client;  // NOLINT: the language of these tests

struct Cluster {
    explicit Cluster(uint64_t seed = 1) : prng(seed) {
        for (uint64_t node = 1; node <= 2; ++node) {
            metads.push_back(std::make_unique<FakeMetad>(
                loop, network, state, prng.fork("m" + std::to_string(node)), node, meta_faults));
        }
        for (uint64_t node = 11; node <= 13; ++node) {
            chunkds.push_back(std::make_unique<FakeChunkd>(
                loop, network, state, prng.fork("c" + std::to_string(node)), node, chunk_faults));
            wire::NodeAddressT address;
            address.node = node;
            address.address = chunkds.back()->address();
            address.role = static_cast<uint8_t>(Role::chunkd);
            state.nodes.push_back(address);
        }
        lead(0);
    }
    // Metad `at` leads from now on; the old leader's memory is gone.
    void lead(size_t at) {
        std::set<uint64_t> live;
        for (const auto& [session, client] : state.sessions) live.insert(session);
        for (auto& metad : metads) {
            metad->resign();
            metad->leader_address = metads[at]->address();
        }
        metads[at]->lead(++term, live);
        leader = at;
    }
    FakeMetad& lead_metad() { return *metads[leader]; }

    FakeLoop loop;
    std::shared_ptr<InprocNetwork> network = std::make_shared<InprocNetwork>();
    FakeState state;
    Prng prng;
    FakeMetad::Faults meta_faults;
    FakeChunkd::Faults chunk_faults;
    std::vector<std::unique_ptr<FakeMetad>> metads;
    std::vector<std::unique_ptr<FakeChunkd>> chunkds;
    size_t leader = 0;
    uint64_t term = 0;
};

inline Bytes pattern(uint64_t seed, uint64_t size) {
    Bytes bytes(size);
    for (uint64_t i = 0; i < size; ++i)
        bytes[i] = static_cast<uint8_t>((seed * 131 + i * 7 + i / 251) | 1);
    return bytes;
}

// A client whose calls turn the loop until they are answered.
struct TestClient {
    explicit TestClient(Cluster& c, uint64_t seed = 7, ClientOptions options = {})
        : cluster(c), transport(c.loop, c.network) {
        for (auto& metad : c.metads) options.metads.push_back(metad->address());
        vfs = std::make_unique<Vfs>(c.loop, transport, Prng(seed), options);
    }
    void start() {
        LFS_ASSERT(status([&](StatusDone done) { vfs->start(std::move(done)); }).is_ok());
    }

    Status status(const std::function<void(StatusDone)>& call) {
        std::optional<Status> answer;
        call([&answer](const Status& got) {
            LFS_ASSERT(!answer);
            answer = got;
        });
        LFS_ASSERT(turn([&] { return answer.has_value(); }));
        return *answer;
    }
    // False, having said who waits for what, if the answer does not come.
    bool turn(const std::function<bool()>& done) {
        if (cluster.loop.run_until(done)) return true;
        for (const OpStatus& op : vfs->status().waiting) {
            MESSAGE(op.name << " of inode " << op.ino.value << " waits for " << op.waits_for);
        }
        for (const std::string& line : vfs->status().inodes) MESSAGE(line);
        return false;
    }
    template <typename T>
    Result<T> wait(const std::function<void(Done<T>)>& call) {
        std::optional<Result<T>> answer;
        call([&answer](Result<T> got) {
            LFS_ASSERT(!answer);
            answer = std::move(got);
        });
        LFS_ASSERT(turn([&] { return answer.has_value(); }));
        return std::move(*answer);
    }
    Result<Opened> create(const std::string& name, uint32_t flags = 2) {
        return wait<Opened>([&](Done<Opened> done) {
            vfs->create(caller, kRootInode, name, 0644, flags, std::move(done));
        });
    }
    Result<Opened> open(InodeId ino, uint32_t flags = 2) {
        return wait<Opened>(
            [&](Done<Opened> done) { vfs->open(caller, ino, flags, std::move(done)); });
    }
    Result<uint64_t> write(HandleId handle, uint64_t offset, const Bytes& bytes) {
        return wait<uint64_t>([&](Done<uint64_t> done) {
            vfs->write(caller, handle, offset, Buffer::copy_of(bytes), std::move(done));
        });
    }
    Result<Bytes> read(HandleId handle, uint64_t offset, uint64_t size) {
        auto data = wait<ReadData>(
            [&](Done<ReadData> done) { vfs->read(caller, handle, offset, size, std::move(done)); });
        if (!data.is_ok()) return data.status();
        Bytes bytes;
        for (const Buffer& part : data->parts)
            bytes.insert(bytes.end(), part.data(), part.data() + part.size());
        LFS_ASSERT(bytes.size() == data->size);
        return bytes;
    }
    Status flush(HandleId handle) {
        return status([&](StatusDone done) { vfs->flush(caller, handle, std::move(done)); });
    }
    Status fsync(HandleId handle) {
        return status([&](StatusDone done) { vfs->fsync(caller, handle, false, std::move(done)); });
    }
    Status close(HandleId handle) {
        Status result = flush(handle);
        vfs->release(handle, [](const Status&) {});
        return result;
    }
    // A file that was written and closed.
    InodeId written(const std::string& name, const Bytes& bytes) {
        const auto file = create(name);
        REQUIRE(write(file->handle, 0, bytes).is_ok());
        REQUIRE(close(file->handle).is_ok());
        return file->attr.ino;
    }
    Result<Attr> getattr(InodeId ino, HandleId handle = 0) {
        return wait<Attr>(
            [&](Done<Attr> done) { vfs->getattr(caller, ino, handle, std::move(done)); });
    }
    Result<Attr> truncate(InodeId ino, uint64_t size, HandleId handle = 0) {
        SetAttrs attrs;
        attrs.size = size;
        return wait<Attr>(
            [&](Done<Attr> done) { vfs->setattr(caller, ino, handle, attrs, std::move(done)); });
    }
    Result<Attr> lookup(const std::string& name) {
        return wait<Attr>(
            [&](Done<Attr> done) { vfs->lookup(caller, kRootInode, name, std::move(done)); });
    }
    Status punch(HandleId handle, uint32_t mode, uint64_t offset, uint64_t length) {
        return status([&](StatusDone done) {
            vfs->fallocate(caller, handle, mode, offset, length, std::move(done));
        });
    }
    Result<uint64_t> seek(HandleId handle, uint64_t offset, Seek what) {
        return wait<uint64_t>([&](Done<uint64_t> done) {
            vfs->lseek(caller, handle, offset, what, std::move(done));
        });
    }

    Cluster& cluster;
    InprocTransport transport;
    Caller caller;
    std::unique_ptr<Vfs> vfs;
};

}  // namespace lumeofs::client_test
