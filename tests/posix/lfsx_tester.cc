// SPDX-License-Identifier: Apache-2.0
// lfsx: how a run goes, how operations are chosen, how the file is compared with its model, and
// what is printed on a mismatch.
// single-thread: main.
#include "tests/posix/lfsx_tester.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace lumeofs::lfsx {

Tester::Tester(const Options& options)
    : options_(options),
      random_(options.seed),
      model_(round_up(options.max_size) + kPage, 0),
      buffer_(round_up(options.max_size) + kPage) {
    log_.reserve(kLogSize);
    for (const std::string& path : options.paths) {
        mounts_.push_back(Mount{.file = path + "/lfsx." + std::to_string(options.seed)});
    }
}

void Tester::stop(size_t bad_offset, const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::printf("lfsx: seed %llu, operation %llu: ",
                static_cast<unsigned long long>(options_.seed),
                static_cast<unsigned long long>(now_.number));
    std::vprintf(format, arguments);
    va_end(arguments);
    std::printf("\n");
    print_log(bad_offset);
    std::printf("lfsx: the file is left as %s\n", mounts_[now_.mount].file.c_str());
    std::fflush(stdout);
    std::_Exit(1);
}

void Tester::print_log(size_t bad_offset) const {
    std::vector<Entry> entries;
    for (size_t i = 0; i < log_.size(); ++i) {
        entries.push_back(log_.size() < kLogSize ? log_[i] : log_[(next_log_ + i) % kLogSize]);
    }
    bool logged = !entries.empty() && entries.back().number == now_.number;
    if (now_.number > 0 && !logged) {
        entries.push_back(now_);
    }
    for (size_t i = 0; i < entries.size(); ++i) {
        const Entry& e = entries[i];
        bool touches =
            bad_offset != kNowhere &&
            ((bad_offset >= e.offset && bad_offset - e.offset < e.length) ||
             (e.op == Op::copy && bad_offset >= e.target && bad_offset - e.target < e.length) ||
             (bad_offset >= std::min(e.size_before, e.size_after) &&
              bad_offset < std::max(e.size_before, e.size_after)));
        if (!touches && i + kLogPrinted < entries.size()) {
            continue;
        }
        std::printf("%8llu mount %zu %-13s 0x%zx..0x%zx",
                    static_cast<unsigned long long>(e.number),
                    e.mount,
                    kOps[static_cast<size_t>(e.op)].name.data(),
                    e.offset,
                    e.offset + e.length);
        if (e.op == Op::copy) {
            std::printf(" to 0x%zx", e.target);
        }
        if (e.size_before != e.size_after) {
            std::printf(" size 0x%zx -> 0x%zx", e.size_before, e.size_after);
        }
        std::printf("%s%s\n", e.skipped ? " (not supported)" : "", touches ? " ***" : "");
    }
}

