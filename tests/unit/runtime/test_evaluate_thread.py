"""The evaluator lets its read snapshots go as soon as nothing waits: a log of 64 MB can only start
again then, and the flush thread stands still until it does.
"""

import threading
from typing import Any
from unittest.mock import MagicMock

import pytest

from litejoin.clock import SystemClock
from litejoin.engine.engine import Applied
from litejoin.runtime import threads
from litejoin.runtime.threads import EvaluateThread
from litejoin.store.writer import Flush


def test_an_idle_evaluator_holds_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_TICK_S", 3_600.0)
    calls: list[str] = []
    idle = threading.Event()
    engine, store = MagicMock(), MagicMock(shard_count=1)

    def apply(*_: Any) -> Applied:
        calls.append("apply")
        idle.clear()
        return Applied(0, 0, (), None)

    def release() -> None:
        calls.append("release")
        idle.set()

    engine.apply.side_effect, engine.release_snapshot.side_effect = apply, release
    engine.fire_windows.return_value = None
    engine.trim.return_value = False
    evaluator = EvaluateThread(
        engine, store, MagicMock(submitted=0), MagicMock(), MagicMock(),
        lambda: 0, MagicMock(), SystemClock(), MagicMock(), has_windows=False,
    )  # fmt: skip
    evaluator.start()
    assert idle.wait(10)
    idle.clear()
    evaluator.put(Flush(1, [], 0, 0, ()), 1)
    assert idle.wait(10), "it waits for the next flush with the snapshot in its hand"
    evaluator.stop()
    evaluator.join(10)
    assert calls[:3] == ["release", "apply", "release"]
