"""Query text -> its parts, by tokens and parentheses.

Called by `scope`. It never decides whether SQL is valid (SQLite does, before this runs); what it
does not understand it refuses by NotPlain, and the join is evaluated as a whole.
"""

from collections.abc import Iterator, Sequence

from litejoin.plan.query.functions import AGGREGATES, VOLATILE
from litejoin.plan.query.nodes import Core, Cte, NotPlain, Output, Query, Span, Subquery
from litejoin.plan.query.sources import parse_sources
from litejoin.plan.query.words import CLAUSES, EXPRESSION_WORDS, conjuncts, split
from litejoin.plan.tokens import Token, tokenize

Tokens = list[Token]


def parse_query(text: str) -> Query:
    """The parts of one query. Raises NotPlain."""
    tokens = tokenize(text)
    while tokens and tokens[-1].is_op(";"):
        tokens.pop()
    if not tokens:
        raise NotPlain("an empty query", 0)
    return query_of(tokens, text)


def query_of(tokens: Tokens, text: str) -> Query:
    """A query from the tokens between its parentheses, or of the whole text."""
    ctes, at = _ctes(tokens, text)
    with_span = Span(tokens[0].start, tokens[at].start) if at else None
    body = tokens[at:]
    depth = body[0].depth
    ends = [
        i for i, t in enumerate(body) if t.depth == depth and t.is_word("ORDER", "LIMIT", "VALUES")
    ]
    for i in ends:
        if body[i].text == "VALUES":
            raise NotPlain("VALUES", body[i].start)
    end = ends[0] if ends else len(body)
    limit = next((body[i].start for i in ends if body[i].text == "LIMIT"), None)
    cores: list[Core] = []
    operators: list[str] = []
    part: Tokens = []
    for token in body[:end]:
        if token.depth == depth and token.is_word("UNION", "EXCEPT", "INTERSECT"):
            cores.append(_core(part, text))
            operators.append(token.text)
            part = []
        elif not part and token.is_word("ALL"):
            operators[-1] += " ALL"
        else:
            part.append(token)
    cores.append(_core(part, text))
    _refuse_volatile(tokens)
    return Query(
        Span(tokens[0].start, tokens[-1].end),
        ctes,
        with_span,
        tuple(cores),
        tuple(operators),
        has_order=any(body[i].text == "ORDER" for i in ends),
        limit=limit,
        order_tokens=tuple(body[end:]),
    )


def _refuse_volatile(tokens: Tokens) -> None:
    for token, following in zip(tokens, tokens[1:], strict=False):
        if token.kind == "word" and token.text.lower() in VOLATILE and following.is_op("("):
            raise NotPlain(f"{token.text.lower()}() differs on every call", token.start)


def _ctes(tokens: Tokens, text: str) -> tuple[tuple[Cte, ...], int]:
    """The tables of WITH, and the index of the first token behind them."""
    if not tokens[0].is_word("WITH"):
        return (), 0
    found, i = [], 1
    if tokens[i].is_word("RECURSIVE"):
        i += 1
    while True:
        name, i = _written(tokens[i], text), i + 1
        columns: tuple[str, ...] = ()
        if tokens[i].is_op("("):
            close = closing(tokens, i)
            columns = tuple(_written(t, text) for t in tokens[i + 1 : close] if t.is_identifier)
            i = close + 1
        while tokens[i].is_word("AS", "NOT", "MATERIALIZED"):
            i += 1
        close = closing(tokens, i)
        _refuse_recursion(tokens[i + 1 : close], name)
        found.append(Cte(name, columns, query_of(tokens[i + 1 : close], text)))
        i = close + 1
        if not tokens[i].is_op(","):
            return tuple(found), i
        i += 1


def _refuse_recursion(body: Tokens, name: str) -> None:
    for before, token in zip(body, body[1:], strict=False):
        named = token.is_identifier and token.text.lower() == name.lower()
        if named and (before.is_word("FROM", "JOIN") or before.is_op(",")):
            raise NotPlain(f"{name} is made from itself (recursive WITH)", token.start)


def closing(tokens: Sequence[Token], opening: int) -> int:
    """The index of the parenthesis that closes the one at `opening`."""
    depth = tokens[opening].depth
    for i in range(opening + 1, len(tokens)):
        if tokens[i].is_op(")") and tokens[i].depth == depth:
            return i
    raise NotPlain("a parenthesis that is not closed", tokens[opening].start)


def _core(tokens: Tokens, text: str) -> Core:
    if not tokens or not tokens[0].is_word("SELECT"):
        at = tokens[0].start if tokens else 0
        raise NotPlain("something that is not a plain SELECT", at)
    clauses = _clauses(tokens)
    selected = clauses["SELECT"]
    distinct = bool(selected) and selected[0].is_word("DISTINCT")
    if selected[0].is_word("ALL", "DISTINCT"):
        selected = selected[1:]
    sources = parse_sources(clauses["FROM"], text, query_of)
    subqueries = tuple(_subqueries(tokens, clauses, sources.spans, text))
    nested = [s.span for s in subqueries] + sources.spans
    own = [t for t in tokens if not any(span.holds(t) for span in nested)]
    return Core(
        tokens=tuple(tokens),
        span=Span(tokens[0].start, tokens[-1].end),
        distinct=distinct,
        outputs=tuple(_output(item, text) for item in split(selected, ",")),
        sources=tuple(sources.items),
        from_end=clauses["FROM"][-1].end,
        where=_span(clauses["WHERE"]),
        group_by=tuple(Span(i[0].start, i[-1].end) for i in split(clauses["GROUP"], ",")),
        subqueries=subqueries,
        calls=tuple(_aggregates(own)),
        partitions=tuple(_partitions(own)),
    )


