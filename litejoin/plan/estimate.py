"""What a plan will need of memory and disk: a sum of terms, each with its formula.

Called by the compiler. The inputs that a config does not tell are named constants here and stand
among the assumptions that `plan` prints: a reader can put in better ones.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from litejoin.frozen import dataclass
from litejoin.plan.nodes import (
    ApiSourcePlan,
    DeliveryPlan,
    EstimatePart,
    Estimates,
    JoinPlan,
    SourcePlan,
    StoragePlan,
    TopicPlan,
    WindowPlan,
)
from litejoin.plan.units import count_text, duration_text

DAY_MS = 86_400_000

BASE_MEMORY_MB = 40
"""The process with its libraries and no data, rounded up."""
MEMORY_PER_SHARD_MB = 1
"""One writer connection with its page cache."""
ASSUMED_ROWS_PER_S = 10
"""Rate of one push or Kafka source; the config does not say."""
ASSUMED_ROWS_PER_PAGE = 100
"""Records of one page of an API."""
ASSUMED_ROW_BYTES = 250
"""Key and payload of a typical JSON record; a result is as long."""
DISK_FACTOR = 2.5
"""Rows on disk with their unique index, batch records and write-ahead log: 2-3 times the data."""
KEY_MAP_ENTRY_BYTES = 16
"""One row in one key map, while values are unique."""
HASH_ROW_BYTES = 80
"""One record in the diff state of a source with `change_detection: hash`: key, hash, index."""
ASSUMED_SESSION_GAPS = 4
"""A session lasts this many times its gap."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that all topics hold together, and how that was reckoned."""

    pushed: int
    pushed_text: str
    polled: int

    @property
    def count(self) -> int:
        return self.pushed + self.polled


def estimate(
    storage: StoragePlan,
    delivery: DeliveryPlan,
    sources: Sequence[SourcePlan],
    topics: Sequence[TopicPlan],
    joins: Sequence[JoinPlan] = (),
    windows: Sequence[WindowPlan] = (),
    duckdb_bytes: int = 0,
) -> Estimates:
    """Memory and disk of a running pipeline. `duckdb_bytes`: what the archive may use, 0 = off."""
    rows = _rows(sources, topics)
    parts = (
        *_memory(storage, rows, sum(len(topic.indexes) for topic in topics), duckdb_bytes),
        *_disk(delivery, rows, sources, len(joins), windows),
    )
    return Estimates(
        memory_mb=round(sum(part.megabytes for part in parts if part.of == "memory"), 1),
        disk_mb=round(sum(part.megabytes for part in parts if part.of == "disk"), 1),
        parts=parts,
        assumptions=tuple(_assumptions(sources, topics, windows)),
    )


def _rows(sources: Sequence[SourcePlan], topics: Sequence[TopicPlan]) -> _Rows:
    polled = sum(
        s.min_pages * ASSUMED_ROWS_PER_PAGE for s in sources if isinstance(s, ApiSourcePlan)
    )
    pushing = sum(not isinstance(source, ApiSourcePlan) for source in sources)
    kept_ms = _kept_ms(topics) or DAY_MS
    pushed = pushing * ASSUMED_ROWS_PER_S * kept_ms // 1000
    of = f"{count_text(pushing, 'push source')} x {ASSUMED_ROWS_PER_S} keys/s"
    return _Rows(pushed, f"{of} x {duration_text(kept_ms)}", polled)


def _kept_ms(topics: Iterable[TopicPlan]) -> int | None:
    """For how long pushed rows stay at most; None where a topic is kept for good."""
    longest = 0
    for topic in topics:
        if topic.retention_ms is None:
            return None
        longest = max(longest, topic.retention_ms)
    return longest or None


