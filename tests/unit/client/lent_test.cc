// SPDX-License-Identifier: Apache-2.0
#include "client/lent.h"

#include <doctest/doctest.h>

using namespace lumeofs;
using namespace lumeofs::client;

namespace {

constexpr Nanos kTime = 50 * kMillisecond;
const InodeId kA{5}, kB{7};

}  // namespace

TEST_CASE("what is lent runs out a margin after the time that was stated") {
    Lent lent(kTime);
    CHECK(lent.until(kA) == 0);
    CHECK(lent.lend(kA, kSecond, 10 * kSecond) == kTime);
    CHECK(lent.until(kA) == kSecond + kTime + Lent::kMargin);
    CHECK(lent.until(kB) == 0);
    CHECK(lent.until_all() == lent.until(kA));
    CHECK(lent.lend(kB, kSecond + kMillisecond, 10 * kSecond) == kTime);
    CHECK(lent.until_all() == lent.until(kB));
    CHECK(lent.until(kA) == kSecond + kTime + Lent::kMargin);
}

TEST_CASE("nothing is lent beyond the lease") {
    Lent lent(kTime);
    const Nanos lease = 10 * kSecond;
    const Nanos late = lease - Lent::kMargin - 10 * kMillisecond;
    CHECK(lent.lend(kA, late, lease) == 10 * kMillisecond);
    CHECK(lent.until(kA) == lease);
    CHECK(lent.lend(kB, lease - Lent::kMargin, lease) == 0);
    CHECK(lent.lend(kB, lease + kSecond, lease) == 0);
    CHECK(lent.until(kB) == 0);
    CHECK(Lent(0).lend(kA, kSecond, lease) == 0);
}

TEST_CASE("lending again moves the end, and what is old is forgotten only when it has run out") {
    Lent lent(kTime);
    const Nanos lease = 100 * kSecond;
    lent.lend(kA, kSecond, lease);
    lent.lend(kA, kSecond + 60 * kMillisecond, lease);
    const Nanos end = kSecond + 60 * kMillisecond + kTime + Lent::kMargin;
    lent.lend(kB, kSecond + 100 * kMillisecond, lease);  // the first of kA is over, the second not
    CHECK(lent.until(kA) == end);
    lent.lend(kB, end, lease);
    CHECK(lent.until(kA) == 0);
}