def _clauses(tokens: Tokens) -> dict[str, Tokens]:
    clauses: dict[str, Tokens] = {name: [] for name in ("SELECT", *CLAUSES)}
    current, skip_by, depth = "SELECT", False, tokens[0].depth
    for i, token in enumerate(tokens[1:], 1):
        starts = token.depth == depth and token.is_word(*CLAUSES)
        if starts and not (token.is_word("FROM") and tokens[i - 1].is_word("DISTINCT")):
            current, skip_by = token.text, token.is_word("GROUP")
        elif token.depth == depth and token.is_word("WINDOW") and current != "SELECT":
            raise NotPlain("a WINDOW clause", token.start)
        elif skip_by and token.is_word("BY"):
            skip_by = False
        else:
            clauses[current].append(token)
    if not clauses["FROM"]:
        raise NotPlain("a SELECT without FROM", tokens[0].start)
    return clauses


def _span(tokens: Tokens) -> Span | None:
    return Span(tokens[0].start, tokens[-1].end) if tokens else None


def _output(item: Tokens, text: str) -> Output:
    span = Span(item[0].start, item[-1].end)
    if item[-1].is_op("*") and (len(item) == 1 or (len(item) == 3 and item[1].is_op("."))):
        return Output(span, item[0].text if len(item) == 3 else None, star=True)
    if len(item) > 2 and item[-2].is_word("AS"):
        return Output(Span(item[0].start, item[-3].end), _written(item[-1], text))
    last, before = item[-1], item[-2] if len(item) > 1 else None
    implicit = (
        before is not None and not before.is_op(".") and (before.is_op(")") or before.kind != "op")
    )
    if implicit and last.is_identifier and last.text not in EXPRESSION_WORDS:
        return Output(Span(item[0].start, item[-2].end), _written(last, text))
    return Output(span, None)


def _written(token: Token, text: str) -> str:
    return text[token.start : token.end] if token.kind == "word" else token.text


def _subqueries(
    tokens: Tokens, clauses: dict[str, Tokens], in_from: list[Span], text: str
) -> Iterator[Subquery]:
    """The outermost queries inside expressions of a SELECT."""
    positive = set(_positive_ins(clauses["WHERE"]))
    i = 1
    while i < len(tokens):
        opened = tokens[i].is_op("(") and i + 1 < len(tokens)
        if opened and any(s.holds(tokens[i + 1]) for s in in_from):
            i += 1
            continue
        if opened and tokens[i + 1].is_word("SELECT", "WITH", "VALUES"):
            close = closing(tokens, i)
            inner = query_of(tokens[i + 1 : close], text)
            span = Span(tokens[i].start, tokens[close].end)
            left = next((left for at, left in positive if at == span.start), None)
            yield Subquery(inner, span, left)
            i = close
        i += 1


def _positive_ins(where: Tokens) -> Iterator[tuple[int, Span]]:
    """`left IN (` among the terms of a top-level AND: where the parenthesis stands, and left."""
    for part in conjuncts(where):
        depth = part[0].depth
        level = [i for i, t in enumerate(part) if t.depth == depth and t.kind == "word"]
        words = [part[i].text for i in level if part[i].text in EXPRESSION_WORDS]
        if words != ["IN"]:
            continue
        at = next(i for i in level if part[i].text == "IN")
        last = part[at + 1 :]
        if at and last and last[0].is_op("(") and closing(part, at + 1) == len(part) - 1:
            yield last[0].start, Span(part[0].start, part[at - 1].end)


def _aggregates(own: Tokens) -> Iterator[tuple[str, Span]]:
    for i, token in enumerate(own[:-1]):
        name = token.text.lower()
        if not token.is_identifier or name not in AGGREGATES or not own[i + 1].is_op("("):
            continue
        close = closing(own, i + 1)
        after = own[close + 1] if close + 1 < len(own) else None
        if after is not None and after.is_word("FILTER"):
            close = closing(own, close + 2)
            after = own[close + 1] if close + 1 < len(own) else None
        several = len(split(own[i + 2 : close], ",")) > 1 and name in ("min", "max")
        if not several and not (after is not None and after.is_word("OVER")):
            yield name, Span(token.start, own[close].end)


def _partitions(own: Tokens) -> Iterator[tuple[Span, ...]]:
    for i, token in enumerate(own[:-1]):
        following = own[i + 1]
        if not token.is_word("OVER") or not (following.is_op("(") or following.is_identifier):
            continue
        if not following.is_op("("):
            raise NotPlain("a named window", token.start)
        inside = own[i + 2 : closing(own, i + 1)]
        depth = following.depth + 1
        terms: Tokens = []
        if inside and inside[0].is_word("PARTITION"):
            stops = (
                n
                for n, t in enumerate(inside)
                if t.depth == depth and t.is_word("ORDER", "ROWS", "RANGE", "GROUPS")
            )
            terms = inside[2 : next(stops, len(inside))]
        yield tuple(Span(p[0].start, p[-1].end) for p in split(terms, ","))
