"""Results that would not fit into memory: taken in parts where that helps, else reported."""

from pathlib import Path

import pytest

from litejoin.engine import deadlines
from litejoin.records import Row, RowKind
from litejoin.store.sqlite import QUERY_VALUE_BYTES
from tests.differential.pipeline import EnginePipeline, engine_pipeline

NATIVE = {
    "j": "SELECT o.key AS k, u.payload AS p FROM orders o JOIN users u ON u.key = o.payload->>'$.u'"
}
FULL = {
    "j": "SELECT o.key || e.key AS k, o.payload AS p FROM orders o, json_each(o.payload, '$.i') e"
}
PADDED = {"j": "SELECT key AS k, printf('%.*c', payload->>'$.w', 'x') AS p FROM orders"}
ITEMS = {"j": "SELECT o.key AS k, o.payload AS p FROM orders o, json_each(o.payload, '$.i') e"}


def row(p: EnginePipeline, topic: str, key: str, payload: str) -> Row:
    return Row(p.numbers[topic], RowKind.UPSERT, 1, key.encode(), payload.encode())


@pytest.mark.parametrize("level", ["native", "delta"])
def test_what_is_too_large_at_once_is_made_in_parts(
    tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_pipeline(tmp_path / "d", 2, NATIVE, level) as p:
        orders = [row(p, "orders", f"o{i}", '{"u":"u"}') for i in range(100)]
        p.engine.apply(*p.write(orders))
        monkeypatch.setattr(deadlines, "DELTA_BYTES", 10_000)
        large = '{"a":"' + "x" * 1_000 + '"}'
        applied = p.engine.apply(*p.write([row(p, "users", "u", large)]))
        assert (applied.failures, applied.results) == ((), 100)
        assert len(p.state()["j"]) == 100
        assert p.replayed() == p.state()


def test_one_result_that_is_too_large_is_reported_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_pipeline(tmp_path / "d", 2, ITEMS) as p:
        assert p.joins[0].strategy == "delta"
        monkeypatch.setattr(deadlines, "DELTA_BYTES", 10_000)
        many = '{"i":[' + ",".join("0" * 100) + "]}"
        rows = [row(p, "orders", f"o{i}", '{"i":[1]}') for i in range(20)]
        applied = p.engine.apply(*p.write([*rows, row(p, "orders", "many", many)]))
        (failure,) = applied.failures
        assert failure.startswith(
            "join j: key 'many' cannot be evaluated: one result has more than"
        )
        assert len(p.state()["j"]) == 20


def test_a_full_re_evaluation_is_bounded_by_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_pipeline(tmp_path / "d", 2, FULL) as p:
        assert p.joins[0].strategy == "full"
        monkeypatch.setattr(deadlines, "DELTA_BYTES", 10_000)
        many = '{"i":[' + ",".join("0" * 2_000) + "]}"
        (failure,) = p.engine.apply(*p.write([row(p, "orders", "many", many)])).failures
        assert failure.startswith("join j: the query cannot be evaluated: one result has more than")
        p.clock.advance(60_000)
        assert p.engine.apply(*p.write([row(p, "orders", "many", '{"i":[1]}')])).failures == ()
        assert list(p.state()["j"]) == ['"many0"']


def test_large_rows_may_have_large_results_in_a_full_re_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"j": "SELECT key AS k, payload AS p FROM orders ORDER BY key LIMIT 1000"}
    with engine_pipeline(tmp_path / "d", 2, whole) as p:
        assert p.joins[0].strategy == "full"
        monkeypatch.setattr(deadlines, "DELTA_BYTES", 10_000)
        large = '{"a":"' + "x" * 10_000 + '"}'
        rows = [row(p, "orders", f"o{i}", large) for i in range(200)]
        assert p.engine.apply(*p.write(rows)).failures == ()
        assert len(p.state()["j"]) == 200


def test_a_message_cannot_name_the_length_of_a_value(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 2, PADDED) as p:
        rows = [row(p, "orders", f"o{i}", '{"w":3}') for i in range(20)]
        rows += [row(p, "orders", "wide", f'{{"w":{QUERY_VALUE_BYTES + 1}}}')]
        (failure,) = p.engine.apply(*p.write(rows)).failures
        assert failure == "join j: key 'wide' cannot be evaluated: a value has more than 64 MiB"
        assert len(p.state()["j"]) == 20
