"""SQLite judges user queries: what is read, what is refused, and where the finding points."""

import apsw
import pytest

from litejoin.plan.sql import authorize, output_columns, topics_in
from litejoin.plan.sql_errors import BadQuery


def refused(query: str) -> tuple[str, str]:
    """(kind of the finding, text it points at)."""
    with pytest.raises(BadQuery) as error:
        output_columns(query, topics_in(query))
    finding = error.value.finding
    return finding.kind, query[finding.start : finding.end]


@pytest.mark.parametrize(
    ("query", "topics"),
    [
        ("SELECT key FROM orders", ("orders",)),
        ("SELECT count(*) FROM orders", ("orders",)),
        ('SELECT o.key FROM "shop.orders" o, json_each(o.payload) e', ("shop.orders",)),
        ("WITH users AS (SELECT * FROM orders) SELECT key FROM users", ("orders",)),
        ("SELECT 'FROM nobody' FROM a WHERE EXISTS (SELECT 1 FROM b)", ("a", "b")),
        ("SELECT a.key FROM t a JOIN t b ON a.key = b.payload", ("t",)),
    ],
)
def test_the_topics_of_a_query_are_those_sqlite_reads(query: str, topics: tuple[str, ...]) -> None:
    assert topics_in(query) == topics


def test_the_columns_are_named_as_sqlite_names_them() -> None:
    query = "SELECT o.key, payload ->> '$.a' AS amount, count(*) FROM orders o"
    assert output_columns(query, ["orders"]) == ("key", "amount", "count(*)")


@pytest.mark.parametrize(
    ("query", "kind", "text"),
    [
        ("SELECT key FROM orders; DELETE FROM orders", "multiple-statements", "DELETE"),
        ("DELETE FROM orders", "not-a-select", "DELETE"),
        ("ATTACH 'x' AS y", "not-a-select", "ATTACH"),
        ("PRAGMA user_version", "not-a-select", "PRAGMA"),
        ("", "not-a-select", ""),
        ("WITH a AS (SELECT 1) DELETE FROM t", "syntax", None),
        ("SELECT o.nmae\nFROM orders o", "no-such-column", "o.nmae"),
        ("SELECT key, nmae FROM orders", "no-such-column", "nmae"),
        ('SELECT "text" FROM orders', "no-such-column", '"text"'),
        ("SELECT nosuch(key) FROM orders", "syntax", "nosuch"),
        ("SELECT key FORM orders", "syntax", "orders"),
        ("SELECT name FROM sqlite_master", "forbidden", "sqlite_master"),
        ("SELECT load_extension('x') FROM orders", "forbidden", "load_extension"),
        ("SELECT Load_Extension('x') FROM orders", "forbidden", "Load_Extension"),
        ("SELECT o.key, p.file FROM orders o, pragma_database_list p", "forbidden", None),
        ("SELECT key, (SELECT count(*) FROM dbstat) FROM orders", "forbidden", "dbstat"),
    ],
)
def test_a_bad_query_is_refused_where_it_is_bad(query: str, kind: str, text: str | None) -> None:
    found_kind, found_text = refused(query)
    assert found_kind == kind
    if text is not None:
        assert found_text == text


def test_a_topic_may_be_named_like_a_pragma() -> None:
    query = "SELECT key FROM pragma_orders"
    assert topics_in(query) == ("pragma_orders",)
    assert output_columns(query, ["Pragma_Orders"]) == ("key",)


def test_the_sandbox_lets_queries_read_and_call_functions_and_nothing_else() -> None:
    actions = [name for name in apsw.mapping_authorizer_function if isinstance(name, str)]
    assert {"SQLITE_ATTACH", "SQLITE_PRAGMA", "SQLITE_INSERT"} < set(actions)
    let = {name for name in actions if not authorize(getattr(apsw, name), "t", "f", None, None)}
    assert let == {"SQLITE_SELECT", "SQLITE_READ", "SQLITE_RECURSIVE", "SQLITE_FUNCTION"}


@pytest.mark.parametrize(
    "name", ["load_extension", "readfile", "WriteFile", "edit", "fts3_tokenizer"]
)
def test_the_sandbox_lets_no_query_call_out(name: str) -> None:
    assert authorize(apsw.SQLITE_FUNCTION, None, name, None, None) == apsw.SQLITE_DENY
