// SPDX-License-Identifier: Apache-2.0
// ChunkClient: bytes to and from the chunkds.
//
// A write goes to the primary under its write number, again and again with the SAME number, until a
// configuration has taken it: newer configurations come with refusals or from metad, which is told
// of members that do not answer [10, 38]. lowest_outstanding tells chunkds what can never come
// again. A read goes to one member, at random places rotated; on failure, slowness or a bad
// checksum the next member is asked at once; hedges (asking a second before the first has failed)
// stay under 5 % of the reads. Checksums are made here and verified here: no byte is believed
// without. Final errors: nospc, noent (the chunk is gone), no_session (writes only), and what a
// chunkd says of arguments. All else is waited out; stop() drops what is left. single-thread: the
// loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/types.h"
#include "common/base/prng.h"
#include "common/env/loop.h"
#include "common/env/transport.h"
#include "common/rpc/connector.h"
#include "common/wire/messages.h"

namespace lumeofs::client {

// A chunk as it is known now; shared by all who use it, so that each learns a new configuration.
struct ChunkRef {
    wire::ChunkGrantT grant;
};
using ChunkPtr = std::shared_ptr<ChunkRef>;

// Takes members, epoch and marks of `newer` over, keeps what was granted to us. False if not newer.
bool adopt_configuration(wire::ChunkGrantT& grant, const wire::ChunkGrantT& newer);

// What an application is told when a chunkd says Errc::nodata: there was data, and no member has it.
Status every_copy_lost(uint64_t chunk);

struct DataRange {
    uint64_t offset = 0;
    uint64_t length = 0;
};

struct ChunkEvents {
    std::function<Hello()> hello;
    std::function<uint64_t()> session;
    // Tells metad; the answer carries the configuration to use now (or why there is none).
    std::function<void(const wire::ReportChunkT&, std::function<void(Result<wire::ChunkGrantT>)>)>
        report;
    // A chunkd says that our session is fenced or unknown.
    std::function<void()> doubt_session;
};

class ChunkClient {
public:
    ChunkClient(Loop& loop, Transport& transport, Prng prng, ChunkEvents events);
    ~ChunkClient();
    ChunkClient(const ChunkClient&) = delete;
    ChunkClient& operator=(const ChunkClient&) = delete;

    void learn_node(const wire::NodeAddressT& node);
    // Writes `data` at `offset` of the chunk. Requires: no other write of ours overlaps (asserted).
    void write(InodeId ino, ChunkPtr chunk, uint64_t offset, Buffer data, StatusDone done);
    void zero(InodeId ino, ChunkPtr chunk, uint64_t offset, uint64_t length, StatusDone done);
    void read(InodeId ino, ChunkPtr chunk, uint64_t offset, uint64_t length, Done<Buffer> done);
    void extents(InodeId ino,
                 ChunkPtr chunk,
                 uint64_t offset,
                 uint64_t length,
                 Done<std::vector<DataRange>> done);
    // The session is gone: its writes end with no_session and are never sent again [9].
    void fail_writes();
    void stop();

    uint64_t requests_sent() const { return requests_sent_; }
    uint64_t retries() const { return retries_; }
    uint64_t corrupt_replies() const { return corrupt_replies_; }
    size_t writes_outstanding() const { return writes_.size(); }
    // Whom an operation on the inode waits for, "" if for nobody known.
    std::string waits_for(InodeId ino) const;

private:
    struct Node {
        std::unique_ptr<Connector> connector;
        bool failed = false;    // the last attempt to connect failed, or the link ended
        Nanos avoid_until = 0;  // reads prefer others
        std::vector<std::function<void(Connector*)>> waiting;  // for the first connection
    };
    struct Write {
        InodeId ino;
        ChunkPtr chunk;
        wire::WriteKind kind = wire::WriteKind::data;
        uint64_t offset = 0;
        uint64_t length = 0;
        Buffer data;
        std::vector<uint64_t> checksums;
        StatusDone done;
        uint64_t node = 0;  // whom it is with now, 0 = waiting for a next try
        uint64_t redirect = 0;
        uint64_t try_number = 0;
        int tries = 0;
    };
    struct Read;
    using ReadPtr = std::shared_ptr<Read>;

    using Reply = std::function<void(const Status&, wire::ChunkReplyT, Buffer)>;
    void call(
        uint64_t node, uint16_t method, Bytes body, Buffer payload, Nanos timeout, Reply reply);
    void link_failed(uint64_t node);

    void start_write(Write write);
    void send_write(uint64_t number);
    void on_written(uint64_t number,
                    uint64_t try_number,
                    const Status& status,
                    wire::ChunkReplyT reply);
    void retry_write(uint64_t number, Nanos wait);
    void finish_write(uint64_t number, const Status& status);

    void start_read(const ReadPtr& read);
    void ask_next(const ReadPtr& read);
    uint64_t pick_member(const Read& read);
    void on_read(const ReadPtr& read,
                 uint64_t node,
                 Nanos sent,
                 Status status,
                 wire::ChunkReplyT reply,
                 Buffer payload);
    void on_slow(const ReadPtr& read);
    void next_round(const ReadPtr& read, Errc why);

    void ask_extents(InodeId ino,
                     ChunkPtr chunk,
                     uint64_t node,
                     bool redirected,
                     DataRange range,
                     Done<std::vector<DataRange>> done);

    // `next` gets the status of the report; the chunk has the newest configuration by then.
    void report(InodeId ino, const ChunkPtr& chunk, uint64_t node, Errc why, StatusDone next);
    void later(Nanos wait, Task task);

    Loop& loop_;
    Transport& transport_;
    Prng prng_;
    ChunkEvents events_;
    std::map<uint64_t, Node> nodes_;
    uint64_t last_write_no_ = 0;
    uint64_t last_try_ = 0;
    std::map<uint64_t, Write> writes_;   // by write number; the first is the lowest outstanding
    std::map<uint64_t, ReadPtr> reads_;  // by serial number
    std::map<uint64_t, std::vector<StatusDone>>
        reports_;                           // by chunk: those who wait for the answer
    std::shared_ptr<char> alive_;           // timers and links look at it
    Nanos usual_read_ = 10 * kMillisecond;  // moving average of answered reads
    uint64_t read_count_ = 0;               // also the serial numbers
    uint64_t hedge_count_ = 0;
    uint64_t requests_sent_ = 0;
    uint64_t retries_ = 0;
    uint64_t corrupt_replies_ = 0;
};

}  // namespace lumeofs::client
