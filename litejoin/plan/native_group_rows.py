"""The result row of a group: a query's select list and HAVING over the group's terms and
aggregates.

Called by `grouped`. Aggregates and terms in the text become columns of one row; what is left of the
query is SQLite's to judge: a column that is neither does not compile, and an aggregate that was not
seen would aggregate, and is refused. Expressions are never rewritten otherwise.
"""

from collections.abc import Sequence
from typing import Literal

import apsw

from litejoin.frozen import dataclass
from litejoin.plan.query.words import split
from litejoin.plan.shape import TOPIC_COLUMNS, NotPlain, Output, Shape, Span
from litejoin.plan.tokens import Token
from litejoin.store.sqlite import open_memory

Name = Literal["COUNT", "SUM", "AVG", "TOTAL", "MIN", "MAX"]
NAMES: tuple[Name, ...] = ("COUNT", "SUM", "AVG", "TOTAL", "MIN", "MAX")


def group_terms(shape: Shape) -> list[Span]:
    """GROUP BY's terms as expressions: a number or an alias stands for an output, and a name that
    is a column's is the column.
    """
    return [_term(shape, span) for span in shape.group_by]


def _term(shape: Shape, span: Span) -> Span:
    tokens = shape.within(span)
    if len(tokens) != 1:
        return span
    token = tokens[0]
    if token.kind == "number" and token.text.isdigit() and int(token.text) <= len(shape.outputs):
        return _unstarred(shape.outputs[int(token.text) - 1])
    if token.is_identifier and token.text.lower() not in TOPIC_COLUMNS:
        for output in shape.outputs:
            if (output.alias or "").lower() == token.text.lower():
                return _unstarred(output)
    return span


def _unstarred(output: Output) -> Span:
    if output.star:
        raise NotPlain("a * among the columns", output.span.start)
    return output.span


@dataclass(frozen=True, slots=True)
class Call:
    """One aggregate in the text: its argument (None: every row) and its FILTER."""

    name: Name
    value: Span | None
    condition: Span | None
    text: str


class Aggregates:
    """The aggregates of a select list and HAVING, and where they stand."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.calls: list[Call] = []
        self.places: list[tuple[Span, int]] = []
        """Spans of the text, each with the number of its call."""
        for span in parts(shape):
            self._read(shape.within(span))

    def _read(self, tokens: list[Token]) -> None:
        at = 0
        while at < len(tokens):
            end = self._call(tokens, at) if tokens[at].is_word(*NAMES) else None
            at = at + 1 if end is None else end

    def _call(self, tokens: list[Token], at: int) -> int | None:
        """Note the call that starts here; returns the token behind it, None where there is none."""
        if at + 1 >= len(tokens) or not tokens[at + 1].is_op("("):
            return None
        close = _closing(tokens, at + 1)
        inner = tokens[at + 2 : close]
        if len(split(inner, ",")) > 1:
            return None  # min(a, b) is no aggregate
        is_star = not inner or (len(inner) == 1 and inner[0].is_op("*"))
        name = next(name for name in NAMES if name == tokens[at].text)
        if is_star and name != "COUNT":
            return None
        end, condition = _filter(tokens, close + 1)
        value = None if is_star else Span(inner[0].start, inner[-1].end)
        span = Span(tokens[at].start, tokens[end - 1].end)
        text = " ".join(span.of(self._shape.text).split())
        call = Call(name, value, condition, text)
        if call not in self.calls:
            self.calls.append(call)
        self.places.append((span, self.calls.index(call)))
        return end


def _filter(tokens: list[Token], at: int) -> tuple[int, Span | None]:
    """The end of an aggregate whose parenthesis closes before `at`, and its FILTER's condition."""
    if at + 1 >= len(tokens) or not tokens[at].is_word("FILTER") or not tokens[at + 1].is_op("("):
        return at, None
    close = _closing(tokens, at + 1)
    return close + 1, Span(tokens[at + 3].start, tokens[close - 1].end)


def _closing(tokens: Sequence[Token], opening: int) -> int:
    depth = tokens[opening].depth
    return next(
        i for i in range(opening + 1, len(tokens))
        if tokens[i].is_op(")") and tokens[i].depth == depth
    )  # fmt: skip


def parts(shape: Shape) -> list[Span]:
    """Where terms and aggregates are shown: outputs and HAVING."""
    return [output.span for output in shape.outputs] + ([shape.having] if shape.having else [])


