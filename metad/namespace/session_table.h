// SPDX-License-Identifier: Apache-2.0
// Sessions, their slots with the stored replies [21], the list of fences, nodes: rows only.
// single-thread: the metad loop.
#pragma once

#include <optional>
#include <vector>

#include "metad/namespace/db.h"
#include "metad/namespace/rows.h"

namespace lumeofs::metad {

// Values of the state column. `ending`: ended, but growers of it are still to be cut; such a
// session is `none` to everybody else.
inline constexpr uint32_t kSessionLive = 1;
inline constexpr uint32_t kSessionFenced = 2;
inline constexpr uint32_t kSessionEnding = 3;

struct SlotRow {
    uint64_t sequence = 0;
    Bytes reply;
};

class SessionTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE session(id INTEGER PRIMARY KEY, client_high INTEGER, client_low INTEGER,"
        " host BLOB,"
        " mount BLOB, state INTEGER, fence INTEGER, opened INTEGER);"
        "CREATE INDEX session_client ON session(client_high, client_low);"
        "CREATE TABLE slot(session INTEGER, slot INTEGER, sequence INTEGER, reply BLOB,"
        " PRIMARY KEY(session, slot))"
        " WITHOUT ROWID;"
        "CREATE TABLE fence(number INTEGER PRIMARY KEY, session INTEGER)";
    SessionTable(Db& db, Totals& totals);

    // 0 if there is no row, else one of the values above.
    uint32_t state(SessionId id);
    std::optional<SessionRow> load(SessionId id);  // not those that are ending
    std::optional<SessionId> live_of_client(uint64_t high, uint64_t low);
    std::vector<SessionRow> all();  // not those that are ending
    std::optional<SessionId> first_ending();
    void insert(const SessionRow& row);
    void set_fenced(SessionId id, uint64_t fence_number);
    // The session ends: slots go, the row stays as `ending`.
    void set_ending(SessionId id);
    void remove(SessionId id);

    std::optional<SlotRow> load_slot(SessionId session, uint32_t slot);
    void save_slot(SessionId session, uint32_t slot, uint64_t sequence, View reply);

    std::vector<FenceRow> fences_since(uint64_t number, uint32_t limit);
    void insert_fence(const FenceRow& row);
    // Forgets the oldest beyond `keep`.
    void trim_fences(uint64_t keep);

private:
    Totals& totals_;
    Statement state_;
    Statement select_;
    Statement live_of_client_;
    Statement all_;
    Statement first_ending_;
    Statement insert_;
    Statement set_state_;
    Statement delete_;
    Statement load_slot_;
    Statement save_slot_;
    Statement delete_slots_;
    Statement fences_;
    Statement insert_fence_;
    Statement count_fences_;
    Statement trim_fences_;
};

class NodeTable {
public:
    static constexpr const char* kCreate =
        "CREATE TABLE node(id INTEGER PRIMARY KEY, role INTEGER, uuid_high INTEGER,"
        " uuid_low INTEGER, address BLOB,"
        " http_address BLOB, zone BLOB, state INTEGER, incarnation INTEGER, attempt INTEGER,"
        " release BLOB)";
    explicit NodeTable(Db& db);
    std::optional<NodeRow> load(NodeId id);
    std::vector<NodeRow> all();
    void save(const NodeRow& row);

private:
    Statement select_;
    Statement all_;
    Statement replace_;
};

}  // namespace lumeofs::metad
