"""Windows from scratch: plain lists and plain SQL, the oracle of the engine's windows.

Messages are (time in ms, partition, payload). A flush is judged as a whole: against the watermark
of before it, and then it moves the watermark.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import apsw

Message = tuple[int, Any, str]
Fired = tuple[int, int, Any, list[dict[str, Any]]]
"""(start, end, partition, rows)."""


def rows_of(query: str, messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The query over these messages, by a SQLite of its own."""
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE orders(key, payload, timestamp, timestamp_ms)")
    db.executemany(
        "INSERT INTO orders VALUES('k', ?, ?, ?)",
        [(payload, ms // 1000, ms) for ms, _, payload in sorted(messages, key=lambda m: m[0])],
    )
    cursor = db.execute(query)
    rows = [dict(zip([d[0] for d in cursor.description], row, strict=True)) for row in cursor]
    return json.loads(json.dumps(rows))


@dataclass
class GridOracle:
    """Tumbling (slide = size) and sliding windows."""

    query: str
    size_ms: int
    slide_ms: int
    lateness_ms: int
    offset_ms: int = 0
    kept: list[Message] = field(default_factory=list)
    late: int = 0
    newest_ms: int = -(2**60)
    closed_ms: int = -(2**60)

    def spans_of(self, ms: int) -> list[tuple[int, int]]:
        last = ms - (ms - self.offset_ms) % self.slide_ms
        starts = range(last, ms - self.size_ms, -self.slide_ms)
        return [(start, start + self.size_ms) for start in starts]

    def flush(self, messages: Iterable[Message]) -> list[Fired]:
        for message in messages:
            self.newest_ms = max(self.newest_ms, message[0])
            if any(end > self.closed_ms for _, end in self.spans_of(message[0])):
                self.kept.append(message)
            else:
                self.late += 1
        watermark = self.newest_ms - self.lateness_ms
        due = {
            (end, start, json.dumps(partition))
            for ms, partition, _ in self.kept
            for start, end in self.spans_of(ms)
            if self.closed_ms < end <= watermark
        }
        self.closed_ms = max(self.closed_ms, watermark)
        fired = []
        for end, start, text in sorted(due):
            partition = json.loads(text)
            mine = [m for m in self.kept if start <= m[0] < end and m[1] == partition]
            fired.append((start, end, partition, rows_of(self.query, mine)))
        return fired


@dataclass
class SessionOracle:
    """Sessions of each partition, as lists of messages; each message counts in one."""

    query: str
    gap_ms: int
    lateness_ms: int
    open: dict[Any, list[list[Message]]] = field(default_factory=dict)
    late: int = 0
    newest_ms: int = -(2**60)
    closed_ms: int = -(2**60)

    def flush(self, messages: Iterable[Message]) -> list[Fired]:
        by_partition: dict[Any, list[Message]] = {}
        for message in messages:
            self.newest_ms = max(self.newest_ms, message[0])
            by_partition.setdefault(message[1], []).append(message)
        for partition, fresh in by_partition.items():
            for island in self._islands(sorted(fresh, key=lambda m: m[0])):
                self._merge(self.open.setdefault(partition, []), island)
        watermark = self.newest_ms - self.lateness_ms
        self.closed_ms = max(self.closed_ms, watermark)
        fired = []
        for partition, sessions in self.open.items():
            for session in [s for s in sessions if s[-1][0] + self.gap_ms <= self.closed_ms]:
                sessions.remove(session)
                rows = rows_of(self.query, session)
                fired.append((session[0][0], session[-1][0] + self.gap_ms, partition, rows))
        return fired

    def _islands(self, fresh: list[Message]) -> list[list[Message]]:
        islands: list[list[Message]] = []
        for message in fresh:
            if islands and message[0] - islands[-1][-1][0] <= self.gap_ms:
                islands[-1].append(message)
            else:
                islands.append([message])
        return islands

    def _merge(self, sessions: list[list[Message]], island: list[Message]) -> None:
        near = [
            s
            for s in sessions
            if s[-1][0] >= island[0][0] - self.gap_ms and s[0][0] <= island[-1][0] + self.gap_ms
        ]
        if not near and island[-1][0] + self.gap_ms <= self.closed_ms:
            self.late += len(island)
            return
        for session in near:
            sessions.remove(session)
        sessions.append(sorted(sum(near, island), key=lambda m: m[0]))
