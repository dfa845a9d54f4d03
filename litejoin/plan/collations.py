"""The one comparison whose collation SQLite keeps to itself: `key IN (SELECT x COLLATE c ...)`.

Called by `sql`. Topics are virtual tables, and for a list SQLite tells those the collation of the
left side only: the key would be looked up by its bytes, and what is equal under c not be found.
"""

from collections.abc import Sequence
from itertools import takewhile

from litejoin.plan.sql_errors import BadQuery, SqlFinding
from litejoin.plan.tokens import Token, tokenize

_AFTER_COLUMNS = ("FROM", "WHERE", "GROUP", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT")


def refuse_hidden_collation(query: str) -> None:
    """Raises BadQuery where a selected value that a key is compared with has a COLLATE."""
    tokens = tokenize(query)
    for at, token in enumerate(tokens):
        if not token.is_word("IN") or not _ends_with_key(tokens[:at]):
            continue
        collate = _selected_collate(tokens, at + 1)
        if collate is not None:
            name = tokens[collate + 1].text if collate + 1 < len(tokens) else "c"
            message = f"COLLATE {name} in the list that a key is compared with has no effect"
            hint = f"write it on the left: key COLLATE {name} IN (SELECT ...)"
            start, end = tokens[collate].start, tokens[min(collate + 1, len(tokens) - 1)].end
            raise BadQuery(SqlFinding("hidden-collation", message, start, end, hint))


def _ends_with_key(left: Sequence[Token]) -> bool:
    """True for `key` and `o.key`, also with NOT, and for a row value that holds one."""
    if left and left[-1].is_word("NOT"):
        left = left[:-1]
    if not left:
        return False
    if not left[-1].is_op(")"):
        return _is_key(left[-1])
    inside = takewhile(lambda token: token.depth > left[-1].depth, reversed(left[:-1]))
    return any(_is_key(token) for token in inside)


def _is_key(token: Token) -> bool:
    return token.is_identifier and token.text.lower() == "key"


def _selected_collate(tokens: Sequence[Token], at: int) -> int | None:
    """The COLLATE in a result column of the subquery that opens at `at`; its FROM and WHERE do not
    count, they compare among themselves.
    """
    if at + 1 >= len(tokens) or not tokens[at].is_op("("):
        return None
    depth, selects = tokens[at].depth, False
    for i in range(at + 1, len(tokens)):
        token = tokens[i]
        if token.depth == depth:
            return None
        if token.depth == depth + 1:
            if token.is_word("SELECT", "VALUES"):
                selects = True
            elif token.is_word(*_AFTER_COLUMNS):
                selects = False
        if selects and token.is_word("COLLATE"):
            return i
    return None
