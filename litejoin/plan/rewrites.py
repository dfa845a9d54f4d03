"""How to rewrite a query whose join is re-evaluated in full, for each reason there is.

Used by the compiler: the analysis says what stands in the way, this table what to write instead. A
test holds it against every reason that the analysis can give.
"""

_ADVICE = {
    "a subquery": "join the topic by an equality instead: JOIN users u ON u.key = o.payload ->>"
    " '$.user_id'",
    "combines several SELECTs": "make one join of each SELECT; several joins can share a sink",
    "is re-evaluated as a whole": "write the query without WITH, as one SELECT from topics",
    "DISTINCT over": "GROUP BY the key column instead: a group is one result",
    "LIMIT without": "drop LIMIT and let the reader cut, or keep one result a key with GROUP BY and"
    " max() or min()",
    "OFFSET": "drop OFFSET and let the reader skip",
    "window function": "GROUP BY the key with max(), min(), count() or group_concat() instead",
    "differs on every call": "take the value from the message, or leave it to the reader",
    "without FROM": "read a topic: SELECT ... FROM orders",
    "parenthesised FROM": "take the parentheses out: FROM a JOIN b ON ... JOIN c ON ...",
    "with its schema": "write the topic's name alone: FROM orders",
    "RIGHT JOIN": "swap the two sides and write LEFT JOIN",
    "FULL JOIN": "make two joins: a LEFT JOIN b, and b LEFT JOIN a WHERE a.key IS NULL",
    "NATURAL": "name the columns: a JOIN b ON a.key = b.key",
    "USING": "name the columns: a JOIN b ON a.key = b.key",
    "INDEXED": "leave INDEXED BY out; the indexes are chosen by the plan",
    "NOT JOIN": "leave NOT INDEXED out; the indexes are chosen by the plan",
    "FROM clause that is not": "write it as FROM a JOIN b ON a.key = b.payload ->> '$.a_id'",
    "is not a topic": "read topics, json_each() and json_tree() only",
    "no topic by its plain name": "name a topic in FROM",
    "made of several tables": "let one column of one topic be the key, such as o.key, and put the"
    " others beside it",
    "made of more than topic columns": "let a topic's key or a field of its payload be the key",
    "made of none": "let a topic's key or a field of its payload be the key; an aggregate needs"
    " GROUP BY a field that is the key",
    "optional side": "take the key from the left side, or write JOIN instead of LEFT JOIN",
    "inside *": "name the key first: SELECT o.key, ...",
    "without GROUP BY": "GROUP BY a field, such as o.payload ->> '$.region', and make it the key",
    "not one of the GROUP BY": "make a GROUP BY term the key: put it first, or name it in"
    " key_column",
    "no equality connects": "join it by an equality on its key or a JSON field:"
    " ON u.key = o.payload ->> '$.user_id'",
    "would be scanned": "add an equality that leads to its rows: u.key = o.payload ->> '$.user_id'",
    "does not compile": "write the conditions with the aliases of their tables, such as o.key",
}
"""Part of the reason -> what to write instead; the first that is in the reason holds."""


def rewrite_of(reason: str) -> str:
    """What to write instead; empty when nothing is known."""
    return next((advice for part, advice in _ADVICE.items() if part in reason), "")
