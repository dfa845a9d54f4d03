"""A key never goes back: not after an unknown outcome, nor when a restart reads the log again."""

import asyncio
import threading
from pathlib import Path

import pytest

from litejoin.delivery import dlq
from litejoin.delivery.ledger import Entry, Ledger
from litejoin.sinks.base import DELIVERED, Outcome
from tests.unit.delivery.harness import (
    RETRY,
    FakeBatchSink,
    FakeSink,
    Running,
    crm_plan,
    queue,
    running,
    settled,
    until,
    with_dlq,
)
from tests.unit.store.state_writer import StateWriter


def test_nothing_older_is_sent_after_a_result_that_may_have_been_taken(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm")
    plan = crm_plan(tmp_path)
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


def offered(run: Running) -> list[int]:
    """Positions of the entries that the retrier hands over from now on."""
    dispatcher, positions = run.delivery._dispatchers["crm"], list[int]()
    retry = dispatcher.retry

    def noted(entry: Entry) -> "asyncio.Future[None] | None":
        positions.append(entry.result.pos)
        return retry(entry)

    dispatcher.retry = noted  # type: ignore[method-assign]
    return positions


def test_a_due_entry_does_not_queue_up_behind_a_newer_result_in_flight(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink, gate = FakeSink("crm"), asyncio.Event()
    sink.answer = lambda r: RETRY if r.pos == 1 else DELIVERED
    sink.gate = lambda r: gate if r.pos == 2 else None
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            writer.put("orders", "a", {"n": 2})
            run.publish(writer)
            await until(lambda: len(sink.attempts) == 2)
            tried = offered(run)
            run.pass_time(10_000)
            await until(lambda: bool(tried))
            gate.set()
            await settled(run)
            await until(lambda: run.delivery._keeper.sizes == {})

    asyncio.run(story())
    assert [r.pos for r in sink.attempts] == [1, 2]


@pytest.mark.parametrize("newer", [DELIVERED, Outcome("retry", "no answer", uncertain=True)])
def test_an_entry_that_was_outdated_while_it_was_read_is_not_sent(
    tmp_path: Path, writer: StateWriter, monkeypatch: pytest.MonkeyPatch, newer: Outcome
) -> None:
    sink, was_read, goes_on = FakeSink("crm"), threading.Event(), threading.Event()
    sink.answer = lambda r: RETRY if r.pos == 1 else newer
    plan = crm_plan(tmp_path)
    due = Ledger.due

    def slow(ledger: Ledger, sink: str, now_ms: int, limit: int) -> tuple[list[Entry], int | None]:
        found = due(ledger, sink, now_ms, limit)
        if found[0]:
            was_read.set()
            goes_on.wait(5)
        return found

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            monkeypatch.setattr(Ledger, "due", slow)
            tried = offered(run)
            run.pass_time(10_000)
            await until(was_read.is_set)
            writer.put("orders", "a", {"n": 2})
            run.publish(writer)
            await until(lambda: len(sink.attempts) == 2 and not sink.in_flight)
            goes_on.set()
            await until(lambda: bool(tried))
            await settled(run)

    asyncio.run(story())
    assert [r.pos for r in sink.attempts] == [1, 2]


def test_after_a_crash_the_queue_waits_for_what_the_log_repeats(
    tmp_path: Path, writer: StateWriter
) -> None:
    """A queued result is newer than one of its key that comes again from the log."""
    plan = crm_plan(tmp_path)
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


def test_the_queue_waits_until_the_log_was_read_so_far(tmp_path: Path, writer: StateWriter) -> None:
    """There is more to repeat than is read at once: the entry falls due before that."""
    plan = crm_plan(tmp_path)
    first, second, never = FakeSink("crm"), FakeSink("crm", max_in_flight=1), asyncio.Event()
    first.gate = lambda r: never if r.pos == 1 else None
    first.answer = lambda r: RETRY if r.pos == 22 else DELIVERED

    async def cut() -> None:
        async with running(plan, writer, first, crash=True) as run:
            await until(lambda: len(first.attempts) == 22)
            await run.delivery._keeper.flush()

    async def again() -> None:
        gate = asyncio.Event()
        second.gate = lambda _: gate
        async with running(plan, writer, second) as run:
            tried = offered(run)
            run.pass_time(10_000_000)
            await until(lambda: 22 in tried)
            gate.set()
            await until(lambda: len(second.delivered) >= 22)

    for key in (*range(20), "a", "a"):
        writer.put("orders", key, {"n": writer.head})
    asyncio.run(cut())
    asyncio.run(again())
    assert [r.pos for r in second.attempts if r.pos > 20][:2] == [21, 22]


def test_a_parked_result_waits_until_a_batch_sink_has_what_is_before_it(
    tmp_path: Path, writer: StateWriter
) -> None:
    """Its file was deleted to be made anew, and somebody says `dlq retry` meanwhile."""
    plan = crm_plan(tmp_path)
    first, second = FakeBatchSink("crm"), FakeBatchSink("crm", max_batch=1, position=0)
    first.answer = lambda r: Outcome("reject", "no") if r.pos == 3 else DELIVERED

    async def park() -> None:
        async with running(plan, writer, first) as run:
            await settled(run)

    async def again() -> None:
        gate = asyncio.Event()
        second.gate = lambda _: gate
        async with running(plan, writer, second) as run:
            await until(lambda: len(second.attempts) == 1)
            tried = offered(run)
            await run.delivery._keeper.read(lambda ledger: dlq.retry(ledger, dlq.Selection(), 0))
            run.delivery.poke()
            await until(lambda: bool(tried))
            gate.set()
            await until(lambda: len(second.delivered) >= 3)

    for key in ("a", "b", "c"):
        writer.put("orders", key, {"n": writer.head})
    asyncio.run(park())
    asyncio.run(again())
    assert [r.pos for r in second.attempts][:3] == [1, 2, 3]


def test_a_parked_result_of_a_batch_sink_is_not_sent_after_a_newer_one(
    tmp_path: Path, writer: StateWriter
) -> None:
    """The newer one was on its way when somebody said `dlq retry`."""
    sink, gate = FakeBatchSink("crm"), asyncio.Event()
    sink.answer = lambda r: Outcome("reject", "no") if r.pos == 1 else DELIVERED
    sink.gate = lambda r: gate if r.pos == 2 else None
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            writer.put("orders", "a", {"n": 2})
            run.publish(writer)
            await until(lambda: len(sink.attempts) == 2)
            tried = offered(run)
            await run.delivery._keeper.read(lambda ledger: dlq.retry(ledger, dlq.Selection(), 0))
            run.delivery.poke()
            await until(lambda: tried == [1])
            gate.set()
            await settled(run)
            await until(lambda: run.delivery._keeper.sizes == {})

    asyncio.run(story())
    assert [r.pos for r in sink.attempts] == [1, 2]


def test_a_queue_that_is_full_after_a_crash_is_worked_off_first(
    tmp_path: Path, writer: StateWriter
) -> None:
    """Nothing is read from the log meanwhile, so entries that the log will repeat cannot wait."""
    plan = crm_plan(tmp_path)
    plan = with_dlq(plan, max_size_bytes=1_000)
    first, second, never = FakeSink("crm"), FakeSink("crm"), asyncio.Event()
    first.gate = lambda r: never if r.pos == 1 else None
    first.answer = lambda _: RETRY

    async def cut() -> None:
        async with running(plan, writer, first, crash=True) as run:
            await until(lambda: len(first.attempts) == 9)
            await run.delivery._keeper.flush()

    async def again() -> None:
        async with running(plan, writer, second) as run:
            await until(lambda: run.delivery._dispatchers["crm"].feed.blocked)
            run.pass_time(10_000_000)
            await until(lambda: len(set(second.positions())) == 9)

    for key in range(9):
        writer.put("orders", key, {"n": writer.head})
    asyncio.run(cut())
    asyncio.run(again())
