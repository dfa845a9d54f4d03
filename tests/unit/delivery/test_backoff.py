"""Retry delays: growing, bounded, spread, and never before the receiver allows."""

from pathlib import Path
from random import Random

import pytest

from litejoin.delivery.backoff import JITTER, retry_delay_ms
from litejoin.plan.nodes import DlqPlan

PLAN = DlqPlan(Path("dlq.db"), 30_000, 0, 2.0, 300_000, 3_600_000, 1, 1)


@pytest.mark.parametrize(
    ("failures", "base"), [(1, 30_000), (2, 60_000), (3, 120_000), (4, 240_000)]
)
def test_delays_grow_by_the_multiplier(failures: int, base: int) -> None:
    delays = [retry_delay_ms(PLAN, failures, None, Random(n)) for n in range(50)]
    assert min(delays) >= base
    assert max(delays) <= base * (1 + JITTER)
    assert len(set(delays)) > 20, "spread"


@pytest.mark.parametrize("failures", [5, 6, 100, 10**6])
def test_delays_stay_at_max_backoff(failures: int) -> None:
    for n in range(50):
        delay = retry_delay_ms(PLAN, failures, None, Random(n))
        assert 300_000 * (1 - JITTER) <= delay <= 300_000


def test_retry_after_is_the_least_delay_but_not_past_the_ttl() -> None:
    assert retry_delay_ms(PLAN, 1, 1.0, Random(0)) >= 30_000
    assert retry_delay_ms(PLAN, 1, 400.0, Random(0)) == 400_000
    assert retry_delay_ms(PLAN, 1, 1e12, Random(0)) == PLAN.ttl_ms
