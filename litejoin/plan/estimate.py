"""What a plan will need of memory and disk: a sum of terms, each with its formula.

Called by the compiler. The inputs that a config does not tell are named constants here and stand
among the assumptions that `plan` prints: a reader can put in better ones.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from litejoin.frozen import dataclass
from litejoin.plan.nodes import (
    ApiSourcePlan,
    ArchivePlan,
    DeliveryPlan,
    EstimatePart,
    Estimates,
    JoinPlan,
    SourcePlan,
    StoragePlan,
    TopicPlan,
    WindowPlan,
)
from litejoin.plan.units import count_text, duration_text, megabytes_text

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
KEY_MAP_ENTRY_BYTES = 32
"""One row in one key map, while values are unique: 16 bytes, and a map is three eighths to three
quarters full."""
PLACE_BYTES = 16
"""The place of a row that joins look up by key: 8 bytes, and the table is as full as a map."""
CACHED_ROW_BYTES = 80
"""What the row cache needs beside key and payload: a header, and a key map that is half full."""
HASH_ROW_BYTES = 80
"""One record in the diff state of a source with `change_detection: hash`: key, hash, index."""
ASSUMED_SESSION_GAPS = 4
"""A session lasts this many times its gap."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that one source keeps in its topics, and how that was reckoned."""

    source: str
    topics: frozenset[str]
    """In lower case."""
    count: int
    formula: str


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
    rows = [_rows(source, topics) for source in sources]
    parts = (
        *_memory(storage, rows, topics, duckdb_bytes),
        *_looked_up(storage, rows, joins),
        *_disk(delivery, rows, sources, joins, windows),
        *_archived(storage.archive, sources, topics),
    )
    return Estimates(
        memory_mb=round(sum(part.megabytes for part in parts if part.of == "memory"), 1),
        disk_mb=round(sum(part.megabytes for part in parts if part.of == "disk"), 1),
        parts=parts,
        assumptions=tuple(_assumptions(sources, topics, windows)),
    )


