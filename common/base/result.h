// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value or a Status that is not ok, and the two macros that pass errors on.
//
//     LFS_ASSIGN(auto row, load_inode(ino));   // returns the Status of a failure to the caller
//     LFS_TRY(file.sync());
//
// Immutable value semantics; thread-compatible.
#pragma once

#include <utility>
#include <variant>

#include "common/base/assert.h"
#include "common/base/status.h"

namespace lumeofs {

template <typename T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit
    Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {  // NOLINT: implicit
        LFS_ASSERT(!std::get<1>(state_).is_ok());
    }
    Result(Errc code) : Result(Status(code)) {}  // NOLINT: implicit

    bool is_ok() const { return state_.index() == 0; }
    explicit operator bool() const { return is_ok(); }
    Errc code() const { return is_ok() ? Errc::ok : std::get<1>(state_).code(); }
    Status status() const { return is_ok() ? Status() : std::get<1>(state_); }

    T& value() & {
        LFS_ASSERT(is_ok());
        return std::get<0>(state_);
    }
    const T& value() const& {
        LFS_ASSERT(is_ok());
        return std::get<0>(state_);
    }
    T&& value() && {
        LFS_ASSERT(is_ok());
        return std::get<0>(std::move(state_));
    }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }

private:
    std::variant<T, Status> state_;
};

template <typename T>
void ignore(const Result<T>& /*result*/, const char* /*why*/) {}

inline Status to_status(const Status& status) { return status; }
template <typename T>
Status to_status(const Result<T>& result) {
    return result.status();
}

}  // namespace lumeofs

#define LFS_CONCAT_INNER(a, b) a##b
#define LFS_CONCAT(a, b) LFS_CONCAT_INNER(a, b)

#define LFS_TRY(expr)                                                              \
    do {                                                                           \
        if (auto lfs_status = ::lumeofs::to_status(expr); !lfs_status.is_ok()) {   \
            return lfs_status;                                                     \
        }                                                                          \
    } while (false)

#define LFS_ASSIGN_INNER(decl, expr, tmp)   \
    auto tmp = (expr);                      \
    if (!tmp.is_ok()) return tmp.status();  \
    decl = std::move(tmp).value()
#define LFS_ASSIGN(decl, expr) LFS_ASSIGN_INNER(decl, expr, LFS_CONCAT(lfs_result_, __COUNTER__))
