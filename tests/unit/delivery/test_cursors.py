"""The log is kept for what is not on disk yet, and a cursor that points nowhere loses nothing."""

import asyncio
import logging
from pathlib import Path

import pytest

from litejoin.delivery import keeper as keeper_module
from litejoin.delivery.ledger import Ledger
from tests.unit.delivery.harness import EPOCH, FakeSink, crm_plan, running, until
from tests.unit.store.state_writer import StateWriter


def test_the_log_is_kept_until_an_outcome_is_on_disk(
    tmp_path: Path, writer: StateWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "COMMIT_INTERVAL_S", 3_600.0)
    sink = FakeSink("crm")
    plan = crm_plan(tmp_path)

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            await until(lambda: run.health()["lag"] == 0)
            assert run.delivery.low_watermark() == 0, "after a kill it is looked for"
            await run.delivery._keeper.flush()
            assert run.delivery.low_watermark() == 1

    asyncio.run(story())


def test_a_cursor_beyond_the_log_goes_on_from_its_end(
    tmp_path: Path, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    """A state.db from a backup beside a newer dlq.db."""
    sink = FakeSink("crm")
    plan = crm_plan(tmp_path)
    ledger = Ledger(plan.delivery.dlq.path, durable=False)
    ledger.cursors(EPOCH)
    ledger.commit({"crm": 100}, [])
    ledger.close()

    async def story() -> None:
        writer.put("orders", "a", {"n": 1})
        async with running(plan, writer, sink) as run:
            writer.put("orders", "b", {"n": 2})
            run.publish(writer)
            await until(lambda: sink.positions() == [2])

    asyncio.run(story())
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1 and "was at position 100, the results log ends at 1" in errors[0]
