"""One sink's delivery: everything, in order per key, nothing lost by a failure."""

import asyncio
import logging
from pathlib import Path

import pytest

from litejoin.delivery.ledger import Ledger
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome
from tests.unit.delivery.harness import (
    REJECT,
    RETRY,
    FakeSink,
    crm_plan,
    join_plan,
    make_plan,
    queue,
    running,
    settled,
    sink_plan,
    until,
    with_dlq,
)
from tests.unit.store.state_writer import StateWriter


def test_a_sink_gets_the_results_of_its_joins_in_order(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    plan = make_plan(tmp_path, [join_plan("orders", "crm"), join_plan("users")], [sink_plan("crm")])

    async def story() -> None:
        writer.put("orders", "before", {"n": 0})
        async with running(plan, writer, sink) as run:
            for n in range(20):
                writer.put(("orders", "users")[n % 2], n % 6, {"n": n})
            run.publish(writer)
            await settled(run)

    asyncio.run(story())
    assert sink.positions() == [1, *range(2, 22, 2)]
    assert sink.opened
    assert sink.closed


def test_keys_go_in_parallel_and_a_key_never_overtakes_itself(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink, gate = FakeSink("crm", max_in_flight=4), asyncio.Event()
    sink.gate = lambda r: gate if r.pos == 1 else None
    plan = crm_plan(tmp_path)

    async def story() -> None:
        for key in ("slow", "a", "slow", "b", "a"):
            writer.put("orders", key, {"n": 1})
        async with running(plan, writer, sink) as run:
            await until(lambda: sink.positions() == [2, 4, 5])
            assert run.health()["lag"] == 5
            gate.set()
            await settled(run)

    asyncio.run(story())
    assert sink.positions() == [2, 4, 5, 1, 3]
    assert sink.most_in_flight >= 2


def test_no_more_than_max_in_flight(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm", max_in_flight=3)
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put_many(*[("orders", n, {"n": n}) for n in range(500)])
        async with running(plan, writer, sink) as run:
            await settled(run)

    asyncio.run(story())
    assert sorted(sink.positions()) == list(range(1, 501))
    assert sink.most_in_flight == 3


def test_best_effort_tries_once_says_so_and_goes_on(
    tmp_path: Path, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY if r.pos == 2 else DELIVERED
    plan = crm_plan(tmp_path, "best_effort")

    async def story() -> dict[str, object]:
        for n in range(3):
            writer.put("orders", n, {"n": n})
        async with running(plan, writer, sink) as run:
            await settled(run)
            return run.health()

    health = asyncio.run(story())
    assert sorted(sink.positions()) == [1, 3]
    assert len(sink.attempts) == 3
    assert (health["failed"], health["dropped"], health["dlq_entries"]) == (1, 1, 0)
    failures = [r for r in caplog.records if "joiner: FAILED sink send" in r.getMessage()]
    assert [r.levelno for r in failures] == [logging.ERROR]
    assert sink.attempts[1].id in failures[0].getMessage()


def test_at_least_once_queues_a_failure_and_retries_it_later(
    tmp_path: Path, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            assert run.delivery.low_watermark() == 1, "the queue remembers, so the log may go"
            assert run.health()["status"] == "degraded"
            run.pass_time(900)
            await asyncio.sleep(0.05)
            assert len(sink.attempts) == 1, "not before retry_interval"
            run.pass_time(300)
            await until(lambda: len(sink.attempts) == 2)
            sink.answer = lambda r: DELIVERED
            run.pass_time(1_900)
            await asyncio.sleep(0.05)
            assert len(sink.attempts) == 2, "the second delay is twice the first"
            run.pass_time(400)
            await until(lambda: sink.positions() == [1])
            await until(lambda: run.delivery._keeper.sizes == {})
            assert run.health()["status"] == "ok"

    asyncio.run(story())
    assert len({(r.id, r.body()) for r in sink.attempts}) == 1, "one id, one body"
    texts = [r.getMessage() for r in caplog.records]
    assert sum("dlq: enqueued result for sink crm" in t for t in texts) == 1
    assert any("joiner: FAILED sink send" in t for t in texts)
    assert any("takes results again" in t for t in texts)


def test_a_newer_delivered_result_supersedes_the_queued_one(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY if r.pos == 1 else DELIVERED
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            writer.put("orders", "a", {"n": 2})
            run.publish(writer)
            await settled(run)
            run.pass_time(100_000)
            await asyncio.sleep(0.05)
            assert run.health()["superseded"] == 1

    asyncio.run(story())
    assert [r.pos for r in sink.attempts] == [1, 2], "the old one is never sent after the new one"
    assert queue(tmp_path) == []


def test_a_newer_result_right_behind_the_failure_supersedes_it_too(
    tmp_path: Path, writer: StateWriter
) -> None:
    # Both outcomes fall into one commit: the entry is not on disk yet when the newer one succeeds.
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY if r.pos == 1 else DELIVERED
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        writer.put("orders", "a", {"n": 2})
        async with running(plan, writer, sink) as run:
            await settled(run)
            run.pass_time(100_000)
            await asyncio.sleep(0.05)

    asyncio.run(story())
    assert [r.pos for r in sink.attempts] == [1, 2]
    assert queue(tmp_path) == []


def test_retries_of_one_key_go_oldest_first(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY
    plan = crm_plan(tmp_path)

    async def story() -> None:
        for n in range(3):
            writer.put("orders", "a", {"n": n})
        async with running(plan, writer, sink) as run:
            await settled(run)
            sink.answer = lambda r: DELIVERED
            run.pass_time(2_000)
            await until(lambda: sink.positions() == [1, 2, 3])

    asyncio.run(story())


def test_a_rejected_result_is_parked_and_not_retried(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: REJECT
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            run.pass_time(1_000_000)
            await asyncio.sleep(0.05)
            assert run.health()["dlq_entries"] == 1

    asyncio.run(story())
    assert len(sink.attempts) == 1
    assert queue(tmp_path) == [(1, None, 1)]


def test_retry_after_is_waited_for(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: Outcome("retry", "HTTP 429", retry_after_s=90)
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            sink.answer = lambda r: DELIVERED
            run.pass_time(89_000)
            await asyncio.sleep(0.05)
            assert len(sink.attempts) == 1
            run.pass_time(1_000)
            await until(lambda: sink.positions() == [1])

    asyncio.run(story())


def test_after_max_retries_an_entry_is_parked_with_an_error(
    tmp_path: Path, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY
    plan = crm_plan(tmp_path)
    plan = with_dlq(plan, max_retries=2)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            for attempts in (2, 3, 3, 3):
                run.pass_time(100_000)
                await until(lambda n=attempts: len(sink.attempts) == n)  # type: ignore[misc]
                await asyncio.sleep(0.02)
            await run.delivery._keeper.flush()

    asyncio.run(story())
    assert len(sink.attempts) == 3, "the first attempt and two retries"
    exceeded = [r for r in caplog.records if "dlq: entry exceeded max retries" in r.getMessage()]
    assert [r.levelno for r in exceeded] == [logging.ERROR]
    assert queue(tmp_path) == [(1, None, 3)], "kept for an operator, not lost"


def test_a_full_queue_stops_the_sink_and_loses_nothing(
    tmp_path: Path, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    dead, alive = FakeSink("dead", max_in_flight=2), FakeSink("alive")
    dead.answer = lambda r: RETRY
    plan = make_plan(
        tmp_path, [join_plan("orders", "dead", "alive")], [sink_plan("dead"), sink_plan("alive")]
    )
    plan = with_dlq(plan, max_size_bytes=20_000)

    async def story() -> None:
        async with running(plan, writer, dead, alive) as run:
            for start in range(0, 500, 50):
                rows = [("orders", n, {"n": n}) for n in range(start, start + 50)]
                writer.put_many(*rows)
                run.publish(writer)
                await asyncio.sleep(0.02)
            await until(lambda: len(alive.delivered) == 500, "a dead sink delays no other")
            await until(lambda: run.delivery._dispatchers["dead"].feed.blocked)
            tried = len(dead.attempts)
            assert tried < 300
            health = run.delivery.health()["dead"]
            assert "full" in str(health["reason"])
            assert int(str(health["dlq_bytes"])) < 15_000, "half of the queue is the other's"
            assert run.delivery.low_watermark() < 500, "the log is kept for it"
            dead.answer = lambda r: DELIVERED
            for _ in range(30):
                run.pass_time(10_000)
                await asyncio.sleep(0.05)
                if len(dead.delivered) == 500:
                    break
            await until(lambda: run.delivery.health()["dead"]["status"] == "ok")

    asyncio.run(story())
    assert sorted(dead.positions()) == list(range(1, 501))
    assert sum("dlq: full for sink dead" in r.getMessage() for r in caplog.records) == 1


def test_deletes_of_a_join_that_ignores_them_are_not_sent(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm")
    joins = [join_plan("orders", "crm", ignore_deletes=True), join_plan("users", "crm")]
    plan = make_plan(tmp_path, joins, [sink_plan("crm")])

    async def story() -> None:
        for join in ("orders", "users"):
            writer.put(join, "a", {"n": 1})
            writer.put(join, "a")
        async with running(plan, writer, sink) as run:
            await settled(run)
            assert run.delivery.low_watermark() == 4

    asyncio.run(story())
    assert sink.positions() == [1, 3, 4]


def test_a_restart_goes_on_where_the_last_run_ended(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
        writer.put("orders", "a", {"n": 2})
        async with running(plan, writer, sink) as run:
            await settled(run)

    asyncio.run(story())
    assert [r.pos for r in sink.attempts] == [1, 2]


def test_a_new_sink_gets_the_current_results_then_every_change(
    tmp_path: Path, writer: StateWriter
) -> None:
    old, new = FakeSink("old"), FakeSink("new")

    async def story() -> None:
        for n in range(20):
            writer.put("orders", n % 3, {"n": n})
        plan = make_plan(tmp_path, [join_plan("orders", "old")], [sink_plan("old")])
        async with running(plan, writer, old) as run:
            await settled(run)
        writer.trim(20)
        plan = make_plan(
            tmp_path, [join_plan("orders", "old", "new")], [sink_plan("old"), sink_plan("new")]
        )
        async with running(plan, writer, old, new) as run:
            writer.put("orders", 1, {"n": 99})
            run.publish(writer)
            await settled(run)

    asyncio.run(story())
    assert new.positions() == [18, 19, 20, 21]
    assert len(old.attempts) == 21


def test_another_epoch_is_delivered_from_its_start(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
        ledger = Ledger(tmp_path / "dlq.db", durable=False)
        ledger.db.execute("UPDATE meta SET value = 'another' WHERE name = 'epoch'")
        ledger.close()
        async with running(plan, writer, sink) as run:
            await settled(run)

    asyncio.run(story())
    assert [r.pos for r in sink.attempts] == [1, 1]


def test_a_sink_that_raises_is_a_failed_attempt(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")

    def broken(_: Result) -> Outcome:
        raise ZeroDivisionError("oops")

    sink.answer = broken
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            sink.answer = lambda r: DELIVERED
            run.pass_time(2_000)
            await until(lambda: sink.positions() == [1])

    asyncio.run(story())


def test_a_drain_delivers_the_rest_and_due_retries(tmp_path: Path, writer: StateWriter) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY if r.pos == 1 else DELIVERED
    plan = crm_plan(tmp_path)

    async def story() -> dict[str, int]:
        writer.put("orders", "first", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
            sink.answer = lambda r: DELIVERED
            writer.put_many(*[("orders", n, {"n": n}) for n in range(300)])
            run.publish(writer)
            run.clock.advance(5_000)
            return await run.delivery.drain(5)

    assert asyncio.run(story()) == {}
    assert sorted(sink.positions()) == list(range(1, 302))


def test_a_drain_ends_at_its_deadline_and_counts_what_is_left(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm", max_in_flight=2)
    sink.gate = lambda r: asyncio.Event() if r.pos in (2, 4) else None
    plan = crm_plan(tmp_path)

    async def story() -> dict[str, int]:
        for n in range(10):
            writer.put("orders", n, {"n": n})
        async with running(plan, writer, sink) as run:
            await until(lambda: sink.positions() == [1, 3])
            return await run.delivery.drain(0.05)

    assert asyncio.run(story()) == {"crm": 8}
    sink.gate = lambda r: None

    async def restart() -> None:
        async with running(plan, writer, sink) as run:
            await settled(run)

    asyncio.run(restart())
    assert set(sink.positions()) == set(range(1, 11)), "the next start sends them"


def test_a_damaged_entry_is_parked_and_never_sent(
    tmp_path: Path, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    sink = FakeSink("crm")
    sink.answer = lambda r: RETRY
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        writer.put("orders", "b", {"n": 1})
        async with running(plan, writer, sink) as run:
            await settled(run)
        ledger = Ledger(tmp_path / "dlq.db", durable=False)
        ledger.db.execute("""UPDATE dlq SET rows = '[{"n": 9}]' WHERE pos = 1""")
        ledger.close()
        sink.answer = lambda r: DELIVERED
        async with running(plan, writer, sink) as run:
            run.pass_time(60_000)
            await until(lambda: sink.positions() == [2])

    asyncio.run(story())
    assert [row[:2] for row in queue(tmp_path)] == [(1, None)]
    assert any("damaged" in r.getMessage() for r in caplog.records)
