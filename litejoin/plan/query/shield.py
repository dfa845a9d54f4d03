"""Keeps SQLite from finding rows by `key IN (...)` where the comparison is one of numbers.

Called by `delta` before anything else looks at a query. `u.key IN (SELECT CAST(x AS INTEGER) ...)`
compares numbers, so that the key '7.0' is in a list with 7. A topic's table is asked for the key 7
and SQLite then takes its text for the comparison (of an equality it does not). `+u.key` has the
same meaning there, and the table is not asked.
"""

from litejoin.plan.query.words import split
from litejoin.plan.tokens import Token, tokenize

_NUMERIC = ("timestamp", "timestamp_ms")
_OTHER_TYPES = ("CHAR", "CLOB", "TEXT", "BLOB")


def shielded(query: str) -> tuple[str, list[int]]:
    """The query with those signs, and where they stand in the result."""
    tokens = tokenize(query)
    out: list[str] = []
    marks: list[int] = []
    at = 0
    for i, token in enumerate(tokens):
        if token.is_word("IN") and _has_numbers(tokens, i + 1):
            place = _key_before(tokens, i)
            if place is not None:
                out.append(query[at:place] + "+")
                marks.append(place + len(marks))
                at = place
    return "".join(out) + query[at:], marks


def unshielded(offset: int, marks: list[int]) -> int:
    """The offset in the query as written."""
    return offset - sum(1 for mark in marks if mark < offset)


def _key_before(tokens: list[Token], at: int) -> int | None:
    """Where the column `key` before IN or NOT IN starts."""
    i = at - 1 - tokens[at - 1].is_word("NOT")
    if i < 0 or not tokens[i].is_identifier or tokens[i].text.lower() != "key":
        return None
    qualified = i > 1 and tokens[i - 1].is_op(".")
    return tokens[i - 2 if qualified else i].start


def _has_numbers(tokens: list[Token], opening: int) -> bool:
    """True when the query behind IN selects a column of numeric affinity."""
    if opening + 1 >= len(tokens) or not tokens[opening + 1].is_word("SELECT"):
        return False
    depth = tokens[opening + 1].depth
    selected = []
    for token in tokens[opening + 2 :]:
        if token.depth < depth or (token.depth == depth and token.is_word("FROM")):
            break
        if not token.is_word("DISTINCT", "ALL"):
            selected.append(token)
    item = next(iter(split(selected, ",")), [])
    if item and item[-1].is_identifier and item[-1].text.lower() in _NUMERIC:
        return len(item) == 1 or (len(item) == 3 and item[1].is_op("."))
    return _is_cast(item)


def _is_cast(item: list[Token]) -> bool:
    if len(item) < 5 or not item[0].is_word("CAST") or not item[-1].is_op(")"):
        return False
    depth = item[1].depth
    if any(t.depth <= depth for t in item[2:-1]):
        return False
    types = [n for n, t in enumerate(item) if t.is_word("AS") and t.depth == depth + 1]
    name = " ".join(t.text.upper() for t in item[types[-1] + 1 : -1]) if types else ""
    return "INT" in name or not any(other in name for other in _OTHER_TYPES)
