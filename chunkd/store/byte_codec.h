// SPDX-License-Identifier: Apache-2.0
// Little-endian writing and bounds-checked reading of the store's own on-disk records.
// A reader that runs over the end says so once (ok() is false) and gives zeros from then on, so
// that damaged lengths never read outside the bytes. Thread-compatible.
#pragma once

#include <cstring>

#include "common/base/bytes.h"

namespace lumeofs::store {

class ByteWriter {
public:
    template <typename T>
    void put(T value) {
        const size_t at = out_.size();
        out_.resize(at + sizeof(T));
        put_le<T>(out_.data() + at, value);
    }
    void bytes(View view) { out_.insert(out_.end(), view.begin(), view.end()); }
    template <typename T>
    void patch(size_t at, T value) {
        put_le<T>(out_.data() + at, value);
    }
    size_t size() const { return out_.size(); }
    const Bytes& out() const { return out_; }
    Bytes take() { return std::move(out_); }

private:
    Bytes out_;
};

class ByteReader {
public:
    explicit ByteReader(View view) : view_(view) {}

    template <typename T>
    T get() {
        if (!need(sizeof(T))) return T{};
        T value = get_le<T>(view_.data() + at_);
        at_ += sizeof(T);
        return value;
    }
    View bytes(size_t count) {
        if (!need(count)) return {};
        View part = view_.subspan(at_, count);
        at_ += count;
        return part;
    }
    bool ok() const { return ok_; }
    size_t left() const { return ok_ ? view_.size() - at_ : 0; }
    // True if `count` items of `size` bytes can still follow: check before allocating for them.
    bool fits(uint64_t count, size_t size) const { return ok_ && count <= left() / size; }
    void fail() { ok_ = false; }

private:
    bool need(size_t count) {
        if (ok_ && view_.size() - at_ >= count) return true;
        ok_ = false;
        return false;
    }
    View view_;
    size_t at_ = 0;
    bool ok_ = true;
};

}  // namespace lumeofs::store