void Tester::open_mount(Mount& mount) {
    mount.fd = open(mount.file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    mount.append_fd = open(mount.file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (mount.fd < 0 || mount.append_fd < 0) {
        stop(kNowhere, "open %s: %s", mount.file.c_str(), std::strerror(errno));
    }
    if (options_.use_direct) {
        mount.direct_fd = open(mount.file.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
        if (mount.direct_fd < 0 && errno != EINVAL) {
            stop(kNowhere, "open O_DIRECT %s: %s", mount.file.c_str(), std::strerror(errno));
        }
    }
}

void Tester::close_mount(Mount& mount) {
    for (int* fd : {&mount.fd, &mount.direct_fd, &mount.append_fd}) {
        if (*fd >= 0 && close(*fd) != 0) {
            stop(kNowhere, "close: %s", std::strerror(errno));
        }
        *fd = -1;
    }
}

void Tester::close_all() {
    for (Mount& mount : mounts_) {
        close_mount(mount);
    }
}

void Tester::check_zero(size_t from, size_t to, const char* what) {
    for (size_t i = from; i < to; ++i) {
        if (model_[i] != 0) {
            stop(i, "%s says that there is a hole at 0x%zx, expected data there", what, i);
        }
    }
}

void Tester::check_bytes(const uint8_t* found, size_t offset, size_t length, const char* what) {
    if (std::memcmp(found, &model_[offset], length) == 0) {
        return;
    }
    size_t first = 0;
    while (found[first] == model_[offset + first]) {
        ++first;
    }
    size_t bad = 0;
    for (size_t i = first; i < length; ++i) {
        bad += found[i] != model_[offset + i] ? 1U : 0U;
    }
    std::printf("lfsx: at 0x%zx expected", offset + first);
    for (size_t i = first; i < std::min(first + 16, length); ++i) {
        std::printf(" %02x", model_[offset + i]);
    }
    std::printf(", found");
    for (size_t i = first; i < std::min(first + 16, length); ++i) {
        std::printf(" %02x", found[i]);
    }
    std::printf("\n");
    stop(offset + first,
         "%s: wrong bytes at 0x%zx (file offset %lld), %zu of %zu differ",
         what,
         offset + first,
         static_cast<long long>(at(offset + first)),
         bad,
         length);
}

void Tester::check_size(Mount& mount) {
    struct stat status {};
    if (fstat(mount.fd, &status) != 0) {
        stop(kNowhere, "fstat: %s", std::strerror(errno));
    }
    if (status.st_size != at(size_)) {
        stop(kNowhere,
             "size on %s: expected %lld, found %lld",
             mount.file.c_str(),
             static_cast<long long>(at(size_)),
             static_cast<long long>(status.st_size));
    }
}

void Tester::compare_all(Mount& mount) {
    check_size(mount);
    size_t have = 0;
    while (have < size_) {
        ssize_t got = pread(mount.fd, buffer_.data() + have, size_ - have, at(have));
        if (got <= 0) {
            stop(have,
                 "read of the whole file at 0x%zx: %s",
                 have,
                 got == 0 ? "end of file" : std::strerror(errno));
        }
        have += static_cast<size_t>(got);
    }
    check_bytes(buffer_.data(), 0, size_, "whole file");
}

// The bytes say which operation wrote them, so that a mix of two writes can be told apart.
void Tester::fill(size_t offset, size_t length) {
    for (size_t i = offset; i < offset + length; ++i) {
        model_[i] = static_cast<uint8_t>(1 + (i * 7 + now_.number * 31 + i / 251) % 255);
    }
}

void Tester::grow(size_t end) { size_ = std::max(size_, end); }

Op Tester::choose_op() {
    uint32_t total = 0;
    for (const OpInfo& info : kOps) {
        total += info.weight;
    }
    size_t pick = random_.below(total);
    size_t index = 0;
    while (pick >= kOps[index].weight) {
        pick -= kOps[index].weight;
        ++index;
    }
    Op op = static_cast<Op>(index);
    if (!options_.use_mmap) {
        op = op == Op::map_read ? Op::read : op == Op::map_write ? Op::write : op;
    }
    if (!options_.use_direct) {
        op = op == Op::direct_read ? Op::read : op == Op::direct_write ? Op::write : op;
    }
    return op;
}

// Ranges of every scale: bytes, blocks, and the whole window; often aligned, often at the end.
void Tester::choose_range(Op op) {
    size_t max_size = options_.max_size;
    size_t limit = random_.below(4) == 0 ? options_.max_io : size_t{1} << random_.below(17);
    limit = std::clamp<size_t>(limit, 1, std::min(options_.max_io, max_size));
    now_.offset = random_.below(4) == 0 ? size_ - random_.below(std::min(size_, kPage) + 1)
                                        : random_.below(max_size);
    now_.length = 1 + random_.below(limit);
    bool aligned = random_.below(3) == 0 || op == Op::direct_read || op == Op::direct_write;
    if (aligned) {
        now_.offset = now_.offset / kPage * kPage;
        now_.length = round_up(now_.length);
    }
    now_.offset = std::min(now_.offset, max_size - (aligned ? kPage : 1));
    now_.length = std::min(now_.length, max_size - now_.offset);
    now_.target = random_.below(max_size);
}

void Tester::plant_damage() {
    if (size_ == 0) {
        return;
    }
    uint8_t wrong = static_cast<uint8_t>(model_[size_ / 2] + 1);
    if (pwrite(mounts_[0].fd, &wrong, 1, at(size_ / 2)) != 1) {
        stop(kNowhere, "planting a wrong byte: %s", std::strerror(errno));
    }
}

void Tester::step() {
    now_.op = choose_op();
    now_.mount = random_.below(mounts_.size());
    now_.size_before = size_;
    now_.skipped = false;
    choose_range(now_.op);
    if (options_.close_to_open && now_.mount != last_mount_) {
        close_mount(mounts_[last_mount_]);
        close_mount(mounts_[now_.mount]);
        open_mount(mounts_[now_.mount]);
    }
    now_.skipped = perform() == Outcome::unsupported;
    now_.size_after = size_;
    ++(now_.skipped ? skipped_ : done_)[static_cast<size_t>(now_.op)];
    check_size(mounts_[now_.mount]);
    last_mount_ = now_.mount;
    if (log_.size() < kLogSize) {
        log_.push_back(now_);
    } else {
        log_[next_log_] = now_;
        next_log_ = (next_log_ + 1) % kLogSize;
    }
}

int Tester::run() {
    for (Mount& mount : mounts_) {
        if (&mount == &mounts_.front()) {
            (void)unlink(mount.file.c_str());
        }
        open_mount(mount);
    }
    if (ftruncate(mounts_[0].fd, options_.base) != 0) {
        stop(kNowhere, "truncate to the base: %s", std::strerror(errno));
    }
    for (now_.number = 1; now_.number <= options_.ops; ++now_.number) {
        if (options_.plant != 0 && now_.number >= options_.plant) {
            plant_damage();
        }
        step();
        if (now_.number % kCompareEvery == 0) {
            compare_all(mounts_[now_.mount]);
        }
        if (options_.hook_every != 0 && now_.number % options_.hook_every == 0 &&
            std::system(options_.hook.c_str()) != 0) {
            stop(kNowhere, "the hook failed: %s", options_.hook.c_str());
        }
    }
    now_.number = options_.ops;
    for (Mount& mount : mounts_) {  // at the end through fresh descriptors
        now_.mount = static_cast<size_t>(&mount - mounts_.data());
        close_mount(mount);
        open_mount(mount);
        compare_all(mount);
        if (options_.close_to_open) {
            close_mount(mount);
        }
    }
    if (unlink(mounts_[0].file.c_str()) != 0) {
        stop(kNowhere, "unlink: %s", std::strerror(errno));
    }
    std::printf("lfsx: seed %llu: %llu operations, no mismatch;",
                static_cast<unsigned long long>(options_.seed),
                static_cast<unsigned long long>(options_.ops));
    for (size_t i = 0; i < kOps.size(); ++i) {
        if (done_[i] + skipped_[i] > 0) {
            std::printf(" %s %llu", kOps[i].name.data(), static_cast<unsigned long long>(done_[i]));
        }
    }
    std::printf("\n");
    for (size_t i = 0; i < kOps.size(); ++i) {
        if (skipped_[i] > 0) {
            std::printf("lfsx: not supported here: %s, skipped %llu times\n",
                        kOps[i].name.data(),
                        static_cast<unsigned long long>(skipped_[i]));
        }
    }
    return 0;
}

}  // namespace lumeofs::lfsx
