"""Entries expire by their ttl, counted and by id; a jump of the wall clock expires nothing."""

import asyncio
import logging
from pathlib import Path

import pytest

from litejoin.clock import SETTLE_MS
from litejoin.delivery.cleanup import clean
from litejoin.sinks.base import Outcome
from tests.unit.delivery.harness import FakeSink, Running, crm_plan, running, until, with_dlq
from tests.unit.store.state_writer import StateWriter


async def clean_now(run: Running) -> None:
    delivery = run.delivery
    stats = {name: d.settler.stats for name, d in delivery._dispatchers.items()}
    await clean(delivery._plan.delivery.dlq, delivery._keeper, delivery._clock, stats)


def queued(run: Running) -> object:
    return run.health()["dlq_entries"]


def test_an_old_entry_expires_by_id_and_a_younger_one_stays(
    tmp_path: Path, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: Outcome("reject", "no")
    plan = crm_plan(tmp_path)
    plan = with_dlq(plan, ttl_ms=10_000)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await until(lambda: queued(run) == 1)
            run.clock.advance(9_000)
            writer.put("orders", "b", {"n": 1})
            run.publish(writer)
            await until(lambda: queued(run) == 2)
            await clean_now(run)
            assert queued(run) == 2
            run.clock.advance(1_001)
            await clean_now(run)
            assert queued(run) == 1
            assert run.health()["expired"] == 1

    asyncio.run(story())
    expired = [r for r in caplog.records if "dlq: expired" in r.getMessage()]
    assert [r.levelno for r in expired] == [logging.WARNING]
    assert sink.attempts[0].id in expired[0].getMessage()


@pytest.mark.parametrize("jump_ms", [10**12, -(10**12)])
def test_a_jump_of_the_wall_clock_expires_nothing_and_delays_no_retry(
    tmp_path: Path, writer: StateWriter, jump_ms: int
) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: Outcome("retry", "HTTP 500")
    plan = crm_plan(tmp_path)
    plan = with_dlq(plan, ttl_ms=SETTLE_MS // 4)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await until(lambda: queued(run) == 1)
            run.clock.jump(jump_ms)
            await clean_now(run)
            assert queued(run) == 1
            run.pass_time(1_500)
            await until(lambda: len(sink.attempts) == 2)
            run.clock.advance(SETTLE_MS // 2)
            await clean_now(run)
            assert queued(run) == 1, "its ttl has run out, but who knows what time it is"

    asyncio.run(story())


def test_cleaning_runs_by_itself(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: Outcome("reject", "no")
    plan = crm_plan(tmp_path)
    plan = with_dlq(plan, ttl_ms=10_000, cleanup_interval_ms=20)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await until(lambda: queued(run) == 1)
            run.clock.advance(10_001)
            await until(lambda: queued(run) == 0)

    asyncio.run(story())
