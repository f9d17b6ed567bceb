// SPDX-License-Identifier: Apache-2.0
// The lfsx tester: the model of one file, the mounts through which it is reached, and the log of
// operations. lfsx.cc says what the program is; lfsx_ops.cc holds the operations themselves.
// Invariant: model_ equals the file in [0, size_) and is zero from size_ on, between operations.
// single-thread: main.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace lumeofs::lfsx {

inline constexpr size_t kPage = 4096;       // alignment of O_DIRECT and of mappings
inline constexpr size_t kLogSize = 2000;    // operations remembered
inline constexpr size_t kLogPrinted = 120;  // newest operations printed whatever they touched
inline constexpr uint64_t kCompareEvery = 2000;

enum class Op : uint8_t {
    read,
    write,
    append,
    truncate,
    punch,
    zero,
    zero_keep,
    allocate,
    allocate_keep,
    copy,
    map_read,
    map_write,
    direct_read,
    direct_write,
    seek,
    reopen,
    fsync,
    fdatasync,
    drop_cache,
    count
};

struct OpInfo {
    std::string_view name;
    uint32_t weight;
};

inline constexpr std::array<OpInfo, static_cast<size_t>(Op::count)> kOps{{
    {"read", 20},    {"write", 20},    {"append", 4},      {"truncate", 6},      {"punch", 5},
    {"zero", 4},     {"zero_keep", 2}, {"allocate", 3},    {"allocate_keep", 2}, {"copy", 5},
    {"map_read", 8}, {"map_write", 8}, {"direct_read", 6}, {"direct_write", 6},  {"seek", 4},
    {"reopen", 2},   {"fsync", 1},     {"fdatasync", 1},   {"drop_cache", 1},
}};

struct Options {
    uint64_t seed = 1;
    uint64_t ops = 10000;
    size_t max_size = 256 * 1024;
    size_t max_io = 64 * 1024;
    off_t base = 0;  // file offset of the tested window; everything below is a hole
    bool use_mmap = true;
    bool use_direct = true;
    bool close_to_open = false;  // several mounts: close before going to another mount
    uint64_t plant = 0;          // self-test: damage a byte before each operation from this one on
    uint64_t hook_every = 0;
    std::string hook;  // shell command run every hook_every operations
    std::vector<std::string> paths;
};

struct Entry {
    uint64_t number = 0;
    Op op = Op::count;
    size_t mount = 0;
    size_t offset = 0;  // all offsets inside the window
    size_t length = 0;
    size_t target = 0;  // copy only
    size_t size_before = 0;
    size_t size_after = 0;
    bool skipped = false;
};

struct Mount {
    std::string file;
    int fd = -1;
    int direct_fd = -1;
    int append_fd = -1;
};

// splitmix64: small, and the same on every platform.
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        state_ += 0x9e3779b97f4a7c15ULL;
        uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
    }
    size_t below(size_t limit) { return limit == 0 ? 0 : static_cast<size_t>(next() % limit); }

private:
    uint64_t state_;
};

class PageBuffer {  // aligned for O_DIRECT
public:
    explicit PageBuffer(size_t size)
        : data_(static_cast<uint8_t*>(std::aligned_alloc(kPage, size))) {}
    ~PageBuffer() { std::free(data_); }
    PageBuffer(const PageBuffer&) = delete;
    PageBuffer& operator=(const PageBuffer&) = delete;
    uint8_t* data() const { return data_; }

private:
    uint8_t* data_;
};

inline size_t round_up(size_t value) { return (value + kPage - 1) / kPage * kPage; }

class Tester {
public:
    explicit Tester(const Options& options);
    ~Tester() { close_all(); }
    Tester(const Tester&) = delete;
    Tester& operator=(const Tester&) = delete;
    int run();

private:
    enum class Outcome : uint8_t { done, unsupported };

    void open_mount(Mount& mount);
    void close_mount(Mount& mount);
    void close_all();
    void step();
    Op choose_op();
    void choose_range(Op op);
    Outcome perform();
    Outcome do_read(bool direct);
    Outcome do_write(int fd, bool direct);
    Outcome do_append();
    Outcome do_truncate();
    Outcome do_fallocate(int mode);
    Outcome do_copy();
    Outcome do_map_read();
    Outcome do_map_write();
    Outcome do_seek();
    Outcome do_reopen();
    Outcome do_sync();
    void plant_damage();
    void compare_all(Mount& mount);
    void check_size(Mount& mount);
    void check_bytes(const uint8_t* found, size_t offset, size_t length, const char* what);
    void check_zero(size_t from, size_t to, const char* what);
    void fill(size_t offset, size_t length);
    void grow(size_t end);
    off_t at(size_t offset) const { return options_.base + static_cast<off_t>(offset); }
    [[noreturn]] void stop(size_t bad_offset, const char* format, ...)
        __attribute__((format(printf, 3, 4)));
    void print_log(size_t bad_offset) const;

    const Options& options_;
    Random random_;
    std::vector<Mount> mounts_;
    std::vector<uint8_t> model_;  // whole window; bytes at and behind size_ are always zero
    size_t size_ = 0;
    size_t last_mount_ = 0;
    PageBuffer buffer_;
    Entry now_;
    std::vector<Entry> log_;  // a ring once it has kLogSize entries
    size_t next_log_ = 0;     // oldest entry of the ring
    std::array<uint64_t, static_cast<size_t>(Op::count)> done_{};
    std::array<uint64_t, static_cast<size_t>(Op::count)> skipped_{};
};

inline constexpr size_t kNowhere = ~size_t{0};  // a failure that no byte of the file shows

}  // namespace lumeofs::lfsx
