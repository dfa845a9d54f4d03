"""A key never goes back: not after an unknown outcome, nor when a restart reads the log again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.sinks.base import DELIVERED, Outcome
from tests.unit.delivery.harness import (
    FakeSink,
    join_plan,
    make_plan,
    running,
    sink_plan,
    until,
)
from tests.unit.delivery.test_dispatcher import RETRY, queue, settled
from tests.unit.store.state_writer import StateWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    writer = StateWriter(tmp_path / "state.db", "orders", "users")
    yield writer
    writer.close()


def test_nothing_older_is_sent_after_a_result_that_may_have_been_taken(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm")
    plan = make_plan(tmp_path, [join_plan("orders", "crm")], [sink_plan("crm")])
    unknown = Outcome("retry", "no answer", uncertain=True)
    sink.answer = lambda r: RETRY if r.pos in (1, 3) else unknown

    async def story() -> None:
        for key in ("a", "a", "b"):
            writer.put("orders", key, {"n": writer.head})
        async with running(plan, writer, sink) as run:
            await settled(run)
            assert [pos for pos, _, _ in queue(tmp_path)] == [2, 3], "1 was outdated by 2"
            sink.answer = lambda _: DELIVERED
            run.pass_time(10_000)
            await until(lambda: sorted(sink.positions()) == [2, 3])

    asyncio.run(story())
    assert 1 not in sink.positions()


def test_after_a_crash_the_queue_waits_for_what_the_log_repeats(
    tmp_path: Path, writer: StateWriter
) -> None:
    """A queued result is newer than one of its key that comes again from the log."""
    plan = make_plan(tmp_path, [join_plan("orders", "crm")], [sink_plan("crm")])
    first, second, never = FakeSink("crm"), FakeSink("crm"), asyncio.Event()
    first.gate = lambda r: never if r.pos == 1 else None
    first.answer = lambda r: RETRY if r.pos == 3 else DELIVERED

    async def life(sink: FakeSink, crash: bool) -> None:
        async with running(plan, writer, sink, crash=crash) as run:
            if crash:
                await until(lambda: len(sink.attempts) == 3)
                await run.delivery._keeper.flush()
            else:
                run.pass_time(10_000_000)
                await until(lambda: len(sink.delivered) >= 3)

    for key in ("x", "a", "a"):
        writer.put("orders", key, {"n": writer.head})
    asyncio.run(life(first, crash=True))
    assert [pos for pos, _, _ in queue(tmp_path)] == [3]
    asyncio.run(life(second, crash=False))
    assert [r.pos for r in second.delivered if r.pos > 1][:2] == [2, 3]
