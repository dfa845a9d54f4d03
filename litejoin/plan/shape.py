"""The shape of a query: its clauses, topic references and equalities, each as a span of the text.

Called by `native`. Understands one plain SELECT; for anything else it says what it met and where,
and the join is evaluated in full. It never decides whether SQL is valid: SQLite does, before this
runs.
"""

from dataclasses import field

from litejoin.frozen import dataclass
from litejoin.plan.query.nodes import NotPlain as NotPlain
from litejoin.plan.query.nodes import Span as Span
from litejoin.plan.query.words import split
from litejoin.plan.tokens import Token, tokenize

TOPIC_COLUMNS = ("key", "payload", "timestamp", "timestamp_ms", "op", "changes")

_COMPOUND = {"UNION", "EXCEPT", "INTERSECT"}
_VOLATILE = {"RANDOM", "RANDOMBLOB", "CHANGES", "TOTAL_CHANGES", "LAST_INSERT_ROWID"}
_CLAUSES = ("FROM", "WHERE", "GROUP", "HAVING", "ORDER")
_EXPRESSION_WORDS = frozenset(
    [
        "NULL",
        "TRUE",
        "FALSE",
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "AND",
        "OR",
        "NOT",
        "IS",
        "IN",
        "LIKE",
        "GLOB",
        "REGEXP",
        "MATCH",
        "BETWEEN",
        "ESCAPE",
        "DISTINCT",
        "ISNULL",
        "NOTNULL",
        "AS",
        "CAST",
        "COLLATE",
        "EXISTS",
        "FILTER",
        "WHERE",
        "ASC",
        "DESC",
        "ORDER",
        "BY",
        "NULLS",
        "FIRST",
        "LAST",
        "FROM",
    ]
)
_NOT_A_PLAIN_EQUALITY = frozenset(
    [
        "IS",
        "IN",
        "LIKE",
        "GLOB",
        "REGEXP",
        "MATCH",
        "BETWEEN",
        "NOT",
        "OR",
        "COLLATE",
        "ISNULL",
        "NOTNULL",
        "ESCAPE",
        "AND",
    ]
)


@dataclass(frozen=True, slots=True)
class Output:
    """One item of the select list. A star has no alias."""

    span: Span
    alias: str | None
    star: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One item of the FROM clause: a table (a topic or join) or a table-valued function."""

    name: str
    alias: str
    kind: str
    """"table" or "function"."""
    outer: bool
    """True for the right side of a LEFT JOIN."""
    name_span: Span
    on: Span | None


@dataclass(frozen=True, slots=True)
class Equality:
    """`left = right` among the conditions that every result row fulfils; `source` if from an ON
    clause.
    """

    left: Span
    right: Span
    source: int | None


@dataclass(frozen=True, slots=True)
class Shape:
    """One plain SELECT, split. `from_end`: where a WHERE clause can be inserted."""

    text: str
    tokens: tuple[Token, ...]
    outputs: tuple[Output, ...]
    sources: tuple[Source, ...]
    from_end: int
    where: Span | None
    group_by: tuple[Span, ...]
    has_order: bool
    equalities: tuple[Equality, ...] = field(default=())
    having: Span | None = None

    def columns_in(self, span: Span) -> list[tuple[str | None, str]] | None:
        """(qualifier, column) pairs of an expression; None when it holds something not
        understood.
        """
        return _columns(self.within(span))

    def depends_on_now(self, span: Span) -> bool:
        """True when the value can change although the row does not: such a value cannot be
        indexed.
        """
        inside = self.within(span)
        for i, token in enumerate(inside):
            if token.kind == "string" and token.text[1:-1].strip().lower() in (
                "now",
                "localtime",
                "utc",
            ):
                return True
            if token.is_op("(") and i + 1 < len(inside) and inside[i + 1].is_op(")"):
                return True
        return False

    def normal(self, span: Span) -> tuple[str, ...]:
        """The expression's tokens, for comparing two expressions."""
        return tuple(t.text.lower() if t.is_identifier else t.text for t in self.within(span))

    def within(self, span: Span) -> list[Token]:
        """The tokens of a span."""
        return [t for t in self.tokens if t.start >= span.start and t.end <= span.end]


