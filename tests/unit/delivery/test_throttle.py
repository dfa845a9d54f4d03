"""A receiver that asks for time (Retry-After) is left alone by the whole sink until then."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.clock import ManualClock
from litejoin.delivery import batches, dispatcher, retry
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.http.sink import HttpSink
from tests.unit.delivery.harness import (
    RETRY,
    STOP,
    FakeBatchSink,
    FakeSink,
    Guarantee,
    Running,
    crm_plan,
    retry_by_hand,
    running,
    sink_of,
    until,
)
from tests.unit.sinks.receiver import Answer, Receiver
from tests.unit.store.state_writer import StateWriter

WAIT = Outcome("retry", "HTTP 429", retry_after_s=60)

GUARANTEES: tuple[Guarantee, ...] = ("best_effort", "at_least_once")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "POLL_S", 0.01)
    for module in (batches, dispatcher):
        monkeypatch.setattr(module, "THROTTLE_LOOK_S", 0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def put(run: Running, writer: StateWriter, *keys: str) -> None:
    for key in keys:
        writer.put("orders", key, {"n": writer.head})
    run.publish(writer)


async def some_turns() -> None:
    """Long enough for everything that is not held to be sent."""
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("header", ["60", "Wed, 15 Nov 2023 00:01:00 GMT"])
@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_receiver_is_not_asked_before_it_said(
    tmp_path: Path, writer: StateWriter, receiver: Receiver, guarantee: Guarantee, header: str
) -> None:
    """Over HTTP: three more keys, and a newer result of the one that was put off."""
    clock = ManualClock(1_700_006_400_000)  # 2023-11-15 00:00:00
    url = HttpSinkPlan("crm", guarantee, receiver.url, "POST", 2_000, {}, max_in_flight=2)
    receiver.answer = lambda _: Answer(429, (("Retry-After", header),))

    async def story() -> None:
        async with running(
            crm_plan(tmp_path, guarantee), writer, HttpSink(url, clock), clock=clock
        ) as run:
            put(run, writer, "a")
            await until(lambda: run.health()["failed"] == 1)
            receiver.answer = lambda _: Answer()
            put(run, writer, "b", "a", "c", "d", "b")
            await some_turns()
            run.pass_time(59_000)
            await some_turns()
            assert len(receiver.requests) == 1
            assert "throttled by the receiver" in str(run.health()["reason"])
            run.pass_time(1_000)
            await until(lambda: run.health()["delivered"] == 5)
            run.pass_time(3_600_000)
            await until(lambda: run.health()["dlq_entries"] == 0)

    asyncio.run(story())
    sent = [(r.result["key"], r.result["seq"]) for r in receiver.requests]
    assert sent[0] == ("a", 1)
    assert sorted(sent[1:]) == [("a", 3), ("b", 2), ("b", 6), ("c", 4), ("d", 5)], "1 is outdated"
    assert [seq for key, seq in sent if key == "b"] == [2, 6]


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_batch_sink_waits_too(tmp_path: Path, writer: StateWriter, guarantee: Guarantee) -> None:
    sink = FakeBatchSink("crm", 3)
    sink.answer = lambda _: WAIT

    async def story() -> None:
        async with running(crm_plan(tmp_path, guarantee), writer, sink) as run:
            put(run, writer, "a")
            await until(lambda: len(sink.batches) == 1)
            sink.answer = lambda _: DELIVERED
            put(run, writer, "b", "c")
            await some_turns()
            assert sink.batches == [[1]]
            run.pass_time(60_000)
            await until(lambda: 3 in sink.positions())

    asyncio.run(story())
    assert sink.positions() == ([2, 3] if guarantee == "best_effort" else [1, 2, 3])


def test_what_was_under_way_changes_nothing(tmp_path: Path, writer: StateWriter) -> None:
    """A success of a request that was sent before, or a shorter wait."""
    sink, first, others = FakeSink("crm", 4), asyncio.Event(), asyncio.Event()
    sink.gate = lambda r: first if r.pos == 1 else others if r.pos < 4 else None
    answers = {1: WAIT, 2: DELIVERED, 3: Outcome("retry", "HTTP 503", retry_after_s=1)}
    sink.answer = lambda r: answers.get(r.pos, DELIVERED)

    async def story() -> None:
        async with running(crm_plan(tmp_path), writer, sink) as run:
            put(run, writer, "a", "b", "c")
            await until(lambda: len(sink.attempts) == 3)
            first.set()
            await until(lambda: run.health()["failed"] == 1)
            others.set()
            await until(lambda: run.health()["failed"] == 2)
            assert sink.positions() == [2]
            put(run, writer, "d")
            run.pass_time(59_000)
            await some_turns()
            assert len(sink.attempts) == 3
            sink.answer = lambda _: DELIVERED
            run.pass_time(1_000)
            await until(lambda: 4 in sink.positions())

    asyncio.run(story())


def test_what_is_due_in_the_queue_waits_too(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm", 1)
    sink.answer = lambda r: RETRY if r.pos < 3 else WAIT

    async def story() -> None:
        async with running(crm_plan(tmp_path), writer, sink) as run:
            put(run, writer, "a", "b", "c")
            await until(lambda: run.health()["failed"] == 3)
            run.pass_time(30_000)
            await some_turns()
            assert len(sink.attempts) == 3
            sink.answer = lambda _: DELIVERED
            run.pass_time(40_000)
            await until(lambda: sorted(sink.positions()) == [1, 2, 3])

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["single", "batch"])
@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_dlq_retry_does_not_wait(
    tmp_path: Path, writer: StateWriter, kind: str, guarantee: Guarantee
) -> None:
    sink = sink_of(kind)
    sink.answer = lambda _: WAIT

    async def story() -> None:
        async with running(crm_plan(tmp_path, guarantee), writer, sink) as run:
            put(run, writer, "a")
            await until(lambda: run.health()["failed"] == 1)
            sink.answer = lambda _: DELIVERED
            put(run, writer, "b")
            await retry_by_hand(run, "crm")
            await until(lambda: 2 in sink.positions())
            await until(lambda: run.health()["status"] == "ok")

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a_stop_waits_only_for_what_can_go_in_time(
    tmp_path: Path, writer: StateWriter, kind: str
) -> None:
    sink = sink_of(kind)
    sink.answer = lambda _: WAIT

    async def story() -> None:
        async with running(crm_plan(tmp_path), writer, sink) as run:
            put(run, writer, "a")
            await until(lambda: run.health()["failed"] == 1)
            sink.answer = lambda _: DELIVERED
            put(run, writer, "b", "c")
            left = await run.delivery.drain(59)
            assert left == {"crm": 2 if kind == "single" else 3}
            draining = asyncio.create_task(run.delivery.drain(600))
            await some_turns()
            assert not draining.done()
            run.pass_time(60_000)
            assert await draining == {}

    asyncio.run(story())
    assert sorted(sink.positions())[-2:] == [2, 3]


@pytest.mark.parametrize("answer", [STOP, WAIT])
def test_a_retry_behind_the_one_that_stops_does_not_stop_dlq_retry(
    tmp_path: Path, writer: StateWriter, answer: Outcome
) -> None:
    """It waits for a worker, and the retrier for it."""
    sink = FakeSink("crm", 1)
    sink.answer = lambda _: RETRY

    async def story() -> None:
        async with running(crm_plan(tmp_path), writer, sink) as run:
            put(run, writer, "a", "b", "c")
            await until(lambda: run.health()["failed"] == 3)
            sink.answer = lambda _: answer
            run.pass_time(10_000)
            await until(lambda: run.health()["failed"] == 4)
            await some_turns()
            assert len(sink.attempts) == 4
            sink.answer = lambda _: DELIVERED
            await retry_by_hand(run, "crm")
            await until(lambda: sorted(sink.positions()) == [1, 2, 3])

    asyncio.run(story())
