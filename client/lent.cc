// SPDX-License-Identifier: Apache-2.0
#include "client/lent.h"

#include <algorithm>

namespace lumeofs::client {

Nanos Lent::lend(InodeId ino, Nanos now, Nanos lease_until) {
    const Nanos time = std::min(time_, lease_until - kMargin - now);
    if (time <= 0) return 0;
    while (!order_.empty() && order_.front().first <= now) {
        const auto [due, old] = order_.front();
        order_.pop_front();
        if (auto it = until_.find(old); it != until_.end() && it->second <= due) until_.erase(it);
    }
    const Nanos end = now + time + kMargin;
    Nanos& known = until_[ino];
    if (end <= known) return time;
    known = end;
    order_.emplace_back(end, ino);
    last_ = std::max(last_, end);
    return time;
}

Nanos Lent::until(InodeId ino) const {
    auto it = until_.find(ino);
    return it == until_.end() ? 0 : it->second;
}

}  // namespace lumeofs::client
