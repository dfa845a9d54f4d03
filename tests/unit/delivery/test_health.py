"""What /health says of a sink: how far behind it is, since when, and why."""

import asyncio
from pathlib import Path

from litejoin.clock import ManualClock
from litejoin.records import rfc3339
from litejoin.sinks.base import DELIVERED, Outcome
from tests.unit.delivery.harness import FakeSink, crm_plan, running, until
from tests.unit.store.state_writer import StateWriter


def test_lag_counts_the_sinks_own_results_without_an_outcome(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink, gate = FakeSink("crm", max_in_flight=2), asyncio.Event()
    sink.gate = lambda r: gate if r.pos == 1 else None
    plan = crm_plan(tmp_path)
    clock = ManualClock()

    async def story() -> None:
        for n in range(10):
            writer.put(("orders", "users")[n % 2], f"k{n}", {"n": n})
        async with running(plan, writer, sink, clock=clock) as run:
            await until(lambda: len(sink.delivered) == 4)
            health = run.health()
            assert (health["lag"], health["lag_results"]) == (10, 1), "others passed it by"
            assert health["last_success"] == rfc3339(clock.now_ms())
            before = float(str(health["lag_s"]))
            clock.advance(10**12)
            after = float(str(run.health()["lag_s"]))
            assert after > before, "the one that waits gets older"
            gate.set()
            await until(lambda: run.health()["lag_results"] == 0)
            assert run.health()["lag_s"] == 0.0

    asyncio.run(story())


def test_a_throttled_sink_says_until_when(tmp_path: Path, writer: StateWriter) -> None:
    sink, clock = FakeSink("crm"), ManualClock()
    plan = crm_plan(tmp_path)
    sink.answer = lambda _: Outcome("retry", "HTTP 429", retry_after_s=120.0)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink, clock=clock) as run:
            await until(lambda: run.health()["failed"] == 1)
            health = run.health()
            until_text = rfc3339(clock.now_ms() + 120_000)
            assert health["throttled_until"] == until_text
            assert health["reason"] == f"throttled by the receiver until {until_text}"
            assert health["last_error"] == "HTTP 429"
            sink.answer = lambda _: DELIVERED
            run.pass_time(121_000)
            await until(lambda: run.health()["status"] == "ok")
            assert run.health()["throttled_until"] is None

    asyncio.run(story())
