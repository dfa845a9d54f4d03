"""Holds back the deletion of batch records where the files are replicated.

The shards and state.db are copied each by itself, so after a restore they are of different moments.
A shard may only lack a record that state.db has applied; were it deleted as soon as that is so, a
state.db from a second before would miss the messages in it. So records stay for HOLD_MS more, in
which every file was copied many times. Used by the store; any thread, one at a time.
"""

from collections import deque
from collections.abc import Mapping

from litejoin.clock import Clock, SystemClock

HOLD_MS = 60_000
"""Sixty times the default sync interval. Costs the records of a minute on disk."""


class TrimDelay:
    """What was applied, and when."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._noted: deque[tuple[int, Mapping[int, int]]] = deque()

    def due(self, applied: Mapping[int, int]) -> Mapping[int, int]:
        """Note what is applied now; what was applied long enough ago, nothing at first."""
        now_ms = self._clock.monotonic_ms()
        if not self._noted or now_ms - self._noted[-1][0] >= HOLD_MS // 60:
            self._noted.append((now_ms, applied))
        found: Mapping[int, int] = {}
        while self._noted and now_ms - self._noted[0][0] >= HOLD_MS:
            found = self._noted.popleft()[1]
        return found
