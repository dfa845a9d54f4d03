"""The twin of the topic virtual table: the same three relations as plain SQLite tables.

`t` the current rows, `t:delta` the old and new versions of the last flush, `t:both` the current
rows and the old versions of the flush. The values of indexed expressions are computed when a row is
stored, the first time a version is seen, and no index helps a query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw


@dataclass(frozen=True)
class Version:
    """One version of a row."""

    key: str
    payload: str
    timestamp_ms: int
    op: str


class TopicTwin:
    """A topic named `t`. `indexes`: (expression over payload, whether it has TEXT affinity)."""

    def __init__(self, indexes: Sequence[tuple[str, bool]]) -> None:
        self._db = apsw.Connection(":memory:")
        self._indexes = [expression for expression, _ in indexes]
        names = [f'"lj:{n}" {"TEXT" if text else "BLOB"}' for n, (_, text) in enumerate(indexes, 1)]
        columns = ", ".join(
            ["key TEXT", "payload TEXT", "timestamp INTEGER", "timestamp_ms INTEGER", "op TEXT",
             "changes TEXT", *names]
        )  # fmt: skip
        for table in ("t", "t:delta", "t:both"):
            self._db.execute(f'CREATE TABLE "{table}" ({columns})')
        self._rows: dict[str, Version] = {}

    def close(self) -> None:
        self._db.close()

    def flush(self, rows: Sequence[tuple[str, str | None, int]]) -> None:
        """(key, payload or None, timestamp_ms) in order; of one key the last counts."""
        latest = {key: (payload, timestamp_ms) for key, payload, timestamp_ms in rows}
        olds = [self._rows[key] for key in latest if key in self._rows]
        news = []
        for key, (payload, timestamp_ms) in latest.items():
            before = self._rows.pop(key, None)
            if payload is not None:
                op = "created" if before is None else "updated"
                self._rows[key] = Version(key, payload, timestamp_ms, op)
                news.append(self._rows[key])
        current = list(self._rows.values())
        for table, versions in (
            ("t", current),
            ("t:delta", olds + news),
            ("t:both", current + olds),
        ):
            self._db.execute(f'DELETE FROM "{table}"')
            for version in versions:
                self._insert(table, version)

    def _insert(self, table: str, version: Version) -> None:
        more = "".join(f", {expression}" for expression in self._indexes)
        self._db.execute(
            f'INSERT INTO "{table}" SELECT key, payload, CAST(floor(ms / 1000.0) AS INTEGER), ms,'
            f" op, NULL{more} FROM (SELECT ? AS key, ? AS payload, ? AS ms, ? AS op)",
            (version.key, version.payload, version.timestamp_ms, version.op),
        )

    def select(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return list(self._db.execute(sql, bindings))
