"""Rows that joins look up by key are read by their ids (native_places.h): the right ones."""

import random
from pathlib import Path

import pytest

from litejoin._ext import bridge
from litejoin.records import Row, RowKind
from tests.differential.pipeline import EnginePipeline, engine_pipeline

QUERY = (
    "SELECT o.key AS k, u.payload ->> 'name' AS name FROM orders o"
    " LEFT JOIN users u ON u.key = o.payload ->> 'user_id'"
)
BY_ID, BY_KEY = "id = ?1", "key = ?1"


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EnginePipeline:
    monkeypatch.setattr(EnginePipeline, "row_cache_bytes", 0)
    return EnginePipeline(tmp_path / "d", 1, {"j": QUERY})


def row(p: EnginePipeline, topic: str, key: str, payload: str | None) -> Row:
    kind = RowKind.DELETE if payload is None else RowKind.UPSERT
    return Row(p.numbers[topic], kind, 1, key.encode(), (payload or "").encode())


def apply(p: EnginePipeline, *rows: Row) -> list[str]:
    """Returns how users were looked up meanwhile."""
    written = p.write(list(rows))
    with p.reads("users") as seen:
        p.engine.apply(*written)
    return seen


def order(p: EnginePipeline, number: int, user: str) -> Row:
    return row(p, "orders", f"o{number:04d}", f'{{"user_id": "{user}"}}')


def name(p: EnginePipeline, number: int) -> list[str]:
    return p.state()["j"][f'"o{number:04d}"']


def test_a_row_is_read_by_its_id_from_when_it_is_written_until_it_is_deleted(
    pipeline: EnginePipeline,
) -> None:
    p = pipeline
    apply(p, row(p, "users", "u1", '{"name": "Ann"}'))
    assert p.engine.memory_bytes() > 0
    assert apply(p, order(p, 1, "u1")) == [BY_ID]
    before = p.engine.memory_bytes()
    p.close()
    p.open()
    assert p.engine.memory_bytes() == before
    assert apply(p, order(p, 2, "u1"), order(p, 3, "u2")) == [BY_ID, BY_KEY]
    assert name(p, 2) == ['{"k":"o0002","name":"Ann"}']
    assert name(p, 3) == ['{"k":"o0003","name":null}']
    apply(p, row(p, "users", "u1", None))
    assert apply(p, order(p, 4, "u1")) == [BY_KEY]
    assert name(p, 4) == ['{"k":"o0004","name":null}']
    p.close()


def test_a_key_that_comes_back_is_found_where_it_is_now(pipeline: EnginePipeline) -> None:
    p = pipeline
    for key in ("u1", "u2"):
        apply(p, row(p, "users", key, f'{{"name": "{key}"}}'))
    apply(p, row(p, "users", "u2", None))
    apply(p, row(p, "users", "u3", '{"name": "u3"}'))  # takes the id of u2
    apply(p, row(p, "users", "u2", '{"name": "again"}'))
    assert apply(p, order(p, 1, "u2"), order(p, 2, "u3")) == [BY_ID, BY_ID]
    assert name(p, 1) == ['{"k":"o0001","name":"again"}']
    assert name(p, 2) == ['{"k":"o0002","name":"u3"}']
    p.close()


def test_a_row_that_is_gone_already_is_not_there(pipeline: EnginePipeline) -> None:
    """The shards may show later flushes than the one that is evaluated: a place may be stale."""
    p = pipeline
    apply(p, row(p, "users", "u1", '{"name": "Ann"}'))
    first = p.write([order(p, 1, "u1")])
    second = p.write([row(p, "users", "u1", None)])
    p.engine.apply(*first)
    p.engine.apply(*second)
    assert name(p, 1) == ['{"k":"o0001","name":null}']
    p.close()


def test_keys_of_one_hash_are_told_apart_and_cost_no_more_than_a_few_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses the secret could send them: a word that equals the secret's second one makes
    the word behind it count for nothing.
    """
    monkeypatch.setattr(bridge, "map_secret", lambda: b"secret00" * 4)
    monkeypatch.setattr(EnginePipeline, "row_cache_bytes", 0)
    p = EnginePipeline(tmp_path / "d", 1, {"j": QUERY})
    keys = [f"secret00{number:08d}{'.' * 24}" for number in range(7)]
    for number, key in enumerate(keys):
        apply(p, row(p, "users", key, f'{{"name": "n{number}"}}'))
    for number, key in enumerate(keys):
        reads = [BY_ID] * (number + 1) if number < 4 else [BY_ID] * 4 + [BY_KEY]
        assert apply(p, order(p, number, key)) == reads
        assert name(p, number) == [f'{{"k":"o{number:04d}","name":"n{number}"}}']
    p.close()


def test_every_place_is_known_and_no_other(pipeline: EnginePipeline) -> None:
    p, rng = pipeline, random.Random(5)
    there: set[int] = set()
    for _ in range(60):
        changed = {rng.randrange(3000): rng.random() < 0.6 for _ in range(200)}
        apply(
            p,
            *(
                row(p, "users", f"u{n}", "{}" if is_there else None)
                for n, is_there in changed.items()
            ),
        )
        there = there - changed.keys() | {n for n, is_there in changed.items() if is_there}
    for _ in range(2):
        seen = apply(p, *(order(p, n, f"u{n}") for n in range(3000)))
        assert seen == [BY_ID if n in there else BY_KEY for n in range(3000)]
        apply(p, *(order(p, n, "nobody") for n in range(3000)))
        p.close()
        p.open()
    assert 500 < len(there) < 2500
    p.close()


@pytest.mark.parametrize("row_cache_bytes", [0, 2_000])
def test_random_histories_end_as_the_delta_level_says(tmp_path: Path, row_cache_bytes: int) -> None:
    rng = random.Random(11)
    ends = []
    steps = [
        [
            (rng.choice(["orders", "users"]), f"u{rng.randrange(12)}", rng.random(), rng.random())
            for _ in range(rng.randint(1, 6))
        ]
        for _ in range(120)
    ]
    for level in ("native", "delta"):
        with engine_pipeline(tmp_path / level, 2, {"j": QUERY}, level) as p:
            p.row_cache_bytes = row_cache_bytes
            for number, step in enumerate(steps):
                if number % 40 == 0:
                    p.close()
                    p.open()
                rows = [
                    row(
                        p,
                        topic,
                        key,
                        f'{{"user_id":"u{int(12 * x)}","name":{y}}}' if x < 0.7 else None,
                    )
                    for topic, key, x, y in step
                ]
                p.engine.apply(*p.write(rows))
            ends.append((p.log(), p.state()))
    assert ends[0] == ends[1]
    assert len(ends[0][0]) > 100
