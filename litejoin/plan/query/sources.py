"""The FROM clause -> its items and how they are joined. Called by `parse`."""

from collections.abc import Callable
from dataclasses import dataclass, field

from litejoin.plan.query.functions import LATERALS
from litejoin.plan.query.nodes import JoinKind, NotPlain, Query, Source, Span
from litejoin.plan.query.words import split
from litejoin.plan.tokens import Token

_OPERATORS = ("JOIN", "LEFT", "INNER", "CROSS", "NATURAL", "RIGHT", "FULL")
_AFTER_NAME = (*_OPERATORS, "ON", "OUTER", "USING", "INDEXED", "NOT", "AS")


@dataclass
class ParsedFrom:
    """The items, and the spans of the queries among them."""

    items: list[Source] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)


class _Reader:
    """One walk over the tokens of a FROM clause."""

    def __init__(
        self, tokens: list[Token], text: str, query_of: Callable[[list[Token], str], Query]
    ) -> None:
        self.tokens, self.text, self.query_of = tokens, text, query_of
        self.i = 0
        self.parsed = ParsedFrom()

    def here(self) -> Token | None:
        return self.tokens[self.i] if self.i < len(self.tokens) else None

    def is_word(self, *words: str) -> bool:
        token = self.here()
        return token is not None and token.is_word(*words)

    def is_op(self, op: str) -> bool:
        token = self.here()
        return token is not None and token.is_op(op)

    def written(self, token: Token) -> str:
        return self.text[token.start : token.end] if token.kind == "word" else token.text

    def closing(self) -> int:
        depth = self.tokens[self.i].depth
        return next(
            n
            for n in range(self.i + 1, len(self.tokens))
            if self.tokens[n].is_op(")") and self.tokens[n].depth == depth
        )

    def run(self) -> ParsedFrom:
        join: JoinKind = "inner"
        while self.i < len(self.tokens):
            self.item(join)
            if self.i < len(self.tokens):
                join = self.operator()
        return self.parsed

    def item(self, join: JoinKind) -> None:
        token = self.tokens[self.i]
        query: Query | None = None
        arguments: tuple[Span, ...] = ()
        name = ""
        if token.is_op("("):
            close = self.closing()
            if not self.tokens[self.i + 1].is_word("SELECT", "WITH"):
                raise NotPlain("a parenthesised FROM", token.start)
            query = self.query_of(self.tokens[self.i + 1 : close], self.text)
            span, self.i = Span(token.start, self.tokens[close].end), close + 1
            self.parsed.spans.append(span)
        elif token.is_identifier:
            name, self.i = self.written(token), self.i + 1
            span = Span(token.start, token.end)
            if self.is_op("("):
                close = self.closing()
                inside = self.tokens[self.i + 1 : close]
                arguments = tuple(Span(p[0].start, p[-1].end) for p in split(inside, ","))
                span, self.i = Span(token.start, self.tokens[close].end), close + 1
                if name.lower() not in LATERALS:
                    raise NotPlain(f"the table-valued function {name}", token.start)
            elif self.is_op("."):
                raise NotPlain("a table named with its schema", token.start)
        else:
            raise NotPlain("a FROM clause that is not understood", token.start)
        kind = "query" if query else "function" if span.end != token.end else "table"
        alias = self.alias()
        on, using = self.condition()
        self.parsed.items.append(
            Source(
                kind,  # type: ignore[arg-type]
                name,
                alias or name,
                span,
                alias is not None,
                join,
                on,
                using,
                arguments,
                query,
            )
        )

    def alias(self) -> str | None:
        explicit = self.is_word("AS")
        self.i += explicit
        token = self.here()
        if token is None or not token.is_identifier:
            return None
        if not explicit and token.is_word(*_AFTER_NAME):
            return None
        self.i += 1
        return self.written(token)

    def condition(self) -> tuple[Span | None, tuple[str, ...]]:
        if self.is_word("INDEXED", "NOT"):
            raise NotPlain("INDEXED BY", self.tokens[self.i].start)
        if self.is_word("USING"):
            self.i += 1
            close = self.closing()
            names = [t.text.lower() for t in self.tokens[self.i + 1 : close] if t.is_identifier]
            self.i = close + 1
            return None, tuple(names)
        if not self.is_word("ON"):
            return None, ()
        self.i += 1
        start, depth = self.i, self.tokens[0].depth
        while (token := self.here()) is not None:
            if token.depth == depth and (token.is_word(*_OPERATORS) or token.is_op(",")):
                break
            self.i += 1
        return Span(self.tokens[start].start, self.tokens[self.i - 1].end), ()

    def operator(self) -> JoinKind:
        token = self.tokens[self.i]
        if token.is_op(","):
            self.i += 1
            return "inner"
        if token.is_word("NATURAL"):
            raise NotPlain("NATURAL JOIN", token.start)
        kinds: dict[str, JoinKind] = {"LEFT": "left", "RIGHT": "right", "FULL": "full"}
        kind = kinds.get(token.text, "inner") if token.kind == "word" else "inner"
        while self.is_word("LEFT", "RIGHT", "FULL", "OUTER", "INNER", "CROSS"):
            self.i += 1
        if not self.is_word("JOIN"):
            raise NotPlain("a FROM clause that is not understood", token.start)
        self.i += 1
        return kind


def parse_sources(
    tokens: list[Token], text: str, query_of: Callable[[list[Token], str], Query]
) -> ParsedFrom:
    """The items of a FROM clause. Raises NotPlain."""
    return _Reader(tokens, text, query_of).run()
