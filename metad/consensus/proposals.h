// SPDX-License-Identifier: Apache-2.0
// Proposals: who waits for which log entry, and which reads wait for which applied index.
//
// A waiter is answered exactly once. One whose index was filled by an entry of another term, or
// whose node lost the leadership, gets not_leader: its entry may or may not be applied later.
// Callbacks may propose again; they are called after the tables were changed.
// single-thread: the loop.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/result.h"

namespace lumeofs::consensus {

using ProposeDone = std::function<void(Result<Bytes>)>;
using ReadDone = std::function<void(Status)>;

class Proposals {
public:
    void add(LogIndex index, Term term, ProposeDone done) {
        waiting_.emplace(index, Waiter{term, std::move(done)});
    }
    // The entry at `index`, of `term`, was applied with `reply`.
    void applied(LogIndex index, Term term, Bytes reply) {
        const auto found = waiting_.find(index);
        if (found == waiting_.end()) return;
        Waiter waiter = std::move(found->second);
        waiting_.erase(found);
        if (waiter.term == term) {
            waiter.done(std::move(reply));
        } else {
            waiter.done(Status(Errc::not_leader, "another leader's entry took its place"));
        }
    }
    void fail_all(const Status& why) {
        std::map<LogIndex, Waiter> all;
        all.swap(waiting_);
        for (auto& [index, waiter] : all) waiter.done(why);
    }
    size_t size() const { return waiting_.size(); }

private:
    struct Waiter {
        Term term;
        ProposeDone done;
    };
    std::map<LogIndex, Waiter> waiting_;
};

class Reads {
public:
    // All of `dones` ask under one context.
    void asked(uint64_t context, std::vector<ReadDone> dones) {
        asked_.emplace(context, std::move(dones));
    }
    void confirmed(uint64_t context, LogIndex index) {
        const auto found = asked_.find(context);
        if (found == asked_.end()) return;
        std::vector<ReadDone>& list = confirmed_[index];
        for (ReadDone& done : found->second) list.push_back(std::move(done));
        asked_.erase(found);
    }
    void failed(uint64_t context, const Status& why) {
        const auto found = asked_.find(context);
        if (found == asked_.end()) return;
        std::vector<ReadDone> dones = std::move(found->second);
        asked_.erase(found);
        for (ReadDone& done : dones) done(why);
    }
    void applied(LogIndex index) {
        while (!confirmed_.empty() && confirmed_.begin()->first <= index) {
            std::vector<ReadDone> dones = std::move(confirmed_.begin()->second);
            confirmed_.erase(confirmed_.begin());
            for (ReadDone& done : dones) done(Status());
        }
    }
    void fail_all(const Status& why) {
        std::map<uint64_t, std::vector<ReadDone>> asked;
        std::map<LogIndex, std::vector<ReadDone>> confirmed;
        asked.swap(asked_);
        confirmed.swap(confirmed_);
        for (auto& [context, dones] : asked) {
            for (ReadDone& done : dones) done(why);
        }
        for (auto& [index, dones] : confirmed) {
            for (ReadDone& done : dones) done(why);
        }
    }

    bool empty() const { return asked_.empty() && confirmed_.empty(); }

private:
    std::map<uint64_t, std::vector<ReadDone>> asked_;
    std::map<LogIndex, std::vector<ReadDone>> confirmed_;
};

}  // namespace lumeofs::consensus
