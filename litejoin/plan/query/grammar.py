"""What may stand in an expression that is followed, token by token, and the affinity it has.

Called by `resolve`. What is not known here makes the whole expression unknown: no equality is
followed through it, and nothing wrong can come of it.
"""

from litejoin.plan.query.functions import CLOCK, PURE
from litejoin.plan.query.words import split
from litejoin.plan.tokens import Token

_WORDS = frozenset(
    """NULL TRUE FALSE CASE WHEN THEN ELSE END AND OR NOT IS IN LIKE GLOB BETWEEN ESCAPE ISNULL
    NOTNULL DISTINCT FROM""".split()
)
_CLOCK_TEXTS = ("now", "localtime", "utc")


def is_word(tokens: list[Token], i: int) -> bool:
    """True for a word of SQL that is no name here."""
    token = tokens[i]
    if token.kind != "word":
        return False
    if i and tokens[i - 1].is_op("."):
        return False
    return token.text in _WORDS or in_cast(tokens, i)


def in_cast(tokens: list[Token], i: int) -> bool:
    """True for AS and the words of a type behind it, inside CAST."""
    depth = tokens[i].depth
    while i >= 0 and tokens[i].depth >= depth:
        if tokens[i].depth == depth and tokens[i].is_word("AS"):
            return True
        if tokens[i].depth == depth and not tokens[i].is_identifier:
            return False
        i -= 1
    return False


def opens(tokens: list[Token], i: int) -> bool:
    """True when a parenthesis opens at `i`."""
    return i < len(tokens) and tokens[i].is_op("(")


def is_pure(tokens: list[Token], i: int) -> bool:
    """True for a function whose value depends on its arguments only."""
    name, depth = tokens[i].text.lower(), tokens[i].depth
    if name == "cast":
        return True
    inside = []
    for token in tokens[i + 2 :]:
        if token.depth <= depth:
            break
        inside.append(token)
    if name in ("min", "max") and len(split(inside, ",")) < 2:
        return False
    if name in CLOCK:
        texts = {t.text[1:-1].strip().lower() for t in inside if t.kind == "string"}
        # Without a moment, or with another's clock or zone, the value changes by itself.
        if (
            not inside
            or texts & set(_CLOCK_TEXTS)
            or (name == "strftime" and "," not in [t.text for t in inside])
        ):
            return False
    return name in PURE


def reads_clock(tokens: list[Token]) -> bool:
    """True when a query's value changes as time passes."""
    for i, token in enumerate(tokens):
        if token.is_word("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP"):
            return True
        called = token.is_identifier and opens(tokens, i + 1)
        if called and token.text.lower() in CLOCK and not is_pure(tokens, i):
            return True
    return False


def acceptable(tokens: list[Token], i: int) -> bool:
    """Anything but a row value, a subquery or a parameter."""
    token = tokens[i]
    if token.is_op("?", ":", "@", "$", "*") and not (token.is_op("*") and i):
        return False
    if not token.is_op("("):
        return True
    if i + 1 < len(tokens) and tokens[i + 1].is_word("SELECT", "WITH", "VALUES"):
        return False
    before = tokens[i - 1] if i else None
    if before is not None and (before.is_word("IN") or before.is_identifier):
        return True
    inside = [t for t in tokens[i + 1 :]]
    for each in inside:
        if each.depth == token.depth and each.is_op(")"):
            return True
        if each.depth == token.depth + 1 and each.is_op(","):
            return False
    return True


def affinity_of(tokens: list[Token]) -> str | None:
    """The affinity that the outermost operation gives; None: the column's own.

    https://www.sqlite.org/datatype3.html#affinity_of_expressions
    """
    while len(tokens) > 2 and tokens[0].is_op("(") and tokens[-1].is_op(")"):
        if any(t.depth <= tokens[0].depth for t in tokens[1:-1]):
            break
        tokens = tokens[1:-1]
    if len(tokens) == 1 or (len(tokens) == 3 and tokens[1].is_op(".")):
        return None if tokens[0].is_identifier else ""
    depth = tokens[0].depth
    closed = [t for t in tokens[1:] if t.depth == depth and t.is_op(")")]
    if tokens[0].is_word("CAST") and tokens[1].is_op("(") and closed == [tokens[-1]]:
        after = (
            len(tokens)
            - 1
            - next(
                n
                for n, t in enumerate(reversed(tokens))
                if t.is_word("AS") and t.depth == depth + 1
            )
        )
        return _type_affinity(" ".join(t.text.upper() for t in tokens[after + 1 : -1]))
    return ""


def _type_affinity(name: str) -> str:
    """https://www.sqlite.org/datatype3.html#determination_of_column_affinity"""
    if "INT" in name:
        return "NUMERIC"
    if any(word in name for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    return "" if "BLOB" in name or not name else "NUMERIC"
