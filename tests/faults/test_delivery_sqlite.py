"""The sqlite sink behind delivery: whatever is killed or deleted, the file is the current state."""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.plan.nodes import SqliteSinkPlan
from litejoin.sinks.sqlite import SqliteSink
from litejoin.store.sqlite import open_readonly
from tests.unit.delivery.harness import join_plan, make_plan, running
from tests.unit.store.state_writer import StateWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    (tmp_path / "data").mkdir()
    writer = StateWriter(tmp_path / "data" / "state.db", "orders")
    yield writer
    writer.close()


def stored(path: Path) -> dict[str, int]:
    db = open_readonly(path)
    rows = db.execute("SELECT _key, n FROM orders").fetchall()
    db.close()
    return {str(key): int(str(n)) for key, n in rows}


def current(writer: StateWriter) -> dict[str, int]:
    rows = writer.db.execute("SELECT s.key, l.rows FROM state s JOIN log l USING(pos)").fetchall()
    return {str(key): json.loads(str(text))[0]["n"] for key, text in rows}


@pytest.mark.parametrize("history", range(6))
def test_the_file_is_the_current_state_after_kills_and_deletions(
    tmp_path: Path, writer: StateWriter, history: int
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    sink_plan = SqliteSinkPlan("local", "at_least_once", tmp_path / "out.db", None)
    plan = make_plan(tmp_path / "data", [join_plan("orders", "local")], [sink_plan])

    async def life(crash: bool) -> None:
        async with running(plan, writer, SqliteSink(sink_plan, plan), crash=crash) as run:
            for _ in range(rng.randrange(20)):
                for _ in range(rng.randrange(20)):
                    rows = [{"n": rng.randrange(1_000)}] if rng.random() < 0.7 else []
                    writer.put("orders", rng.randrange(15), *rows)
                run.publish(writer)
                await asyncio.sleep(rng.choice((0, 0.001, 0.005)))
            if not crash:
                assert await run.delivery.drain(10) == {}

    for _ in range(4):
        asyncio.run(life(crash=rng.random() < 0.7))
        fate = rng.random()
        if fate < 0.3:
            for path in tmp_path.glob("out.db*"):
                path.unlink()
        elif fate < 0.5:
            for path in (tmp_path / "data").glob("dlq.db*"):
                path.unlink()
    asyncio.run(life(crash=False))
    assert stored(tmp_path / "out.db") == current(writer)
