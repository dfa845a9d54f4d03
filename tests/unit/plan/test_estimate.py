"""Estimates follow their formulas, and figures are rounded for people."""

from dataclasses import replace
from typing import Literal

import pytest

from litejoin.plan.estimate import estimate
from litejoin.plan.nodes import EstimatePart, Estimates, Plan
from litejoin.plan.units import count_text, duration_text, megabytes_text, rate_text
from tests.unit.plan.documents import plan_of
from tests.unit.plan.plans import ORDERS_API, shop_plan


def estimated(plan: Plan) -> Estimates:
    return estimate(
        plan.storage, plan.delivery, plan.sources, plan.topics, plan.joins, plan.windows
    )


def part(estimates: Estimates, what: str) -> EstimatePart:
    (found,) = (part for part in estimates.parts if part.what == what)
    return found


def kept_for_an_hour() -> Plan:
    plan = shop_plan()
    topics = tuple(replace(topic, retention_ms=3_600_000) for topic in plan.topics)
    return replace(plan, topics=topics)


def test_the_sums_are_those_of_the_parts() -> None:
    found = estimated(kept_for_an_hour())
    for of, total in (("memory", found.memory_mb), ("disk", found.disk_mb)):
        parts = [part.megabytes for part in found.parts if part.of == of]
        assert len(parts) > 1
        assert total == pytest.approx(sum(parts), abs=0.1)


def test_pushed_rows_follow_the_retention_of_their_own_topics_and_say_how() -> None:
    plan = kept_for_an_hour()
    longer = replace(plan, topics=(replace(plan.topics[0], retention_ms=7_200_000), plan.topics[1]))
    found = estimated(longer)
    assert part(found, "rows of push").formula == "10 keys/s x 2h x 250 B x 2.5"
    assert part(found, "rows of bus").formula == "10 keys/s x 1h x 250 B x 2.5"
    assert part(found, "rows of bus").megabytes == pytest.approx(10 * 3600 * 250 * 2.5 / 1e6)


def test_rows_kept_for_good_are_counted_by_the_day_and_said_to_grow() -> None:
    found = estimated(shop_plan())
    assert "x 24h x" in part(found, "rows of bus").formula
    assert "each day adds as much again" in "; ".join(found.assumptions)
    assert "each day" not in "; ".join(estimated(kept_for_an_hour()).assumptions)


def test_a_polled_topic_that_is_kept_for_good_does_not_grow_by_the_day() -> None:
    plan = replace(shop_plan(), sources=(ORDERS_API,))
    assert "each day" not in "; ".join(estimated(plan).assumptions)


def test_key_maps_results_and_windows_follow_the_rows_they_are_made_of() -> None:
    found = estimated(kept_for_an_hour())
    orders, all_rows = 10 * 3600 + 100, 2 * 10 * 3600 + 100
    assert part(found, "key maps of orders").megabytes == pytest.approx(orders * 32 / 1e6, abs=0.01)
    assert part(found, "results of top-orders").formula == f"{orders:,} rows x 250 B x 2.5"
    assert part(found, "results of order-user").formula == f"{all_rows:,} rows x 250 B x 2.5"
    assert part(found, "messages of per-hour").megabytes == pytest.approx(36_000 * 625 / 1e6)
    assert part(found, "dead letters").formula.startswith("empty while sinks answer; at most")


def test_the_row_cache_holds_what_joins_look_up_by_key_and_no_more_than_it_may() -> None:
    """Of the order's user, native code of a plain join and of a grouped one looks for the key."""
    plain = join_plan("SELECT o.key, u.payload AS p FROM orders o JOIN users u ON {on}")
    grouped = join_plan(
        "SELECT u.payload ->> 'city' AS key, count(*) AS n FROM orders o JOIN users u ON {on}"
        " GROUP BY 1"
    )
    for plan in (plain, grouped):
        found = part(estimated(plan), "row cache")
        assert found.formula == "864,000 rows of users x 330 B, at most 24 MB"
        assert found.megabytes == 24
        places = part(estimated(plan), "row places")
        assert places.formula == "864,000 rows of users x 16 B"
        assert places.megabytes == pytest.approx(864_000 * 16 / 1e6, abs=0.01)
    few = replace(plain, storage=replace(plain.storage, row_cache_bytes=1 << 40))
    assert part(estimated(few), "row cache").megabytes == pytest.approx(864_000 * 330 / 1e6)
    alone = join_plan("SELECT o.key FROM orders o")
    assert "row cache" not in [each.what for each in estimated(alone).parts]


def join_plan(query: str) -> Plan:
    on = "u.key = o.payload ->> 'user_id'"
    return plan_of(
        f'''
sources:
  - {{name: push, type: http, topics: [orders, users], config: {{addr: "127.0.0.1:8080"}}}}
retention: {{duration: 24h}}
sinks: [{{name: out, type: stdout}}]
joins: [{{name: j, query: "{query.format(on=on)}", sink: out}}]
'''
    )


@pytest.mark.parametrize(
    ("change_detection", "what", "bytes_each"),
    [("diff", "diff state", 250), ("hash", "diff state (hash)", 80)],
)
def test_what_polls_are_compared_with_takes_space(
    change_detection: Literal["diff", "hash"], what: str, bytes_each: int
) -> None:
    source = replace(ORDERS_API, change_detection=change_detection)
    found = part(estimated(replace(shop_plan(), sources=(source,))), what)
    assert found.megabytes == pytest.approx(100 * bytes_each * 2.5 / 1e6, abs=0.006)


def test_a_session_without_a_bound_is_counted_by_its_gap() -> None:
    plan = shop_plan()
    session = replace(
        plan.windows[0], type="session", size_ms=None, gap_ms=60_000, buffer_bound_ms=None
    )
    found = estimated(replace(plan, windows=(session,)))
    assert part(found, "messages of per-hour").formula.startswith("10/s x 4m x")
    assert "a session as long as 4 gaps" in found.assumptions


def test_the_archive_adds_what_duckdb_may_use() -> None:
    plan = shop_plan()
    found = estimate(plan.storage, plan.delivery, plan.sources, plan.topics, duckdb_bytes=256 << 20)
    assert part(found, "DuckDB").megabytes == 256


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (10, "10ms"), (90_000, "1m30s"), (86_400_000, "24h"), (3_600_001, "1h1ms")],
)
def test_durations_print_as_the_config_spells_them(ms: int, text: str) -> None:
    assert duration_text(ms) == text


def test_figures_are_rounded_for_people() -> None:
    assert [megabytes_text(x) for x in (0, 0.2, 48.4, 2600)] == [
        "0 MB", "under 1 MB", "48 MB", "2.6 GB",
    ]  # fmt: skip
    assert [rate_text(x) for x in (10.0, 0.5, 1200.0, 0.01)] == ["10", "0.5", "1,200", "0.01"]
    assert [rate_text(x) for x in (0.0, 0.0007)] == ["0", "under 0.01"]
    assert [count_text(1, "index"), count_text(2, "index"), count_text(3, "page")] == [
        "1 index", "2 indexes", "3 pages",
    ]  # fmt: skip
