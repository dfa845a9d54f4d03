"""When to try again: the arithmetic of retries. No I/O, no clock."""

from random import Random

from litejoin.plan.nodes import DlqPlan

JITTER = 0.1
"""Share of a delay that is random, so that results that failed together do not all return together.
"""


def retry_delay_ms(
    plan: DlqPlan, failures: int, retry_after_s: float | None, random: Random
) -> int:
    """Milliseconds until the next attempt after `failures` failed ones (from 1).

    retry_interval x backoff_multiplier^n with jitter, at most max_backoff; never less than the
    receiver asked for with Retry-After, which counts up to the ttl.
    """
    longest = float(plan.max_backoff_ms)
    try:
        base = min(plan.retry_interval_ms * plan.backoff_multiplier ** (failures - 1), longest)
    except OverflowError:
        base = longest
    jitter = base * JITTER * random.random()
    delay = base + jitter if base + jitter <= longest else base - jitter
    if retry_after_s is not None:
        delay = max(delay, min(retry_after_s * 1000, float(plan.ttl_ms)))
    return int(delay)
