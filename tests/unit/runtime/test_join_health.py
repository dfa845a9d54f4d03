"""What /health says of a join: what could not be evaluated, and for how long that is news."""

import logging

import pytest

from litejoin.clock import ManualClock
from litejoin.engine.engine import Applied
from litejoin.runtime.join_health import SHOWN_MS, JoinHealth
from tests.unit.delivery.harness import join_plan

FAILURE = "join orders: key 'k1' cannot be evaluated: integer overflow"


def applied(*failures: str) -> Applied:
    return Applied(7, 1, failures, None)


def test_a_failure_degrades_its_join_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    joins = JoinHealth([join_plan("orders"), join_plan("users")], clock)
    with caplog.at_level(logging.ERROR):
        joins.note(applied(FAILURE))
    assert f"joiner: {FAILURE}" in caplog.text
    health = joins.health(lambda: (3, 1.23456), {"orders": {"results": 7}})
    assert (health["orders"]["status"], health["users"]["status"]) == ("degraded", "ok")
    assert health["orders"]["reason"] == "key 'k1' cannot be evaluated: integer overflow"
    assert (health["users"]["lag_flushes"], health["users"]["lag_s"]) == (3, 1.235)
    clock.advance(SHOWN_MS)
    joins.note(applied())
    later = joins.health(lambda: (0, 0.0), {})["orders"]
    assert (later["status"], later["failures"]) == ("ok", 1)
    assert "integer overflow" in str(later["last_error"])
