// SPDX-License-Identifier: Apache-2.0
// ChunkReplica: one chunk's copy on this node and its part in the replication (PacificA).
//
// THE TRANSITION TABLE (role; carried out in chunk_replica.cc unless said otherwise)
//   any         adopt(config): we are members[0]        -> recovering   (a new primaryship begins)
//   any         adopt(config): we are another member    -> member
//   any         adopt(config): we are the joiner        -> joiner
//   any         adopt(config): we are not in it         -> outside
//   (load)      after a restart the stored configuration is "adopted" the same way: every start is a
//               new primary [5]
//   recovering  all others answered gather, every copy ends with the same write  -> serving
//   recovering  all others answered, copies differ: the primary's bytes of every range in doubt
//               anywhere are written again under new names; when these are committed -> serving
//   recovering  we have no whole copy but another member has: metad is asked to take us out
//   recovering  another member has none, and there is something to have: metad is asked to take it out
//   serving     order to check the copies, no joiner being filled  -> recovering
//   serving     a member's last write is not one that we sent it (gap)  -> recovering
//   serving     joiner announced: filling begins (replica_fill.cc), no change of role
//
// THE CHAIN. Every named write is sent with the name of the write before it, per receiver: what the
// primary knows the receiver to have applied last (its answer to gather, then what was sent). A
// receiver applies nothing out of that order. So two members whose last names are equal have applied
// the same writes, and a member's history is a prefix of the primary's or is settled by recovery.
//
// COMMIT. A write is committed when every member, we included, has it durably; commits are a prefix.
// Reads at a serving primary use the store's committed view (hazard 41: the bytes from before a write
// until it is committed; the store keeps the old block images of undecided records, at most
// kMaxInDoubt of them). A member cannot know whether an undecided write was answered, so a read of
// such a range is redirected to the primary; ranges not in doubt are equal on all members.
//
// REPEATS. The table of a session's done writes lives in the store with the records [10]. A write
// that one member had and a new primary had not is overwritten, and then must not count as done
// there: such (session, number) pairs are "void", kept in the chunk's record, until applied again.
//
// single-thread: the chunkd loop. Files: chunk_replica.cc (roles, clients), replica_recovery.cc (a
// primary before it serves), replica_primary.cc (window, commit), replica_member.cc (messages of a
// primary), replica_fill.cc (joining).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "chunkd/replication/context.h"
#include "chunkd/replication/version_vector.h"
#include "chunkd/replication/write_plan.h"

namespace lumeofs::replication {

// Bounds of one chunk.
inline constexpr size_t kWindowRecords = 256;
inline constexpr uint64_t kWindowBytes = uint64_t{32} << 20;
inline constexpr size_t kWaitingMax = 1024;            // requests that wait for a recovery
inline constexpr uint32_t kSentPerMember = 64;         // replicate calls on their way to one member
inline constexpr uint64_t kSettlePiece = uint64_t{1} << 20;
inline constexpr uint32_t kCompareStep = 2048;         // blocks compared at once
inline constexpr uint32_t kCopyRun = 256;              // blocks copied at once
inline constexpr uint32_t kCopiesInFlight = 4;
// No link at all: reported after this long. A restart is often shorter, and nothing is lost by the
// wait: metad answers a removal when the removed node's lease is over, 3 to 4 s after its death.
inline constexpr Nanos kDownPatience = 2500 * kMillisecond;
inline constexpr Nanos kRetryDelay = 100 * kMillisecond;
inline constexpr Nanos kReportAgain = 2 * kSecond;
inline constexpr uint32_t kFillFailuresMax = 8;
// A joiner whose primary says nothing for so long asks metad what has become of it.
inline constexpr Nanos kJoinerPatience = 10 * kSecond;

using ChunkAnswer = std::function<void(wire::ChunkReplyT, Buffer)>;

struct ClientWrite {
    wire::WriteChunkT request;
    Configuration grant;
    Buffer payload;
    bool forwarded = false;  // by another chunkd
    Nanos deadline = 0;      // of the asker; 0 = none
    ChunkAnswer answer;
    std::shared_ptr<void> place;  // while it waits for service
};
struct ClientRead {
    Configuration grant;
    SessionId session;
    uint64_t offset = 0;
    uint64_t length = 0;
    bool extents = false;    // ranges instead of bytes
    Nanos deadline = 0;
    ChunkAnswer answer;
};

template <typename T>
using PeerAnswer = std::function<void(T, Buffer)>;

class ChunkReplica : public std::enable_shared_from_this<ChunkReplica> {
public:
    ChunkReplica(ReplicaHost& host, ChunkId chunk);
    ~ChunkReplica();
    ChunkReplica(const ChunkReplica&) = delete;
    ChunkReplica& operator=(const ChunkReplica&) = delete;

