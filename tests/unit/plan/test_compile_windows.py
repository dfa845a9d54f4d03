"""What the compiler makes of windows, and what it says about keys that do not fit."""

import pytest

from litejoin.plan.explain import explain
from tests.unit.plan.documents import SOURCES, findings_of, plan_of


def test_windows_arrive_with_their_bounds() -> None:
    plan = plan_of(
        SOURCES
        + """
windows:
  - {name: a, type: tumbling, size: 5m, topic: orders, sink: out,
     query: SELECT count(*) AS n FROM orders}
  - {name: b, type: sliding, size: 10m, slide: 1m, allowed_lateness: 30s, topic: orders,
     query: SELECT count(*) AS n FROM orders, sink: out}
  - {name: c, type: session, gap: 30m, topic: orders, sink: out,
     query: SELECT count(*) AS n FROM orders}
"""
    )
    bounds = [(w.size_ms, w.slide_ms, w.gap_ms, w.buffer_bound_ms) for w in plan.windows]
    assert bounds == [
        (300_000, None, None, 300_000),
        (600_000, 60_000, None, 630_000),
        (None, None, 1_800_000, None),
    ]
    assert plan.unsupported == ()


def test_plan_says_that_late_updates_double_what_is_held() -> None:
    plan = plan_of(
        SOURCES
        + """
windows:
  - {name: a, type: tumbling, size: 5m, allowed_lateness: 1m, topic: orders, sink: out,
     query: SELECT count(*) AS n FROM orders, on_late: update}
"""
    )
    (window,) = plan.windows
    assert window.buffer_bound_ms == 720_000
    assert "for 12m at most (size + lateness, twice for late updates)" in explain(plan, "text")


@pytest.mark.parametrize(
    ("keys", "code", "message"),
    [
        ("size: 24h, timezone: Europe/Nowhere", "LJ116", "no time zone"),
        ("size: 1h, timezone: Europe/Berlin", "LJ116", "whole days"),
        ("size: 1h, key_column: nothing", "LJ216", "not in the output"),
    ],
)
def test_a_key_that_does_not_fit_is_named(keys: str, code: str, message: str) -> None:
    found = findings_of(
        SOURCES
        + "windows:\n  - {name: a, type: tumbling, topic: orders, sink: out, "
        + f"query: SELECT count(*) AS n FROM orders, {keys}}}\n"
    )
    assert [finding.code for finding in found if message in finding.message] == [code]


def test_a_query_over_another_topic_is_refused() -> None:
    found = findings_of(
        SOURCES
        + "windows:\n  - {name: a, type: tumbling, size: 1m, topic: orders, sink: out, "
        + "query: SELECT count(*) AS n FROM users}\n"
    )
    assert any("its own topic" in finding.message for finding in found)
