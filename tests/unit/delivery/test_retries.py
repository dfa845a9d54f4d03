"""When an entry of the queue is tried again, and when not by itself."""

import asyncio
from pathlib import Path

from litejoin.delivery.ledger import Ledger
from litejoin.sinks.base import DELIVERED
from tests.unit.delivery.harness import (
    REJECT,
    RETRY,
    FakeSink,
    crm_plan,
    queue,
    running,
    settled,
    until,
)
from tests.unit.store.state_writer import StateWriter


def test_a_retry_that_is_refused_for_good_is_parked(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda _: RETRY
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            sink.answer = lambda _: REJECT
            run.pass_time(2_000)
            await until(lambda: len(sink.attempts) == 2)

    asyncio.run(story())
    assert queue(tmp_path) == [(1, None, 2)]


def test_a_clock_that_was_set_back_between_two_runs_delays_no_retry_for_long(
    tmp_path: Path, writer: StateWriter
) -> None:
    first, second = FakeSink("crm"), FakeSink("crm")
    first.answer = lambda _: RETRY
    plan = crm_plan(tmp_path)

    async def life(sink: FakeSink) -> None:
        async with running(plan, writer, sink) as run:
            await settled(run)
            run.pass_time(plan.delivery.dlq.max_backoff_ms)
            await until(lambda: bool(sink.attempts))

    writer.put("orders", "a", {"n": 1})
    asyncio.run(life(first))
    ledger = Ledger(tmp_path / "dlq.db", durable=False)
    ledger.db.execute("UPDATE dlq SET next_retry_at_ms = next_retry_at_ms + 86400000")
    ledger.close()
    second.answer = lambda _: DELIVERED
    asyncio.run(life(second))
    assert second.positions() == [1]
