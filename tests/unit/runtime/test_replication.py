"""The watch over Litestream ends when the pipeline stops, whatever it is waiting for just then."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from litejoin.clock import ManualClock
from litejoin.runtime import replication
from litejoin.runtime.replication import Replication
from tests.unit.plan.documents import plan_of

CONFIG = """
storage: {{data_dir: "{data}", shard_count: 1}}
replication: {{enabled: true, mode: sidecar, replica_url: "file://{data}/replica"}}
sources: [{{name: in, type: http, config: {{addr: "127.0.0.1:8080"}}}}]
joins: [{{name: j, query: SELECT key FROM orders, sink: out}}]
sinks: [{{name: out, type: stdout}}]
"""


def test_a_stop_that_comes_with_an_answer_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(CONFIG.format(data=tmp_path))
    assert plan.replication is not None
    watched = Replication(plan, plan.replication, ManualClock(0))

    async def stop_while_answering() -> None:
        task: asyncio.Task[None] | None = None

        async def answer(*_: Any) -> dict[str, Any]:
            assert task is not None
            task.cancel()
            return {}

        monkeypatch.setattr(replication.control, "ask", answer)
        task = asyncio.create_task(watched.watch())
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()

    asyncio.run(stop_while_answering())
