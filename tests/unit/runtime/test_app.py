"""What a signal asks of the pipeline: to stop, and when it comes again, to end at once."""

import pytest

from litejoin.clock import ManualClock
from litejoin.runtime import app as module
from litejoin.runtime.app import EXIT_FAILED, ONE_REQUEST_MS, App
from tests.unit.plan.plans import shop_plan


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(module, "_exit_now", codes.append)
    return codes


def test_signals_that_come_together_are_one_request_to_stop(exits: list[int]) -> None:
    clock = ManualClock()
    app = App(shop_plan(), clock, 25.0, lambda: "")
    app._signalled()
    assert app._stop.is_set()
    clock.advance(ONE_REQUEST_MS - 1)
    app._signalled()
    assert exits == []
    clock.advance(1)
    app._signalled()
    assert exits == [EXIT_FAILED]
