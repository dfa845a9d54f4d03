"""The values that a native join needs of one row of a topic, and how each of them is computed.

Called by `native`. A value is an expression over one reference, kept as the query spells it; a
column, or a plain member path into the payload, is one that native code can read by itself.
"""

import re

from litejoin.plan.nodes_native import NativeCheck, NativeValue
from litejoin.plan.shape import TOPIC_COLUMNS, Shape, Span
from litejoin.plan.tokens import Token, quoted

MAX_PATH_STEPS = 8
"""Members below each other that the executor follows (native_path.h)."""

_ROW = (
    "SELECT CAST(?1 AS TEXT) AS key, CAST(?2 AS TEXT) AS payload, CAST(?3 AS INTEGER) AS timestamp,"
    " CAST(?4 AS INTEGER) AS timestamp_ms, CAST(?5 AS TEXT) AS op, CAST(?6 AS TEXT) AS changes"
)
"""A topic's row with the affinities of its columns."""

_PATH = re.compile(r"'\$((?:\.[A-Za-z_][A-Za-z0-9_]*)+)'")
_LABEL = re.compile(r"'([A-Za-z_][A-Za-z0-9_]*)'")
_COMPARES = ("<", ">", "<=", ">=", "<>", "!=")
_LOGIC = ("IS", "IN", "LIKE", "GLOB", "REGEXP", "MATCH", "BETWEEN", "NOT", "OR", "AND", "CASE",
          "COLLATE", "ISNULL", "NOTNULL", "ESCAPE")  # fmt: skip


class RowValues:
    """The values of one reference. Adding the same expression twice gives the same number."""

    columns = TOPIC_COLUMNS
    starred = ("key", "payload", "timestamp")

    def __init__(self, shape: Shape, ref: int) -> None:
        self._shape, self._ref = shape, ref
        self._alias = shape.sources[ref].alias
        self.sql: list[str] = []
        self._spans: list[Span | None] = []
        self._nodes: list[NativeValue] = []

    def add(self, span: Span, *, as_text: bool = False) -> int:
        """The number of an expression's value."""
        node = self._node(span)
        return self._add(span.of(self._shape.text), span, node, as_text)

    def add_filtered(self, span: Span | None, condition: Span) -> int:
        """The number of an aggregate's argument under FILTER: NULL, which it leaves out, where the
        condition does not hold; 1 for COUNT(*).
        """
        value = f"({span.of(self._shape.text)})" if span else "1"
        sql = f"CASE WHEN ({condition.of(self._shape.text)}) THEN {value} END"
        return self._add(sql, None, NativeValue("sql"), False)

    def add_column(self, column: str) -> int:
        """The number of a column's value."""
        return self._add(f"{quoted(self._alias)}.{column}", None, _column(column), False)

    def condition(self, span: Span, tokens: list[Token]) -> NativeCheck:
        """The check of a condition over this reference: `value = literal` where native code can
        tell, else a value that SQLite computes, which is 1 when the condition holds.
        """
        sides = equality_sides(tokens)
        for value, other in (sides, sides[::-1]) if sides else ():
            kind, literal = self._node(value).kind, self._literal(other)
            if literal is not None and (
                kind == "path" or (kind in ("key", "payload") and isinstance(literal, str))
            ):
                return NativeCheck((self._ref, self.add(value)), None, False, literal)
        sql = f"({span.of(self._shape.text)}) IS TRUE"
        return NativeCheck(
            (self._ref, self._add(sql, span, NativeValue("sql"), False)), None, False
        )

    def _literal(self, span: Span) -> str | int | None:
        """A string or a small integer; TEXT columns and paths compare with them without change."""
        tokens = self._within(span)
        if len(tokens) == 1 and tokens[0].kind == "string":
            return tokens[0].string
        if len(tokens) == 1 and tokens[0].kind == "number" and len(tokens[0].text) <= 18:
            return (
                int(tokens[0].text)
                if tokens[0].text.isascii() and tokens[0].text.isdigit()
                else None
            )
        return None

    def nodes(self) -> tuple[NativeValue, ...]:
        """The values in order; at least one, so that there is a program."""
        if not self.sql:
            self.add_column("key")
        return tuple(self._nodes)

    def program(self) -> str:
        """A SELECT of all values over one row, whose columns are bound to ?1 to ?6."""
        return f"SELECT {', '.join(self.sql)} FROM ({_ROW}) AS {quoted(self._alias)}"

    def span_of(self, number: int) -> Span:
        """Where the query has this value; a column of `*` stands where its table is named."""
        return self._spans[number] or self._shape.sources[self._ref].name_span

    def is_key(self, span: Span) -> bool:
        """True for the bare `key` column."""
        named = self._shape.sources[self._ref].name_span
        return span == named or self._bare(self._opened(span)) == "key"

    def affinity(self, span: Span) -> str:
        """`TEXT`, nothing for none, or `NUMERIC` for what is compared in another way.

        https://www.sqlite.org/datatype3.html#affinity_of_expressions
        """
        span = self._opened(span)
        column, tokens = self._bare(span), self._within(span)
        if column is not None:
            return "NUMERIC" if column.startswith("timestamp") else "TEXT"
        if tokens[0].is_word("CAST"):
            closes = [
                i for i, t in enumerate(tokens) if t.is_op(")") and t.depth == tokens[0].depth
            ]
            whole = bool(closes) and closes[0] == len(tokens) - 1
            return "TEXT" if whole and tokens[-2].is_word("TEXT") else "NUMERIC"
        return "NUMERIC" if tokens[0].is_op("(", "+", "-", "~") else ""

    def unqualified(self, span: Span) -> str:
        """The expression without its table's name: key maps evaluate it over one row."""
        tokens = self._within(span)
        out, at = "", span.start
        for before, token in zip(tokens, tokens[1:], strict=False):
            if token.is_op(".") and before.text.lower() == self._alias_text:
                out += self._shape.text[at : before.start]
                at = token.end
        return out + self._shape.text[at : span.end]

    @property
    def _alias_text(self) -> str:
        return self._alias.lower()

    def _add(self, sql: str, span: Span | None, node: NativeValue, as_text: bool) -> int:
        if sql in self.sql:
            number = self.sql.index(sql)
            node = self._nodes[number]
            as_text = as_text or node.as_text
        else:
            number = len(self.sql)
            self.sql.append(sql)
            self._spans.append(span)
            self._nodes.append(node)
        self._nodes[number] = NativeValue(node.kind, node.path, as_text)
        return number

    def _node(self, span: Span) -> NativeValue:
        span = self._opened(span)
        column = self._bare(span)
        if column is not None:
            return _column(column)
        path = self._path(self._within(span))
        return NativeValue("path", path) if path else NativeValue("sql")

    def _path(self, tokens: list[Token]) -> tuple[str, ...]:
        """The member names of json_extract(payload, '$.a.b') or payload ->> 'a'."""
        called = tokens[0].is_word("JSON_EXTRACT") and len(tokens) > 4 and tokens[-1].is_op(")")
        inside = tokens[2:-1] if called else tokens
        if len(inside) < 3 or not inside[-2].is_op("," if called else "->>"):
            return ()
        if self._bare(Span(inside[0].start, inside[-3].end)) != "payload":
            return ()
        text = inside[-1].text if inside[-1].kind == "string" else ""
        if match := _PATH.fullmatch(text):
            names = tuple(match[1][1:].split("."))
            return names if len(names) <= MAX_PATH_STEPS else ()
        match = None if called else _LABEL.fullmatch(text)
        return (match[1],) if match else ()

    def _opened(self, span: Span) -> Span:
        """Without parentheses around the whole, which change nothing."""
        tokens = self._within(span)
        closes = [i for i, t in enumerate(tokens) if t.is_op(")") and t.depth == tokens[0].depth]
        if len(tokens) > 2 and tokens[0].is_op("(") and closes == [len(tokens) - 1]:
            return self._opened(Span(tokens[1].start, tokens[-2].end))
        return span

    def _bare(self, span: Span) -> str | None:
        parts = self._shape.normal(span)
        if len(parts) == 3 and parts[1] == "." and parts[0] == self._alias_text:
            return parts[2] if parts[2] in TOPIC_COLUMNS else None
        return parts[0] if len(parts) == 1 and parts[0] in TOPIC_COLUMNS else None

    def _within(self, span: Span) -> list[Token]:
        return [t for t in self._shape.tokens if t.start >= span.start and t.end <= span.end]