class GroupRows:
    """The final query of a grouped one, checked."""

    def __init__(
        self, shape: Shape, terms: Sequence[Span], affinities: Sequence[str], found: Aggregates
    ) -> None:
        self._shape, self._terms = shape, terms
        self._edits = [(span, f'"lj:a{number}"') for span, number in found.places]
        for part in parts(shape):
            self._replace_terms(shape.within(part))
        columns = [
            _column(number, affinity, shape, term)
            for number, (term, affinity) in enumerate(zip(terms, affinities, strict=True))
        ]
        columns += [f'?{len(terms) + 1 + i} AS "lj:a{i}"' for i in range(len(found.calls))]
        items = ", ".join(self._item(output) for output in shape.outputs)
        having = f" WHERE {self._edited(shape.having)}" if shape.having else ""
        self.final_sql = f"SELECT {items} FROM (SELECT {', '.join(columns)}){having}"
        self._check(len(columns))

    def key_term(self, key_index: int) -> int:
        """The group term that an output column is."""
        output = self._shape.outputs[key_index]
        wanted = self._shape.normal(output.span)
        for number, term in enumerate(self._terms):
            if self._shape.normal(term) == wanted:
                return number
        raise NotPlain("the key is not a term of GROUP BY as it stands", output.span.start)

    def _item(self, output: Output) -> str:
        _unstarred(output)
        alias = f' AS "{output.alias.replace(chr(34), chr(34) * 2)}"' if output.alias else ""
        return self._edited(output.span) + alias

    def _replace_terms(self, tokens: list[Token]) -> None:
        for number, term in enumerate(self._terms):
            wanted = self._shape.normal(term)
            size = len(wanted)
            for at in range(len(tokens) - size + 1):
                span = Span(tokens[at].start, tokens[at + size - 1].end)
                if self._shape.normal(span) != wanted or not self._is_whole(tokens, at, size):
                    continue
                if all(span.end <= s.start or s.end <= span.start for s, _ in self._edits):
                    self._edits.append((span, f'"lj:g{number}"'))

    @staticmethod
    def _is_whole(tokens: list[Token], at: int, size: int) -> bool:
        """True where the tokens are an operand of their own: `a + b` is none in `a + b * 2`."""
        before = tokens[at - 1] if at else None
        after = tokens[at + size] if at + size < len(tokens) else None
        if before is not None and before.is_op("."):
            return False
        if after is not None and after.is_op(".", "("):
            return False
        inside = tokens[at : at + size]
        if all(t.is_identifier or t.is_op(".") for t in inside) or (
            inside[0].is_identifier
            and size > 2
            and inside[1].is_op("(")
            and _closing(inside, 1) == size - 1
        ):
            return True
        is_open = before is None or before.is_op("(", ",")
        return is_open and (after is None or after.is_op(")", ","))

    def _edited(self, span: Span) -> str:
        out, at = [], span.start
        for edit, text in sorted(self._edits, key=lambda e: e[0].start):
            if span.start <= edit.start and edit.end <= span.end:
                out += [self._shape.text[at : edit.start], text]
                at = edit.end
        return "".join([*out, self._shape.text[at : span.end]])

    def _check(self, parameters: int) -> None:
        connection = open_memory()
        try:
            # Text in double quotes that names no column must be an error, not a string.
            connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
            steps = connection.execute(f"EXPLAIN {self.final_sql}", (None,) * parameters)
            if any(row[1].startswith("Agg") for row in steps):
                raise NotPlain("an aggregate other than COUNT, SUM, AVG, TOTAL, MIN and MAX", 0)
        except apsw.SQLError as error:
            raise NotPlain(f"more than terms and aggregates of the groups ({error})", 0) from None
        finally:
            connection.close()


def _column(number: int, affinity: str, shape: Shape, term: Span) -> str:
    """A term with the affinity that comparisons in HAVING give it."""
    kinds = {"TEXT": "TEXT", "": ""}
    if affinity not in kinds:
        tokens = shape.within(term)
        if not tokens[-1].text.lower().startswith("timestamp"):
            raise NotPlain("a term of GROUP BY that is a number", term.start)
        return f'CAST(?{number + 1} AS INTEGER) AS "lj:g{number}"'
    value = f"CAST(?{number + 1} AS TEXT)" if affinity else f"?{number + 1}"
    return f'{value} AS "lj:g{number}"'