    // Takes what the store knows and enters the role. Once, before anything else.
    Status load();

    // --- clients
    void write(std::shared_ptr<ClientWrite> request);
    void read(std::shared_ptr<ClientRead> request);

    // --- configurations: those with a higher epoch are taken over, durably, with their marks; `done`
    // (may be empty) when that is so, at once if there is nothing to do. From metad only: the joiner
    // of the same epoch too.
    void adopt(const Configuration& config, bool from_metad, StatusDone done);
    // Order of metad: fill this joiner.
    void fill_joiner(NodeId joiner);
    // Order of metad: ask all members whether they have a copy. `done` when they have answered and
    // nobody lacks one; an error if we are not the primary (any more): whoever is must be asked.
    void check_copies(StatusDone done);
    // Metad says whether data of the chunk was ever committed.
    void told_written(bool written);

    // --- messages of the chunk's primary (replica_member.cc)
    void on_replicate(NodeId sender,
                      const Configuration& config,
                      std::shared_ptr<wire::ReplicateT> message,
                      Buffer payload,
                      PeerAnswer<wire::ReplicaReplyT> answer);
    void on_gather(NodeId sender,
                   Incarnation incarnation,
                   const Configuration& config,
                   std::function<void(wire::GatheredChunkT)> answer);
    void on_compare(NodeId sender,
                    const Configuration& config,
                    const wire::CompareBlocksT& message,
                    PeerAnswer<wire::CompareReplyT> answer);
    void on_copy(NodeId sender,
                 const Configuration& config,
                 const wire::CopyBlocksT& message,
                 Buffer payload,
                 PeerAnswer<wire::ReplicaReplyT> answer);
    void on_commit_point(NodeId sender, const WriteName& name);

    // --- time and links. tick() returns false when nothing is left to wait for.
    bool tick(Nanos now);
    void peer_up(NodeId node);
    void peer_down(NodeId node);
    // Answers everything that waits here with `why`; the object is forgotten afterwards.
    void drop(Errc why);

