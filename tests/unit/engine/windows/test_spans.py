"""Which spans a time belongs to, days of 23 and 25 hours included."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin.engine.windows.spans import DayGrid, EvenGrid, Span
from litejoin.engine.windows.watermark import NEVER_MS

HOUR_MS = 3_600_000


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@given(
    size=st.integers(1, 50), slide=st.integers(1, 50), offset=st.integers(0, 60),
    time=st.integers(0, 500), mark=st.integers(-50, 500),
)  # fmt: skip
def test_a_time_is_open_exactly_when_one_of_its_spans_ends_after_the_watermark(
    size: int, slide: int, offset: int, time: int, mark: int
) -> None:
    grid = EvenGrid(size, min(slide, size), offset)
    spans = list(grid.holding(time))
    assert spans and all(span.start_ms <= time < span.end_ms for span in spans)
    assert (time >= grid.open_from(mark)) == any(span.end_ms > mark for span in spans)


@given(first=st.integers(0, 200), after=st.integers(0, 200), length=st.integers(0, 100))
def test_ending_gives_the_spans_that_hold_the_first_time_or_later(
    first: int, after: int, length: int
) -> None:
    grid = EvenGrid(10, 3, 1)
    every = {span for time in range(first, after + length) for span in grid.holding(time)}
    expected = [s for s in every if after < s.end_ms <= after + length]
    found = list(grid.ending(after, after + length, first))
    assert set(expected) <= set(found)
    assert found == sorted(found, key=lambda span: span.end_ms)
    assert all(after < s.end_ms <= after + length and s.end_ms > first for s in found)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25)]
)
def test_days_have_the_hours_that_clocks_give_them(day: str, hours: int) -> None:
    grid = DayGrid(1, "Europe/Berlin")
    start = ms(f"{day}T00:00:00", "Europe/Berlin")
    for time in (start, start + 5 * HOUR_MS, start + hours * HOUR_MS - 1):
        assert list(grid.holding(time)) == [Span(start, start + hours * HOUR_MS)]
    assert next(grid.ending(start, start + 26 * HOUR_MS, start)).end_ms == start + hours * HOUR_MS
    ended = [Span(start, start + hours * HOUR_MS)]
    assert list(grid.ending(start, start + hours * HOUR_MS, start)) == ended
    assert list(grid.ending(start, start + hours * HOUR_MS - 1, start)) == []
    assert grid.open_from(start + hours * HOUR_MS - 1) == start
    assert grid.open_from(start + hours * HOUR_MS) == start + hours * HOUR_MS


def test_a_day_may_start_later_by_the_wall_clock() -> None:
    grid = DayGrid(1, "America/New_York", 5 * HOUR_MS)
    start = ms("2026-03-08T05:00:00", "America/New_York")
    assert list(grid.holding(start - 1))[0] == Span(
        ms("2026-03-07T05:00:00", "America/New_York"), start
    )


def test_days_follow_each_other_without_gap_over_years_and_zones() -> None:
    for zone in ("Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Africa/Cairo", "UTC"):
        spans = list(DayGrid(2, zone).ending(ms("2020-01-01T00:00:00"), ms("2027-01-01T00:00:00"),
                                             ms("2020-01-01T00:00:00")))  # fmt: skip
        assert len(spans) > 1000
        assert all(a.end_ms == b.start_ms for a, b in zip(spans, spans[1:], strict=False))


def test_before_the_first_message_every_day_is_open() -> None:
    for zone in ("Europe/Berlin", "America/New_York", "Pacific/Auckland"):
        for days in (1, 7):
            grid = DayGrid(days, zone, 5 * HOUR_MS)
            assert grid.open_from(NEVER_MS) <= 0
            assert next(grid.ending(NEVER_MS, 40 * 24 * HOUR_MS, 0)) in set(grid.holding(0))
