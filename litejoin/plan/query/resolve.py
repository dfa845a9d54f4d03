"""Names in an expression -> columns of topics, through queries in FROM and WITH.

Called by `links`, `statements` and `delta`. A column of a query in FROM is replaced by the
expression it stands for, so that an equality with it is an equality with columns of topics. What is
not understood resolves to nothing, and no equality is followed through it.
"""

from dataclasses import replace

from litejoin.plan.query.expressions import ARGUMENTS, Column, Expression, alike
from litejoin.plan.query.functions import LATERALS, STRICT
from litejoin.plan.query.grammar import acceptable, affinity_of, in_cast, is_pure, is_word, opens
from litejoin.plan.query.nodes import Span
from litejoin.plan.query.scope import TOPIC_COLUMNS, CoreScope, Instance, QueryScope, outputs_of
from litejoin.plan.query.words import conjuncts, equality_sides, split


def resolve(span: Span, core: CoreScope) -> list[Expression]:
    """The expression's meanings: one, or one for each arm of a compound query that it reads
    a column of; none when it is not understood.
    """
    text = core.query.text
    tokens = [t for t in core.node.tokens if span.holds(t)]
    pieces: list[list[str | Expression]] = [[]]
    strict, at, i = True, span.start, 0
    source: Instance | None = None
    while i < len(tokens):
        token = tokens[i]
        step, meanings, where = 1, None, None
        if token.is_identifier and not is_word(tokens, i):
            if opens(tokens, i + 1):
                if not is_pure(tokens, i):
                    return []
                strict = strict and token.text.lower() in STRICT | {"cast"}
            else:
                qualified = i + 2 < len(tokens) and tokens[i + 1].is_op(".")
                name = tokens[i + 2].text if qualified else token.text
                step = 3 if qualified else 1
                meanings, where = _column(core, token.text if qualified else None, name)
                if not meanings:
                    return []
        elif token.kind == "word":
            harmless = token.text in ("TRUE", "FALSE", "NULL") or in_cast(tokens, i)
            strict = strict and harmless
        elif not acceptable(tokens, i):
            return []
        if meanings is not None:
            before = text[at : token.start]
            if len(meanings) > 1:
                if source is not None and where is not source:
                    return []
                if len(pieces) == 1:
                    pieces = [list(pieces[0]) for _ in meanings]
                source = where
            for number, piece in enumerate(pieces):
                meaning = meanings[number if len(meanings) > 1 else 0]
                piece += [before, meaning]
            at = tokens[i + step - 1].end
        i += step
    rest = text[at : span.end]
    affinity = affinity_of(tokens)
    return [_made([*piece, rest], strict, affinity) for piece in pieces]


def _made(piece: list[str | Expression], strict: bool, affinity: str | None) -> Expression:
    """One expression from texts and the expressions of its columns."""
    whole = [p for p in piece if p != ""]
    if len(whole) == 1 and isinstance(whole[0], Expression):
        return whole[0]
    parts: list[str | Column] = []
    excused: frozenset[int] = frozenset()
    inner, merged = "", False
    for p in whole:
        if isinstance(p, str):
            parts.append(p)
            continue
        strict, excused, inner = strict and p.strict, excused | p.excused, p.affinity
        merged = merged or p.merged
        parts += p.parts if p.bare else ["(", *p.parts, ")"]
    # Parentheses around one column keep its affinity.
    only = affinity is None
    return Expression(tuple(parts), strict, inner if only else affinity or "", excused, merged)


_TOPIC_AFFINITY = {"timestamp": "NUMERIC", "timestamp_ms": "NUMERIC"}


def _column(
    core: CoreScope, qualifier: str | None, name: str
) -> tuple[list[Expression], Instance | None]:
    """The meanings of a column's name, and the instance it was found in."""
    for scope in core.around():
        for instance in scope.sources:
            if qualifier is not None and instance.source.alias.lower() != qualifier.lower():
                continue
            found = column_of(instance, name.lower())
            if found is not None:
                merged = qualifier is None and scope.isolated and instance.merges(name.lower())
                return ([] if merged else found), instance
            if qualifier is not None:
                return [], None
        if qualifier is None and _is_alias(scope, name):
            return [], None
    return [], None


def _is_alias(scope: CoreScope, name: str) -> bool:
    return any((o.alias or "").lower() == name.lower() for o in scope.node.outputs)


def column_of(instance: Instance, name: str) -> list[Expression] | None:
    """The meanings of an instance's column; None when it has no such column."""
    if instance.source.kind == "function":
        if name not in LATERALS[instance.source.name.lower()]:
            return None
        if _owner_of(instance) is None:
            return []
        return [Expression((Column(instance, name),), True, "")]
    if instance.inner is None:
        if name not in TOPIC_COLUMNS:
            return None
        affinity = _TOPIC_AFFINITY.get(name, "TEXT")
        return [Expression((Column(instance, name),), True, affinity)]
    names = [column.lower() for column in instance.columns()]
    if name not in names:
        return None
    return exports(instance.inner, names.index(name))