    ChunkId chunk() const { return chunk_; }
    Role role() const { return role_; }
    const Configuration& config() const { return config_; }
    bool has() const { return has_; }
    WriteName applied() const { return applied_; }
    WriteName commit_point() const { return commit_point_; }
    // Nothing is under way and nobody would miss it in memory.
    bool idle() const;
    bool has_pending_of(const std::function<bool(SessionId)>& fenced) const;
    const std::vector<NodeId>& members() const { return config_.members; }
    bool whole() const { return has_ && complete_; }

private:
    // One write of this primaryship, from naming until every member (and the joiner) has it.
    struct Entry {
        WriteName name;
        wire::WriteKind kind = wire::WriteKind::data;
        uint64_t offset = 0;
        uint64_t length = 0;
        Buffer data;
        std::vector<uint64_t> checksums;
        SessionId session;
        uint64_t write_no = 0;
        uint64_t lowest_outstanding = 0;
        SessionId void_session;
        uint64_t void_write_no = 0;
        std::vector<std::shared_ptr<ClientWrite>> waiters;
    };
    // Waiters of a write whose first name was given under an earlier configuration.
    struct Completing {
        SessionId session;
        uint64_t write_no = 0;
        std::vector<std::shared_ptr<ClientWrite>> waiters;
    };
    enum class Trouble : uint8_t { none, down, late, definite };
    // The primary's view of one other copy. Indexes count entries since this primaryship began.
    struct Member {
        NodeId node;
        WriteName acked;        // the last write that it is known to have, durably
        WriteName last_sent;
        uint64_t next = 0;      // entry to send next
        uint64_t acked_count = 0;  // it has all entries below
        uint32_t attempt = 0;   // rises when sending starts over: answers to earlier ones are late
        uint32_t in_flight = 0;
        bool gathered = false;
        bool asking = false;
        wire::GatheredChunkT facts;
        Trouble trouble = Trouble::none;
        Errc last_error = Errc::ok;
        Nanos failing_since = 0;
        Nanos retry_at = 0;
        Nanos reported_at = 0;
        uint32_t corrupt_replies = 0;
        WriteName told;         // newest commit point that it was sent
        uint64_t free_bytes = UINT64_MAX;
        Nanos free_at = 0;
    };
    enum class FillStage : uint8_t { starting, comparing, finishing, giving_up };
    struct Fill {
        NodeId node;
        uint64_t number = 0;
        FillStage stage = FillStage::starting;
        bool asking = false;           // a call is on its way (compare, or JoinDone)
        uint32_t next_block = 0;       // compare from here
        uint32_t end_block = 0;
        std::deque<std::pair<uint32_t, uint32_t>> runs;  // (first, count) to copy
        uint32_t copies = 0;           // on their way
        uint64_t copied_to = 0;        // blocks were compared or copied with the writes below this one
        uint32_t failures = 0;
        Nanos retry_at = 0;
    };
    struct Dedup {
        uint64_t lowest = 0;
        std::set<uint64_t> done;
    };
    struct SettleItem {                // a range in doubt somewhere
        uint64_t offset = 0;
        uint64_t length = 0;
        SessionId session;
        uint64_t write_no = 0;
        uint64_t lowest_outstanding = 0;
        SessionId void_session;
        uint64_t void_write_no = 0;
    };
    enum class Written : uint8_t { unknown, no, yes };
    using Waiting = std::pair<Nanos, std::function<void(bool expired)>>;

    // chunk_replica.cc
    OwnFacts own_facts(SessionId session) const;
    Bytes record_blob() const;
    Status write_record(store::WriteRecord record,
                        store::Payload payload,
                        StatusDone done,
                        std::vector<uint32_t>* bad_blocks = nullptr);
    Status write_epoch(const Configuration& config, StatusDone done);
    Status persist_record(StatusDone done);
    void enter_role();
    void leave_primary();
    WriteFacts write_facts(const ClientWrite& request) const;
    void accept(const std::shared_ptr<ClientWrite>& request);
    void forward(const std::shared_ptr<ClientWrite>& request);
    void wait_for_service(Nanos deadline, std::function<void(bool expired)> task);
    void run_waiting();
    void serve_read(const std::shared_ptr<ClientRead>& request);
    void answer(const ChunkAnswer& to, Errc errc, bool send_config = false);
    wire::ChunkReplyT ok_reply() const;
    uint64_t least_room() const;
    void load_dedup();
    bool is_void(SessionId session, uint64_t write_no) const;
    void add_void(SessionId session, uint64_t up_to);
    void note_version();

    // replica_recovery.cc
    void start_recovery();
    bool may_begin();
    bool may_judge();
    bool has_data(const Member& member) const;
    void ask(Member& member);
    void gathered(NodeId node, uint64_t round, const Result<wire::GatheredChunkT>& result);
    void settle();
    bool settle_missing_copies();
    void build_settlement();
    void pump_settlement();
    Status settle_piece(const SettleItem& item, uint64_t offset, uint64_t length, bool last);
    void serve();

    // replica_primary.cc
    Status submit(Entry entry, std::vector<uint32_t>* bad_blocks);
    void own_durable(const WriteName& name, const Status& status);
    void pump();
    void pump_member(Member& member, bool joiner);
    void send_entry(Member& member, Entry& entry, uint64_t number, bool joiner);
    void replicated(NodeId node,
                    uint64_t round,
                    uint32_t attempt,
                    uint64_t number,
                    const WriteName& name,
                    const WriteName& told,
                    RpcReply reply);
    void member_failed(Member& member, Errc why);
    void resend_from(Member& member, const WriteName& applied);
    void advance();
    void finish_entry(Entry& entry);
    void answer_waiters(std::vector<std::shared_ptr<ClientWrite>>* waiters);
    void report_troubles(Nanos now);
    void send_commit_points(Nanos now);
    Member* find_member(NodeId node);
    uint64_t window_end() const { return window_base_ + window_.size(); }
    bool few_members() const { return config_.members.size() < host_.min_write_replicas(); }
    bool learn_from(const wire::ChunkGrantT* config);

