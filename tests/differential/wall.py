"""A clock for SQLite: `strftime('now')` of a connection tells the time of a ManualClock."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

import apsw

from litejoin.clock import ManualClock

VFS = "manual clock"
JULIAN_OF_1970_MS = 210_866_760_000_000


class ClockVfs(apsw.VFS):
    """Everything but the time is the system's."""

    clock = ManualClock()

    def __init__(self) -> None:
        super().__init__(VFS, "")

    def xCurrentTimeInt64(self) -> int:
        return self.clock.now_ms() + JULIAN_OF_1970_MS


@cache
def _registered() -> ClockVfs:
    """For the whole process: a connection that is still open must not lose it."""
    return ClockVfs()


def open_memory() -> apsw.Connection:
    """A database in memory, on the clock that `on_clock` has set last."""
    _registered()
    return apsw.Connection(":memory:", vfs=VFS)


@contextmanager
def on_clock(clock: ManualClock) -> Iterator[None]:
    """Queries of the engines that are opened inside take the time from `clock`."""
    _registered().clock = clock
    with patch("litejoin.engine.engine.open_memory", open_memory):
        yield
