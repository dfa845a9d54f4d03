"""With replication, batch records stay until every file was copied with what they made."""

from litejoin.clock import ManualClock
from litejoin.store.trimming import HOLD_MS, TrimDelay


def test_a_record_goes_a_while_after_it_was_applied() -> None:
    clock = ManualClock()
    delay = TrimDelay(clock)
    assert delay.due({0: 1}) == {}
    clock.advance(HOLD_MS // 2)
    assert delay.due({0: 2}) == {}
    clock.advance(HOLD_MS // 2 - 1)
    assert delay.due({0: 3}) == {}
    clock.advance(1)
    assert delay.due({0: 3}) == {0: 1}
    clock.advance(HOLD_MS // 2)
    assert delay.due({0: 4}) == {0: 2}


def test_a_record_stays_longer_than_any_copy_takes() -> None:
    assert HOLD_MS >= 60_000
