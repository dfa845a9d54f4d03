"""How to rewrite a query whose join is re-evaluated in full, for each reason there is.

Used by the compiler: the analysis says what stands in the way, this table what to write instead. A
test holds it against every reason that the analysis can give.
"""

_ADVICE = {
    "LIMIT without": "drop LIMIT and let the reader cut, or keep one result a key with GROUP BY and"
    " max() or min()",
    "window function": "partition every window by the key: OVER (PARTITION BY o.key ORDER BY ...)",
    "WINDOW clause": "write the window behind each OVER",
    "named window": "write the window behind each OVER",
    "recursive WITH": "write the steps out as joins, or leave the recursion to the reader",
    "VALUES": "write SELECT ... FROM a topic",
    "not a plain SELECT": "write SELECT ... FROM a topic",
    "table-valued function": "read topics, json_each() and json_tree() only",
    "an empty query": "write SELECT ... FROM a topic",
    "not closed": "close the parenthesis",
    "tables read": "use a WITH table fewer times, or make a join of its own of it",
    "unusual place": "read topics in FROM, in WITH or in a subquery of WHERE",
    "a subquery in ORDER BY": "select the value as a column and order by that",
    "from one table twice": "write the arms of the UNION over tables of their own",
    "a key map does not compile": "compare simpler expressions, such as o.payload ->> '$.user_id'",
    "differs on every call": "take the value from the message, or leave it to the reader",
    "without FROM": "read a topic: SELECT ... FROM orders",
    "parenthesised FROM": "take the parentheses out: FROM a JOIN b ON ... JOIN c ON ...",
    "with its schema": "write the topic's name alone: FROM orders",
    "NATURAL": "name the columns: a JOIN b ON a.key = b.key",
    "* over USING": "name the output columns",
    "INDEXED": "leave INDEXED BY out; the indexes are chosen by the plan",
    "FROM clause that is not": "write it as FROM a JOIN b ON a.key = b.payload ->> '$.a_id'",
    "is not a topic": "read topics, json_each() and json_tree() only",
    "made of several tables": "let one column of one topic be the key, such as o.key, and put the"
    " others beside it",
    "made of more than topic columns": "let a topic's key or a field of its payload be the key",
    "made of none": "let a topic's key or a field of its payload be the key; an aggregate needs"
    " GROUP BY a field that is the key",
    "optional side": "take the key from the left side, or write JOIN instead of LEFT JOIN",
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
