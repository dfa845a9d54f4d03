"""Batch sinks: log order, one batch at a time, held in place while they cannot take more."""

import asyncio
from pathlib import Path

import pytest

from litejoin.delivery import delivery as delivery_module
from litejoin.sinks.base import DELIVERED, Outcome
from tests.unit.delivery.harness import (
    FakeBatchSink,
    join_plan,
    make_plan,
    running,
    sink_plan,
    until,
)
from tests.unit.store.state_writer import StateWriter

RETRY = Outcome("retry", "disk full")
REJECT = Outcome("reject", "too many columns")


@pytest.fixture(autouse=True)
def quick_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "HOLD_MS", 5)
    monkeypatch.setattr(delivery_module, "MAX_HOLD_MS", 10)


def test_results_go_in_log_order_in_batches(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeBatchSink("local")
    plan = make_plan(tmp_path, [join_plan("orders", "local")], [sink_plan("local")])

    async def story() -> None:
        writer.put_many(*[(("orders", "users")[n % 2], n, {"n": n}) for n in range(60)])
        async with running(plan, writer, sink) as run:
            await until(lambda: len(sink.delivered) == 30)
            assert await run.delivery.drain(2) == {}

    asyncio.run(story())
    assert sink.positions() == list(range(1, 60, 2))
    assert max(map(len, sink.batches)) == sink.max_batch
    assert sink.most_in_flight == 1


def test_a_retry_holds_the_rest_in_place(tmp_path: Path, writer: StateWriter) -> None:
    sink, failures = FakeBatchSink("local"), [4]
    plan = make_plan(tmp_path, [join_plan("orders", "local")], [sink_plan("local")])

    def answer(result: object) -> Outcome:
        if getattr(result, "pos", 0) == 5 and failures[0]:
            failures[0] -= 1
            return RETRY
        return DELIVERED

    sink.answer = answer

    async def story() -> None:
        writer.put_many(*[("orders", n, {"n": n}) for n in range(12)])
        async with running(plan, writer, sink) as run:
            await until(lambda: run.delivery.health()["local"]["status"] == "degraded")
            assert run.delivery.low_watermark() <= 4
            await until(lambda: len(sink.delivered) == 12)
            assert run.delivery.health()["local"]["dlq_entries"] == 0

    asyncio.run(story())
    assert sink.positions() == list(range(1, 13))
    assert sink.batches[:3] == [list(range(1, 11)), list(range(5, 11)), list(range(5, 11))]


def test_a_batch_waits_as_long_as_the_receiver_asks(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeBatchSink("local")
    sink.answer = lambda _: Outcome("retry", "HTTP 429", retry_after_s=60)
    plan = make_plan(tmp_path, [join_plan("orders", "local")], [sink_plan("local")])

    async def story() -> None:
        writer.put("orders", 1, {"n": 1})
        async with running(plan, writer, sink) as run:
            await until(lambda: len(sink.batches) == 1)
            sink.answer = lambda _: DELIVERED
            # Ten times the pause that a failure without Retry-After has.
            await asyncio.sleep(delivery_module.MAX_HOLD_MS / 100)
            assert len(sink.batches) == 1
            assert run.delivery.health()["local"]["throttled_until"]
            run.clock.advance(60_000)
            await until(lambda: len(sink.delivered) == 1)

    asyncio.run(story())


def test_best_effort_does_not_hold(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeBatchSink("local")
    sink.answer = lambda r: RETRY if r.pos == 5 else DELIVERED
    plan = make_plan(tmp_path, [join_plan("orders", "local")], [sink_plan("local", "best_effort")])

    async def story() -> None:
        writer.put_many(*[("orders", n, {"n": n}) for n in range(12)])
        async with running(plan, writer, sink) as run:
            await until(lambda: 12 in sink.positions())
            await until(lambda: run.delivery.health()["local"]["dropped"] == 6)

    asyncio.run(story())
    assert sink.positions() == [1, 2, 3, 4, 11, 12]


def test_a_rejected_result_is_parked_and_can_be_sent_again(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeBatchSink("local")
    sink.answer = lambda r: REJECT if r.pos == 2 else DELIVERED
    plan = make_plan(tmp_path, [join_plan("orders", "local")], [sink_plan("local")])

    async def story() -> None:
        writer.put_many(*[("orders", n, {"n": n}) for n in range(4)])
        async with running(plan, writer, sink) as run:
            await until(lambda: sink.positions() == [1, 3, 4])
            sink.answer = lambda r: DELIVERED
            await run.delivery._keeper.read(
                lambda ledger: ledger.db.execute("UPDATE dlq SET next_retry_at_ms = 0").fetchall()
            )
            run.delivery.poke()
            await until(lambda: sink.positions() == [1, 3, 4, 2])
            await until(lambda: run.delivery.health()["local"]["dlq_entries"] == 0)

    asyncio.run(story())


def test_delivery_starts_no_later_than_the_sinks_own_position(
    tmp_path: Path, writer: StateWriter
) -> None:
    plan = make_plan(tmp_path, [join_plan("orders", "local")], [sink_plan("local")])

    async def story() -> list[int]:
        writer.put_many(*[("orders", n, {"n": n}) for n in range(6)])
        first = FakeBatchSink("local")
        async with running(plan, writer, first):
            await until(lambda: len(first.delivered) == 6)
        restored = FakeBatchSink("local", position=2)
        async with running(plan, writer, restored):
            await until(lambda: len(restored.delivered) == 4)
        ahead = FakeBatchSink("local", position=99)
        async with running(plan, writer, ahead) as run:
            await run.delivery.drain(1)
        assert ahead.delivered == []
        return restored.positions()

    assert asyncio.run(story()) == [3, 4, 5, 6]
