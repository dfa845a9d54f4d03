"""The oracle of joins: plain SQLite over the latest message of every key, the user's SQL run from
scratch.

Used by differential and end-to-end tests alike. It knows nothing of shards, deltas or logs. One
table per topic with the documented columns, key as TEXT with SQLite's default collation.
"""

import time
from collections.abc import Iterable
from typing import Any

import apsw

from tests.harness.results import State, canonical, canonical_rows


class Oracle:
    """Tables of topics in one private in-memory database; not thread-safe."""

    def __init__(self, topics: Iterable[str] = (), database: apsw.Connection | None = None) -> None:
        self._db = database or apsw.Connection(":memory:")
        self._topics: set[str] = set()
        for topic in topics:
            self.topic(topic)

    def close(self) -> None:
        self._db.close()

    def topic(self, name: str) -> None:
        """Create a topic, empty; nothing happens when it is there."""
        if name in self._topics:
            return
        self._topics.add(name)
        self._db.execute(
            # timestamp_ms, op and changes are hidden from `SELECT *` in the product; no test query
            # that comes here names them.
            f"CREATE TABLE {_quoted(name)} (key TEXT PRIMARY KEY, payload TEXT, timestamp INTEGER)"
        )

    def put(
        self, topic: str, key: str, payload: str | None, timestamp_ms: int | None = None
    ) -> None:
        """Apply one message: `payload` is JSON text as sent, None deletes."""
        self.topic(topic)
        if payload is None:
            self._db.execute(f"DELETE FROM {_quoted(topic)} WHERE key = ?", (key,))
            return
        moment = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        self._db.execute(
            f"INSERT INTO {_quoted(topic)} VALUES (?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET payload = excluded.payload,"
            " timestamp = excluded.timestamp",
            (key, payload, moment // 1000),
        )

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The query's rows as objects, in the query's order."""
        cursor = self._db.execute(query)
        try:
            names = [column[0] for column in cursor.get_description()]
        except apsw.ExecutionCompleteError:
            return []
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def groups(self, query: str, key_column: str | None = None, *, ordered: bool = False) -> State:
        """The query's rows grouped by the result key (default: first column), in canonical form."""
        grouped: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows(query):
            key = next(iter(row.values())) if key_column is None else row[key_column]
            grouped.setdefault(canonical(key), []).append(row)
        return {key: canonical_rows(rows, ordered=ordered) for key, rows in grouped.items()}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