def _rows(source: SourcePlan, topics: Sequence[TopicPlan]) -> _Rows:
    fed = [topic for topic in topics if source.name in topic.fed_by]
    names = frozenset(topic.name.lower() for topic in fed)
    if isinstance(source, ApiSourcePlan):
        count = source.min_pages * ASSUMED_ROWS_PER_PAGE
        return _Rows(source.name, names, count, f"{count:,} records")
    kept_ms = _kept_ms(fed) or DAY_MS
    formula = f"{ASSUMED_ROWS_PER_S} keys/s x {duration_text(kept_ms)}"
    return _Rows(source.name, names, ASSUMED_ROWS_PER_S * kept_ms // 1000, formula)


def _reading(rows: Iterable[_Rows], topics: Iterable[str]) -> int:
    """Rows that the sources of some topics keep."""
    wanted = {topic.lower() for topic in topics}
    return sum(each.count for each in rows if each.topics & wanted)


def _kept_ms(topics: Iterable[TopicPlan]) -> int | None:
    """For how long pushed rows stay at most; None where a topic is kept for good."""
    longest = 0
    for topic in topics:
        if topic.retention_ms is None:
            return None
        longest = max(longest, topic.retention_ms)
    return longest or None


def _memory(
    storage: StoragePlan, rows: Sequence[_Rows], topics: Iterable[TopicPlan], duckdb_bytes: int
) -> Iterable[EstimatePart]:
    yield EstimatePart("memory", "process", BASE_MEMORY_MB, "without data")
    shards = storage.shard_count
    size = f"{count_text(shards, 'shard')} x {MEMORY_PER_SHARD_MB} MB"
    yield EstimatePart("memory", "shards", float(shards * MEMORY_PER_SHARD_MB), size)
    for topic in topics:
        if topic.indexes:
            count, maps = _reading(rows, [topic.name]), len(topic.indexes)
            formula = f"{count_text(maps, 'map')} x {count:,} rows x {KEY_MAP_ENTRY_BYTES} B"
            size_bytes = maps * count * KEY_MAP_ENTRY_BYTES
            yield _part("memory", f"key maps of {topic.name}", size_bytes, formula)
    if duckdb_bytes:
        megabytes = round(duckdb_bytes / (1 << 20), 2)
        yield EstimatePart("memory", "DuckDB", megabytes, "while the archive is written or read")


def _looked_up(
    storage: StoragePlan, rows: Sequence[_Rows], joins: Sequence[JoinPlan]
) -> Iterable[EstimatePart]:
    plans = [plan for join in joins for plan in (join.native, join.grouped) if plan is not None]
    topics = sorted(frozenset[str]().union(*(plan.looked_up_by_key for plan in plans)))
    count = _reading(rows, topics)
    if not count:
        return
    each = ASSUMED_ROW_BYTES + CACHED_ROW_BYTES
    bound = round(storage.row_cache_bytes / (1 << 20), 2)
    formula = f"{count:,} rows of {', '.join(topics)} x {each} B, at most {megabytes_text(bound)}"
    yield EstimatePart("memory", "row cache", min(round(count * each / 1e6, 2), bound), formula)
    formula = f"{count:,} rows of {', '.join(topics)} x {PLACE_BYTES} B"
    yield _part("memory", "row places", count * PLACE_BYTES, formula)


def _disk(
    delivery: DeliveryPlan,
    rows: Sequence[_Rows],
    sources: Sequence[SourcePlan],
    joins: Sequence[JoinPlan],
    windows: Sequence[WindowPlan],
) -> Iterable[EstimatePart]:
    each = f"{ASSUMED_ROW_BYTES} B x {DISK_FACTOR}"
    row_bytes = ASSUMED_ROW_BYTES * DISK_FACTOR
    for kept in rows:
        formula = f"{kept.formula} x {each}"
        yield _part("disk", f"rows of {kept.source}", kept.count * row_bytes, formula)
    yield from _diff_state(sources, each)
    for join in joins:
        topics = [r.topic for r in join.references if r.topic not in join.windows]
        if not topics:
            continue  # as many as the windows that it reads show: few beside their messages
        count = _reading(rows, topics)
        formula = f"{count:,} rows x {each}"
        yield _part("disk", f"results of {join.name}", count * row_bytes, formula)
    for window in windows:
        held_ms = window.buffer_bound_ms or ASSUMED_SESSION_GAPS * (window.gap_ms or 0)
        held = f"{ASSUMED_ROWS_PER_S}/s x {duration_text(held_ms)} x {each}"
        size = ASSUMED_ROWS_PER_S * held_ms / 1000 * row_bytes
        yield _part("disk", f"messages of {window.name}", size, held)
    if delivery.guarantee == "at_least_once":
        limit = delivery.dlq.max_size_bytes
        formula = f"empty while sinks answer; at most max_size_mb: {limit >> 20:,} MB"
        yield EstimatePart("disk", "dead letters", 0.0, formula)


def _archived(
    archive: ArchivePlan | None, sources: Sequence[SourcePlan], topics: Sequence[TopicPlan]
) -> Iterable[EstimatePart]:
    """What is kept of pushed rows after their retention, and of files fetched back."""
    if archive is None:
        return
    expiring = {name for topic in topics if topic.retention_ms is not None for name in topic.fed_by}
    kept_ms = archive.local_retention_ms
    for source in sources:
        if source.name in expiring and not isinstance(source, ApiSourcePlan):
            formula = f"{ASSUMED_ROWS_PER_S}/s x {duration_text(kept_ms)} x {ASSUMED_ROW_BYTES} B"
            size = ASSUMED_ROWS_PER_S * kept_ms / 1000 * ASSUMED_ROW_BYTES
            what = f"archive of {source.name}"
            yield _part("disk", what, size, f"{formula}, before compression")
    if archive.cloud is not None:
        limit = archive.cloud.cache_bytes >> 20
        formula = f"files that queries fetch back; at most cache_size: {limit:,} MB"
        yield EstimatePart("disk", "archive cache", 0.0, formula)


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
    pushing = {source.name for source in sources if not isinstance(source, ApiSourcePlan)}
    pushed = bool(pushing)
    if pushed or windows:
        yield f"{ASSUMED_ROWS_PER_S} new keys/s from a push source"
    if any(isinstance(source, ApiSourcePlan) for source in sources):
        yield f"{ASSUMED_ROWS_PER_PAGE} records on a page"
    yield f"{ASSUMED_ROW_BYTES} B a row or result, a result for each row that a join reads"
    yield f"x {DISK_FACTOR} for the key index, batch records and write-ahead log"
    if any(window.buffer_bound_ms is None for window in windows):
        yield f"a session as long as {ASSUMED_SESSION_GAPS} gaps"
    fed = [topic for topic in topics if pushing & set(topic.fed_by)]
    if fed and _kept_ms(fed) is None:
        yield "rows kept for good are counted for one day; each day adds as much again"


def _part(
    of: Literal["memory", "disk"], what: str, size_bytes: float, formula: str
) -> EstimatePart:
    return EstimatePart(of, what, round(size_bytes / 1e6, 2), formula)
