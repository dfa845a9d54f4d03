"""Which joins are incremental, through what, and why others are not."""

import pytest

from litejoin.plan.delta import IndexRegistry, JoinAnalysis, analyze_join
from litejoin.plan.sql import topics_in
from litejoin.plan.sql_errors import BadQuery

LINK = "json_extract(o.payload, '$.user_id') = u.key"


def analyse(query: str, key: str | None = None) -> JoinAnalysis:
    return analyze_join("j", query, key, topics_in(query), IndexRegistry())


def through(query: str, key: str | None = None) -> dict[str, str]:
    analysis = analyse(query, key)
    assert analysis.strategy == "delta", analysis.reasons
    return {r.alias: r.through for r in analysis.references}


def test_each_reference_says_how_its_changes_reach_the_result() -> None:
    assert through(f"SELECT o.key FROM orders o JOIN users u ON {LINK}") == {
        "o": "by key",
        "u": "through orders.$.user_id",
    }
    grouped = f"""SELECT json_extract(u.payload, '$.region') AS r, count(*) FROM orders o
        JOIN users u ON {LINK} GROUP BY r"""
    assert through(grouped) == {"o": "through users.key", "u": "by group $.region"}


@pytest.mark.parametrize(
    "condition",
    [
        "u.key = o.payload ->> '$.buyer' OR o.payload ->> '$.seller' = u.key",
        "u.key IN (o.payload ->> '$.buyer', o.payload ->> '$.seller')",
    ],
)
@pytest.mark.parametrize("word", ["JOIN", "LEFT JOIN"])
def test_one_of_several_equalities_leads_to_each_of_them(condition: str, word: str) -> None:
    query = f"SELECT o.key, u.key FROM orders o {word} users u ON {condition}"
    assert through(query) == {"o": "by key", "u": "through orders.$.buyer or orders.$.seller"}
    other = query.replace("o.key, u.key", "u.key, o.key").replace("LEFT JOIN", "JOIN")
    assert analyse(other).strategy == "full"


@pytest.mark.parametrize(
    "condition",
    [
        "u.key = o.payload ->> '$.buyer' OR u.payload ->> '$.a' = o.payload ->> '$.seller'",
        "u.payload ->> '$.a' IN (o.key, o.payload ->> '$.seller')",
        "u.key = o.payload ->> '$.buyer' OR u.key = 'all'",
        "u.key = o.payload ->> '$.buyer' OR u.key <> o.payload ->> '$.seller'",
        "u.key = o.payload ->> '$.buyer' COLLATE NOCASE OR u.key = o.payload ->> '$.seller'",
        "u.key NOT IN (o.payload ->> '$.buyer', o.payload ->> '$.seller')",
    ],
)
def test_not_if_one_of_them_leads_elsewhere_or_compares_in_another_way(condition: str) -> None:
    analysis = analyse(f"SELECT o.key FROM orders o JOIN users u ON {condition}")
    assert analysis.reasons[0][0] == "no equality connects u to the key"


def test_the_key_may_be_any_output_column() -> None:
    query = f"SELECT u.key AS user, o.key AS id FROM orders o JOIN users u ON {LINK}"
    assert analyse(query, "ID").key_index == 1
    with pytest.raises(BadQuery, match='key_column "nope" is not in the output') as error:
        analyse(query, "nope")
    assert error.value.finding.hint == "the query returns user, id"


def test_joins_share_the_index_of_one_expression() -> None:
    registry = IndexRegistry()
    for name in ("a", "b"):
        query = f"SELECT o.key FROM orders o JOIN users u ON {LINK}"
        analyze_join(name, query, None, ["orders", "users"], registry)
    assert registry.definitions() == {
        "orders": [("CAST(json_extract(payload, '$.user_id') AS TEXT)", True, "")]
    }
    assert registry.used_by == {("orders", "lj:1"): ["a", "b"]}


def test_a_join_that_ends_in_full_leaves_no_index_behind() -> None:
    registry = IndexRegistry()
    query = f"SELECT o.key FROM orders o JOIN users u ON {LINK} JOIN products p"
    analysis = analyze_join("j", query, None, ["orders", "users", "products"], registry)
    assert analysis.strategy == "full"
    assert registry.definitions() == {}


