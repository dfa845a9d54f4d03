"""The query shapes of the differential tests: name -> SQL over orders, users and products."""

UID = "json_extract(o.payload, '$.user_id')"

QUERIES = {
    "projection": "SELECT key, payload ->> '$.amount' AS amount, timestamp FROM orders",
    "star": "SELECT * FROM users",
    "filter": "SELECT key, payload FROM orders WHERE json_extract(payload, '$.amount') > 50",
    "literal": "SELECT key, payload FROM orders WHERE 'u1' = payload ->> 'user_id'",
    "literal-number": f"""SELECT o.key AS k, u.key AS u FROM orders o LEFT JOIN users u
        ON {UID} = u.key AND u.key = 'u1' WHERE json_extract(o.payload, '$.size') = 5""",
    "inner": f"""SELECT o.key AS k, {UID} AS u, json_extract(u.payload, '$.name') AS name
        FROM orders o INNER JOIN users u ON {UID} = u.key""",
    "comma": f"""SELECT o.key AS k, u.payload ->> 'name' AS name FROM orders o, users u
        WHERE {UID} = u.key""",
    "left": f"""SELECT o.key AS k, u.key AS u, u.payload ->> '$.name' AS name FROM orders o
        LEFT JOIN users u ON {UID} = u.key AND json_extract(u.payload, '$.region') <> 'r1'""",
    "anti": f"""SELECT o.key AS k FROM orders o LEFT JOIN users u ON {UID} = u.key
        WHERE u.key IS NULL""",
    "three": f"""SELECT o.key AS k, u.payload ->> '$.name' AS n, p.payload ->> '$.title' AS t
        FROM orders o JOIN users u ON {UID} = u.key
        LEFT JOIN products p ON p.key = o.payload ->> '$.product_id'""",
    "user-side": f"SELECT u.key AS k, o.key AS o FROM users u JOIN orders o ON {UID} = u.key",
    "raw": """SELECT o.key AS k, p.key AS p FROM orders o JOIN products p
        ON json_extract(o.payload, '$.size') = json_extract(p.payload, '$.size')""",
    "group": f"""SELECT json_extract(u.payload, '$.region') AS region, COUNT(*) AS n,
        SUM(json_extract(o.payload, '$.amount')) AS total
        FROM orders o JOIN users u ON {UID} = u.key GROUP BY region""",
    "group-left": f"""SELECT u.key AS k, COUNT(o.key) AS n,
        MAX(json_extract(o.payload, '$.amount')) AS top
        FROM users u LEFT JOIN orders o ON {UID} = u.key GROUP BY 1 HAVING n <> 1""",
    "group-one": """SELECT json_extract(payload, '$.size') AS size, COUNT(*) AS n
        FROM orders GROUP BY size""",
    "group-two": """SELECT payload ->> '$.user_id' AS u, payload ->> '$.size' AS s, COUNT(*)
        FROM orders GROUP BY u, s""",
    "self": """SELECT a.key AS k, b.key AS twin FROM orders a JOIN orders b
        ON a.payload ->> '$.user_id' = b.payload ->> '$.user_id' AND a.key < b.key""",
    "tags": "SELECT o.key, t.value AS tag FROM orders o, json_each(o.payload, '$.tags') t",
    "ordered": f"""SELECT {UID} AS u, o.key AS k FROM orders o WHERE {UID} IS NOT NULL
        ORDER BY o.key DESC""",
    "outer-condition": f"""SELECT u.key AS k, p.key AS p, o.key AS o FROM users u
        JOIN products p ON p.payload ->> '$.owner' = u.key
        LEFT JOIN orders o ON {UID} = u.key AND o.payload ->> '$.product_id' = p.key""",
    "distinct": f"SELECT DISTINCT {UID} AS u FROM orders o",
    "union": "SELECT key, 'o' AS t FROM orders UNION ALL SELECT key, 'u' FROM users",
    "except": "SELECT key FROM users EXCEPT SELECT payload ->> '$.owner' FROM products",
    "exists": """SELECT key FROM users u WHERE EXISTS
        (SELECT 1 FROM orders o WHERE json_extract(o.payload, '$.user_id') = u.key)""",
    "not-exists": f"""SELECT u.key, u.payload ->> '$.name' AS n FROM users u WHERE NOT EXISTS
        (SELECT 1 FROM orders o JOIN products p ON p.key = o.payload ->> '$.product_id'
         WHERE {UID} = u.key AND p.payload ->> '$.owner' = u.key)""",
    "in": """SELECT key FROM users WHERE key IN
        (SELECT payload ->> '$.owner' FROM products WHERE payload ->> '$.title' = 't')""",
    "scalar": f"""SELECT u.key AS k, (SELECT max(o.payload ->> '$.amount') FROM orders o
        WHERE {UID} = u.key) AS top, (SELECT count(*) FROM products p
        WHERE p.payload ->> '$.owner' = u.key) AS owned FROM users u""",
    "cte": """WITH big AS (SELECT * FROM orders WHERE payload ->> '$.amount' > 50)
        SELECT key FROM big""",
    "cte-group": """WITH totals(uid, n) AS (SELECT CAST(payload ->> '$.user_id' AS TEXT), count(*)
        FROM orders GROUP BY 1) SELECT u.key AS k, t.n FROM users u
        LEFT JOIN totals t ON t.uid = u.key""",
    "derived": """SELECT d.k, d.u, u.payload ->> '$.region' AS r FROM
        (SELECT key AS k, payload ->> '$.user_id' AS u FROM orders) d
        JOIN users u ON u.key = d.u""",
    "coalesce": """SELECT o.key AS k, u.key AS u FROM orders o
        JOIN users u ON coalesce(o.payload ->> '$.user_id', 'u1') = u.key""",
    "cast": """SELECT o.key AS k, u.key AS u FROM orders o
        JOIN users u ON CAST(o.payload ->> '$.user_id' AS INTEGER) = u.key""",
    "using": "SELECT u.key AS k, p.payload AS p FROM users u LEFT JOIN products p USING (key)",
    "right": f"""SELECT u.key AS k, o.key AS o FROM orders o RIGHT JOIN users u
        ON {UID} = u.key AND o.payload ->> '$.amount' > 1""",
    "full-keyed": """SELECT coalesce(p.key, u.key) AS k, p.payload AS p, u.payload AS u
        FROM products p FULL JOIN users u ON p.key = u.key""",
    "by-tag": """SELECT t.value AS tag, count(*) AS n FROM orders o,
        json_each(o.payload, '$.tags') t GROUP BY t.value""",
    "tag-join": """SELECT p.key AS k, o.key AS o FROM orders o, json_each(o.payload, '$.tags') t
        JOIN products p ON p.payload ->> '$.title' = t.value""",
    "partition": f"""SELECT {UID} AS u, o.key AS k,
        row_number() OVER (PARTITION BY {UID} ORDER BY o.key) AS n FROM orders o""",
    "limit": "SELECT key, payload ->> '$.amount' AS a FROM orders ORDER BY a DESC, key LIMIT 3",
    "window-function": "SELECT key, row_number() OVER (ORDER BY key) AS n FROM orders",
    "total": "SELECT 'all' AS k, COUNT(*) AS n FROM orders",
    "full-join": f"""SELECT coalesce(o.key, u.key) AS k FROM orders o
        FULL JOIN users u ON {UID} = u.key""",
}

FULL = {"limit", "window-function", "total", "full-join"}
"""Those that can only be re-evaluated as a whole."""
