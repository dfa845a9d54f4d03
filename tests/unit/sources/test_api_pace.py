"""When an api source polls: grid, offset, skipped points, backoff."""

from hypothesis import given
from hypothesis import strategies as st

from litejoin.sources.api.pace import MAX_BACKOFF_MS, Pace


def test_the_start_offset_is_the_same_at_every_start_and_differs_by_name() -> None:
    offsets = [Pace(f"source-{i}", 30_000, 5, 0).wait_ms(0) for i in range(50)]
    assert offsets == [Pace(f"source-{i}", 30_000, 5, 0).wait_ms(0) for i in range(50)]
    assert len(set(offsets)) > 40
    assert max(offsets) < 1000
    assert Pace("source-1", 10, 5, 0).wait_ms(0) < 10


@given(st.integers(1, 100_000), st.lists(st.integers(0, 300_000), max_size=20))
def test_polls_stay_on_the_grid_and_never_catch_up(interval_ms: int, took: list[int]) -> None:
    pace, now = Pace("x", interval_ms, 5, 1000), 1000
    first = now + pace.wait_ms(now)
    for took_ms in took:
        now += pace.wait_ms(now)
        assert (now - first) % interval_ms == 0
        now += took_ms
        pace.succeeded(now)
        assert 0 < pace.wait_ms(now) <= interval_ms


def test_a_slow_poll_skips_its_missed_points() -> None:
    pace = Pace("x", 1000, 5, 0)
    start = pace.wait_ms(0)
    pace.succeeded(start + 2500)
    assert pace.wait_ms(start + 2500) == 500


def test_failures_keep_the_interval_until_the_limit_then_back_off_to_five_minutes() -> None:
    pace, now, waits = Pace("x", 10_000, 3, 0), 0, []
    now += pace.wait_ms(now)
    for _ in range(12):
        backing_off = pace.failed(now)
        assert backing_off == (pace.failures >= 3)
        waits.append(pace.wait_ms(now))
        now += waits[-1]
    assert waits[:7] == [10_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000]
    assert set(waits[7:]) == {MAX_BACKOFF_MS}
    assert pace.succeeded(now) == 12
    assert pace.failures == 0
    assert 0 < pace.wait_ms(now) <= 10_000


def test_backoff_is_never_shorter_than_the_interval() -> None:
    pace = Pace("x", 3_600_000, 1, 0)
    start = pace.wait_ms(0)
    for _ in range(100):
        pace.failed(start)
        assert pace.wait_ms(start) == 3_600_000
