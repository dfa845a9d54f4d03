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


JUMP_MS = 300_000
"""A wall clock that is further from where it should be has jumped, rather than been corrected."""

SETTLE_MS = 300_000
"""How long a wall clock must run evenly after a jump before it is believed again."""


class SteadyClock:
    """Unix time that does not follow jumps of the wall clock, for expiry and retry times.

    It runs on the monotonic clock from the wall time at the start. A small correction (NTP) is
    taken over at once; a jump over JUMP_MS makes `is_settled` False, so that nothing is expired
    meanwhile, until the wall clock has run evenly for SETTLE_MS: then the new time is taken over.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ms = clock.now_ms() - clock.monotonic_ms()
        self._jump: tuple[int, int] | None = None
        """Offset after the jump, and the monotonic time it was first seen."""

    def now_ms(self) -> int:
        """Unix milliseconds; between two takeovers it never goes back and never leaps."""
        self._observe()
        return self._clock.monotonic_ms() + self._offset_ms

    def is_settled(self) -> bool:
        """False while the wall clock is not to be believed."""
        self._observe()
        return self._jump is None

    def _observe(self) -> None:
        monotonic_ms = self._clock.monotonic_ms()
        offset_ms = self._clock.now_ms() - monotonic_ms
        if abs(offset_ms - self._offset_ms) <= JUMP_MS:
            self._offset_ms, self._jump = offset_ms, None
        elif self._jump is None or abs(offset_ms - self._jump[0]) > JUMP_MS:
            self._jump = (offset_ms, monotonic_ms)
        elif monotonic_ms - self._jump[1] >= SETTLE_MS:
            self._offset_ms, self._jump = offset_ms, None
