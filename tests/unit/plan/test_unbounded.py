"""Topics that no condition ties together are found, and nothing else is taken for them."""

import pytest

from litejoin.plan.unbounded import loose_table


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("SELECT o.key FROM orders o, users u", "u"),
        ("SELECT o.key FROM orders o JOIN users u", "u"),
        ("SELECT o.key FROM orders o CROSS JOIN users", "users"),
        ("SELECT o.key FROM orders o JOIN users u ON u.op = 'created'", "u"),
        ("SELECT o.key FROM orders o JOIN users u ON u.key = o.key, items i WHERE o.key > 1", "i"),
        ("SELECT o.key FROM orders o, users u, items i WHERE u.key = i.key", "u"),
        ('SELECT o.key FROM "shop.orders" AS o, users AS u WHERE o.key = 1 OR u.key = 2', None),
        ("SELECT o.key FROM orders o, users u WHERE o.op > 1 AND u.op > 2", "u"),
    ],
)
def test_a_loose_table_is_found(query: str, name: str | None) -> None:
    found = loose_table(query)
    assert (found.name if found else None) == name
    if found:
        assert query[found.start : found.end] in ("users", "items")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT key FROM orders",
        "SELECT o.key FROM orders o JOIN users u ON o.key = u.key",
        "SELECT o.key FROM orders o JOIN users u ON o.payload ->> '$.u' BETWEEN u.key AND 9",
        "SELECT o.key FROM orders o, users u WHERE abs(o.key) < abs(u.key)",
        "SELECT o.key FROM orders o, json_each(o.payload) e",
        "SELECT o.key FROM orders o, json_each(o.payload, '$.items') AS e, users u"
        " WHERE e.value = u.key",
        "SELECT o.key FROM orders o JOIN limits l ON l.key = 'eu'",
        "SELECT o.key FROM orders o, limits l WHERE 'eu' = l.key",
        "SELECT o.key FROM orders o, limits l WHERE l.key IN ('eu', 'us')",
        "SELECT o.key FROM orders o NATURAL JOIN users u",
        "SELECT o.key FROM orders o JOIN users u USING (key)",
        "SELECT o.key FROM orders o, (SELECT max(key) AS key FROM users) u",
        "WITH u AS (SELECT key FROM users) SELECT o.key FROM orders o, u",
        "SELECT a.key FROM a UNION SELECT b.key FROM b",
        "VALUES (1)",
        "SELECT FROM",
        "SELECT key FROM (orders), users",
        "",
    ],
)
def test_what_is_tied_single_or_not_understood_is_left_alone(query: str) -> None:
    assert loose_table(query) is None
