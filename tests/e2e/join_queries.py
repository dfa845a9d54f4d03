"""The queries that the join tests run, each with what is hard about it.

Every query reads the topics of `History`; the result key is the first column unless said otherwise.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """One join. `ordered`: the query's ORDER BY decides the order of the rows of a key."""

    sql: str
    key_column: str | None = None
    ordered: bool = False

    def join(self) -> dict[str, str]:
        """The fields of a join in a config."""
        return {"query": self.sql} | ({"key_column": self.key_column} if self.key_column else {})


INCREMENTAL = {
    "passthrough": Query("SELECT key, payload FROM orders"),
    "inner": Query(
        "SELECT o.key AS order_id, json_extract(o.payload, '$.amount') AS amount, u.payload ->>"
        " '$.name' AS name"
        " FROM orders o INNER JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
    ),
    "inner-arrow": Query(
        "SELECT o.key, u.key AS user FROM users u JOIN orders o ON u.key = o.payload ->>"
        " '$.user_id'"
    ),
    "inner-comma": Query(
        "SELECT o.key, u.key AS user FROM orders o, users u WHERE json_extract(o.payload,"
        " '$.user_id') = u.key"
    ),
    "inner-cast": Query(
        "SELECT o.key, u.key AS user FROM orders o"
        " JOIN users u ON CAST(json_extract(o.payload, '$.user_id') AS TEXT) = u.key"
    ),
    "left": Query(
        "SELECT o.key AS order_id, u.key AS user, json_extract(u.payload, '$.name') AS name"
        " FROM orders o LEFT JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
    ),
    "left-anti": Query(
        "SELECT o.key FROM orders o LEFT JOIN users u ON json_extract(o.payload, '$.user_id') ="
        " u.key"
        " WHERE u.key IS NULL"
    ),
    "left-from-users": Query(
        "SELECT u.key, o.key AS order_id FROM users u LEFT JOIN orders o"
        " ON json_extract(o.payload, '$.user_id') = u.key AND json_extract(o.payload, '$.amount')"
        " > 5"
    ),
    "full-outer": Query(
        "SELECT COALESCE(o.key, 'user ' || u.key) AS k, o.key AS o, u.key AS u"
        " FROM orders o FULL JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
    ),
    "where": Query(
        "SELECT o.key, u.payload ->> '$.region' AS region FROM orders o JOIN users u"
        " ON json_extract(o.payload, '$.user_id') = u.key"
        " WHERE json_extract(o.payload, '$.amount') > 1 AND u.payload ->> '$.region' <> 'süd'"
    ),
    "three-way": Query(
        "SELECT o.key AS order_id, u.payload ->> '$.name' AS customer, p.payload ->> '$.title' AS"
        " product"
        " FROM orders o INNER JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
        " INNER JOIN products p ON json_extract(o.payload, '$.product_id') = p.key"
    ),
    "three-way-left": Query(
        "SELECT o.key, u.key AS u, p.key AS p FROM orders o"
        " LEFT JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
        " LEFT JOIN products p ON json_extract(o.payload, '$.product_id') = p.key"
    ),
    "group-by": Query(
        "SELECT json_extract(u.payload, '$.region') AS region, COUNT(*) AS orders,"
        " SUM(json_extract(o.payload, '$.amount')) AS revenue, AVG(json_extract(o.payload,"
        " '$.amount')) AS mean,"
        " MIN(o.key) AS first, MAX(json_extract(o.payload, '$.amount')) AS most"
        " FROM orders o JOIN users u ON json_extract(o.payload, '$.user_id') = u.key GROUP BY"
        " region"
    ),
    "group-by-having": Query(
        "SELECT json_extract(payload, '$.user_id') AS user, COUNT(*) AS n FROM orders"
        " GROUP BY json_extract(payload, '$.user_id') HAVING COUNT(*) > 1"
    ),
    "group-by-two": Query(
        "SELECT payload ->> '$.status' AS status, payload ->> '$.user_id' AS user, COUNT(*) AS n"
        " FROM orders GROUP BY 1, 2"
    ),
    "group-by-lower": Query(
        "SELECT lower(payload ->> '$.region') AS region, COUNT(*) AS n FROM users GROUP BY 1"
    ),
    "count-distinct": Query(
        "SELECT u.key, COUNT(DISTINCT o.payload ->> '$.status') AS states, COUNT(o.key) AS n FROM"
        " users u"
        " LEFT JOIN orders o ON json_extract(o.payload, '$.user_id') = u.key GROUP BY u.key"
    ),
    "many-rows-per-key": Query(
        "SELECT u.key AS user, o.key AS order_id, o.payload ->> '$.amount' AS amount"
        " FROM users u JOIN orders o ON json_extract(o.payload, '$.user_id') = u.key"
    ),
    "ordered-rows": Query(
        "SELECT u.key AS user, o.key AS order_id FROM users u JOIN orders o"
        " ON json_extract(o.payload, '$.user_id') = u.key ORDER BY o.payload ->> '$.amount' DESC,"
        " o.key DESC",
        ordered=True,
    ),
    "key-from-payload": Query(
        "SELECT json_extract(payload, '$.status') AS status, key AS order_id FROM orders"
    ),
    "key-of-any-type": Query("SELECT json_extract(payload, '$.user_id') AS k, key FROM orders"),
    "key-column": Query(
        "SELECT json_extract(payload, '$.amount') AS amount, key AS id FROM orders", key_column="id"
    ),
    "null-key": Query(
        "SELECT u.key AS user, o.key AS order_id FROM orders o"
        " LEFT JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
    ),
    "json-each": Query(
        "SELECT o.key, t.value AS tag FROM orders o, json_each(o.payload, '$.tags') t"
    ),
    "json-each-count": Query(
        "SELECT t.value AS tag, COUNT(*) AS n FROM orders o, json_each(o.payload, '$.tags') t"
        " GROUP BY t.value"
    ),
    "self-join": Query(
        "SELECT a.key, b.key AS other FROM orders a JOIN orders b"
        " ON json_extract(a.payload, '$.user_id') = json_extract(b.payload, '$.user_id') AND"
        " a.key <> b.key"
    ),
    "path-to-path": Query(
        "SELECT o.key, p.key AS p FROM orders o"
        " JOIN products p ON o.payload ->> '$.amount' = p.payload ->> '$.price'"
    ),
    "correlated-count": Query(
        "SELECT u.key, (SELECT COUNT(*) FROM orders o WHERE json_extract(o.payload, '$.user_id')"
        " = u.key) AS n"
        " FROM users u"
    ),
    "exists": Query(
        "SELECT u.key, u.payload ->> '$.name' AS name FROM users u WHERE EXISTS"
        " (SELECT 1 FROM orders o WHERE json_extract(o.payload, '$.user_id') = u.key)"
    ),
    "not-exists": Query(
        "SELECT u.key FROM users u WHERE NOT EXISTS"
        " (SELECT 1 FROM orders o WHERE json_extract(o.payload, '$.user_id') = u.key)"
    ),
    "in-subquery": Query(
        "SELECT key FROM users WHERE key IN (SELECT payload ->> '$.user_id' FROM orders)"
    ),
    "range-join": Query(
        "SELECT o.key, p.key AS cheaper FROM orders o JOIN products p"
        " ON json_extract(p.payload, '$.price') < json_extract(o.payload, '$.amount')"
    ),
    "case-and-like": Query(
        "SELECT o.key, CASE WHEN u.payload ->> '$.name' LIKE 'a%' THEN 'A' WHEN u.key IS NULL"
        " THEN 'none'"
        " ELSE 'other' END AS class FROM orders o LEFT JOIN users u ON o.payload ->> '$.user_id'"
        " = u.key"
    ),
    "cte": Query(
        "WITH open AS (SELECT key, payload ->> '$.user_id' AS uid FROM orders"
        " WHERE payload ->> '$.status' = 'open')"
        " SELECT open.key, u.payload ->> '$.name' AS name FROM open JOIN users u ON open.uid ="
        " u.key"
    ),
    "subquery-in-from": Query(
        "SELECT u.key, t.total FROM users u JOIN (SELECT"
        " CAST(payload ->> '$.user_id' AS TEXT) AS uid,"
        " SUM(payload ->> '$.amount') AS total FROM orders GROUP BY 1) t ON t.uid = u.key"
    ),
}

