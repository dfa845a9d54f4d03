"""Runs retention: every clean interval, expired rows are deleted like any other write.

Deletions go through the channel, so joins see them and pushes share the writer with them fairly.
"""

import asyncio
import logging

from litejoin.clock import SteadyClock
from litejoin.errors import LiteJoinError
from litejoin.plan.nodes import Plan
from litejoin.records import unpack_rows
from litejoin.runtime.channel import Channel
from litejoin.store.retention import Retention
from litejoin.store.writer import ShardStore

log = logging.getLogger("litejoin.retention")


async def expire_forever(
    plan: Plan, store: ShardStore, channel: Channel, clock: SteadyClock
) -> None:
    """Until cancelled. A failed round is reported and tried again at the next interval."""
    kept = {store.topic_number(t.name): t.retention_ms for t in plan.topics if t.retention_ms}
    retention = Retention(store.open_readers(), clock, store.quarantine)
    while True:
        await asyncio.sleep(plan.clean_interval_ms / 1000)
        try:
            removed = await _expire_once(retention, kept, channel)
        except LiteJoinError as error:
            log.warning("retention: %s", error)
            continue
        if removed:
            log.info("retention: %d expired rows removed", removed)


async def _expire_once(retention: Retention, kept: dict[int, int], channel: Channel) -> int:
    found = retention.expired(kept)
    removed = 0
    while (batch := await asyncio.to_thread(next, found, None)) is not None:
        rows = sum(1 for _ in unpack_rows(batch))
        await channel.room(frees=True)
        await channel.submit(batch, rows, frees=True)
        removed += rows
    return removed