def _owner_of(function: Instance) -> Instance | None:
    """The topic instance that a function takes apart, found once."""
    if function.owner is None:
        arguments = [resolve(span, function.core) for span in function.source.arguments]
        if all(len(meanings) == 1 for meanings in arguments):
            references = {r for (one,) in arguments for r in one.references}
            if len(references) == 1:
                ARGUMENTS[function] = tuple(one for (one,) in arguments)
                function.owner = references.pop()
    return function.owner


def exports(query: QueryScope, index: int) -> list[Expression]:
    """What an output column stands for in each arm, where rows can be told apart by it: the rows
    of one value are made from rows that the value's expression picks, and from no others.
    """
    if query.node.limit is not None:
        return []
    found: list[Expression] = []
    for core in query.cores:
        arm = exported(core, index)
        if not arm:
            return []
        found += arm
    if any(operator != "UNION ALL" for operator in query.node.operators):
        found = [replace(each, merged=True) for each in found]
    return found if len({each.affinity for each in found}) == 1 else []


def exported(core: CoreScope, index: int) -> list[Expression]:
    """The same for one arm."""
    outputs = outputs_of(core)
    if index >= len(outputs):
        return []
    name, span, instance = outputs[index]
    if instance is not None:
        meanings = column_of(instance, name.lower()) or []
    elif span is not None:
        meanings = resolve(span, core) or _either(span, core)
    else:
        meanings = []
    if not meanings:
        return []
    if (core.node.group_by or core.node.calls) and not _is_term(
        core, core.node.group_by, index, meanings
    ):
        return []
    for terms in core.node.partitions:
        if not any(alike(resolve(term, core), meanings) for term in terms):
            return []
    if any(s.source.join == "full" for s in core.sources) and not meanings[0].excused:
        meanings = _either(span, core) if span is not None else []
    if core.node.group_by or core.node.distinct or core.node.partitions:
        meanings = [replace(each, merged=True) for each in meanings]
    return meanings


def _is_term(
    core: CoreScope, terms: tuple[Span, ...], index: int, meanings: list[Expression]
) -> bool:
    """True when the output column is one of the GROUP BY terms: by number, alias or text."""
    alias = outputs_of(core)[index][0].lower()
    for term in terms:
        tokens = [t for t in core.node.tokens if term.holds(t)]
        if len(tokens) == 1 and tokens[0].kind == "number":
            if tokens[0].text == str(index + 1):
                return True
        elif len(tokens) == 1 and tokens[0].text.lower() == alias:
            # SQLite looks for a column of the tables first.
            found, _ = _column(core, None, alias)
            if not _has_column(core, alias) or alike(found, meanings):
                return True
        elif alike(resolve(term, core), meanings):
            return True
    return False


def _has_column(core: CoreScope, name: str) -> bool:
    return any(column_of(instance, name) is not None for instance in core.sources)


def _either(span: Span, core: CoreScope) -> list[Expression]:
    """coalesce(x, y) over a FULL JOIN ON x = y: x where there is a row of the left side, else y."""
    tokens = [t for t in core.node.tokens if span.holds(t)]
    if len(core.sources) != 2 or core.sources[1].source.join != "full" or len(tokens) < 4:
        return []
    if tokens[0].text.lower() not in ("coalesce", "ifnull") or not tokens[-1].is_op(")"):
        return []
    sides = split(tokens[2:-1], ",")
    if len(sides) != 2:
        return []
    both = [resolve(Span(s[0].start, s[-1].end), core) for s in sides]
    if any(len(meanings) != 1 for meanings in both):
        return []
    x, y = both[0][0], both[1][0]
    if not x.strict or not y.strict or x.affinity != y.affinity:
        return []
    on = core.sources[1].source.on
    for pair in full_pairs(core) if on is None else _on_pairs(core, on):
        if alike(list(pair), [x, y]) or alike(list(pair), [y, x]):
            excused = frozenset(s.number for s in core.sources)
            return [replace(e, excused=excused) for e in (x, y)]
    return []


def full_pairs(core: CoreScope) -> list[tuple[Expression, Expression]]:
    """The equalities that USING stands for, left side first."""
    pairs = []
    for instance in core.sources[1:]:
        for name in instance.source.using:
            right = column_of(instance, name)
            left = column_of(core.sources[0], name)
            if left and right and len(left) == len(right) == 1:
                pairs.append((left[0], right[0]))
    return pairs


def _on_pairs(core: CoreScope, on: Span) -> list[tuple[Expression, Expression]]:
    pairs = []
    for term in conjuncts([t for t in core.node.tokens if on.holds(t)]):
        sides = equality_sides(term)
        if sides:
            left, right = (resolve(side, core) for side in sides)
            if len(left) == len(right) == 1:
                pairs.append((left[0], right[0]))
    return pairs
