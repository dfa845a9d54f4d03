"""A sink that gets one more join has what that join has already, and nothing twice."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.delivery import keeper as keeper_module
from litejoin.delivery.feed import Feed
from litejoin.delivery.ledger import Ledger
from litejoin.plan.nodes import FileSinkPlan, Plan
from litejoin.records import Result
from litejoin.sinks.base import Outcome, Sink
from litejoin.sinks.file import FileSink
from tests.unit.delivery.harness import (
    FakeBatchSink,
    FakeSink,
    join_plan,
    make_plan,
    running,
    settled,
    sink_plan,
    until,
)
from tests.unit.store.state_writer import StateWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    writer = StateWriter(tmp_path / "state.db", "orders", "users", "stock")
    for n in range(4):
        writer.put("orders", n, {"n": n})
        writer.put("users", n, {"n": n})
    yield writer
    writer.close()


def plan_of(folder: Path, **joins: str) -> Plan:
    """Joins by name, each with its sinks, separated by a blank."""
    sinks = sorted({sink for names in joins.values() for sink in names.split()})
    return make_plan(
        folder,
        [join_plan(name, *names.split()) for name, names in joins.items()],
        [sink_plan(name) for name in sinks],
    )


def run_once(plan: Plan, writer: StateWriter, *sinks: Sink) -> None:
    async def story() -> None:
        async with running(plan, writer, *sinks) as run:
            await settled(run)

    asyncio.run(story())


@pytest.mark.parametrize("kind", [FakeSink, FakeBatchSink])
def test_a_join_that_a_sink_gets_later_brings_what_it_has(
    tmp_path: Path, writer: StateWriter, kind: type[FakeSink]
) -> None:
    sink = kind("crm")
    run_once(plan_of(tmp_path, orders="crm"), writer, sink)
    assert sink.positions() == [1, 3, 5, 7]
    writer.put("orders", 9, {"n": 9})
    run_once(plan_of(tmp_path, orders="crm", users="crm"), writer, sink)
    assert sink.positions() == [1, 3, 5, 7, 2, 4, 6, 8, 9]
    run_once(plan_of(tmp_path, orders="crm", users="crm"), writer, sink)
    assert len(sink.positions()) == 9


def test_a_kill_while_it_catches_up_loses_and_repeats_nothing(
    tmp_path: Path, writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FakeBatchSink("crm", max_batch=1)
    both = plan_of(tmp_path, orders="crm", users="crm")
    run_once(plan_of(tmp_path, orders="crm"), writer, sink)
    sink.answer = lambda r: Outcome("retry" if r.pos == 6 else "delivered", "down")

    async def story() -> None:
        async with running(both, writer, sink, crash=True) as run:
            await until(lambda: sink.positions()[-1] == 4)
            await run.delivery._keeper.flush()
            assert run.health()["lag_results"] == 2

    asyncio.run(story())
    sink.answer = FakeSink("").answer
    # A third join before the second has caught up: of none too much, of none too little.
    writer.put("stock", 1, {"n": 1})
    run_once(plan_of(tmp_path, orders="crm", users="crm", stock="crm"), writer, sink)
    assert sink.positions() == [1, 3, 5, 7, 2, 4, 6, 8, 9]


def test_a_join_that_goes_leaves_the_others_where_they_are(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm")
    run_once(plan_of(tmp_path, orders="crm", users="crm"), writer, sink)
    run_once(plan_of(tmp_path, orders="crm", users=""), writer, sink)
    assert sink.positions() == [1, 2, 3, 4, 5, 6, 7, 8]
    run_once(plan_of(tmp_path, orders="crm", users="crm"), writer, sink)
    assert sink.positions()[8:] == [2, 4, 6, 8], "its state as it is, as a new join's"


def test_a_dlq_of_a_version_without_routes_repeats_nothing(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm")
    plan = plan_of(tmp_path, orders="crm")
    run_once(plan, writer, sink)
    ledger = Ledger(plan.delivery.dlq.path, durable=False)
    ledger.db.execute("DROP TABLE routes")
    ledger.close()
    run_once(plan, writer, sink)
    assert sink.positions() == [1, 3, 5, 7]


def test_a_log_that_is_older_than_the_routes_is_delivered_from_its_end(
    tmp_path: Path, writer: StateWriter
) -> None:
    """What a join had beyond that end says nothing of the results to come."""
    sink = FakeSink("crm")
    plan = plan_of(tmp_path, orders="crm", users="crm")
    run_once(plan, writer, sink)
    ledger = Ledger(plan.delivery.dlq.path, durable=False)
    ledger.db.execute("UPDATE cursors SET pos = 100")
    ledger.db.execute("UPDATE routes SET done = 100 WHERE \"join\" = 'orders'")
    ledger.close()
    run_once(plan, writer, sink)
    writer.put("orders", 9, {"n": 9})
    run_once(plan, writer, sink)
    assert sink.positions()[8:] == [9]


def test_a_sink_that_knows_its_position_is_asked_instead(
    tmp_path: Path, writer: StateWriter
) -> None:
    """Its file was deleted: all joins start anew, not the new one only."""
    sink = FakeBatchSink("db", position=0)
    run_once(plan_of(tmp_path, orders="db"), writer, sink)
    run_once(plan_of(tmp_path, orders="db", users="db"), writer, sink)
    assert sink.positions()[4:] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_parked_result_of_another_join_need_not_wait_for_it(
    tmp_path: Path, writer: StateWriter
) -> None:
    plan = plan_of(tmp_path, orders="crm", users="crm")
    sink = FakeSink("crm")
    run_once(plan, writer, sink)
    parked = [r for r in sink.attempts if r.pos == 5][0]
    late = [r for r in sink.attempts if r.pos == 6][0]

    def ahead(feed: Feed, result: Result) -> bool:
        feed.done = {"orders": 8}
        return feed.is_ahead(result, 2)

    async def story() -> None:
        async with running(plan, writer, sink) as run:
            feed = run.delivery._dispatchers["crm"].feed
            assert not ahead(feed, parked)
            assert ahead(feed, late)

    asyncio.run(story())


def test_a_file_has_each_line_once_all_the_same(
    tmp_path: Path, writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells what comes again after a kill by the last line's position."""
    lines = FileSinkPlan("out", "at_least_once", tmp_path / "out.jsonl", 0, 0)

    def start(*, kill: bool, **joins: str) -> None:
        plan = make_plan(tmp_path, [join_plan(n, s) for n, s in joins.items()], [lines])
        with monkeypatch.context() as patch:
            if kill:
                patch.setattr(keeper_module, "COMMIT_INTERVAL_S", 3_600.0)

            async def story() -> None:
                async with running(plan, writer, FileSink(lines, plan), crash=kill) as run:
                    await settled(run)

            asyncio.run(story())

    start(kill=False, orders="out")
    writer.put("orders", 9, {"n": 9})
    start(kill=True, orders="out")
    start(kill=True, orders="out", users="out")
    start(kill=False, orders="out", users="out")
    text = (tmp_path / "out.jsonl").read_text()
    assert [json.loads(line)["seq"] for line in text.splitlines()] == [1, 3, 5, 7, 9, 2, 4, 6, 8]
