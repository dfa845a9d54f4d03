"""A receiver that wants no more (410 Gone): its sink stops, nothing is lost, others go on."""

import asyncio
from pathlib import Path

import pytest

from litejoin.delivery import dlq, retry
from litejoin.delivery.dlq import Selection
from litejoin.sinks.base import DELIVERED
from tests.unit.delivery.harness import (
    STOP,
    FakeSink,
    crm_plan,
    join_plan,
    make_plan,
    retry_by_hand,
    running,
    sink_of,
    sink_plan,
    until,
)
from tests.unit.store.state_writer import StateWriter


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "POLL_S", 0.01)


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_the_sink_stops_and_goes_on_after_dlq_retry(
    tmp_path: Path, writer: StateWriter, kind: str
) -> None:
    sink, other = sink_of(kind), FakeSink("other")
    joins = [join_plan("orders", "crm", "other")]
    plan = make_plan(tmp_path, joins, [sink_plan("crm"), sink_plan("other")])
    sink.answer = lambda r: STOP if r.pos == 3 else DELIVERED

    async def story() -> None:
        for n in range(10):
            writer.put("orders", f"k{n}", {"n": n})
        async with running(plan, writer, sink, other) as run:
            await until(lambda: run.health()["status"] == "degraded", "stopped")
            await until(lambda: len(other.delivered) == 10, "the other sink")
            run.pass_time(10_000_000)
            await asyncio.sleep(0.05)
            assert len(sink.attempts) == 3, "no request after the one that stopped it"
            assert "HTTP 410" in str(run.health()["reason"])
            assert "crm" in await run.delivery.drain(5), "it does not wait for what cannot go"
            sink.answer = lambda _: DELIVERED
            assert await retry_by_hand(run) == 1
            await until(lambda: len(sink.delivered) == 10, "everything")
            await until(lambda: run.health()["status"] == "ok", "healthy again")

    asyncio.run(story())
    assert sorted(sink.positions()) == list(range(1, 11))


@pytest.mark.parametrize("kind", ["single", "batch"])
@pytest.mark.parametrize("named", ["crm", None])
def test_it_goes_on_when_the_queue_was_purged_before(
    tmp_path: Path, writer: StateWriter, kind: str, named: str | None
) -> None:
    sink = sink_of(kind)
    plan = crm_plan(tmp_path)
    sink.answer = lambda _: STOP

    async def story() -> None:
        async with running(plan, writer, sink) as run:
            writer.put("orders", "k0", {"n": 0})
            run.publish(writer)
            await until(lambda: run.health()["dlq_entries"] == 1, "stopped")
            purged = await run.delivery._keeper.read(lambda ledger: dlq.purge(ledger, Selection()))
            assert len(purged) == 1
            await until(lambda: run.health()["dlq_entries"] == 0, "seen")
            writer.put("orders", "k1", {"n": 1})
            run.publish(writer)
            assert await retry_by_hand(run, "other") == 0
            await asyncio.sleep(0.05)
            assert len(sink.attempts) == 1
            sink.answer = lambda _: DELIVERED
            assert await retry_by_hand(run, named) == 0
            await until(lambda: run.health()["status"] == "ok", "healthy again")
            await until(lambda: sink.positions() == [2], "what waited")

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a_best_effort_sink_goes_on_for_results_to_come(
    tmp_path: Path, writer: StateWriter, kind: str
) -> None:
    sink = sink_of(kind)
    plan = crm_plan(tmp_path, "best_effort")
    sink.answer = lambda _: STOP

    async def story() -> None:
        async with running(plan, writer, sink) as run:
            assert await retry_by_hand(run) == 0, "before it stopped: this does not count"
            run.clock.advance(1)
            for n in range(2):
                writer.put("orders", f"k{n}", {"n": n})
                run.publish(writer)
                await until(lambda n=n: run.health()["dropped"] == n + 1, "dropped")  # type: ignore[misc]
            assert len(sink.attempts) == 1
            sink.answer = lambda _: DELIVERED
            await retry_by_hand(run, "crm")
            await until(lambda: "stopped" not in str(run.health().get("reason")), "it goes on")
            writer.put("orders", "k2", {"n": 2})
            run.publish(writer)
            await until(lambda: sink.positions() == [3], "what came after")

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a_restart_asks_again(tmp_path: Path, writer: StateWriter, kind: str) -> None:
    plan = crm_plan(tmp_path)
    for n in range(10):
        writer.put("orders", f"k{n}", {"n": n})

    async def story(sink: FakeSink, expected: int) -> None:
        async with running(plan, writer, sink) as run:
            await until(lambda: len(sink.attempts) == expected)
            await run.delivery._keeper.flush()

    first, second = sink_of(kind), sink_of(kind)
    first.answer = lambda r: STOP if r.pos == 1 else DELIVERED
    asyncio.run(story(first, 1 if kind == "single" else 3))
    asyncio.run(story(second, 9 if kind == "single" else 7))


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_best_effort_drops_what_nobody_wants(
    tmp_path: Path, writer: StateWriter, kind: str
) -> None:
    sink = sink_of(kind)
    plan = crm_plan(tmp_path, "best_effort")
    sink.answer = lambda _: STOP

    async def story() -> None:
        for n in range(30):
            writer.put("orders", f"k{n}", {"n": n})
        async with running(plan, writer, sink) as run:
            await until(lambda: run.health()["dropped"] == 30, "all dropped")
            assert await run.delivery.drain(5) == {}

    asyncio.run(story())
    assert len(sink.attempts) <= 3
