"""The evaluator lets its read snapshots go as soon as nothing waits: a log of 64 MB can only start
again then, and the flush thread stands still until it does.
"""

import threading
from typing import Any
from unittest.mock import MagicMock

import pytest

from litejoin.clock import SystemClock
from litejoin.engine.engine import Applied
from litejoin.errors import StorageFullError
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


def test_batch_records_go_when_their_results_are_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are what a restart makes the results of: not before, and not those of a later flush."""
    monkeypatch.setattr(threads, "FULL_DISK_RETRY_S", 0.0)
    calls: list[Any] = []
    outcomes: list[Any] = [StorageFullError("full"), Applied(3, 1, (), None)]
    engine, store = MagicMock(), MagicMock(shard_count=2)
    loop, publish = MagicMock(), MagicMock()

    def apply(*_: Any) -> Applied:
        calls.append("apply")
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Applied)
        return outcome

    engine.apply.side_effect, store.trim_batches.side_effect = apply, calls.append
    engine.fire_windows.return_value = None
    engine.trim.return_value = False
    evaluator = EvaluateThread(
        engine, store, MagicMock(submitted=0), loop, publish,
        lambda: 0, MagicMock(), SystemClock(), MagicMock(), has_windows=False,
    )  # fmt: skip
    evaluator.put(Flush(9, [], 0, 0, ()), 1)
    evaluator.stop()
    evaluator.run()
    assert calls == ["apply", "apply", {0: 9, 1: 9}]
    loop.call_soon_threadsafe.assert_called_once_with(publish, 3)
