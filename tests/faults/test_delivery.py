"""Delivery killed and started again at random, with receivers that fail at random.

For every history: no result is lost, one id has one body, a key is never answered for an older
result after a newer one within one life of the process, first deliveries of a key rise, and the
last result that each receiver took of each key is the key's last result.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from litejoin.clock import ManualClock, SystemClock
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.http.sink import HttpSink
from tests.unit.delivery.harness import (
    FakeSink,
    join_plan,
    make_plan,
    running,
    sink_plan,
    until,
    with_dlq,
)
from tests.unit.sinks.receiver import Answer, Receiver, Request
from tests.unit.store.state_writer import StateWriter

ROUNDS = int(os.environ.get("LITEJOIN_FAULT_ROUNDS", "12"))
"""Histories of each test; the long lane sets more."""

SEED = os.environ.get("LITEJOIN_SEED")

RETRY = Outcome("retry", "HTTP 500")


@dataclass
class Taken:
    """What one receiver took, and the lives of the process it took it in."""

    life: int = 0
    results: list[tuple[int, Result]] = field(default_factory=list)

    def take(self, result: Result) -> Outcome:
        self.results.append((self.life, result))
        return DELIVERED


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    writer = StateWriter(tmp_path / "state.db", "orders")
    yield writer
    writer.close()


@pytest.fixture(params=range(ROUNDS))
def rng(request: pytest.FixtureRequest) -> random.Random:
    seed = SEED or str(random.randrange(2**32))
    print(f"replay with LITEJOIN_SEED={seed}")
    return random.Random(seed)


def check(taken: Taken, history: dict[int, str], last: dict[str, int]) -> None:
    """The promises, for one receiver. `history`: position -> key; `last`: key -> last position."""
    bodies: dict[str, bytes] = {}
    newest: dict[tuple[int, str], int] = {}
    final: dict[str, int] = {}
    for life, result in taken.results:
        assert bodies.setdefault(result.id, result.body()) == result.body()
        assert newest.get((life, result.key), 0) < result.pos, "old after new, or twice in one life"
        newest[life, result.key] = result.pos
        final[result.key] = result.pos
    assert final == last
    seen = {result.pos for _, result in taken.results}
    superseded = {pos for pos, key in history.items() if any(
        history[p] == key and p > pos for p in seen)}  # fmt: skip
    assert set(history) <= seen | superseded, "lost"


def test_nothing_is_lost_and_no_key_goes_back_over_crashes(
    tmp_path: Path, writer: StateWriter, rng: random.Random
) -> None:
    plan = make_plan(tmp_path, [join_plan("orders", "a", "b")], [sink_plan("a"), sink_plan("b")])
    taken = {"a": Taken(), "b": Taken()}
    history: dict[int, str] = {}
    clock = ManualClock()

    def sink(name: str, failing: float) -> FakeSink:
        fake = FakeSink(name, max_in_flight=rng.randrange(1, 6))
        fake.answer = lambda r: RETRY if rng.random() < failing else taken[name].take(r)
        return fake

    def append() -> None:
        key = rng.randrange(8)
        pos = writer.put("orders", key, *([{"n": rng.random()}] if rng.random() < 0.8 else []))
        history[pos] = str(key)

    async def life(failing: float, crash: bool) -> None:
        sinks = [sink("a", failing), sink("b", 0.0)]
        async with running(
            plan, writer, *sinks, clock=clock, seed=rng.randrange(99), crash=crash
        ) as run:
            for _ in range(rng.randrange(30)):
                for _ in range(rng.randrange(6)):
                    append()
                run.publish(writer)
                run.pass_time(rng.randrange(3_000))
                await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01)))
            if not crash:
                run.clock.advance(100_000)
                for _ in range(20):
                    await run.delivery.drain(10)
                    if not run.delivery._keeper.sizes:
                        break
                    run.clock.advance(100_000)

    async def story() -> None:
        for number in range(rng.randrange(2, 6)):
            taken["a"].life = taken["b"].life = number
            await life(rng.choice((0.0, 0.3, 0.9)), crash=True)
        taken["a"].life = taken["b"].life = 99
        await life(0.0, crash=False)

    asyncio.run(story())
    last = {key: max(p for p, k in history.items() if k == key) for key in history.values()}
    for receiver in taken.values():
        check(receiver, history, last)


def test_real_receivers_that_fail_get_everything_in_the_end(
    tmp_path: Path, writer: StateWriter, rng: random.Random
) -> None:
    """The same over HTTP: statuses, cut connections and answers that come too late."""
    taken: list[Request] = []
    accepted: set[str] = set()
    healthy = False

    def answer(request: Request) -> Answer:
        kind = 0.0 if healthy else rng.random()
        if kind < 0.5:
            taken.append(request)
            accepted.add(request.headers["webhook-id"])
            # Sometimes the receiver has it, but its answer never arrives.
            return Answer() if kind < 0.4 else Answer(raw=b"")
        if kind < 0.7:
            return Answer(rng.choice((500, 503, 429)), (("Retry-After", "1"),))
        return Answer(raw=rng.choice((b"", b"HTTP/1.1 5", b"\0\1\2")))

    receiver = Receiver(answer)
    http_plan = HttpSinkPlan("crm", "at_least_once", receiver.url, "POST", 2_000, {}, 4)
    plan = make_plan(tmp_path, [join_plan("orders", "crm")], [http_plan])
    plan = with_dlq(plan, retry_interval_ms=20, max_backoff_ms=50)
    clock = ManualClock()

    async def life(crash: bool) -> None:
        sink = HttpSink(http_plan, SystemClock())
        async with running(plan, writer, sink, clock=clock, crash=crash) as run:
            if not crash:
                for _ in range(50):
                    clock.advance(2_000)
                    assert await run.delivery.drain(10) == {}
                    if not run.delivery._keeper.sizes:
                        return
            for _ in range(10):
                writer.put("orders", rng.randrange(5), {"n": rng.random()})
                run.publish(writer)
                run.pass_time(1_000)
                await asyncio.sleep(rng.choice((0, 0.002, 0.01)))

    async def story() -> None:
        nonlocal healthy
        for _ in range(rng.randrange(1, 4)):
            await life(crash=True)
        healthy = True
        await life(crash=False)

    try:
        asyncio.run(story())
    finally:
        receiver.close()
    bodies: dict[str, bytes] = {}
    for request in receiver.requests:
        assert bodies.setdefault(request.headers["webhook-id"], request.body) == request.body
    final = {r.result["key"]: r.result["seq"] for r in taken}
    current = writer.db.execute("SELECT key, pos FROM state").fetchall()
    assert final == {int(str(key)): pos for key, pos in current}


def test_a_hung_sink_does_not_keep_the_others_nor_the_end(
    tmp_path: Path, writer: StateWriter
) -> None:
    plan = make_plan(tmp_path, [join_plan("orders", "a", "b")], [sink_plan("a"), sink_plan("b")])
    hung, well = FakeSink("a"), FakeSink("b")
    hung.gate = lambda _: asyncio.Event()

    async def story() -> float:
        loop = asyncio.get_running_loop()
        writer.put_many(*[("orders", n, {"n": n}) for n in range(1_000)])
        async with running(plan, writer, hung, well) as run:
            await until(lambda: len(well.delivered) == 1_000, "the other sink gets everything")
            started = loop.time()
            left = await run.delivery.drain(0.1)
            assert left == {"a": 1_000}
        return loop.time() - started

    assert asyncio.run(story()) < 3
    assert hung.closed