def parse_shape(query: str) -> Shape:
    """Split one plain SELECT. Raises NotPlain with the construct that forbids it."""
    tokens = tokenize(query)
    while tokens and tokens[-1].is_op(";"):
        tokens.pop()
    _refuse_constructs(tokens)
    clauses = _split_clauses(tokens)
    sources = _parse_from(clauses["FROM"], query)
    where = _span(clauses["WHERE"])
    shape = Shape(
        text=query,
        tokens=tuple(tokens),
        outputs=tuple(_parse_output(item) for item in split(clauses["SELECT"], ",")),
        sources=tuple(sources),
        from_end=clauses["FROM"][-1].end,
        where=where,
        group_by=tuple(Span(i[0].start, i[-1].end) for i in split(clauses["GROUP"], ",")),
        has_order=bool(clauses["ORDER"]),
        having=_span(clauses["HAVING"]),
    )
    equalities = [
        e for i, s in enumerate(sources) if s.on for e in _equalities(shape.within(s.on), i)
    ]
    equalities += _equalities(clauses["WHERE"], None)
    return Shape(
        **{name: getattr(shape, name) for name in Shape.__slots__ if name != "equalities"},
        equalities=tuple(equalities),
    )


def _refuse_constructs(tokens: list[Token]) -> None:
    if not tokens or not tokens[0].is_word("SELECT"):
        what = tokens[0].text if tokens else "an empty query"
        raise NotPlain(f"{what} before SELECT", tokens[0].start if tokens else 0)
    for i, token in enumerate(tokens):
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        called = following is not None and following.is_op("(")
        if token.kind != "word":
            continue
        if token.text in _COMPOUND:
            raise NotPlain(f"{token.text} combines several SELECTs", token.start)
        if i and token.text == "SELECT":
            raise NotPlain("a subquery", token.start)
        if i == 1 and token.text == "DISTINCT":
            raise NotPlain("DISTINCT over the whole result", token.start)
        if token.depth == 0 and token.text == "LIMIT":
            raise NotPlain("LIMIT without a key", token.start)
        if token.text == "OVER" and following is not None and (called or following.is_identifier):
            raise NotPlain("a window function across keys", token.start)
        if token.text in _VOLATILE and called:
            raise NotPlain(f"{token.text.lower()}() differs on every call", token.start)


def _split_clauses(tokens: list[Token]) -> dict[str, list[Token]]:
    clauses: dict[str, list[Token]] = {name: [] for name in ("SELECT", *_CLAUSES)}
    current, skip_by = "SELECT", False
    for token in tokens[1:]:
        if token.depth == 0 and token.is_word(*_CLAUSES):
            current, skip_by = token.text, token.text in ("GROUP", "ORDER")
        elif skip_by and token.is_word("BY"):
            skip_by = False
        else:
            clauses[current].append(token)
    if not clauses["FROM"]:
        raise NotPlain("a SELECT without FROM", tokens[0].start)
    if tokens[1].is_word("ALL"):
        clauses["SELECT"].pop(0)
    return clauses


def _span(tokens: list[Token]) -> Span | None:
    return Span(tokens[0].start, tokens[-1].end) if tokens else None


def _parse_output(item: list[Token]) -> Output:
    span = Span(item[0].start, item[-1].end)
    if item[-1].is_op("*") and (len(item) == 1 or (len(item) == 3 and item[1].is_op("."))):
        return Output(span, item[0].text if len(item) == 3 else None, star=True)
    if len(item) > 2 and item[-2].is_word("AS"):
        return Output(Span(item[0].start, item[-3].end), _name(item[-1]))
    last, before = item[-1], item[-2] if len(item) > 1 else None
    implicit = (
        before is not None and not before.is_op(".") and (before.is_op(")") or before.kind != "op")
    )
    if implicit and last.is_identifier and last.text not in _EXPRESSION_WORDS:
        return Output(Span(item[0].start, item[-2].end), _name(last))
    return Output(span, None)


def _name(token: Token) -> str:
    # Words are compared without case, so which case an alias keeps does not matter here.
    return token.text.lower() if token.kind == "word" else token.text


def _parse_from(tokens: list[Token], query: str) -> list[Source]:
    sources: list[Source] = []
    i, outer = 0, False
    while i < len(tokens):
        source, i = _parse_source(tokens, i, outer, query)
        sources.append(source)
        i, outer = _parse_join_operator(tokens, i)
    return sources


def _parse_source(tokens: list[Token], i: int, outer: bool, query: str) -> tuple[Source, int]:
    token = tokens[i]
    if not token.is_identifier:
        raise NotPlain("a parenthesised FROM", token.start)
    name = query[token.start : token.end] if token.kind == "word" else token.text
    span, kind = Span(token.start, token.end), "table"
    i += 1
    if i < len(tokens) and tokens[i].is_op("("):
        kind, depth = "function", tokens[i].depth
        while not (tokens[i].is_op(")") and tokens[i].depth == depth):
            i += 1
        i += 1
    if i < len(tokens) and tokens[i].is_op("."):
        raise NotPlain("a table named with its schema", token.start)
    alias = name
    if i < len(tokens) and tokens[i].is_word("AS"):
        i += 1
    if (
        i < len(tokens)
        and tokens[i].is_identifier
        and not tokens[i].is_word(
            "ON",
            "JOIN",
            "LEFT",
            "INNER",
            "CROSS",
            "NATURAL",
            "RIGHT",
            "FULL",
            "OUTER",
            "USING",
            "INDEXED",
            "NOT",
        )
    ):
        alias = (
            query[tokens[i].start : tokens[i].end] if tokens[i].kind == "word" else tokens[i].text
        )
        i += 1
    start = i
    if i < len(tokens) and tokens[i].is_word("ON"):
        i += 1
        while i < len(tokens) and not _starts_join(tokens[i]):
            i += 1
        on = Span(tokens[start + 1].start, tokens[i - 1].end)
        return Source(name, alias, kind, outer, span, on), i
    return Source(name, alias, kind, outer, span, None), i


