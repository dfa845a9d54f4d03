"""What /health says of a join: what could not be evaluated, and for how long that is news."""

import logging

import pytest

from litejoin.clock import ManualClock
from litejoin.engine.engine import Applied
from litejoin.runtime.join_health import SHOWN_MS, JoinHealth
from tests.unit.delivery.harness import join_plan
from tests.unit.plan.documents import plan_of

WINDOW = """
sources: [{name: in, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}]
windows:
  - {name: w, type: tumbling, size: 1m, topic: orders, query: SELECT key FROM orders, sink: out}
sinks: [{name: out, type: stdout}]
"""

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


def test_a_failure_degrades_its_window(caplog: pytest.LogCaptureFixture) -> None:
    (window,) = plan_of(WINDOW).windows
    health = JoinHealth([join_plan("orders")], ManualClock(), [window])
    health.note(applied("window w: the span from A to B cannot be evaluated: integer overflow"))
    assert "joiner: window w: the span from A to B" in caplog.text
    shown = health.health(lambda: (0, 0.0), {"w": {"late": 3}})
    assert (shown["w"]["status"], shown["orders"]["status"]) == ("degraded", "ok")
    assert shown["w"]["reason"] == "the span from A to B cannot be evaluated: integer overflow"
    assert (shown["w"]["type"], shown["w"]["late"]) == ("tumbling", 3)
