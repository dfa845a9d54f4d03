"""JSON paths that a query writes as literals: those that SQLite refuses, row after row, and those
that are names of members by accident.

Called by `compile_joins`. SQLite compiles a query with any text for a path, and says what is wrong
with it when the first row is evaluated. https://www.sqlite.org/json1.html#path_arguments
"""

from collections.abc import Iterator, Sequence

import apsw

from litejoin.plan.sql_errors import SqlFinding
from litejoin.plan.tokens import Token, tokenize
from litejoin.store.sqlite import open_memory

_ALL = ("json_extract", "json_remove")
"""Every argument but the first is a path."""
_PAIRS = ("json_set", "json_insert", "json_replace")
"""A path and a value by turns."""
_FIRST = ("json_type", "json_array_length", "json_each", "json_tree")
"""The second argument alone."""


def odd_paths(query: str) -> Iterator[SqlFinding]:
    """Findings of the kinds "bad-path" and "member-path", in the order of the query."""
    tokens = tokenize(query)
    connection = open_memory()
    try:
        for at, token in enumerate(tokens):
            if token.is_op("->", "->>"):
                finding = _after_arrow(connection, tokens[at + 1 : at + 2])
                found = [finding] if finding else []
            else:
                paths = _arguments(tokens, at)
                found = [bad for path in paths if (bad := _bad(connection, path))]
            yield from found
    finally:
        connection.close()


def _after_arrow(connection: apsw.Connection, tokens: Sequence[Token]) -> SqlFinding | None:
    """A text that does not begin with $ is the name of a member, whatever is in it."""
    if not tokens or tokens[0].kind != "string":
        return None
    text = tokens[0].string
    if text.startswith("$") or not text:
        return _bad(connection, tokens[0])
    if not text.startswith("."):
        return None
    message = f"{tokens[0].text} is the name of a member here, dot and all"
    return SqlFinding("member-path", message, tokens[0].start, tokens[0].end, _meant(text))


def _bad(connection: apsw.Connection, path: Token) -> SqlFinding | None:
    text = path.string
    try:
        connection.execute("SELECT json_extract('{}', ?1), json_extract('[]', ?1)", (text,))
    except apsw.SQLError:
        message = f"{path.text} is no JSON path: the query would fail for every row"
        return SqlFinding("bad-path", message, path.start, path.end, _meant(text))
    return None


def _meant(text: str) -> str:
    name = text.lstrip("$.")
    return f"a path begins with $: '$.{name}'" if name else "a path begins with $"


def _arguments(tokens: Sequence[Token], at: int) -> list[Token]:
    """The literals that a JSON function at this place takes for paths."""
    name = tokens[at].text.lower().replace("jsonb_", "json_")
    is_call = tokens[at].is_identifier and at + 1 < len(tokens) and tokens[at + 1].is_op("(")
    if not is_call or name not in _ALL + _PAIRS + _FIRST:
        return []
    depth, number, paths = tokens[at].depth + 1, 0, []
    for i in range(at + 2, len(tokens)):
        token = tokens[i]
        if token.depth < depth:
            break
        if token.depth == depth and token.is_op(","):
            number += 1
        elif token.depth == depth and token.kind == "string" and _is_alone(tokens, i):
            is_path = number > 0 if name in _ALL else number % 2 if name in _PAIRS else number == 1
            paths += [token] if is_path else []
    return paths


def _is_alone(tokens: Sequence[Token], at: int) -> bool:
    """The literal is a whole argument."""
    ends = at + 1 < len(tokens) and tokens[at + 1].is_op(",", ")")
    return ends and tokens[at - 1].is_op(",", "(")
