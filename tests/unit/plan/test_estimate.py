"""Request budgets and estimates follow their formula."""

from dataclasses import replace

import pytest

from litejoin.plan.estimate import estimate, request_budget
from litejoin.plan.units import count_text, duration_text, megabytes_text, rate_text
from tests.unit.plan.plans import ORDERS_API, shop_plan


def test_requests_are_pages_per_poll_over_the_interval() -> None:
    budget = request_budget(ORDERS_API)
    assert (budget.least, budget.most, budget.allowed) == (2.0, 10.0, 60.0)
    assert budget.share == pytest.approx(1 / 30)


def test_without_a_limit_there_is_no_share() -> None:
    assert request_budget(replace(ORDERS_API, allowed_per_minute=None)).share is None


def test_disk_follows_retention_and_says_how() -> None:
    plan = shop_plan()
    topics = tuple(replace(topic, retention_ms=3_600_000) for topic in plan.topics)
    found = estimate(plan.storage, plan.sources, topics)
    assert found.disk_mb == pytest.approx((2 * 10 * 3600 + 100) * 250 * 2.5 / 1e6, abs=0.1)
    assert "2 push sources x 10 new keys/s x 1h + 100 polled records" in found.formula
    assert found.memory_mb == 48.0
    assert "16 B a row in 1 key map" in found.formula


def test_rows_kept_for_good_are_counted_by_the_day() -> None:
    plan = shop_plan()
    found = estimate(plan.storage, plan.sources[1:2], plan.topics)
    assert found.disk_mb == pytest.approx(10 * 86_400 * 250 * 2.5 / 1e6)
    assert "again every day" in found.formula


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (10, "10ms"), (90_000, "1m30s"), (86_400_000, "24h"), (3_600_001, "1h1ms")],
)
def test_durations_print_as_the_config_spells_them(ms: int, text: str) -> None:
    assert duration_text(ms) == text


def test_figures_are_rounded_for_people() -> None:
    assert [megabytes_text(x) for x in (0.2, 48.4, 2600)] == ["under 1 MB", "48 MB", "2.6 GB"]
    assert [rate_text(x) for x in (10.0, 0.5, 1200.0, 0.001)] == ["10", "0.5", "1,200", "0"]
    assert [count_text(1, "index"), count_text(2, "index"), count_text(3, "page")] == [
        "1 index", "2 indexes", "3 pages",
    ]  # fmt: skip