def _column(column: str) -> NativeValue:
    match column:
        case "key" | "payload" | "timestamp" | "timestamp_ms":
            return NativeValue(column)
        case _:
            return NativeValue("sql")


def conjuncts(shape: Shape, span: Span) -> list[list[Token]]:
    """The terms of a condition's AND. A term with OR, or CASE or BETWEEN beside AND, is one."""
    tokens = [t for t in shape.tokens if t.start >= span.start and t.end <= span.end]
    depth = tokens[0].depth
    wrapped = tokens[0].is_op("(") and all(t.depth > depth for t in tokens[1:-1])
    if wrapped and tokens[-1].is_op(")") and len(tokens) > 2:
        return conjuncts(shape, Span(tokens[1].start, tokens[-2].end))
    level = [t for t in tokens if t.depth == depth]
    if any(t.is_word("OR", "CASE", "BETWEEN") for t in level):
        return [tokens]
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.depth == depth and token.is_word("AND"):
            parts.append([])
        else:
            parts[-1].append(token)
    if len(parts) == 1:
        return parts
    return [c for p in parts for c in conjuncts(shape, Span(p[0].start, p[-1].end))]


def equality_sides(tokens: list[Token]) -> tuple[Span, Span] | None:
    """Both sides of a term that is one plain equality."""
    level = [(i, t) for i, t in enumerate(tokens) if t.depth == tokens[0].depth]
    at = [i for i, t in level if t.is_op("=", "==")]
    odd = any(t.is_op(*_COMPARES) or t.is_word(*_LOGIC) for _, t in level)
    if len(at) != 1 or odd or at[0] in (0, len(tokens) - 1):
        return None
    left, right = tokens[: at[0]], tokens[at[0] + 1 :]
    return Span(left[0].start, left[-1].end), Span(right[0].start, right[-1].end)
