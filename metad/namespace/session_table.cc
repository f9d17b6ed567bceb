// SPDX-License-Identifier: Apache-2.0
#include "metad/namespace/session_table.h"

namespace lumeofs::metad {

SessionTable::SessionTable(Db& db, Totals& totals)
    : totals_(totals),
      state_(db, "SELECT state FROM session WHERE id=?1"),
      select_(db, "SELECT * FROM session WHERE id=?1 AND state<>3"),
      live_of_client_(db,
                      "SELECT id FROM session WHERE client_high=?1 AND client_low=?2"
                      " AND state=1 ORDER BY id LIMIT 1"),
      all_(db, "SELECT * FROM session WHERE state<>3 ORDER BY id"),
      first_ending_(db, "SELECT id FROM session WHERE state=3 ORDER BY id LIMIT 1"),
      insert_(db, "INSERT INTO session VALUES(?1,?2,?3,?4,?5,?6,?7,?8)"),
      set_state_(db, "UPDATE session SET state=?2, fence=?3 WHERE id=?1"),
      delete_(db, "DELETE FROM session WHERE id=?1"),
      load_slot_(db, "SELECT sequence, reply FROM slot WHERE session=?1 AND slot=?2"),
      save_slot_(db,
                 "INSERT INTO slot VALUES(?1,?2,?3,?4) ON CONFLICT(session, slot) DO UPDATE SET"
                 " sequence=?3, reply=?4"),
      delete_slots_(db, "DELETE FROM slot WHERE session=?1"),
      fences_(db, "SELECT number, session FROM fence WHERE number>?1 ORDER BY number LIMIT ?2"),
      insert_fence_(db, "INSERT INTO fence VALUES(?1,?2)"),
      count_fences_(db, "SELECT count(*) FROM fence"),
      trim_fences_(db,
                   "DELETE FROM fence WHERE number IN (SELECT number FROM fence ORDER BY number"
                   " LIMIT ?1)") {}

namespace {
SessionRow read_session(const Statement::Cursor& cursor) {
    SessionRow row;
    row.id = cursor.id<SessionId>(0);
    row.client_high = cursor.u64(1);
    row.client_low = cursor.u64(2);
    row.host = cursor.text(3);
    row.mount = cursor.text(4);
    row.state = cursor.u32(5) == kSessionLive ? SessionState::live : SessionState::fenced;
    row.fence_number = cursor.u64(6);
    row.opened_ns = cursor.i64(7);
    return row;
}
}  // namespace

uint32_t SessionTable::state(SessionId id) {
    Statement::Cursor cursor = state_.start(id);
    return cursor.next() ? cursor.u32(0) : 0;
}

std::optional<SessionRow> SessionTable::load(SessionId id) {
    Statement::Cursor cursor = select_.start(id);
    if (!cursor.next()) return std::nullopt;
    return read_session(cursor);
}

std::optional<SessionId> SessionTable::live_of_client(uint64_t high, uint64_t low) {
    Statement::Cursor cursor = live_of_client_.start(high, low);
    if (!cursor.next()) return std::nullopt;
    return cursor.id<SessionId>(0);
}

std::vector<SessionRow> SessionTable::all() {
    std::vector<SessionRow> found;
    Statement::Cursor cursor = all_.start();
    while (cursor.next()) found.push_back(read_session(cursor));
    return found;
}

std::optional<SessionId> SessionTable::first_ending() {
    Statement::Cursor cursor = first_ending_.start();
    if (!cursor.next()) return std::nullopt;
    return cursor.id<SessionId>(0);
}

void SessionTable::insert(const SessionRow& row) {
    insert_.run(row.id,
                row.client_high,
                row.client_low,
                row.host,
                row.mount,
                kSessionLive,
                row.fence_number,
                row.opened_ns);
    ++totals_.sessions;
}

void SessionTable::set_fenced(SessionId id, uint64_t fence_number) {
    set_state_.run(id, kSessionFenced, fence_number);
}

void SessionTable::set_ending(SessionId id) {
    delete_slots_.run(id);
    set_state_.run(id, kSessionEnding, uint64_t{0});
    --totals_.sessions;
}

void SessionTable::remove(SessionId id) { delete_.run(id); }

std::optional<SlotRow> SessionTable::load_slot(SessionId session, uint32_t slot) {
    Statement::Cursor cursor = load_slot_.start(session, slot);
    if (!cursor.next()) return std::nullopt;
    const View reply = cursor.blob(1);
    return SlotRow{cursor.u64(0), Bytes(reply.begin(), reply.end())};
}

void SessionTable::save_slot(SessionId session, uint32_t slot, uint64_t sequence, View reply) {
    save_slot_.run(session, slot, sequence, reply);
}

std::vector<FenceRow> SessionTable::fences_since(uint64_t number, uint32_t limit) {
    std::vector<FenceRow> found;
    Statement::Cursor cursor = fences_.start(number, limit);
    while (cursor.next()) found.push_back({cursor.u64(0), cursor.id<SessionId>(1)});
    return found;
}

void SessionTable::insert_fence(const FenceRow& row) { insert_fence_.run(row.number, row.session); }

void SessionTable::trim_fences(uint64_t keep) {
    uint64_t count = 0;
    {
        Statement::Cursor cursor = count_fences_.start();
        if (cursor.next()) count = cursor.u64(0);
    }
    if (count > keep) trim_fences_.run(count - keep);
}

NodeTable::NodeTable(Db& db)
    : select_(db, "SELECT * FROM node WHERE id=?1"),
      all_(db, "SELECT * FROM node ORDER BY id"),
      replace_(db,
               "INSERT INTO node VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11) ON CONFLICT(id)"
               " DO UPDATE SET role=?2, uuid_high=?3, uuid_low=?4, address=?5,"
               " http_address=?6, zone=?7, state=?8, incarnation=?9, attempt=?10,"
               " release=?11") {}

namespace {
NodeRow read_node(const Statement::Cursor& cursor) {
    NodeRow row;
    row.id = cursor.id<NodeId>(0);
    row.role = static_cast<uint8_t>(cursor.u32(1));
    row.uuid_high = cursor.u64(2);
    row.uuid_low = cursor.u64(3);
    row.address = cursor.text(4);
    row.http_address = cursor.text(5);
    row.zone = cursor.text(6);
    row.state = static_cast<uint8_t>(cursor.u32(7));
    row.incarnation = cursor.id<Incarnation>(8);
    row.attempt = cursor.u64(9);
    row.release = cursor.text(10);
    return row;
}
}  // namespace

std::optional<NodeRow> NodeTable::load(NodeId id) {
    Statement::Cursor cursor = select_.start(id);
    if (!cursor.next()) return std::nullopt;
    return read_node(cursor);
}

std::vector<NodeRow> NodeTable::all() {
    std::vector<NodeRow> found;
    Statement::Cursor cursor = all_.start();
    while (cursor.next()) found.push_back(read_node(cursor));
    return found;
}

void NodeTable::save(const NodeRow& row) {
    replace_.run(row.id,
                 uint32_t{row.role},
                 row.uuid_high,
                 row.uuid_low,
                 row.address,
                 row.http_address,
                 row.zone,
                 uint32_t{row.state},
                 row.incarnation,
                 row.attempt,
                 row.release);
}

}  // namespace lumeofs::metad
