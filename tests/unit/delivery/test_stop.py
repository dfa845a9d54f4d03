"""A receiver that wants no more (410 Gone): its sink stops, nothing is lost, others go on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.delivery import dlq, retry
from litejoin.delivery.dlq import Selection
from litejoin.sinks.base import DELIVERED, Outcome
from tests.unit.delivery.harness import (
    FakeBatchSink,
    FakeSink,
    Running,
    join_plan,
    make_plan,
    running,
    sink_plan,
    until,
)
from tests.unit.store.state_writer import StateWriter

STOP = Outcome("stop", "HTTP 410: gone")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    writer = StateWriter(tmp_path / "state.db", "orders", "users")
    yield writer
    writer.close()


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "POLL_S", 0.01)


def sink_of(kind: str) -> FakeSink:
    return FakeSink("crm", 1) if kind == "single" else FakeBatchSink("crm", 3)


def health(run: Running, sink: str = "crm") -> dict[str, object]:
    return run.delivery.health()[sink]


async def retry_by_hand(run: Running) -> int:
    return await run.delivery._keeper.read(lambda ledger: dlq.retry(ledger, Selection()))


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
            await until(lambda: health(run)["status"] == "degraded", "stopped")
            await until(lambda: len(other.delivered) == 10, "the other sink")
            run.pass_time(10_000_000)
            await asyncio.sleep(0.05)
            assert len(sink.attempts) == 3, "no request after the one that stopped it"
            assert "HTTP 410" in str(health(run)["reason"])
            assert "crm" in await run.delivery.drain(5), "it does not wait for what cannot go"
            sink.answer = lambda _: DELIVERED
            assert await retry_by_hand(run) == 1
            await until(lambda: len(sink.delivered) == 10, "everything")
            await until(lambda: health(run)["status"] == "ok", "healthy again")

    asyncio.run(story())
    assert sorted(sink.positions()) == list(range(1, 11))


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a_restart_asks_again(tmp_path: Path, writer: StateWriter, kind: str) -> None:
    plan = make_plan(tmp_path, [join_plan("orders", "crm")], [sink_plan("crm")])
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
    plan = make_plan(tmp_path, [join_plan("orders", "crm")], [sink_plan("crm", "best_effort")])
    sink.answer = lambda _: STOP

    async def story() -> None:
        for n in range(30):
            writer.put("orders", f"k{n}", {"n": n})
        async with running(plan, writer, sink) as run:
            await until(lambda: health(run)["dropped"] == 30, "all dropped")
            assert await run.delivery.drain(5) == {}

    asyncio.run(story())
    assert len(sink.attempts) <= 3
