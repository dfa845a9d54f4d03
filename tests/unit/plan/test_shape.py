"""Queries are split at the right characters, and what cannot be split says why and where."""

import pytest

from litejoin.plan.shape import NotPlain, Shape, parse_shape
from litejoin.plan.tokens import tokenize


def equalities(query: str) -> list[tuple[str, str, int | None]]:
    shape = parse_shape(query)
    return [(e.left.of(query), e.right.of(query), e.source) for e in shape.equalities]


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
    query = """SELECT o.key AS id, (o.payload) total, u.* FROM "shop.orders" AS o
        LEFT JOIN users u ON o.x = u.key AND 1 CROSS JOIN json_each(o.payload, '$.a') e
        WHERE a = 1 GROUP BY id, 2 HAVING n > 1 ORDER BY 1;"""
    shape: Shape = parse_shape(query)
    assert [(o.span.of(query), o.alias, o.star) for o in shape.outputs] == [
        ("o.key", "id", False),
        ("(o.payload)", "total", False),
        ("u.*", "U", True),
    ]
    assert [(s.name, s.alias, s.kind, s.outer) for s in shape.sources] == [
        ("shop.orders", "o", "table", False),
        ("users", "u", "table", True),
        ("json_each", "e", "function", False),
    ]
    assert shape.where is not None
    assert shape.where.of(query) == "a = 1"
    assert [term.of(query) for term in shape.group_by] == ["id", "2"]
    assert shape.has_order


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a.x = b.key", [("a.x", "b.key")]),
        ("(a.x = b.key) AND (a.y == b.y AND a.z > 1)", [("a.x", "b.key"), ("a.y", "b.y")]),
        ("a.x = b.key OR a.y = 1", []),
        ("a.n BETWEEN 1 AND 2 AND a.x = b.key", [("a.x", "b.key")]),
        ("NOT a.x = b.key", []),
        ("a.x = b.key COLLATE NOCASE", []),
        ("CASE WHEN a.x AND b.y THEN 1 END = b.key", []),
        ("a.x IS b.key", []),
        ("a.x = b.key = 1", []),
        ("coalesce(a.x, 'a = b') = b.key", [("coalesce(a.x, 'a = b')", "b.key")]),
    ],
)
def test_only_conditions_that_every_row_fulfils_are_equalities(
    condition: str, expected: list[tuple[str, str]]
) -> None:
    found = equalities(f"SELECT a.key FROM a JOIN b ON {condition}")
    assert [(left, right) for left, right, _ in found] == expected
    assert [
        (left, right) for left, right, _ in equalities(f"SELECT 1 FROM a, b WHERE {condition}")
    ] == expected


def test_an_equality_knows_the_join_it_comes_from() -> None:
    query = "SELECT 1 FROM a LEFT JOIN b ON a.x = b.y JOIN c ON c.x = a.y WHERE b.z = c.z"
    assert [source for _, _, source in equalities(query)] == [1, 2, None]


@pytest.mark.parametrize(
    ("query", "reason", "at"),
    [
        ("SELECT a FROM t UNION SELECT b FROM u", "UNION", "UNION"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH", "WITH"),
        ("SELECT a FROM (SELECT 1 AS a)", "subquery", "SELECT 1"),
        ("SELECT DISTINCT a FROM t", "DISTINCT", "DISTINCT"),
        ("SELECT a FROM t LIMIT 3", "LIMIT", "LIMIT"),
        ("SELECT sum(a) OVER (PARTITION BY b) FROM t", "window function", "OVER"),
        ("SELECT random() FROM t", "random()", "random"),
        ("SELECT a FROM t NATURAL JOIN u", "NATURAL", "NATURAL"),
        ("SELECT a FROM t JOIN u USING (key)", "USING", "USING"),
        ("SELECT a FROM t FULL OUTER JOIN u ON 1", "FULL", "FULL"),
        ("SELECT a FROM (t JOIN u)", "parenthesised", "(t"),
        ("SELECT 1", "without FROM", "SELECT"),
        ("", "empty", ""),
    ],
)
def test_what_cannot_be_split_says_what_and_where(query: str, reason: str, at: str) -> None:
    with pytest.raises(NotPlain, match=reason.replace("(", r"\(").replace(")", r"\)")) as error:
        parse_shape(query)
    assert query[error.value.offset :].startswith(at)


def test_a_word_that_only_looks_like_a_construct_is_not_one() -> None:
    parse_shape("SELECT t.\"limit\", 'UNION', count(DISTINCT a) FROM t WHERE x = 'LIMIT'")


@pytest.mark.parametrize(
    ("expression", "depends"),
    [
        ("strftime('%s', 'now')", True),
        ("date(a, 'unixepoch', 'LOCALTIME')", True),
        ("date()", True),
        ("date(a, 'unixepoch')", False),
        ("json_extract(payload, '$.now')", False),
    ],
)
def test_values_that_change_with_time_are_known(expression: str, depends: bool) -> None:
    shape = parse_shape(f"SELECT {expression} FROM t")
    assert shape.depends_on_now(shape.outputs[0].span) is depends


def test_columns_are_told_from_functions_types_and_words() -> None:
    query = 'SELECT CASE WHEN a.x IS NULL THEN CAST(b."y" AS TEXT) ELSE upper(z) END FROM a, b'
    shape = parse_shape(query)
    assert shape.columns_in(shape.outputs[0].span) == [("a", "x"), ("b", "y"), (None, "z")]
