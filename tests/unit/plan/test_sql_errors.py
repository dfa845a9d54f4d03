"""A mistake in a query is shown at the word that is wrong, also where SQLite tells no offset."""

import pytest

from litejoin.plan.sql import output_columns, topics_in
from litejoin.plan.sql_errors import BadQuery


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT key FROM orders\nGROUP BY 7", "GROUP"),
        ("SELECT key FROM orders\nORDER BY 7", "ORDER"),
        ("SELECT key FROM orders HAVING 1", "HAVING"),
        ("SELECT key FROM orders UNION SELECT key, payload FROM users", "UNION"),
        ("SELECT key FROM orders LIMIT 1 UNION ALL SELECT key FROM users", "LIMIT"),
        ("SELECT o.key FROM orders o JOIN users u USING (kye)", "kye"),
        ("SELECT o.key FROM orders o ORDER BY o.key COLLATE foo", "foo"),
        ("WITH a AS (SELECT key FROM a) SELECT key FROM a", "a"),
        ("SELECT key, sum(1) OVER w FROM orders", "w"),
        ("SELECT key FROM orders WHERE raise(ABORT, 'x')", "raise"),
        ("SELECT (SELECT key, payload FROM users) FROM orders", "SELECT"),
        ("SELECT key FROM orders AS o INDEXED BY ix", "ix"),
        ("SELECT max(key) OVER (ROWS BETWEEN 1 FOLLOWING AND 1 PRECEDING) FROM orders", "ROWS"),
        ("SELECT key FROM orders o, users u", "key"),
        ("SELECT 'é𝄞', nmae FROM orders", "nmae"),
        ("SELECT key,\n abs(1, 2) FROM orders", "abs"),
        ("SELECT key FROM orders WHERE (key = 1", "1"),
        ("SELECT key FROM orders WHERE payload MATCH 'x'", "MATCH"),
        ("SELECT key FROM orders WHERE key = ?2", "?"),
        ("SELECT key FROM orders WHERE key = $name", "$"),
    ],
)
def test_the_finding_points_at_the_word(query: str, text: str) -> None:
    with pytest.raises(BadQuery) as error:
        output_columns(query, topics_in(query))
    finding = error.value.finding
    assert query[finding.start : finding.end] == text
    assert finding.message
