"""The end of delivery does not depend on its sinks."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.delivery import delivery as delivery_module
from litejoin.plan.nodes import FileSinkPlan
from litejoin.sinks.file import FileSink
from tests.unit.delivery.harness import (
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
    writer = StateWriter(tmp_path / "state.db", "orders")
    writer.put("orders", "a", {"text": "x" * 200_000})
    yield writer
    writer.close()


class Broken(FakeSink):
    """Its close raises, or never comes back."""

    hangs = False

    async def close(self) -> None:
        if not self.hangs:
            raise ValueError("closed already")
        await asyncio.Event().wait()


@pytest.mark.parametrize("hangs", [True, False])
def test_a_sink_that_does_not_close_costs_the_others_nothing(
    tmp_path: Path,
    writer: StateWriter,
    hangs: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(delivery_module, "CLOSE_S", 0.05)
    broken, whole = Broken("broken"), FakeSink("whole")
    broken.hangs = hangs
    joins = [join_plan("orders", "broken", "whole")]
    plan = make_plan(tmp_path, joins, [sink_plan("broken"), sink_plan("whole")])

    async def story() -> None:
        for _ in range(2):
            async with running(plan, writer, broken, whole) as run:
                await settled(run)
        assert whole.closed

    asyncio.run(story())
    assert whole.positions() == broken.positions() == [1], "the cursors were written"
    assert ("did not close" if hangs else "raised while closing") in caplog.text


def test_a_file_that_hangs_does_not_hold_the_end(
    tmp_path: Path, writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody reads, as a disk over a network that is gone."""
    monkeypatch.setattr(delivery_module, "CLOSE_S", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sink = FileSinkPlan("out", "best_effort", pipe, 0, 0)
    plan = make_plan(tmp_path, [join_plan("orders", "out")], [sink])
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    async def story() -> None:
        async with running(plan, writer, FileSink(sink, plan)) as run:
            await until(lambda: bool(run.delivery._dispatchers["out"]._progress.span))

    asyncio.run(story())
    os.set_blocking(reader, True)
    left = 200_000  # of the line that a thread is still writing
    while left > 0:
        left -= len(os.read(reader, 1 << 20))
    os.close(reader)