def _memory(
    storage: StoragePlan, rows: _Rows, maps: int, duckdb_bytes: int
) -> Iterable[EstimatePart]:
    yield EstimatePart("memory", "process", BASE_MEMORY_MB, "without data")
    shards = storage.shard_count
    size = f"{count_text(shards, 'shard')} x {MEMORY_PER_SHARD_MB} MB"
    yield EstimatePart("memory", "shards", float(shards * MEMORY_PER_SHARD_MB), size)
    if maps:
        formula = f"{count_text(maps, 'map')} x {rows.count:,} rows x {KEY_MAP_ENTRY_BYTES} B"
        yield _part("memory", "key maps", maps * rows.count * KEY_MAP_ENTRY_BYTES, formula)
    if duckdb_bytes:
        megabytes = round(duckdb_bytes / (1 << 20), 2)
        yield EstimatePart("memory", "DuckDB", megabytes, "while the archive is written or read")


def _disk(
    delivery: DeliveryPlan,
    rows: _Rows,
    sources: Sequence[SourcePlan],
    joins: int,
    windows: Sequence[WindowPlan],
) -> Iterable[EstimatePart]:
    each = f"{ASSUMED_ROW_BYTES} B x {DISK_FACTOR}"
    row_bytes = ASSUMED_ROW_BYTES * DISK_FACTOR
    if rows.pushed:
        yield _part("disk", "pushed rows", rows.pushed * row_bytes, f"{rows.pushed_text} x {each}")
    if rows.polled:
        formula = f"{rows.polled:,} records x {each}"
        yield _part("disk", "polled rows", rows.polled * row_bytes, formula)
    yield from _diff_state(sources, each)
    if joins and rows.count:
        formula = f"{count_text(joins, 'join')} x {rows.count:,} rows x {each}"
        yield _part("disk", "results", joins * rows.count * row_bytes, formula)
    for window in windows:
        held_ms = window.buffer_bound_ms or ASSUMED_SESSION_GAPS * (window.gap_ms or 0)
        held = f"{ASSUMED_ROWS_PER_S}/s x {duration_text(held_ms)} x {each}"
        size = ASSUMED_ROWS_PER_S * held_ms / 1000 * row_bytes
        yield _part("disk", f"window {window.name}", size, held)
    if delivery.guarantee == "at_least_once":
        limit = delivery.dlq.max_size_bytes
        formula = f"empty while sinks answer; at most max_size_mb: {limit >> 20:,} MB"
        yield EstimatePart("disk", "dead letters", 0.0, formula)


def _diff_state(sources: Sequence[SourcePlan], each: str) -> Iterable[EstimatePart]:
    """What polls are compared with: whole records, or their hashes."""
    api = [source for source in sources if isinstance(source, ApiSourcePlan)]
    whole = sum(s.min_pages for s in api if s.change_detection == "diff") * ASSUMED_ROWS_PER_PAGE
    hashed = sum(s.min_pages for s in api if s.change_detection == "hash") * ASSUMED_ROWS_PER_PAGE
    if whole:
        size = whole * ASSUMED_ROW_BYTES * DISK_FACTOR
        yield _part("disk", "diff state", size, f"{whole:,} records x {each}")
    if hashed:
        size = hashed * HASH_ROW_BYTES * DISK_FACTOR
        formula = f"{hashed:,} hashes x {HASH_ROW_BYTES} B x {DISK_FACTOR}"
        yield _part("disk", "diff state (hash)", size, formula)


def _assumptions(
    sources: Sequence[SourcePlan], topics: Sequence[TopicPlan], windows: Sequence[WindowPlan]
) -> Iterable[str]:
    pushed = any(not isinstance(source, ApiSourcePlan) for source in sources)
    if pushed or windows:
        yield f"{ASSUMED_ROWS_PER_S} new keys/s from a push source"
    if any(isinstance(source, ApiSourcePlan) for source in sources):
        yield f"{ASSUMED_ROWS_PER_PAGE} records on a page"
    yield f"{ASSUMED_ROW_BYTES} B a row or result, one result a row"
    yield f"x {DISK_FACTOR} for the key index, batch records and write-ahead log"
    if any(window.buffer_bound_ms is None for window in windows):
        yield f"a session as long as {ASSUMED_SESSION_GAPS} gaps"
    if pushed and _kept_ms(topics) is None:
        yield "rows kept for good are counted for one day; each day adds as much again"


def _part(
    of: Literal["memory", "disk"], what: str, size_bytes: float, formula: str
) -> EstimatePart:
    return EstimatePart(of, what, round(size_bytes / 1e6, 2), formula)
