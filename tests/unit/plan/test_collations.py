"""`key IN (SELECT x COLLATE c ...)` is refused where a topic answers otherwise than a table."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from litejoin._ext.topic import TopicTables
from litejoin.plan.collations import refuse_hidden_collation
from litejoin.plan.sql_errors import BadQuery
from litejoin.records import Row, RowKind
from litejoin.store.sqlite import open_memory
from tests.differential.pipeline import engine_pipeline

X = "u.payload ->> 'x'"
REFUSED = [
    f"o.key IN (SELECT {X} COLLATE NOCASE FROM users u)",
    f'"key" NOT IN (SELECT {X} COLLATE NOCASE FROM users u)',
    f"(o.key, 1) IN (SELECT {X} COLLATE NOCASE, 1 FROM users u)",
    "o.key IN (VALUES ('a' COLLATE NOCASE))",
    f"o.key IN (SELECT max({X} COLLATE NOCASE) FROM users u)",
    f"o.key IN (SELECT 'zz' UNION SELECT {X} COLLATE NOCASE FROM users u)",
    f"o.key IN (WITH w AS (SELECT 1) SELECT {X} COLLATE NOCASE FROM users u)",
]
TAKEN = [
    f"o.key COLLATE NOCASE IN (SELECT {X} FROM users u)",
    f"o.key IN (SELECT x FROM (SELECT {X} COLLATE NOCASE AS x FROM users u))",
    f"o.key IN (SELECT {X} FROM users u WHERE u.key = 'U' COLLATE NOCASE)",
    f"o.key IN (SELECT {X} FROM users u GROUP BY {X} COLLATE NOCASE)",
    f"o.payload ->> 'k' IN (SELECT {X} COLLATE NOCASE FROM users u)",
    f"lower(o.payload) IN (SELECT {X} COLLATE NOCASE FROM users u)",
    f"o.key = (SELECT {X} COLLATE NOCASE FROM users u)",
    "o.key IN ('a' COLLATE NOCASE, 'B')",
    f"EXISTS (SELECT 1 FROM users u WHERE {X} COLLATE NOCASE = o.key)",
]
ROWS = [("orders", "A", '{"k":"A"}'), ("orders", "b", '{"k":"b"}'), ("users", "U", '{"x":"a"}')]


@pytest.fixture
def over_topics(tmp_path: Path) -> Iterator[apsw.Connection]:
    with engine_pipeline(tmp_path / "data", 1, {}) as p:
        p.write([Row(p.numbers[t], RowKind.UPSERT, 1, k.encode(), v.encode()) for t, k, v in ROWS])
        host = open_memory()
        tables = TopicTables(host, p.store.open_readers())
        for name, number in p.numbers.items():
            tables.define(name, number)
        yield host
        tables.close()
        host.close()


def query(condition: str) -> str:
    return f"SELECT o.key FROM orders o WHERE {condition}"


@pytest.mark.parametrize("condition", REFUSED)
def test_refused(condition: str) -> None:
    with pytest.raises(BadQuery, match="COLLATE NOCASE in the list") as caught:
        refuse_hidden_collation(query(condition))
    finding = caught.value.finding
    assert query(condition)[finding.start : finding.end] == "COLLATE NOCASE"
    assert "on the left" in finding.hint


@pytest.mark.parametrize("condition", TAKEN)
def test_taken_and_the_same_as_over_a_table(condition: str, over_topics: apsw.Connection) -> None:
    refuse_hidden_collation(query(condition))
    assert over_topics.execute(query(condition)).fetchall() == table_answer(condition)


@pytest.mark.parametrize("unfinished", ["key IN", "key IN (", "key IN (SELECT x COLLATE", ""])
def test_what_is_no_query_is_left_to_sqlite(unfinished: str) -> None:
    try:
        refuse_hidden_collation(unfinished)
    except BadQuery as bad:
        assert bad.finding.end <= len(unfinished)


def table_answer(condition: str) -> list[tuple[object, ...]]:
    plain = apsw.Connection(":memory:")
    for table in ("orders", "users"):
        plain.execute(f"CREATE TABLE {table}(key TEXT, payload TEXT)")
    for table, key, payload in ROWS:
        plain.execute(f"INSERT INTO {table} VALUES(?, ?)", (key, payload))
    found = plain.execute(query(condition)).fetchall()
    plain.close()
    return found
