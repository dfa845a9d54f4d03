"""Durations do not follow jumps of the wall clock."""

from litejoin.clock import JUMP_MS, SETTLE_MS, ManualClock, SteadyClock


def test_a_small_correction_is_taken_over_at_once() -> None:
    clock = ManualClock(now_ms=1_000_000)
    steady = SteadyClock(clock)
    clock.advance(5)
    clock.jump(JUMP_MS)
    assert steady.now_ms() == 1_000_005 + JUMP_MS
    assert steady.is_settled()


def test_a_jump_is_not_believed_until_the_clock_ran_evenly() -> None:
    clock = ManualClock(now_ms=1_000_000)
    steady = SteadyClock(clock)
    clock.jump(10**9)
    assert steady.now_ms() == 1_000_000
    assert not steady.is_settled()
    clock.advance(SETTLE_MS - 1)
    assert not steady.is_settled()
    clock.advance(1)
    assert steady.is_settled()
    assert steady.now_ms() == 1_000_000 + 10**9 + SETTLE_MS


def test_a_jump_that_is_taken_back_leaves_nothing_behind() -> None:
    clock = ManualClock(now_ms=1_000_000)
    steady = SteadyClock(clock)
    clock.jump(-(10**9))
    assert not steady.is_settled()
    clock.jump(10**9)
    assert steady.is_settled()
    assert steady.now_ms() == 1_000_000


def test_a_clock_that_keeps_jumping_is_never_believed() -> None:
    clock = ManualClock(now_ms=1_000_000)
    steady = SteadyClock(clock)
    for _ in range(10):
        clock.jump(2 * JUMP_MS)
        clock.advance(SETTLE_MS - 1)
        assert not steady.is_settled()
