"""Expires entries of the dead-letter queue that are older than their ttl: counted, and logged by
id.

Never while the wall clock has jumped: an operator who corrects a date must not lose the queue.
"""

import asyncio
import logging
from collections.abc import Mapping

import apsw

from litejoin.clock import SteadyClock
from litejoin.delivery.keeper import Keeper
from litejoin.delivery.outcomes import SinkStats
from litejoin.plan.nodes import DlqPlan

log = logging.getLogger("litejoin.delivery")


async def clean_forever(
    plan: DlqPlan, keeper: Keeper, clock: SteadyClock, stats: Mapping[str, SinkStats]
) -> None:
    """Clean every `cleanup_interval` until cancelled."""
    while True:
        await asyncio.sleep(plan.cleanup_interval_ms / 1000)
        await clean(plan, keeper, clock, stats)


async def clean(
    plan: DlqPlan, keeper: Keeper, clock: SteadyClock, stats: Mapping[str, SinkStats]
) -> None:
    """Expire once."""
    if not clock.is_settled():
        log.warning("dlq: nothing is expired while the wall clock is being corrected")
        return
    created_before_ms = clock.now_ms() - plan.ttl_ms
    try:
        expired = await keeper.read(lambda ledger: ledger.expire(created_before_ms))
    except (apsw.BusyError, apsw.FullError) as error:
        log.warning("dlq: cannot expire entries now: %s", error)
        return
    for sink, entry_id in expired:
        log.warning("dlq: expired result %s for sink %s: older than the ttl", entry_id, sink)
        if sink in stats:
            stats[sink].expired += 1
    await keeper.measure()
