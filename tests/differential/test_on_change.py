"""A join that is new or changed over data that are there: what is emitted, what only recorded."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from litejoin.plan.nodes import JoinPlan
from litejoin.records import Row, RowKind
from litejoin.store.log import ResultLog
from tests.differential.pipeline import EnginePipeline

SMALL = {"j": "SELECT key, payload ->> '$.v' AS v FROM orders WHERE payload ->> '$.v' < 4"}
LARGE = {"j": "SELECT key, payload ->> '$.v' AS v FROM orders WHERE payload ->> '$.v' > 1"}
FULL = {"j": "SELECT key, payload ->> '$.v' AS v FROM orders ORDER BY key LIMIT 3"}


class Changing:
    """One data directory, opened with one set of joins after another."""

    def __init__(self, root: Path, on_change: str = "silent", **changes: str) -> None:
        self.root, self.changes = root, {"on_change": on_change, **changes}
        self.made: EnginePipeline | None = None

    def open(self, queries: Mapping[str, str], **changes: str) -> EnginePipeline:
        """As a start does it; what was open is closed, as after kill -9."""
        if self.made is not None:
            self.made.close()
        p = EnginePipeline.__new__(EnginePipeline)
        p.plan(self.root, 2, queries, **{**self.changes, **changes})
        self.made = p
        p.open()
        return p

    def delivered(self) -> list[tuple[str, str, int]]:
        """(key, rows, op) of all that a sink is given."""
        log = ResultLog(self.root / "state.db", "p", "e")
        try:
            results, upto = log.read(0, 1000)
            assert upto == log.head()
            counted = log.count(0, {result.query for result in results})
            assert counted == len(results)
            return [(r.key, r.rows, int(r.op)) for r in results]
        finally:
            log.close()

    def shown(self) -> dict[str, str]:
        """What a snapshot shows."""
        log = ResultLog(self.root / "state.db", "p", "e")
        try:
            return {r.key: r.rows for r in log.snapshot()[0]}
        finally:
            log.close()


def put(p: EnginePipeline, values: Mapping[str, int]) -> None:
    rows = [
        Row(p.numbers["orders"], RowKind.UPSERT, 1, key.encode(), f'{{"v": {v}}}'.encode())
        for key, v in values.items()
    ]
    p.engine.apply(*p.write(rows))


def rows_of(values: Mapping[str, int]) -> dict[str, str]:
    return {f'"{key}"': f'[{{"key":"{key}","v":{v}}}]' for key, v in values.items()}


@pytest.fixture
def silent(tmp_path: Path) -> Changing:
    return Changing(tmp_path / "d")


VALUES = {f"k{i}": i for i in range(6)}


@pytest.mark.parametrize("query", [SMALL, FULL], ids=["incremental", "full"])
def test_a_silent_join_over_stored_topics_shows_them_and_delivers_nothing(
    silent: Changing, query: dict[str, str]
) -> None:
    put(silent.open({}), VALUES)
    silent.open(query)
    assert len(silent.shown()) in (3, 4)
    assert silent.delivered() == []


def test_after_it_changes_are_delivered_as_ever(silent: Changing) -> None:
    put(silent.open({}), VALUES)
    p = silent.open(SMALL)
    put(p, {"k0": 3, "k1": 9})
    assert silent.delivered() == [('"k0"', '[{"key":"k0","v":3}]', 1), ('"k1"', "[]", 2)]
    put(p, {"k2": 2})
    assert len(silent.delivered()) == 2


def test_a_silent_change_records_the_differences_only(silent: Changing) -> None:
    put(silent.open(SMALL), VALUES)
    before = silent.delivered()
    assert len(before) == 4
    silent.open(LARGE)
    assert silent.delivered() == before
    assert silent.shown() == rows_of({f"k{i}": i for i in range(2, 6)})


def test_emit_all_sends_only_the_differences_of_a_change(tmp_path: Path) -> None:
    changing = Changing(tmp_path / "d", on_change="emit", emit="all")
    put(changing.open(SMALL), VALUES)
    changing.open(LARGE)
    assert [(key, op) for key, _, op in changing.delivered()[4:]] == [
        ('"k0"', 2), ('"k1"', 2), ('"k4"', 1), ('"k5"', 1)
    ]  # fmt: skip


def test_a_silent_change_that_a_shutdown_cut_short_is_made_up_for_silently(
    silent: Changing,
) -> None:
    put(silent.open(SMALL), VALUES)
    before = silent.delivered()
    p = silent.open(SMALL)
    p.engine.stop_full()
    (join,) = silent_plans(silent, LARGE)
    p.engine.state.begin()
    p.engine._joins = [p.engine._add_join(join)]
    p.engine._evaluate(p.engine.state.applied, wait=False)
    assert p.engine.state.rebuilding == p.engine.state.owed == {1}
    silent.open(LARGE)
    assert silent.delivered() == before
    assert silent.shown() == rows_of({f"k{i}": i for i in range(2, 6)})
    assert silent.made is not None
    assert not silent.made.engine.state.rebuilding


def silent_plans(silent: Changing, queries: dict[str, str]) -> list[JoinPlan]:
    p = EnginePipeline.__new__(EnginePipeline)
    p.plan(silent.root, 2, queries, on_change="silent")
    return p.joins


def test_a_removed_join_tells_nobody_and_comes_back_as_new(tmp_path: Path) -> None:
    changing = Changing(tmp_path / "d", on_change="emit")
    put(changing.open(SMALL), VALUES)
    changing.open({})
    assert len(changing.delivered()) == 4
    assert changing.shown() == {}
    changing.open(SMALL)
    assert [op for _, _, op in changing.delivered()[4:]] == [1] * 4
    assert len(changing.shown()) == 4


def test_a_query_that_takes_nothing_deletes_every_key_before_the_join_is_removed(
    tmp_path: Path,
) -> None:
    changing = Changing(tmp_path / "d", on_change="emit")
    put(changing.open(SMALL), VALUES)
    changing.open({"j": SMALL["j"] + " AND 0"})
    assert [op for _, _, op in changing.delivered()[4:]] == [2] * 4
