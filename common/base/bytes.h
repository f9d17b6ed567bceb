// SPDX-License-Identifier: Apache-2.0
// Byte views, owned bytes, counted buffers and little-endian access.
//
// Bytes is a plain owned string of bytes; View looks at somebody else's. Buffer is a counted,
// page-aligned block (so that it can go to O_DIRECT as it came from the network) of which several
// views can be held; whoever holds one must not write into it once it was handed on.
// Thread-compatible; the count inside Buffer is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lumeofs {

using Bytes = std::vector<uint8_t>;
using View = std::span<const uint8_t>;
using MutableView = std::span<uint8_t>;

inline View as_view(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(View bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <typename T>
T get_le(const uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);  // little-endian hosts only, checked in bytes.cc
    return value;
}
template <typename T>
void put_le(uint8_t* at, T value) {
    std::memcpy(at, &value, sizeof value);
}

class Buffer {
public:
    static constexpr size_t kAlignment = 4096;

    Buffer() = default;
    // Fresh uninitialised bytes at an address that is a multiple of kAlignment. Blocks of 64 KiB and
    // more come from a pool of used ones: first touch of fresh memory costs more than a copy.
    static Buffer allocate(size_t size);
    static Buffer copy_of(View bytes);

    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    const uint8_t* data() const { return data_; }
    // Only for the sole maker of the buffer, before it is handed on.
    uint8_t* mutable_data() { return data_; }
    View view() const { return {data_, size_}; }
    MutableView mutable_view() { return {data_, size_}; }
    // A part of this buffer; shares the block. Requires: offset + length <= size().
    Buffer slice(size_t offset, size_t length) const;

private:
    std::shared_ptr<uint8_t> block_;
    uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace lumeofs