@pytest.mark.parametrize(
    ("query", "reason", "at"),
    [
        ("SELECT key FROM orders ORDER BY 1 LIMIT 5", "LIMIT without a key", "LIMIT"),
        ("SELECT u.key FROM orders o LEFT JOIN users u ON " + LINK, "optional side", "u.key"),
        ("SELECT o.key || u.key FROM orders o JOIN users u ON " + LINK, "several tables", "o.key"),
        ("SELECT 1 AS one FROM orders", "made of none", "1"),
        ("SELECT key, count(*) FROM orders", "without GROUP BY", "count"),
        ("SELECT key, count(*) FROM orders GROUP BY payload", "not one of the GROUP BY", "payload"),
        ("SELECT o.key FROM orders o, users u", "no equality connects u", "users"),
        ("SELECT o.key FROM orders o NATURAL JOIN users u", "NATURAL", "NATURAL"),
        ("SELECT * FROM orders o JOIN users u USING (key)", "over USING", "*"),
        ("SELECT key FROM orders WHERE EXISTS (SELECT 1 FROM users)", "connects users", "users"),
        ("SELECT key FROM orders WHERE key NOT IN (SELECT key FROM users)", "connects", "users"),
        ("SELECT u.key FROM users u JOIN (SELECT * FROM orders LIMIT 9) o ON " + LINK,
         "no equality connects orders", "orders"),
        ("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT key FROM orders",
         "recursive WITH", "c"),
        ("SELECT key, row_number() OVER w FROM orders WINDOW w AS ()", "WINDOW", "WINDOW"),
        ("SELECT key, rank() OVER (ORDER BY payload) FROM orders", "across keys", "key"),
        ("SELECT key, random() FROM orders", "differs on every call", "random"),
        ("SELECT key FROM orders ORDER BY (SELECT max(key) FROM users)", "unusual place", ""),
        ("SELECT date('now') AS d FROM orders", "more than topic columns", "date"),
    ],
)  # fmt: skip
def test_a_full_re_evaluation_has_a_reason_and_a_place(query: str, reason: str, at: str) -> None:
    analysis = analyse(query)
    assert analysis.strategy == "full"
    message, offset = analysis.reasons[0]
    assert reason in message
    assert query[offset:].startswith(at)


def test_an_equality_in_an_on_clause_leads_to_the_optional_side_only() -> None:
    # products are there with and without an order that owns them: their changes touch every user,
    # not only those that the LEFT JOIN's conditions lead to.
    query = """SELECT u.key FROM users u LEFT JOIN orders o ON o.payload ->> 'u' = u.key
        AND o.payload ->> 'p' = p.key CROSS JOIN products p"""
    with pytest.raises(BadQuery, match="ON clause references tables to its right"):
        analyse(query)
    query = """SELECT u.key FROM users u CROSS JOIN products p LEFT JOIN orders o
        ON o.payload ->> 'u' = u.key AND o.payload ->> 'p' = p.key"""
    assert analyse(query).reasons[0][0] == "no equality connects p to the key"


def test_the_users_own_conditions_stay_beside_the_hidden_columns() -> None:
    query = f"SELECT u.key FROM users u LEFT JOIN orders o ON {LINK} WHERE u.payload <> '' OR 1"
    assert analyse(query).refresh_sql == (
        f'SELECT u.key FROM users u LEFT JOIN orders o ON ({LINK}) AND "o"."lj:1" = u.key'
        ' WHERE (u.payload <> \'\' OR 1) AND "u".key IN (SELECT v FROM "lj:affected")'
    )


def test_no_delta_query_scans_a_topic() -> None:
    analysis = analyse(f"SELECT o.key FROM orders o LEFT JOIN users u ON {LINK}")
    plans = [analysis.refresh_plan, *(r.query_plan for r in analysis.references)]
    assert all(plans)
    assert not any(":scan" in line for plan in plans for line in plan)
