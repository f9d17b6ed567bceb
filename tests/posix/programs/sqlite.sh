#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sqlite3: two processes write at the same time, with a rollback journal and with WAL; then
# PRAGMA integrity_check, and every acknowledged row is there.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
need sqlite3
rows=${SQLITE_ROWS:-200}
for mode in delete truncate wal; do
    db=$dir/$mode.db
    same "$mode" "$(sqlite3 "$db" "PRAGMA journal_mode=$mode; CREATE TABLE t(who, n, text);")" "journal mode"
    pids=()
    for who in 1 2; do
        # One statement, one transaction: each line takes and gives back the locks.
        for ((i = 1; i <= rows; i++)); do
            echo "INSERT INTO t VALUES($who, $i, hex(randomblob(300)));"
        done >"$SCRATCH/$mode.$who.sql"
        sqlite3 -bail -cmd '.timeout 120000' "$db" <"$SCRATCH/$mode.$who.sql" >"$SCRATCH/out.$who" 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || fail "sqlite3 in $mode mode: $(cat "$SCRATCH"/out.*)"
    done
    drop_caches
    same ok "$(sqlite3 "$db" 'PRAGMA integrity_check;')" "integrity check in $mode mode"
    same $((2 * rows)) "$(sqlite3 "$db" 'SELECT count(*) FROM t;')" "rows in $mode mode"
    same "1|$rows
2|$rows" "$(sqlite3 "$db" 'SELECT who, count(DISTINCT n) FROM t GROUP BY who;')" "rows of each in $mode mode"
    [ ! -e "$db-journal" ] || [ "$mode" = truncate ] || fail "a journal is left in $mode mode"
    sqlite3 "$db" 'DELETE FROM t WHERE n % 2 = 0; VACUUM;'
    same ok "$(sqlite3 "$db" 'PRAGMA integrity_check;')" "integrity check after VACUUM in $mode mode"
done
