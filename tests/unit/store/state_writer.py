"""Writes a state.db as the engine does, for tests of everything that reads the results log."""

import json
from pathlib import Path
from typing import Any

from litejoin.records import ResultOp

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE joins(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, definition TEXT NOT NULL);
CREATE TABLE log(pos INTEGER PRIMARY KEY, join_id INTEGER NOT NULL, op INTEGER NOT NULL,
                 emit_at_ms INTEGER NOT NULL, key TEXT NOT NULL, rows TEXT NOT NULL,
                 start_ms INTEGER, end_ms INTEGER);
CREATE TABLE state(join_id INTEGER NOT NULL, key TEXT NOT NULL, hash INTEGER NOT NULL,
                   pos INTEGER NOT NULL, PRIMARY KEY(join_id, key)) WITHOUT ROWID;
CREATE TABLE applied(shard INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES('head', 0), ('tail', 0);
"""

NOW_MS = 1_700_000_000_000


class StateWriter:
    """Appends results and keeps the current ones; `trim` does what the engine's trimming does."""

    def __init__(self, path: Path, *joins: str) -> None:
        from litejoin.store.sqlite import open_database

        self.path = path
        self.db = open_database(path)
        self.db.execute(SCHEMA).fetchall()
        self.joins: dict[str, int] = {}
        for name in joins:
            self.add_join(name)
        self.head = 0

    def add_join(self, name: str) -> None:
        self.joins[name] = len(self.joins) + 1
        self.db.execute("INSERT INTO joins VALUES(?, ?, '')", (self.joins[name], name))

    def put(self, join: str, key: Any, *rows: dict[str, Any], emit_at_ms: int | None = None) -> int:
        """Append one result (no rows: a delete) in its own transaction; returns its position."""
        with self.db:
            return self._append(join, key, rows, emit_at_ms)

    def put_many(self, *results: tuple[str, Any, dict[str, Any] | None]) -> int:
        """Append results in one transaction; None as row is a delete. Returns the last position."""
        with self.db:
            for join, key, row in results:
                self._append(join, key, () if row is None else (row,), None)
        return self.head

    def _append(
        self, join: str, key: Any, rows: tuple[dict[str, Any], ...], emit_at_ms: int | None
    ) -> int:
        self.head += 1
        number, key_json = self.joins[join], json.dumps(key, ensure_ascii=False)
        op = ResultOp.UPSERT if rows else ResultOp.DELETE
        emit = NOW_MS + self.head if emit_at_ms is None else emit_at_ms
        self.db.execute(
            "INSERT INTO log VALUES(?, ?, ?, ?, ?, ?, NULL, NULL)",
            (self.head, number, int(op), emit, key_json, json.dumps(list(rows))),
        )
        if rows:
            self.db.execute(
                "INSERT OR REPLACE INTO state VALUES(?, ?, 0, ?)", (number, key_json, self.head)
            )
        else:
            self.db.execute("DELETE FROM state WHERE join_id = ? AND key = ?", (number, key_json))
        self.db.execute("UPDATE meta SET value = ? WHERE name = 'head'", (self.head,))
        return self.head

    def trim(self, tail: int) -> None:
        """Forget superseded results up to `tail`."""
        with self.db:
            self.db.execute(
                "DELETE FROM log WHERE pos <= ? AND pos NOT IN (SELECT pos FROM state)", (tail,)
            )
            self.db.execute("UPDATE meta SET value = ? WHERE name = 'tail'", (tail,))

    def close(self) -> None:
        self.db.close()
