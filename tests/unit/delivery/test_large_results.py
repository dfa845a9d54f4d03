"""What is large fills memory before it is many."""

import asyncio
from pathlib import Path

from litejoin.delivery.dispatcher import WAITING_CHARS
from tests.unit.delivery.harness import FakeSink, crm_plan, running, settled, until
from tests.unit.store.state_writer import StateWriter


def test_large_results_are_read_ahead_until_they_fill_their_room(
    tmp_path: Path, writer: StateWriter
) -> None:
    sink = FakeSink("crm", max_in_flight=8)
    gate = asyncio.Event()
    sink.gate = lambda _: gate
    plan = crm_plan(tmp_path)
    text = "x" * (WAITING_CHARS // 4)

    async def story() -> None:
        writer.put_many(*[("orders", n, {"text": text}) for n in range(40)])
        async with running(plan, writer, sink) as run:
            dispatcher = run.delivery._dispatchers["crm"]
            await until(lambda: bool(sink.attempts))
            for _ in range(50):
                await asyncio.sleep(0)
            assert 4 <= dispatcher._progress.span <= 8
            gate.set()
            await settled(run)

    asyncio.run(story())
    assert sorted(sink.positions()) == list(range(1, 41))
