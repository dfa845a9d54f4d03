"""Which spans of time a message belongs to: tumbling and sliding grids, and days of a time zone.

Pure arithmetic on Unix milliseconds, called by the windows of the engine and by nobody else. A span
is [start, end). Sessions are not a grid; they are in `sessions`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) in Unix milliseconds."""

    start_ms: int
    end_ms: int


class Grid(Protocol):
    """Spans whose starts are known beforehand."""

    def open_from(self, watermark_ms: int) -> int:
        """The earliest time whose messages still have a span that ends after the watermark."""
        ...

    def ending(self, after_ms: int, upto_ms: int, first_ms: int) -> Iterator[Span]:
        """Spans that end in (after, upto] and hold `first` or something later, by end."""
        ...

    def holding(self, time_ms: int) -> Iterator[Span]:
        """The spans that hold a time, by start."""
        ...


@dataclass(frozen=True, slots=True)
class EvenGrid:
    """Spans of one size whose starts are `slide_ms` apart; tumbling when both are equal."""

    size_ms: int
    slide_ms: int
    offset_ms: int = 0

    def _last_start(self, time_ms: int) -> int:
        return time_ms - (time_ms - self.offset_ms) % self.slide_ms

    def open_from(self, watermark_ms: int) -> int:
        # The last span of time t starts at floor(t) and ends after the watermark exactly when
        # floor(t) > watermark - size.
        return self._last_start(watermark_ms - self.size_ms) + self.slide_ms

    def ending(self, after_ms: int, upto_ms: int, first_ms: int) -> Iterator[Span]:
        after_start = max(after_ms - self.size_ms, first_ms - self.size_ms)
        start = self._last_start(after_start) + self.slide_ms
        while start + self.size_ms <= upto_ms:
            yield Span(start, start + self.size_ms)
            start += self.slide_ms

    def holding(self, time_ms: int) -> Iterator[Span]:
        start = self._last_start(time_ms - self.size_ms) + self.slide_ms
        while start <= time_ms:
            yield Span(start, start + self.size_ms)
            start += self.slide_ms


@dataclass(frozen=True, slots=True)
class DayGrid:
    """Tumbling spans of whole days as a time zone counts them: 23 or 25 hours where clocks change.

    Days are counted from 1970-01-01, so that spans of several days have the same starts in every
    run. `offset_ms` moves the start within the day by the wall clock: 5 h is five o'clock.
    """

    days: int
    zone: str
    offset_ms: int = 0

    def _start(self, number: int) -> int:
        return _midnight(self.zone, number * self.days, self.offset_ms)

    def _number(self, time_ms: int) -> int:
        # No message is older than 1970; a watermark that has not moved yet is, beyond any calendar.
        time_ms = max(time_ms, 0)
        local = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(self.zone))
        number = (local.toordinal() - EPOCH_DAY) // self.days
        # A start moved by the offset, or a midnight that clocks skip, can lie on either side.
        while self._start(number) > time_ms:
            number -= 1
        while self._start(number + 1) <= time_ms:
            number += 1
        return number

    def _span(self, number: int) -> Span:
        return Span(self._start(number), self._start(number + 1))

    def open_from(self, watermark_ms: int) -> int:
        return self._start(self._number(watermark_ms))

    def ending(self, after_ms: int, upto_ms: int, first_ms: int) -> Iterator[Span]:
        number = self._number(max(after_ms, first_ms))
        while (span := self._span(number)).end_ms <= upto_ms:
            if span.end_ms > after_ms:
                yield span
            number += 1

    def holding(self, time_ms: int) -> Iterator[Span]:
        yield self._span(self._number(time_ms))


EPOCH_DAY = datetime(1970, 1, 1, tzinfo=UTC).toordinal()


@lru_cache(maxsize=256)
def _midnight(zone: str, day: int, offset_ms: int) -> int:
    """When day `day` since 1970-01-01 starts in a zone, by its wall clock, in Unix ms."""
    naive = datetime(1970, 1, 1) + timedelta(days=day, milliseconds=offset_ms)  # noqa: DTZ001
    return int(naive.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
