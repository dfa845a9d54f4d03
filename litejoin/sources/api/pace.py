"""When an api source polls: a fixed grid, a start offset of its own, backoff after failures.

Pure arithmetic over monotonic milliseconds that the caller passes in; sleeps and logs nothing.
"""

import zlib

from litejoin.plan.nodes_api import AdaptivePlan

MAX_START_JITTER_MS = 1000
"""Sources of one config start within this time of each other, the same offset at every start."""
MAX_BACKOFF_MS = 5 * 60 * 1000
MAX_DOUBLINGS = 30
"""2^30 intervals are beyond MAX_BACKOFF_MS for any interval; keeps the numbers small."""


class Pace:
    """The timetable of one source. A poll that takes longer than the interval skips grid points."""

    def __init__(
        self,
        name: str,
        interval_ms: int,
        max_failures: int,
        now_ms: int,
        adaptive: AdaptivePlan | None = None,
    ) -> None:
        self._interval_ms = max(interval_ms, 1)
        self._adaptive = adaptive
        self._max_failures = max(max_failures, 1)
        spread_ms = min(self._interval_ms, MAX_START_JITTER_MS)
        self._grid_ms = now_ms + zlib.crc32(name.encode()) % spread_ms
        self._due_ms = self._grid_ms
        self.failures = 0
        """Consecutive failures so far."""

    def wait_ms(self, now_ms: int) -> int:
        """Milliseconds until the next poll, 0 when it is due."""
        return max(0, self._due_ms - now_ms)

    @property
    def interval_ms(self) -> int:
        """The interval now; with `adaptive` it follows what happens."""
        return self._interval_ms

    def succeeded(self, now_ms: int, *, changed: bool = False) -> int:
        """Plan the next poll; returns how many failures this success ended."""
        ended, self.failures = self.failures, 0
        if self._adaptive is not None:
            self._adapt(changed)
        self._due_ms = self._next_grid(now_ms)
        return ended

    def failed(self, now_ms: int) -> bool:
        """Plan the next poll; True when the source is backing off."""
        self.failures += 1
        over = self.failures - self._max_failures
        self._due_ms = self._next_grid(now_ms)
        if over < 0:
            return False
        backoff_ms = min(self._interval_ms << min(over + 1, MAX_DOUBLINGS), MAX_BACKOFF_MS)
        self._due_ms = max(self._due_ms, now_ms + backoff_ms)
        return True

    def _adapt(self, changed: bool) -> None:
        """Half the interval after a change, 1.5 times when idle; the grid starts anew here."""
        assert self._adaptive is not None
        wanted = self._interval_ms // 2 if changed else self._interval_ms * 3 // 2
        self._grid_ms = self._due_ms
        self._interval_ms = max(self._adaptive.min_ms, min(wanted, self._adaptive.max_ms), 1)

    def _next_grid(self, now_ms: int) -> int:
        behind = (now_ms - self._grid_ms) // self._interval_ms
        return self._grid_ms + (behind + 1) * self._interval_ms
