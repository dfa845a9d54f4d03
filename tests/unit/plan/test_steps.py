"""SQLite's query plan lines in words."""

import pytest

from litejoin.plan.steps import steps_text
from tests.unit.plan.documents import join_of


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SCAN u VIRTUAL TABLE INDEX 2:delta", "changed rows of u"),
        ("SCAN o VIRTUAL TABLE INDEX 16:index lj:1 LEFT-JOIN", "o by lj:1"),
        ("SCAN o VIRTUAL TABLE INDEX 1:key", "o by key"),
        ("SCAN o VIRTUAL TABLE INDEX 0:scan", "every row of o"),
        ("SCAN t VIRTUAL TABLE INDEX 1:", "values of t"),
        ("USE TEMP B-TREE FOR GROUP BY", "sort for GROUP BY"),
        ("USING INDEX sqlite_autoindex_lj:affected_1 FOR IN-OPERATOR", ""),
        ("CO-ROUTINE totals", ""),
        ("MATERIALIZE totals", ""),
        ("SCAN totals", "rows of totals"),
        ("CORRELATED SCALAR SUBQUERY 3", "in a subquery"),
        ("SOMETHING NEW", "SOMETHING NEW"),
    ],
)
def test_every_line_has_its_words(line: str, words: str) -> None:
    assert steps_text([line]) == words


@pytest.mark.parametrize(
    "query",
    [
        "WITH t AS (SELECT payload ->> '$.u' AS u, count(*) AS n FROM orders GROUP BY 1)"
        " SELECT u, n FROM t WHERE n > 1",
        "SELECT o.key, (SELECT u.payload FROM users u WHERE u.key = o.payload ->> '$.u') AS p"
        " FROM orders o",
        "SELECT o.key, count(*) FROM orders o LEFT JOIN users u ON u.key = o.payload ->> '$.u'"
        " GROUP BY 1 ORDER BY 2",
    ],
)
def test_nothing_of_sqlites_own_words_is_left(query: str) -> None:
    join = join_of(f'"{query}"')
    assert join.strategy != "full"
    plans = [join.refresh_plan, *(reference.query_plan for reference in join.references)]
    for plan in plans:
        for word in ("SCAN", "SEARCH", "VIRTUAL", "CO-ROUTINE", "MATERIALIZE", "SUBQUERY"):
            assert word not in steps_text(plan)
