// SPDX-License-Identifier: Apache-2.0
#include "common/base/bytes.h"

#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>

#include "common/base/assert.h"

namespace lumeofs {
namespace {

static_assert(std::endian::native == std::endian::little, "formats are read in place");

// Free lists of blocks by power of two, 64 KiB to 8 MiB, so that bulk buffers are warm memory.
// Bounded: what does not fit is given back to the system.
class Pool {
public:
    static constexpr size_t kSmallest = 64 * 1024;
    static constexpr size_t kClasses = 8;
    static constexpr size_t kKeptPerClassBytes = 32u << 20;

    static size_t class_of(size_t size) {
        size_t index = 0;
        while (index < kClasses && (kSmallest << index) < size) ++index;
        return index;
    }

    uint8_t* take(size_t index) {
        std::lock_guard lock(mutex_);
        auto& list = free_[index];
        if (list.empty()) return nullptr;
        uint8_t* block = list.back();
        list.pop_back();
        return block;
    }

    bool give(size_t index, uint8_t* block) {
        std::lock_guard lock(mutex_);
        auto& list = free_[index];
        if ((list.size() + 1) * (kSmallest << index) > kKeptPerClassBytes) return false;
        list.push_back(block);
        return true;
    }

private:
    std::mutex mutex_;
    std::array<std::vector<uint8_t*>, kClasses> free_;
};

Pool& pool() {
    static Pool* instance = new Pool;  // never destroyed: buffers may outlive main
    return *instance;
}

uint8_t* raw_allocate(size_t size) {
    size_t rounded = (size + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
    auto* block = static_cast<uint8_t*>(std::aligned_alloc(Buffer::kAlignment, rounded));
    LFS_ASSERT(block != nullptr);
    return block;
}

}  // namespace

Buffer Buffer::allocate(size_t size) {
    Buffer buffer;
    if (size == 0) return buffer;
    size_t index = Pool::class_of(size);
    if (size >= Pool::kSmallest && index < Pool::kClasses) {
        uint8_t* block = pool().take(index);
        if (!block) block = raw_allocate(Pool::kSmallest << index);
        buffer.block_ = std::shared_ptr<uint8_t>(block, [index](uint8_t* p) {
            if (!pool().give(index, p)) std::free(p);
        });
    } else {
        buffer.block_ = std::shared_ptr<uint8_t>(raw_allocate(size), [](uint8_t* p) { std::free(p); });
    }
    buffer.data_ = buffer.block_.get();
    buffer.size_ = size;
    return buffer;
}

Buffer Buffer::copy_of(View bytes) {
    Buffer buffer = allocate(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer.data_, bytes.data(), bytes.size());
    return buffer;
}

Buffer Buffer::slice(size_t offset, size_t length) const {
    LFS_ASSERT(offset <= size_ && length <= size_ - offset);
    Buffer part = *this;
    part.data_ += offset;
    part.size_ = length;
    return part;
}

}  // namespace lumeofs