def _starts_join(token: Token) -> bool:
    words = ("JOIN", "LEFT", "INNER", "CROSS", "NATURAL", "RIGHT", "FULL")
    return token.depth == 0 and (token.is_word(*words) or token.is_op(","))


def _parse_join_operator(tokens: list[Token], i: int) -> tuple[int, bool]:
    """The index after the operator, and whether what follows is the right side of a LEFT JOIN."""
    if i >= len(tokens):
        return i, False
    token = tokens[i]
    if token.is_op(","):
        return i + 1, False
    outer = token.is_word("LEFT")
    if token.is_word("RIGHT", "FULL", "NATURAL", "USING", "INDEXED", "NOT"):
        raise NotPlain(f"{token.text} JOIN" if token.text != "USING" else "USING", token.start)
    while i < len(tokens) and tokens[i].is_word("LEFT", "OUTER", "INNER", "CROSS"):
        i += 1
    if i >= len(tokens) or not tokens[i].is_word("JOIN"):
        raise NotPlain("a FROM clause that is not understood", token.start)
    return i + 1, outer


def _equalities(tokens: list[Token], source: int | None) -> list[Equality]:
    found: list[Equality] = []
    for part in _conjuncts(tokens):
        sides = _equality_sides(part)
        if sides:
            found.append(Equality(*sides, source))
    return found


def _conjuncts(tokens: list[Token]) -> list[list[Token]]:
    """The terms of a top-level AND; a term in parentheses is opened. An OR makes it one term."""
    if not tokens:
        return []
    depth = tokens[0].depth
    if (
        tokens[0].is_op("(")
        and tokens[-1].is_op(")")
        and all(t.depth > depth for t in tokens[1:-1])
    ):
        return _conjuncts(tokens[1:-1])
    parts: list[list[Token]] = [[]]
    betweens = cases = 0
    for token in tokens:
        if token.depth == depth:
            if token.is_word("OR"):
                return [tokens]
            cases += token.is_word("CASE") - token.is_word("END")
            betweens += token.is_word("BETWEEN")
            if token.is_word("AND") and not cases:
                if betweens:
                    betweens -= 1
                else:
                    parts.append([])
                    continue
        parts[-1].append(token)
    return [p for p in parts if p] if len(parts) == 1 else [c for p in parts for c in _conjuncts(p)]


def _equality_sides(tokens: list[Token]) -> tuple[Span, Span] | None:
    depth = tokens[0].depth
    level = [(i, t) for i, t in enumerate(tokens) if t.depth == depth]
    equals = [i for i, t in level if t.is_op("=", "==")]
    odd = any(
        t.is_op("<", ">", "<=", ">=", "<>", "!=")
        or (t.kind == "word" and t.text in _NOT_A_PLAIN_EQUALITY)
        for _, t in level
    )
    if len(equals) != 1 or odd or equals[0] in (0, len(tokens) - 1):
        return None
    at = equals[0]
    return Span(tokens[0].start, tokens[at - 1].end), Span(tokens[at + 1].start, tokens[-1].end)


def _columns(tokens: list[Token]) -> list[tuple[str | None, str]] | None:
    found: list[tuple[str | None, str]] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if not token.is_identifier:
            i += 1
            continue
        if i + 2 < len(tokens) and tokens[i + 1].is_op(".") and tokens[i + 2].is_identifier:
            found.append((token.text.lower(), tokens[i + 2].text.lower()))
            i += 3
            continue
        called = i + 1 < len(tokens) and tokens[i + 1].is_op("(")
        after_as = i > 0 and tokens[i - 1].is_word("AS", "COLLATE")
        plain_word = token.kind == "word" and token.text in _EXPRESSION_WORDS
        if token.is_word("COLLATE", "EXISTS") or token.text.startswith("CURRENT_"):
            return None
        if not called and not after_as and not plain_word:
            found.append((None, token.text.lower()))
        i += 1
    return found
