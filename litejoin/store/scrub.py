"""The background check: all rows and pages of all shards, again and again, at a limited rate.

Started and stopped by the runtime, on a thread of its own. It reads in short transactions through a
connection that it opens for each shard; damage quarantines the shard. What it costs is bounded by
`storage.scrub_rate`: rows are read at that many bytes a second, and SQLite's page check, which has
to be one transaction, works at most a quarter of the time.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from litejoin.clock import Clock
from litejoin.errors import CorruptionError, StorageError
from litejoin.records import rfc3339
from litejoin.store.quarantine import Quarantine
from litejoin.store.shard import open_reader
from litejoin.store.verify import check_pages, check_rows, opening

FIRST_AFTER_MS = 10_000
"""The first round waits so long, or an interval if that is shorter: the start comes first."""

REST_FACTOR = 3
"""The page check rests so many times as long as it has worked."""

PROGRESS_STEPS = 5_000
"""SQLite's steps between two looks at the clock: about a millisecond."""

log = logging.getLogger("litejoin.store")


class _Stopped(Exception):
    """The process is to end."""


@dataclass(slots=True)
class _Rounds:
    count: int = 0
    rows: int = 0
    last: str = ""
    seconds: float = 0.0


class Scrubber(threading.Thread):
    """One round over all shards every interval. `close` ends it within a chunk."""

    def __init__(
        self,
        paths: Mapping[int, Path],
        quarantine: Quarantine,
        clock: Clock,
        interval_ms: int,
        bytes_per_s: int,
    ) -> None:
        super().__init__(name="litejoin-scrub", daemon=True)
        self._paths, self._quarantine, self._clock = paths, quarantine, clock
        self._interval_ms, self._bytes_per_s = interval_ms, bytes_per_s
        self._rounds = _Rounds()
        self._ending = threading.Event()

    def run(self) -> None:
        """Until closed."""
        wait_ms = min(self._interval_ms, FIRST_AFTER_MS)
        while not self._ending.wait(wait_ms / 1000):
            try:
                self._round()
            except _Stopped:
                return
            wait_ms = self._interval_ms

    def close(self) -> None:
        """Stop and wait for the end. May be called twice."""
        self._ending.set()
        if self.is_alive():
            self.join()

    def stats(self) -> dict[str, object]:
        """For /health. Any thread."""
        done = self._rounds
        shown: dict[str, object] = {"rounds": done.count}
        if done.count:
            shown |= {"last": done.last, "rows": done.rows, "seconds": done.seconds}
        return shown

    def _round(self) -> None:
        started_ms, rows = self._clock.monotonic_ms(), 0
        for shard, path in self._paths.items():
            if shard not in self._quarantine.shards:
                rows += self._scrub(shard, path)
        seconds = (self._clock.monotonic_ms() - started_ms) / 1000
        last = rfc3339(self._clock.now_ms())
        self._rounds = _Rounds(self._rounds.count + 1, rows, last, round(seconds, 3))
        log.info("store: scrubbed %d rows in %.1f s", rows, seconds)

    def _scrub(self, shard: int, path: Path) -> int:
        try:
            with opening(lambda: open_reader(path), shard) as connection:
                counted = check_rows(connection, shard, self._rest_after_bytes)
                connection.set_progress_handler(_Pace(self._ending, self._clock), PROGRESS_STEPS)
                check_pages(connection, shard)
                return counted.rows
        except CorruptionError as error:
            self._quarantine.take(error)
        except StorageError as error:
            if self._ending.is_set():
                raise _Stopped from error
            log.warning("store: shard %d could not be scrubbed: %s", shard, error)
        return 0

    def _rest_after_bytes(self, count: int) -> None:
        if self._ending.wait(count / self._bytes_per_s):
            raise _Stopped


class _Pace:
    """Called by SQLite every few thousand steps; True interrupts it."""

    def __init__(self, stop: threading.Event, clock: Clock) -> None:
        self._ending, self._clock = stop, clock
        self._since_ms = clock.monotonic_ms()

    def __call__(self) -> bool:
        worked_ms = self._clock.monotonic_ms() - self._since_ms
        stopped = self._ending.wait(worked_ms * REST_FACTOR / 1000)
        self._since_ms = self._clock.monotonic_ms()
        return stopped
