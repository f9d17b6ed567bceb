// SPDX-License-Identifier: Apache-2.0
// AdminClient: asks the metads questions (Method::admin) and waits for the answer.
//
// All metads are asked at once; the leader's answer wins. A metad that is not the leader names it,
// and that address is asked too, so one address of a cluster is enough. While there is no leader
// the question is repeated until the deadline; when nobody can be reached at all the answer is
// known at once. The status of a failure names every host with its reason, in one line. Blocking;
// owns a loop and a transport. single-thread: main (work runs on its loop).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/result.h"

namespace lumeofs::cli {

inline constexpr Nanos kAskPatience = 4 * kSecond;

struct Question {
    std::string what = {};
    std::string path = {};
    uint64_t node = 0;
    uint64_t chunk = 0;
    uint64_t cursor = 0;
    uint32_t limit = 0;
};

struct OneAnswer {
    std::string address;
    Status status;
    std::string text;  // JSON
};

class AdminClient {
public:
    explicit AdminClient(std::vector<std::string> metads);
    ~AdminClient();
    AdminClient(const AdminClient&) = delete;
    AdminClient& operator=(const AdminClient&) = delete;

    // Errc::unavailable: no leader could be asked. Others: the leader's own.
    Result<std::string> ask(const Question& question, Nanos patience = kAskPatience);
    // Each metad for itself, once, in the order of the addresses.
    std::vector<OneAnswer> ask_each(const Question& question, Nanos patience = kAskPatience);

private:
    struct Running;
    std::vector<OneAnswer> ask_these(const std::vector<std::string>& addresses,
                                     const Question& question,
                                     Nanos deadline,
                                     bool first_is_enough);

    std::vector<std::string> metads_;
    std::unique_ptr<Running> running_;
};

}  // namespace lumeofs::cli
