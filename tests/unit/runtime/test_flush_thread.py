"""What the flush thread answers: nothing before rows are stored, nothing when they may be."""

from collections import deque
from typing import Any
from unittest.mock import MagicMock

import pytest

from litejoin._ext.route import shard_of
from litejoin.clock import ManualClock
from litejoin.errors import LiteJoinError, StorageFullError, StorageIOError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.runtime import threads
from litejoin.runtime.channel import Pending
from litejoin.runtime.threads import FlushThread
from litejoin.store.writer import Flush

SHARDS = 2
KEYS = [next(k for k in (b"a", b"b", b"c", b"d") if shard_of(k, SHARDS) == n) for n in (0, 1)]
REFUSAL = LiteJoinError("shard 0 is quarantined")


def pending(key: bytes) -> Pending:
    return Pending(pack_rows([Row(1, RowKind.UPSERT, 1, key, b"{}")]), 1, MagicMock())


class Script:
    """Channel, store and evaluator in one: one item of each shard a flush; what was called."""

    shard_count, last_seq, quarantine = SHARDS, 4, MagicMock()

    def __init__(self, *outcomes: Flush | Exception) -> None:
        self.outcomes = deque(outcomes)
        self.calls: list[Any] = []
        self.quarantine.refusal.return_value = REFUSAL

    def take(self, _gather_s: float) -> list[Pending]:
        return [pending(key) for key in KEYS] if self.outcomes else []

    def flush(self, batches: list[bytes], *, piecewise: set[int]) -> Flush:
        self.calls.append("flush")
        outcome = self.outcomes.popleft()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def acknowledge(self, items: list[Pending], failed: dict[int, LiteJoinError]) -> None:
        self.calls.append({place: type(failed.get(place)).__name__ for place in range(len(items))})

    def put(self, flush: Flush, batches: int) -> None:
        self.calls.append(("put", flush.seq, batches))

    def run(self) -> list[Any]:
        """Everything that happened; a fatal error last."""
        parts: list[Any] = [self, self, self]
        FlushThread(*parts, self.calls.append, ManualClock(), 0).run()
        return self.calls


def flush(**more: Any) -> Flush:
    return Flush(**{"seq": 7, "changes": [], "rows": 2, "unchanged": 0, "full_shards": (), **more})


def test_rows_are_stored_then_answered_then_evaluated() -> None:
    answers = {0: "NoneType", 1: "NoneType"}
    assert Script(flush()).run() == ["flush", answers, ("put", 7, 2)]


def test_rows_of_a_full_shard_and_refused_ones_are_not_confirmed() -> None:
    answers = {0: "LiteJoinError", 1: "StorageFullError"}
    calls = Script(flush(full_shards=(1,), refused=(0,))).run()
    assert calls == ["flush", answers, ("put", 7, 2)]


def test_a_full_disk_is_told_to_all_and_the_next_flush_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "FULL_DISK_RETRY_S", 0.0)
    calls = Script(StorageFullError("full"), flush()).run()
    assert calls[:3] == ["flush", {0: "StorageFullError", 1: "StorageFullError"}, ("put", 4, 2)]
    assert calls[3:] == ["flush", {0: "NoneType", 1: "NoneType"}, ("put", 7, 2)]


def test_after_an_io_error_nothing_is_answered_and_nothing_more_is_written() -> None:
    error = StorageIOError("disk I/O error")
    assert Script(error, flush()).run() == ["flush", error]
