"""Words of SQL that are not names, and how conditions fall into terms.

Called by `parse`, `sources` and `links`.
"""

from collections.abc import Sequence

from litejoin.plan.query.nodes import Span
from litejoin.plan.tokens import Token

CLAUSES = ("FROM", "WHERE", "GROUP", "HAVING")

EXPRESSION_WORDS = frozenset(
    """NULL TRUE FALSE CASE WHEN THEN ELSE END AND OR NOT IS IN LIKE GLOB REGEXP MATCH BETWEEN
    ESCAPE DISTINCT ISNULL NOTNULL AS CAST COLLATE EXISTS FILTER WHERE ASC DESC ORDER BY NULLS
    FIRST LAST FROM OVER PARTITION ROWS RANGE GROUPS""".split()
)

_NOT_A_PLAIN_EQUALITY = frozenset(
    "IS IN LIKE GLOB REGEXP MATCH BETWEEN NOT OR COLLATE ISNULL NOTNULL ESCAPE AND EXISTS".split()
)


def split(tokens: Sequence[Token], op: str) -> list[list[Token]]:
    """The parts between operators of the outermost level."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.depth == tokens[0].depth and token.is_op(op):
            parts.append([])
        else:
            parts[-1].append(token)
    return [p for p in parts if p]


def conjuncts(tokens: Sequence[Token]) -> list[list[Token]]:
    """The terms of a top-level AND; a term in parentheses is opened. An OR makes it one term."""
    tokens = list(tokens)
    if not tokens:
        return []
    depth = tokens[0].depth
    if (
        len(tokens) > 2
        and tokens[0].is_op("(")
        and tokens[-1].is_op(")")
        and all(t.depth > depth for t in tokens[1:-1])
        and not tokens[1].is_word("SELECT", "WITH", "VALUES")
    ):
        return conjuncts(tokens[1:-1])
    parts: list[list[Token]] = [[]]
    betweens = cases = 0
    for token in tokens:
        if token.depth == depth:
            if token.is_word("OR") and not cases:
                return [tokens]
            cases += token.is_word("CASE") - token.is_word("END")
            betweens += token.is_word("BETWEEN") and not cases
            if token.is_word("AND") and not cases:
                if betweens:
                    betweens -= 1
                else:
                    parts.append([])
                    continue
        parts[-1].append(token)
    parts = [p for p in parts if p]
    return parts if len(parts) == 1 else [c for part in parts for c in conjuncts(part)]


def equality_sides(tokens: Sequence[Token]) -> tuple[Span, Span] | None:
    """Both sides of a term that is `left = right` and nothing more."""
    depth = tokens[0].depth
    level = [(i, t) for i, t in enumerate(tokens) if t.depth == depth]
    equals, cases = [], 0
    for i, token in level:
        cases += token.is_word("CASE") - token.is_word("END")
        if cases or token.is_word("END"):
            continue
        if token.is_op("<", ">", "<=", ">=", "<>", "!="):
            return None
        if token.kind == "word" and token.text in _NOT_A_PLAIN_EQUALITY:
            return None
        if token.is_op("=", "=="):
            equals.append(i)
    if len(equals) != 1 or equals[0] in (0, len(tokens) - 1):
        return None
    at = equals[0]
    return Span(tokens[0].start, tokens[at - 1].end), Span(tokens[at + 1].start, tokens[-1].end)


def alternative_sides(tokens: Sequence[Token]) -> tuple[Span, list[Span]] | None:
    """`x` and its partners where a term is `x = a OR x = b`, or `x IN (a, b)`, and nothing more."""
    if any(token.is_word("COLLATE") for token in tokens):
        return None
    depth = tokens[0].depth
    parts: list[list[Token]] = [[]]
    cases = 0
    for token in tokens:
        if token.depth == depth:
            cases += token.is_word("CASE") - token.is_word("END")
            if token.is_word("OR") and not cases:
                parts.append([])
                continue
        parts[-1].append(token)
    return _listed(tokens) if len(parts) == 1 else _either(tokens, parts)


def _either(
    tokens: Sequence[Token], parts: Sequence[Sequence[Token]]
) -> tuple[Span, list[Span]] | None:
    sides = []
    for part in parts:
        terms = conjuncts(part)
        both = equality_sides(terms[0]) if len(terms) == 1 else None
        if both is None:
            return None
        sides.append(both)
    for common in sides[0]:
        text = _normal(tokens, common)
        partners = []
        for left, right in sides:
            if _normal(tokens, left) == text:
                partners.append(right)
            elif _normal(tokens, right) == text:
                partners.append(left)
        if len(partners) == len(sides):
            return common, partners
    return None


def _normal(tokens: Sequence[Token], span: Span) -> list[str]:
    inside = [token for token in tokens if span.holds(token)]
    return [token.text.lower() if token.is_identifier else token.text for token in inside]


def _listed(tokens: Sequence[Token]) -> tuple[Span, list[Span]] | None:
    depth = tokens[0].depth
    level = [(i, token) for i, token in enumerate(tokens) if token.depth == depth]
    found = [i for i, token in level if token.is_word("IN")]
    odd = [
        token
        for _, token in level
        if token.is_op("=", "==", "<", ">", "<=", ">=", "<>", "!=")
        or (token.kind == "word" and token.text in _NOT_A_PLAIN_EQUALITY - {"IN"})
    ]
    if len(found) != 1 or odd or not found[0]:
        return None
    before, behind = tokens[: found[0]], tokens[found[0] + 1 :]
    if len(behind) < 3 or not behind[0].is_op("(") or not behind[-1].is_op(")"):
        return None
    inside = behind[1:-1]
    if inside[0].is_word("SELECT", "WITH", "VALUES") or any(t.depth <= depth for t in inside):
        return None
    items = split(inside, ",")
    return Span(before[0].start, before[-1].end), [Span(i[0].start, i[-1].end) for i in items]
