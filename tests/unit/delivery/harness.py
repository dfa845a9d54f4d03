"""Runs a real Delivery over a real state.db with sinks that tests control."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

from litejoin.clock import ManualClock
from litejoin.delivery import dlq
from litejoin.delivery.delivery import Delivery
from litejoin.delivery.ledger import Ledger
from litejoin.plan.nodes import (
    Address,
    DeliveryPlan,
    DlqPlan,
    Estimates,
    JoinPlan,
    Place,
    Plan,
    ServerLimits,
    ServerPlan,
    SinkPlan,
    StdoutSinkPlan,
    StoragePlan,
)
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome, Sink
from litejoin.store.log import ResultLog
from litejoin.store.signal import LogSignal
from tests.unit.store.state_writer import StateWriter

EPOCH = "0123456789abcdef"

Guarantee = Literal["best_effort", "at_least_once"]

RETRY = Outcome("retry", "HTTP 500: try later")
REJECT = Outcome("reject", "HTTP 400: no")
STOP = Outcome("stop", "HTTP 410: gone")


def join_plan(name: str, *sinks: str, ignore_deletes: bool = False) -> JoinPlan:
    return JoinPlan(
        name=name, query="SELECT 1 AS id, 2 AS n", place=Place(1, 1), columns=("id", "n"),
        key_column="id", key_index=0, sinks=sinks, emit="changes",
        on_delete="ignore" if ignore_deletes else "emit", json_columns=(), strategy="delta",
        reasons=(), references=(), refresh_sql="", refresh_null_sql=None, refresh_plan=(),
    )  # fmt: skip


def sink_plan(name: str, guarantee: Guarantee = "at_least_once") -> StdoutSinkPlan:
    """Any type does: the running sink is given to Delivery beside its plan."""
    return StdoutSinkPlan(name, guarantee)


def make_plan(data_dir: Path, joins: Sequence[JoinPlan], sinks: Sequence[SinkPlan]) -> Plan:
    dlq = DlqPlan(
        path=data_dir / "dlq.db", retry_interval_ms=1_000, max_retries=0, backoff_multiplier=2.0,
        max_backoff_ms=60_000, ttl_ms=3_600_000, max_size_bytes=10_000_000,
        cleanup_interval_ms=3_600_000,
    )  # fmt: skip
    limits = ServerLimits(8 << 20, 10_000, 64, 512, 1 << 20, 1_000, 1_000, 10_000, 60_000)
    address = Address("127.0.0.1", 9100, explicit=False)
    return Plan(
        name="shop", config_hash="0", file="shop.yaml",
        storage=StoragePlan(data_dir, 1, 1, 1000, 10, "normal", 0),
        delivery=DeliveryPlan("at_least_once", dlq), retention_ms=None, clean_interval_ms=60_000,
        server=ServerPlan(address, (), None, None, (), limits), sources=(), topics=(),
        joins=tuple(joins), windows=(), sinks=tuple(sinks), estimates=Estimates(0, 0, (), ()),
    )  # fmt: skip


def crm_plan(folder: Path, guarantee: Guarantee = "at_least_once") -> Plan:
    """The join `orders` goes to the sink `crm`."""
    return make_plan(folder, [join_plan("orders", "crm")], [sink_plan("crm", guarantee)])


def with_dlq(plan: Plan, **changes: object) -> Plan:
    dlq = replace(plan.delivery.dlq, **changes)  # type: ignore[arg-type]
    return replace(plan, delivery=replace(plan.delivery, dlq=dlq))


class FakeSink:
    """Records what it was handed; `answer` decides, `gate` holds a delivery until it is set."""

    def __init__(self, name: str, max_in_flight: int = 4) -> None:
        self.name = name
        self.max_in_flight = max_in_flight
        self.attempts: list[Result] = []
        self.delivered: list[Result] = []
        self.answer: Callable[[Result], Outcome] = lambda _: DELIVERED
        self.gate: Callable[[Result], asyncio.Event | None] = lambda _: None
        self.in_flight: set[tuple[str, str]] = set()
        self.most_in_flight = 0
        self.opened = self.closed = False

    async def open(self) -> None:
        self.opened = True

    async def deliver(self, result: Result) -> Outcome:
        key = (result.query, result.key)
        assert key not in self.in_flight, f"two of key {key} at once"
        self.in_flight.add(key)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        self.attempts.append(result)
        try:
            gate = self.gate(result)
            await (gate.wait() if gate else asyncio.sleep(0))
            outcome = self.answer(result)
        finally:
            self.in_flight.discard(key)
        if outcome.status == "delivered":
            self.delivered.append(result)
        return outcome

    async def close(self) -> None:
        self.closed = True

    def positions(self) -> list[int]:
        return [r.pos for r in self.delivered]


class FakeBatchSink(FakeSink):
    """The same for batches; `answer` is asked for each result until it says retry."""

    def __init__(self, name: str, max_batch: int = 10, position: int | None = None) -> None:
        super().__init__(name, 1)
        self.max_batch = max_batch
        self.stored = position
        self.batches: list[list[int]] = []

    def position(self, epoch: str) -> int | None:
        return self.stored

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        self.batches.append([r.pos for r in results])
        outcomes: list[Outcome] = []
        for result in results:
            if outcomes and outcomes[-1].status == "retry":
                outcomes.append(outcomes[-1])
            else:
                outcomes.append(await self.deliver(result))
        return outcomes


def sink_of(kind: str) -> FakeSink:
    """A sink `crm`, `single` or `batch`, with one delivery in flight."""
    return FakeSink("crm", 1) if kind == "single" else FakeBatchSink("crm", 3)


class Running:
    """A started Delivery and what it works on."""

    def __init__(self, delivery: Delivery, signal: LogSignal, clock: ManualClock) -> None:
        self.delivery = delivery
        self.signal = signal
        self.clock = clock
        self.fatal: list[Exception] = []

    def publish(self, writer: StateWriter) -> None:
        self.signal.publish(writer.head)

    def health(self, sink: str = "crm") -> dict[str, object]:
        return self.delivery.health()[sink]

    def pass_time(self, ms: int) -> None:
        """Let time pass for retries, and have them looked at."""
        self.clock.advance(ms)
        self.delivery.poke()


@asynccontextmanager
async def running(
    plan: Plan,
    writer: StateWriter,
    *sinks: Sink,
    clock: ManualClock | None = None,
    seed: int = 0,
    crash: bool = False,
) -> AsyncIterator[Running]:
    """Start a Delivery; at the end close it, or with `crash` leave it as kill -9 would."""
    reader = ResultLog(writer.path, plan.name, EPOCH)
    signal = LogSignal(writer.head)
    clock = clock or ManualClock()
    fatal: list[Exception] = []
    delivery = Delivery(
        plan, reader, signal, clock, {s.name: s for s in sinks},
        on_fatal=fatal.append, random=Random(seed),
    )  # fmt: skip
    await delivery.start()
    run = Running(delivery, signal, clock)
    run.fatal = fatal
    try:
        yield run
    finally:
        if crash:
            await abandon(delivery)
        else:
            await delivery.close()
        reader.close()
    assert not fatal, fatal


async def abandon(delivery: Delivery) -> None:
    """Stop everything without the last commit: what a killed process leaves behind."""
    keeper = delivery._keeper
    for task in (*delivery._tasks, keeper._task):
        if task is not None:
            task.cancel()
    await asyncio.gather(*delivery._tasks, return_exceptions=True)
    async with keeper._committing:
        keeper._changes, keeper._cursors = [], {}
    await keeper.close()


async def until(condition: Callable[[], bool], what: str = "it", timeout_s: float = 5) -> None:
    """Give the event loop turns until `condition` holds."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"timed out: {what}"
        await asyncio.sleep(0.002)


async def settled(run: Running) -> None:
    """Everything in the log has an outcome, and that is on disk."""
    for dispatcher in run.delivery._dispatchers.values():
        await until(lambda d=dispatcher: d.is_idle, "dispatcher idle")  # type: ignore[misc]
    await run.delivery._keeper.flush()


async def retry_by_hand(run: Running, sink: str | None = None) -> int:
    """As `litejoin dlq retry` does, for one sink or for all."""
    run.clock.advance(1)
    now_ms = run.clock.now_ms()
    return await run.delivery._keeper.read(
        lambda ledger: dlq.retry(ledger, dlq.Selection(sink), now_ms)
    )


def queue(folder: Path) -> list[tuple[int, int | None, int]]:
    """(position, next retry, attempts) of every entry."""
    ledger = Ledger(folder / "dlq.db", durable=False)
    rows = ledger.db.execute(
        "SELECT pos, next_retry_at_ms, attempts FROM dlq ORDER BY pos"
    ).fetchall()
    ledger.close()
    return rows  # type: ignore[return-value]