RE_EVALUATED = {
    "limit": Query(
        "SELECT key, json_extract(payload, '$.amount') AS amount FROM orders ORDER BY amount"
        " DESC, key LIMIT 3"
    ),
    "limit-offset": Query("SELECT key FROM orders ORDER BY key DESC LIMIT 2 OFFSET 1"),
    "window-function": Query(
        "SELECT key, row_number() OVER (PARTITION BY payload ->> '$.user_id' ORDER BY key) AS n"
        " FROM orders"
    ),
    "running-total": Query(
        "SELECT key, SUM(payload ->> '$.amount') OVER (ORDER BY key) AS total FROM orders"
    ),
    "distinct": Query("SELECT DISTINCT payload ->> '$.status' AS status FROM orders"),
    "distinct-join": Query(
        "SELECT DISTINCT u.payload ->> '$.region' AS region, o.payload ->> '$.status' AS status"
        " FROM orders o JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
    ),
    "union": Query("SELECT key, 1 AS n FROM orders UNION SELECT key, 1 FROM users"),
    "union-all": Query(
        "SELECT key, payload ->> '$.name' AS v FROM users UNION ALL SELECT key, payload ->>"
        " '$.title' FROM products"
    ),
    "except": Query("SELECT key FROM users EXCEPT SELECT payload ->> '$.user_id' FROM orders"),
    "total": Query(
        "SELECT 'all' AS k, COUNT(*) AS n, SUM(payload ->> '$.amount') AS sum FROM orders"
    ),
    "uncorrelated": Query(
        "SELECT key FROM orders WHERE payload ->> '$.amount' > (SELECT AVG(payload ->>"
        " '$.amount') FROM orders)"
    ),
    "recursive": Query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3)"
        " SELECT i, (SELECT COUNT(*) FROM orders) AS c FROM n"
    ),
    "group-concat": Query(
        "SELECT payload ->> '$.status' AS s, group_concat(key, ',' ORDER BY key) AS ks FROM"
        " orders GROUP BY 1"
    ),
}

ALL = INCREMENTAL | RE_EVALUATED