    // replica_member.cc
    Status follow(NodeId sender, Incarnation incarnation, const Configuration& config, bool joiner);
    Status create(bool complete, StatusDone done);
    void member_durable(const WriteName& name, const Status& status);
    void when_durable(const WriteName& name, std::function<void(const Status&)> task);
    Status apply_replicate(const wire::ReplicateT& message, Buffer payload);
    void tick_joiner(Nanos now);
    void void_whole_table();
    wire::GatheredChunkT gather_reply(const Status& durable, const Primaryship& asker);
    wire::ReplicaReplyT replica_reply(const Status& status) const;
    void repair_read(const wire::CompareBlocksT& message, PeerAnswer<wire::CompareReplyT> answer);

    // replica_fill.cc
    void begin_fill(NodeId node);
    void restart_fill(Errc why);
    void fill_compare(bool start);
    void fill_compared(uint64_t number, bool start, RpcReply reply);
    void fill_copy();
    void fill_copied(uint64_t number, std::pair<uint32_t, uint32_t> run, RpcReply reply);
    void fill_finish();
    void join_done(bool ok);
    void tick_fill(Nanos now);

    ReplicaHost& host_;
    const ChunkId chunk_;

    // What is here, as of the last record that was submitted.
    Configuration config_;
    Role role_ = Role::outside;
    bool has_ = false;
    bool complete_ = false;     // the copy is whole, not a joiner's
    bool from_start_ = false;   // every write since the chunk's birth was applied here by name
    std::vector<Void> voids_;
    std::set<std::pair<SessionId, uint64_t>> reapplied_;  // void once, then written again
    WriteName applied_;
    WriteName durable_;         // records up to here are on our disk
    uint64_t unsynced_ = 0;     // records of any kind whose answer from the disk is awaited
    WriteName commit_point_;
    VersionVector versions_;
    Errc own_failure_ = Errc::ok;  // our disk failed or our copy is not whole
    Nanos own_reported_at_ = 0;

    // As a member: the newest primaryship that we follow, and answers that wait for the disk.
    Primaryship promised_;
    std::multimap<WriteName, std::function<void(const Status&)>> waiting_durable_;
    std::pair<Primaryship, uint64_t> filled_by_;  // joiner: who fills us, number of the filling
    Nanos primary_heard_at_ = 0;                  // joiner; or when metad was asked last

    // As the primary.
    uint64_t round_ = 0;        // numbers primaryships, so that late callbacks are recognised
    bool settling_ = false;     // recovering, all have answered
    Written written_ = Written::unknown;  // asked only when nobody has a copy
    Nanos written_asked_at_ = 0;          // in this round; 0 = not yet
    bool lost_ = false;                   // all have answered, and nobody has what was written
    std::deque<SettleItem> settle_;
    bool settle_waits_ = false; // for a repair
    std::vector<Completing> completing_;
    std::deque<Entry> window_;
    uint64_t window_base_ = 0;  // number of window_.front()
    uint64_t committed_count_ = 0;
    uint64_t window_bytes_ = 0;
    uint64_t last_sequence_ = 0;
    std::vector<Member> members_;  // without ourselves
    std::optional<Member> joiner_;
    std::optional<Fill> fill_;
    std::map<SessionId, Dedup> dedup_;
    Nanos last_send_at_ = 0;
    bool late_reported_ = false;
    bool advancing_ = false;

    std::deque<Waiting> waiting_;
};

// Checksums of [offset, ...) in pieces cut at multiples of 4 KiB of the chunk offset.
std::vector<uint64_t> piece_checksums(uint64_t offset, View bytes);
// Slices whole blocks as read to [offset, offset + length) and gives the checksums of its pieces.
std::vector<uint64_t> slice_checksums(const store::BlockData& blocks,
                                      uint64_t offset,
                                      uint64_t length,
                                      Buffer* out);

}  // namespace lumeofs::replication
