"""Time, as a value that can be injected.

Owned here so that no other module reads the system clock directly; tests pass `ManualClock`.
Durations come from `monotonic_ms`, points in time that users see from `now_ms`.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of the program may ask about time. Never blocks."""

    def now_ms(self) -> int:
        """Wall clock, Unix milliseconds (may jump)."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since an arbitrary start (never goes back)."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


class ManualClock:
    """A clock that tests move by hand; the wall clock can jump apart from the monotonic one."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def advance(self, ms: int) -> None:
        """Let `ms` milliseconds pass on both clocks."""
        self._now_ms += ms
        self._monotonic_ms += ms

    def jump(self, ms: int) -> None:
        """Move only the wall clock, as NTP or an operator does."""
        self._now_ms += ms
