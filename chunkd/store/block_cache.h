// SPDX-License-Identifier: Apache-2.0
// BlockCache: blocks that were carried home lately, so that reading a small file or the merging of
// a partial block does not wait for the disk. What comes out of it is verified like what comes from
// the disk. First in, first out: neighbours share one buffer, so they had better leave together.
// single-thread: the chunkd loop.
#pragma once

#include <deque>
#include <unordered_map>

#include "chunkd/store/geometry.h"
#include "common/base/bytes.h"

namespace lumeofs::store {

class BlockCache {
public:
    explicit BlockCache(uint64_t bytes) : blocks_max_(bytes / kBlock) {}

    // The bytes of one block, or null.
    const uint8_t* find(uint64_t home_block) const {
        auto it = blocks_.find(home_block);
        return it == blocks_.end() ? nullptr : it->second.data();
    }
    // `data`: whole blocks from home_block on.
    void insert(uint64_t home_block, const Buffer& data) {
        if (blocks_max_ == 0) return;
        for (size_t at = 0; at < data.size(); at += kBlock) {
            const uint64_t block = home_block + at / kBlock;
            if (blocks_.insert_or_assign(block, data.slice(at, kBlock)).second)
                order_.push_back(block);
        }
        while (blocks_.size() > blocks_max_ || order_.size() > 2 * blocks_max_) {
            blocks_.erase(order_.front());
            order_.pop_front();
        }
    }
    void erase(uint64_t home_block, uint64_t count) {
        if (blocks_.empty()) return;
        for (uint64_t i = 0; i < count; ++i) blocks_.erase(home_block + i);
    }
    uint64_t bytes() const { return blocks_.size() * kBlock; }

private:
    const uint64_t blocks_max_;
    std::unordered_map<uint64_t, Buffer> blocks_;
    std::deque<uint64_t> order_;  // of insertion; may name blocks that have left
};

}  // namespace lumeofs::store
