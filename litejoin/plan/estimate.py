"""What a plan will cost: requests per minute, memory and disk, each with its formula.

Called by the compiler (estimates) and by explain (request budgets). The inputs that a config does
not tell are named constants here and appear in the formula: a reader can put in better ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from litejoin.plan.nodes import (
    ApiSourcePlan,
    Estimates,
    SourcePlan,
    StoragePlan,
    TopicPlan,
)
from litejoin.plan.units import count_text, duration_text

MINUTE_MS = 60_000
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
"""Key and payload of a typical JSON record."""
DISK_FACTOR = 2.5
"""Rows on disk with their unique index, batch records and write-ahead log: 2-3 times the data."""
KEY_MAP_ENTRY_BYTES = 16
"""One row in one key map, while values are unique."""


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """Requests per minute of an api source; `least` and `most` differ if pages are not known."""

    least: float
    most: float
    allowed: float | None

    @property
    def share(self) -> float | None:
        """Least requests as a share of the allowed; above 1 the interval cannot be kept."""
        return self.least / self.allowed if self.allowed else None


def request_budget(source: ApiSourcePlan) -> RequestBudget:
    """Requests per minute = pages per poll / interval."""
    polls = MINUTE_MS / source.interval_ms
    return RequestBudget(
        source.min_pages * polls, source.max_pages * polls, source.allowed_per_minute
    )


def estimate(
    storage: StoragePlan,
    sources: Sequence[SourcePlan],
    topics: Sequence[TopicPlan],
) -> Estimates:
    """Memory and disk of a running pipeline under the assumptions above."""
    polled = sum(
        s.min_pages * ASSUMED_ROWS_PER_PAGE for s in sources if isinstance(s, ApiSourcePlan)
    )
    pushing = [s for s in sources if not isinstance(s, ApiSourcePlan)]
    kept_ms, kept = _kept(topics)
    pushed = len(pushing) * ASSUMED_ROWS_PER_S * kept_ms // 1000
    disk_mb = (polled + pushed) * ASSUMED_ROW_BYTES * DISK_FACTOR / 1e6

    maps = sum(len(topic.indexes) for topic in topics)
    memory_mb = BASE_MEMORY_MB + MEMORY_PER_SHARD_MB * storage.shard_count
    memory = f"{BASE_MEMORY_MB} MB + {count_text(storage.shard_count, 'shard')} x 1 MB"
    if maps:
        memory += f" + {KEY_MAP_ENTRY_BYTES} B a row in {count_text(maps, 'key map')}"

    rows = []
    if pushing:
        rows.append(
            f"{count_text(len(pushing), 'push source')} x {ASSUMED_ROWS_PER_S} new keys/s x {kept}"
        )
    if polled:
        rows.append(f"{polled:,} polled records")
    each = f"{ASSUMED_ROW_BYTES} B x {DISK_FACTOR} for index and WAL"
    disk = f"({' + '.join(rows) or '0 rows'}) x {each}"
    return Estimates(float(memory_mb), round(disk_mb, 1), f"memory = {memory}; disk = {disk}")


def _kept(topics: Sequence[TopicPlan]) -> tuple[int, str]:
    """For how long pushed rows stay; a day's worth stands in where they are kept for good."""
    periods = [topic.retention_ms for topic in topics]
    if not periods or None in periods:
        return DAY_MS, "24h, and again every day"
    longest = max(period for period in periods if period is not None)
    return longest, duration_text(longest)
