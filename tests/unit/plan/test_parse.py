"""Queries are taken apart at the right characters, and what is not understood says so."""

import pytest

from litejoin.plan.query.nodes import NotPlain
from litejoin.plan.query.parse import parse_query
from litejoin.plan.query.words import conjuncts, equality_sides
from litejoin.plan.tokens import tokenize


def test_tokens_keep_their_place_and_their_nesting() -> None:
    sql = "SELECT \"a\"\"b\", [c d], `e`, x'00', 'it''s' -- note ' \n /* ; */ FROM t"
    sql += " WHERE a->>'$.x' >= 1.5e3"
    tokens = tokenize(sql)
    assert [t.text for t in tokens if t.kind == "name"] == ['a"b', "c d", "e"]
    assert [t.kind for t in tokens if t.text.startswith(("x'", "'"))] == [
        "blob",
        "string",
        "string",
    ]
    assert "".join(sql[t.start : t.end] for t in tokens).endswith("FROMtWHEREa->>'$.x'>=1.5e3")
    assert [t.depth for t in tokenize("a(b(c)d)e")] == [0, 0, 1, 1, 2, 1, 1, 0, 0]


def test_a_select_is_split_into_its_clauses() -> None:
    query = """SELECT o.key AS id, (o.payload) total, u.*, a IS NOT DISTINCT FROM b AS same
        FROM "shop.orders" AS o LEFT JOIN users u ON o.x = u.key AND 1
        CROSS JOIN json_each(o.payload, '$.a') e RIGHT JOIN (SELECT 1 AS one FROM t) d USING (key)
        WHERE a = 1 AND x IN (SELECT y FROM z) GROUP BY id, 2
        HAVING count(*) > 1 AND min(a, b) < max(c) FILTER (WHERE d) ORDER BY 1"""
    parsed = parse_query(query)
    (core,) = parsed.cores
    assert [(o.span.of(query), o.alias, o.star) for o in core.outputs] == [
        ("o.key", "id", False),
        ("(o.payload)", "total", False),
        ("u.*", "U", True),
        ("a IS NOT DISTINCT FROM b", "same", False),
    ]
    assert [(s.kind, s.name, s.alias, s.join, s.using) for s in core.sources] == [
        ("table", "shop.orders", "o", "inner", ()),
        ("table", "users", "u", "left", ()),
        ("function", "json_each", "e", "inner", ()),
        ("query", "", "d", "right", ("key",)),
    ]
    assert [s.left.of(query) if s.left else None for s in core.subqueries] == ["x"]
    assert [term.of(query) for term in core.group_by] == ["id", "2"]
    assert [name for name, _ in core.calls] == ["count", "max"]
    assert parsed.has_order and parsed.limit is None


def test_compounds_and_with_are_split_into_their_selects() -> None:
    query = """WITH a AS (SELECT 1 FROM t), b(x, y) AS NOT MATERIALIZED (SELECT 1, 2 FROM a)
        SELECT x FROM b UNION ALL SELECT y FROM b EXCEPT SELECT 1 FROM a LIMIT 5"""
    parsed = parse_query(query)
    assert [(c.name, c.columns) for c in parsed.ctes] == [("a", ()), ("b", ("x", "y"))]
    assert parsed.operators == ("UNION ALL", "EXCEPT")
    assert [core.span.of(query) for core in parsed.cores] == [
        "SELECT x FROM b",
        "SELECT y FROM b",
        "SELECT 1 FROM a",
    ]
    assert parsed.limit is not None
    assert query[parsed.limit :] == "LIMIT 5"


def test_windows_are_told_from_aggregates() -> None:
    query = "SELECT sum(a) OVER (PARTITION BY b, c ORDER BY d), sum(e), rank() OVER () FROM t"
    (core,) = parse_query(query).cores
    assert [name for name, _ in core.calls] == ["sum"]
    assert [[p.of(query) for p in terms] for terms in core.partitions] == [["b", "c"], []]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a.x = b.key", [("a.x", "b.key")]),
        ("(a.x = b.key) AND (a.y == b.y AND a.z > 1)", [("a.x", "b.key"), ("a.y", "b.y")]),
        ("a.x = b.key OR a.y = 1", []),
        ("a.n BETWEEN 1 AND 2 AND a.x = b.key", [("a.x", "b.key")]),
        ("NOT a.x = b.key", []),
        ("a.x = b.key COLLATE NOCASE", []),
        ("CASE WHEN a.x THEN 1 END = b.key", [("CASE WHEN a.x THEN 1 END", "b.key")]),
        ("CASE a.x = 1 WHEN 1 THEN 1 END", []),
        ("a.x IS b.key", []),
        ("a.x = b.key = 1", []),
        ("coalesce(a.x, 'a = b') = b.key", [("coalesce(a.x, 'a = b')", "b.key")]),
    ],
)  # fmt: skip
def test_only_conditions_that_every_row_fulfils_are_equalities(
    condition: str, expected: list[tuple[str, str]]
) -> None:
    sides = [s for term in conjuncts(tokenize(condition)) if (s := equality_sides(term))]
    assert [(left.of(condition), right.of(condition)) for left, right in sides] == expected


@pytest.mark.parametrize(
    ("query", "reason", "at"),
    [
        ("VALUES (1)", "VALUES", "VALUES"),
        ("SELECT sum(a) OVER w FROM t", "named window", "OVER"),
        ("SELECT random() FROM t", "random()", "random"),
        ("SELECT a FROM t NATURAL JOIN u", "NATURAL", "NATURAL"),
        ("SELECT a FROM (t JOIN u)", "parenthesised", "(t"),
        ("SELECT a FROM pragma_x('t')", "table-valued function", "pragma_x"),
        ("SELECT a FROM main.t", "schema", "main"),
        ("SELECT 1", "without FROM", "SELECT"),
        ("", "empty", ""),
    ],
)
def test_what_cannot_be_split_says_what_and_where(query: str, reason: str, at: str) -> None:
    with pytest.raises(NotPlain, match=reason.replace("(", r"\(").replace(")", r"\)")) as error:
        parse_query(query)
    assert query[error.value.offset :].startswith(at)
