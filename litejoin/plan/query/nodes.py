"""The parts of a query as spans of its text: what `parse` makes and everything else here reads.

Frozen values. A query is never printed from these; texts are spliced at their spans.
"""

from dataclasses import field
from typing import Literal

from litejoin.frozen import dataclass
from litejoin.plan.tokens import Token

JoinKind = Literal["inner", "left", "right", "full"]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters of the query text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        return text[self.start : self.end]

    def holds(self, other: "Span | Token") -> bool:
        return self.start <= other.start and other.end <= self.end


class NotPlain(Exception):
    """The query cannot be kept up to date by parts; `offset` says where."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Output:
    """One item of a select list. A star's alias is its qualifier."""

    span: Span
    alias: str | None
    star: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One item of a FROM clause."""

    kind: Literal["table", "function", "query"]
    name: str
    alias: str
    span: Span
    """The name, the call or the parenthesised query, without its alias."""
    aliased: bool
    join: JoinKind
    """How it is joined to the items before it."""
    on: Span | None
    using: tuple[str, ...] = ()
    arguments: tuple[Span, ...] = ()
    query: "Query | None" = None


@dataclass(frozen=True, slots=True)
class Subquery:
    """A query inside an expression. `left` is what stands before IN when the whole is a condition
    that every row must fulfil; a NOT IN has none.
    """

    query: "Query"
    span: Span
    left: Span | None = None


@dataclass(frozen=True, slots=True)
class Core:
    """One SELECT without its WITH, ORDER BY and LIMIT."""

    tokens: tuple[Token, ...]
    span: Span
    distinct: bool
    outputs: tuple[Output, ...]
    sources: tuple[Source, ...]
    from_end: int
    where: Span | None
    group_by: tuple[Span, ...]
    subqueries: tuple[Subquery, ...]
    calls: tuple[tuple[str, Span], ...] = ()
    """Aggregates of this SELECT itself."""
    partitions: tuple[tuple[Span, ...], ...] = ()
    """The PARTITION BY terms of each window function."""


@dataclass(frozen=True, slots=True)
class Cte:
    """One table of a WITH clause."""

    name: str
    columns: tuple[str, ...]
    query: "Query"


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT or a compound of several."""

    span: Span
    ctes: tuple[Cte, ...]
    with_span: Span | None
    cores: tuple[Core, ...]
    operators: tuple[str, ...]
    """UNION, UNION ALL, EXCEPT, INTERSECT: one less than there are cores."""
    has_order: bool = False
    limit: int | None = None
    """Where LIMIT stands."""
    order_tokens: tuple[Token, ...] = field(default=())
