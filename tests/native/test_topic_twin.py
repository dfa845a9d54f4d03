"""The topic virtual table answers every query as its twin does, after every flush.

Queries are drawn: equality and IN on the key, probes of indexed expressions, ranges of time, LIKE,
OR, aggregates and joins of the three relations; keys and values hold what SQL compares in odd ways.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from litejoin._ext.topic import TopicTables
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.sqlite import open_memory
from litejoin.store.writer import ShardStore
from tests.reference.topic import TopicTwin

PATH = "json_extract(payload, '$.v')"
INDEXES = [(PATH, False), (f"CAST({PATH} AS TEXT)", True), ("payload ->> '$.w.x'", False)]
PROBES = {1: PATH, 2: f"CAST({PATH} AS TEXT)", 3: "payload ->> '$.w.x'"}

KEYS = ["a", "b", "A", "a ", " ", "1", "1.0", "01", "-1", "1e3", "9007199254740993", "ü", "u\u0308",
        "'", '"', "k" * 512, "\U0001f600", "NULL", "%"]  # fmt: skip
VALUES = [1, 1.0, 1.5, "1", "1.0", 2**53 + 1, float(2**53), 2**64, 0.1, -0.0, "", "a", "A", "ü",
          "nul\0in", None, True, [1], {"x": 1}, -5, 1e300]  # fmt: skip

payloads = st.builds(
    lambda v, w, extra: json.dumps({**v, **w, **extra}),
    st.one_of(st.just({}), st.builds(lambda v: {"v": v}, st.sampled_from(VALUES))),
    st.one_of(st.just({}), st.builds(lambda x: {"w": {"x": x}}, st.sampled_from(VALUES))),
    st.sampled_from([{}, {"long": "x" * 5000}]),
)
stamps = st.sampled_from([-1_500, -1, 0, 999, 1_000, 1_500, 1_760_000_000_000])
flushes = st.lists(
    st.lists(
        st.tuples(st.sampled_from(KEYS), st.one_of(st.none(), payloads, payloads), stamps),
        min_size=1,
        max_size=25,
    ),
    min_size=1,
    max_size=4,
)

scalars = st.sampled_from([v for v in VALUES if isinstance(v, int | float | str) and v != 2**64])
keys = st.one_of(st.sampled_from(KEYS), st.sampled_from([1, 1.0, 1e3, -1, None, b"a"]))
tables = st.sampled_from(["t", "t:delta", "t:both"])


def probe(at: int, value: Any) -> tuple[str, list[Any]]:
    """As the compiler writes it: the hidden column proposes rows, the predicate decides."""
    return f'"lj:{at}" = ? AND {PROBES[at]} = ?', [value, value]


conditions = st.recursive(
    st.one_of(
        st.builds(lambda k: ("key = ?", [k]), keys),
        st.builds(
            lambda ks: (f"key IN ({', '.join('?' * len(ks))})", ks), st.lists(keys, max_size=4)
        ),
        st.builds(probe, st.sampled_from(sorted(PROBES)), scalars),
        st.builds(
            lambda at: (f'"lj:{at}" IS NULL AND {PROBES[at]} IS NULL', []),
            st.sampled_from(sorted(PROBES)),
        ),
        st.builds(lambda v: (f"{PATH} = ?", [v]), scalars),
        st.builds(lambda k: ("key > ?", [k]), keys),
        st.builds(lambda k: ("key LIKE ?", [k]), st.sampled_from(["a%", "%", "1%", "ü"])),
        st.builds(lambda ts: ("timestamp BETWEEN ? AND ?", sorted(ts)), st.tuples(
            st.integers(-2, 2), st.sampled_from([-1, 1, 2_000_000_000]))),
        st.builds(lambda ms: ("timestamp_ms >= ?", [ms]), stamps),
        st.builds(lambda op: ("op = ?", [op]), st.sampled_from(["created", "updated", "x"])),
        st.just(("changes IS NULL", [])),
    ),
    lambda inner: st.builds(
        lambda a, b, word: (f"({a[0]}) {word} ({b[0]})", [*a[1], *b[1]]),
        inner, inner, st.sampled_from(["AND", "OR", "AND NOT"]),
    ),
    max_leaves=4,
)  # fmt: skip

COLUMNS = 'key, payload, timestamp, timestamp_ms, op, changes, "lj:1", "lj:2", "lj:3"'
queries = st.one_of(
    st.builds(
        lambda table, where: (f'SELECT {COLUMNS} FROM "{table}" WHERE {where[0]}', where[1]),
        tables,
        conditions,
    ),
    st.builds(
        lambda table, where: (
            f'SELECT count(*), min(key), max(timestamp), total({PATH}) FROM "{table}"'
            f" WHERE {where[0]} GROUP BY op",
            where[1],
        ),
        tables,
        conditions,
    ),
    st.builds(
        lambda left, right, how: (
            f'SELECT x.key, x.payload, y.key, y.payload FROM "{left}" x {how} "{right}" y'
            " ON y.key = json_extract(x.payload, '$.v')",
            [],
        ),
        tables,
        tables,
        st.sampled_from(["JOIN", "LEFT JOIN", "FULL JOIN"]),
    ),
    st.builds(
        lambda left, right: (
            f'SELECT x.key, y.key, y.payload FROM "{left}" x JOIN "{right}" y ON'
            f" y.\"lj:2\" = x.key AND CAST(json_extract(y.payload, '$.v') AS TEXT) = x.key",
            [],
        ),
        tables,
        tables,
    ),
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, ShardStore]]:
    """By number of shards, with a topic `t`; shared, as making one takes longer than an example."""
    made = {}
    for shards in (1, 3, 8):
        folder = tmp_path_factory.mktemp("store") / "d"
        made[shards] = ShardStore.open(
            folder, pipeline="p", shard_count=shards, synchronous="normal"
        )
        made[shards].create_topic("t")
    yield made
    for store in made.values():
        store.close()


@given(st.sampled_from([1, 3, 8]), flushes, st.lists(queries, min_size=1, max_size=6))
def test_queries_find_what_they_find_in_the_twin(
    stores: dict[int, ShardStore],
    shards: int,
    history: list[list[tuple[str, str | None, int]]],
    asked: list[tuple[str, list[Any]]],
) -> None:
    store = stores[shards]
    number = store.topic_number("t")

    def write(rows: list[tuple[str, str | None, int]]) -> list[bytes]:
        packed = [
            Row(number, RowKind.DELETE if payload is None else RowKind.UPSERT, ms, key.encode(),
                (payload or "").encode())
            for key, payload, ms in rows
        ]  # fmt: skip
        return store.flush([pack_rows(packed)]).changes

    write([(key, None, 0) for key in KEYS])
    host = open_memory()
    readers = store.open_readers()
    native, twin = TopicTables(host, readers), TopicTwin(INDEXES)
    try:
        native.define("t", number, INDEXES)
        for rows in history:
            note(f"flush {rows}")
            native.apply(write(rows))
            twin.flush(rows)
            for sql, bindings in asked:
                note(f"{sql} {bindings}")
                found = sorted(map(repr, host.execute(sql, bindings)))
                assert found == sorted(map(repr, twin.select(sql, bindings)))
    finally:
        twin.close()
        native.close()
        host.close()
        for reader in readers:
            reader.close()
