"""The results log as readers see it: ordered, gapless, consistent with its positions."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from litejoin.records import ResultOp
from litejoin.store import log as log_module
from litejoin.store.log import ResultLog
from litejoin.store.signal import LogSignal
from tests.unit.store.state_writer import StateWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    writer = StateWriter(tmp_path / "state.db", "orders", "users")
    yield writer
    writer.close()


@pytest.fixture
def log(writer: StateWriter) -> Iterator[ResultLog]:
    log = ResultLog(writer.path, "shop", "0123456789abcdef")
    yield log
    log.close()


def test_a_result_is_read_as_it_was_written(writer: StateWriter, log: ResultLog) -> None:
    writer.put("orders", "a", {"order_id": "a", "amount": 45.0}, emit_at_ms=1_700_000_000_123)
    results, reached = log.read(0, 10)
    assert reached == 1
    assert results[0].pipeline == "shop/0123456789abcdef"
    assert results[0].op is ResultOp.UPSERT
    assert (
        results[0]
        .body()
        .startswith(
            b'{"query":"orders","key":"a","rows":[{"order_id": "a", "amount": 45.0}],'
            b'"emit_at":"2023-11-14T22:13:20.123Z","op":"upsert","seq":1,"id":"'
        )
    )


def test_reads_cover_the_log_once_and_in_order(writer: StateWriter, log: ResultLog) -> None:
    for n in range(50):
        writer.put(("orders", "users")[n % 3 == 0], n, {"n": n})
    seen, after = [], 0
    while after < log.head():
        results, after = log.read(after, 7, ["orders"])
        seen += [r.pos for r in results]
    assert seen == [n + 1 for n in range(50) if n % 3]


def test_a_filtered_read_is_bounded_and_still_advances(
    writer: StateWriter, log: ResultLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "SCAN_POSITIONS", 10)
    writer.put_many(*[("users", n, {"n": n}) for n in range(25)], ("orders", "x", {"n": 1}))
    assert log.read(0, 100, ["orders"]) == ([], 10)
    assert log.read(10, 100, ["orders"]) == ([], 20)
    results, reached = log.read(20, 100, ["orders"])
    assert ([r.key for r in results], reached) == (['"x"'], 26)
    assert (log.count(0, ["orders"]), log.count(20, ["users"])) == (1, 5)


def test_a_trimmed_stretch_is_crossed_in_one_read(
    writer: StateWriter, log: ResultLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "SCAN_POSITIONS", 10)
    writer.put_many(*[("orders", "a", {"n": n}) for n in range(500)])
    writer.trim(500)
    assert log.read(0, 100, ["orders"]) == ([], 499)
    assert log.read(0, 100, ["users"]) == ([], 499)
    assert [r.pos for r in log.read(499, 100, ["orders"])[0]] == [500]


def test_a_read_stops_where_it_is_told(writer: StateWriter, log: ResultLog) -> None:
    for n in range(5):
        writer.put("orders", n, {"n": n})
    results, reached = log.read(1, 10, upto=3)
    assert ([r.pos for r in results], reached) == ([2, 3], 3)
    assert log.read(5, 10) == ([], 5)
    assert log.read(9, 10) == ([], 9), "a cursor ahead of the head stays where it is"


def test_large_results_are_read_a_few_at_a_time(writer: StateWriter, log: ResultLog) -> None:
    text = "x" * (log_module.READ_CHARS // 3)
    writer.put_many(*[("orders", n, {"text": text}) for n in range(8)], ("users", 9, {"n": 1}))
    seen, after = list[int](), 0
    while after < writer.head:
        results, after = log.read(after, 100)
        assert 1 <= len(results) <= 3
        seen += [result.pos for result in results]
        # Nothing is left open: a reader that stops in the middle would hold the whole log.
        assert writer.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] == 0
    assert seen == list(range(1, 10))
    writer.put("orders", 1, {"text": text * 4})
    assert [r.pos for r in log.read(after, 100)[0]] == [10], "one at least"


def test_a_join_added_later_is_found(writer: StateWriter, log: ResultLog) -> None:
    assert log.read(0, 10, ["late"]) == ([], 0)
    writer.add_join("late")
    writer.put("late", 1, {"n": 1})
    assert [r.query for r in log.read(0, 10, ["late"])[0]] == ["late"]
    assert [r.query for r in log.clone().read(0, 10)[0]] == ["late"]


def test_the_snapshot_is_the_current_results_and_their_position(
    writer: StateWriter, log: ResultLog
) -> None:
    writer.put("orders", "a", {"n": 1})
    writer.put("orders", "b", {"n": 1})
    writer.put("users", "a", {"n": 1})
    writer.put("orders", "a", {"n": 2})
    writer.put("orders", "b")
    results, position = log.snapshot(["orders"])
    assert [(r.key, r.pos) for r in results] == [('"a"', 4)]
    assert position == 5
    assert [r.pos for r in log.snapshot(None, ['"a"'])[0]] == [3, 4]
    assert [r.pos for r in log.snapshot(limit=1)[0]] == [3]


def test_positions_then_fetch_are_the_snapshot(writer: StateWriter, log: ResultLog) -> None:
    for n in range(30):
        writer.put("orders", n % 7, {"n": n}, emit_at_ms=1000 + n)
    positions, head = log.positions(["orders"], limit=100)
    assert head == 30
    assert list(positions) == sorted(positions)
    results, covered = log.fetch(positions)
    assert [r.pos for r in results] == list(positions)
    assert covered == len(positions)
    late, _ = log.positions(limit=100, emitted_ms=(1025, 1027))
    assert [r.emit_at_ms for r in log.fetch(late)[0]] == [1025, 1026, 1027]


def fetched(log: ResultLog, positions: Sequence[int]) -> list[list[int]]:
    """All of them, as they come."""
    pages, start = [], 0
    while start < len(positions):
        results, covered = log.fetch(positions[start:])
        assert covered >= 1
        pages.append([result.pos for result in results])
        start += covered
    return pages


def test_fetch_takes_any_number_of_positions(
    writer: StateWriter, log: ResultLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "FETCH_POSITIONS", 4)
    writer.put_many(*[("users", n, {"n": n}) for n in range(11)])
    positions, _ = log.positions(limit=100)
    assert fetched(log, positions) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11]]


def test_large_results_are_fetched_a_few_at_a_time(writer: StateWriter, log: ResultLog) -> None:
    text = "x" * (log_module.READ_CHARS // 2)
    writer.put_many(*[("users", n, {"text": text}) for n in range(5)])
    positions, _ = log.positions(limit=100)
    for n in (2, 4):
        writer.put("users", n, {"text": text * 2})  # trimmed: no longer current
    writer.trim(6)
    assert fetched(log, positions) == [[1, 2], [4]]
    assert fetched(log, (6, 7)) == [[6], [7]]


def test_a_snapshot_and_the_log_after_it_have_no_gap_and_no_overlap(
    writer: StateWriter, log: ResultLog
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(200):
        for _ in range(rng.randrange(4)):
            key = rng.randrange(9)
            rows = [{"n": rng.random()}] if rng.random() < 0.7 else []
            writer.put("orders", key, *rows)
        if rng.random() < 0.1:
            writer.trim(rng.randrange(writer.head + 1))
    results, position = log.snapshot()
    state = {r.key: r.rows for r in results}
    for n in range(20):
        writer.put("orders", n % 12, *([{"n": n}] if n % 3 else []))
    for result in log.read(position, 1000)[0]:
        state[result.key] = result.rows
    expected = {r.key: r.rows for r in log.snapshot()[0]}
    assert {k: v for k, v in state.items() if v != "[]"} == expected


def test_a_log_read_from_zero_after_trimming_gives_every_current_result(
    writer: StateWriter, log: ResultLog
) -> None:
    for n in range(40):
        writer.put("orders", n % 5, {"n": n})
    writer.trim(38)
    assert log.tail() == 38
    assert [r.pos for r in log.read(0, 100)[0]] == [36, 37, 38, 39, 40]


async def _signal_story() -> list[int]:
    signal = LogSignal(3)
    seen = [await signal.wait(1)]
    first, second = (asyncio.ensure_future(signal.wait(3)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    signal.publish(2)
    await asyncio.sleep(0)
    assert not second.done(), "an older head wakes nobody"
    signal.publish(7)
    seen.append(await second)
    return [*seen, signal.head]


def test_a_waiter_is_woken_by_a_greater_head_only_and_outlives_a_cancelled_one() -> None:
    assert asyncio.run(_signal_story()) == [3, 7, 7]


def test_what_is_only_recorded_is_current_but_not_read(writer: StateWriter, log: ResultLog) -> None:
    """A join's `on_change: silent`: sinks and streams are not told."""
    writer.put("orders", "a", {"n": 1})
    writer.put("orders", "b", {"n": 2})
    writer.db.execute("UPDATE log SET op = 3 WHERE pos = 1")
    assert [r.pos for r in log.read(0, 10)[0]] == [2]
    assert [r.pos for r in log.read(0, 10, ["orders"])[0]] == [2]
    assert log.count(0, ["orders"]) == 1
    assert [r.pos for r in log.snapshot()[0]] == [1, 2]
