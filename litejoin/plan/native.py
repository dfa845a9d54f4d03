"""Which joins native code can evaluate, and how: from the query's shape to a NativePlan.

Called by the compiler for joins that are incremental already. A join is native when it is one
SELECT of columns and expressions that each read one topic reference, the references are connected
by equalities, and every other condition reads one reference: then nothing is left of the query but
values of single rows, which SQLite itself computes (or native code, where the answer is certain),
and equalities between them. Anything else stays delta, with the reason. It never decides whether
SQL is valid.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

import apsw

from litejoin.plan.delta import IndexRegistry, IndexRequest
from litejoin.plan.native_values import RowValues, conjuncts, equality_sides
from litejoin.plan.nodes import NativeCheck, NativeFinder, NativePlan, NativeReference
from litejoin.plan.shape import NotPlain, Shape, Span, parse_shape
from litejoin.store.sqlite import open_memory

MAX_REFERENCES = 8
MAX_VALUES = 32
"""The executor's fixed sizes (native_join.h)."""

_NOT_NATIVE = {
    "GROUP": "GROUP BY",
    "ORDER": "ORDER BY",
    "HAVING": "HAVING",
    "DISTINCT": "DISTINCT",
    "LIMIT": "LIMIT",
    "OVER": "a window function",
    "WITH": "a common table expression",
    "UNION": "UNION",
    "EXCEPT": "EXCEPT",
    "INTERSECT": "INTERSECT",
    "RIGHT": "RIGHT JOIN",
    "FULL": "FULL JOIN",
    "NATURAL": "NATURAL JOIN",
    "USING": "USING",
    "EXISTS": "a subquery",
}


def native_plan(
    name: str, query: str, key_index: int, topics: Sequence[str], registry: IndexRegistry
) -> NativePlan:
    """The native plan of a join; adds the key maps it needs to `registry`.

    Raises NotPlain with what forbids it and where. Pure but for the registry; milliseconds.
    """
    query = query.rstrip().removesuffix(";").rstrip()
    shape = parse_shape(query)
    _refuse(shape)
    trial = copy.deepcopy(registry)
    plan = _Compiler(name, shape, key_index, topics, trial).plan()
    registry.by_topic, registry.used_by = trial.by_topic, trial.used_by
    return plan


def _refuse(shape: Shape) -> None:
    for i, token in enumerate(shape.tokens):
        if token.kind == "word" and token.text in _NOT_NATIVE:
            raise NotPlain(_NOT_NATIVE[token.text], token.start)
        if i and token.is_word("SELECT"):
            raise NotPlain("a subquery", token.start)
    for source in shape.sources:
        if source.kind != "table":
            raise NotPlain(f"the table-valued function {source.name}", source.name_span.start)
    if len(shape.sources) > MAX_REFERENCES:
        raise NotPlain(f"more than {MAX_REFERENCES} references", 0)


class _Link:
    """An equality between two references; `outer` is the reference whose LEFT JOIN it stands in."""

    def __init__(self, sides: dict[int, Span], is_text: bool, outer: int | None) -> None:
        self.sides, self.is_text, self.outer = sides, is_text, outer

    def other(self, ref: int) -> int:
        return next(r for r in self.sides if r != ref)


class _Compiler:
    """One plain SELECT. `order` lists sources in the order of evaluation."""

    def __init__(
        self,
        name: str,
        shape: Shape,
        key_index: int,
        topics: Sequence[str],
        registry: IndexRegistry,
    ) -> None:
        self.name, self.shape, self.registry = name, shape, registry
        canonical = {topic.lower(): topic for topic in topics}
        for source in shape.sources:
            if source.name.lower() not in canonical:
                raise NotPlain(f"{source.name} is not a topic", source.name_span.start)
        self.topic_of = [canonical[source.name.lower()] for source in shape.sources]
        self.values = [RowValues(shape, i) for i in range(len(shape.sources))]
        self.outputs = [place for output in shape.outputs for place in self._output(output.span)]
        key_ref, _ = self.outputs[key_index]
        if shape.sources[key_ref].outer:
            raise NotPlain("the key comes from the optional side of a LEFT JOIN", 0)
        self.key = self.outputs[key_index]
        self.links: list[_Link] = []
        self.checks: list[tuple[int | None, NativeCheck]] = []
        for i, source in enumerate(shape.sources):
            if source.on is not None:
                self._conditions(source.on, i if source.outer else None)
        if shape.where is not None:
            self._conditions(shape.where, None)
        self.order = self._order(key_ref)

    # -- values and conditions

    def _one(self, span: Span, what: str) -> int:
        """The one reference that an expression reads; the first for a constant."""
        refs = self._refs(span)
        if len(refs) > 1:
            text = " ".join(span.of(self.shape.text).split())
            raise NotPlain(f"{what} {text} reads several references", span.start)
        return refs.pop() if refs else 0

    def _refs(self, span: Span) -> set[int]:
        pairs = self.shape.columns_in(span)
        if pairs is None:
            raise NotPlain(f"{span.of(self.shape.text)} is more than an expression", span.start)
        found = set()
        aliases = {source.alias.lower(): i for i, source in enumerate(self.shape.sources)}
        for qualifier, column in pairs:
            ref = aliases.get(qualifier) if qualifier else 0
            if ref is None or column not in self.values[ref].columns:
                raise NotPlain(f"{column} is no column of a topic", span.start)
            found.add(ref)
        return found

    def _output(self, span: Span) -> Iterable[tuple[int, int]]:
        output = next(o for o in self.shape.outputs if o.span == span)
        if not output.star:
            ref = self._one(span, "the column")
            return [(ref, self.values[ref].add(span))]
        wanted = (output.alias or "").lower()
        refs = [
            i
            for i, source in enumerate(self.shape.sources)
            if output.alias is None or source.alias.lower() == wanted
        ]
        return [(i, self.values[i].add_column(c)) for i in refs for c in self.values[i].starred]

    def _conditions(self, span: Span, outer: int | None) -> None:
        for tokens in conjuncts(self.shape, span):
            part = Span(tokens[0].start, tokens[-1].end)
            refs = self._refs(part)
            if len(refs) <= 1:
                ref = refs.pop() if refs else (outer or 0)
                self.checks.append((outer, self.values[ref].condition(part, tokens)))
                continue
            sides = equality_sides(tokens)
            if sides is None:
                raise NotPlain("a condition over several references is no equality", part.start)
            self._equality(sides, outer)

    def _equality(self, sides: tuple[Span, Span], outer: int | None) -> None:
        refs = [self._one(side, "one side of an equality,") for side in sides]
        affinities = [
            self.values[ref].affinity(side) for ref, side in zip(refs, sides, strict=True)
        ]
        if "NUMERIC" in affinities or refs[0] == refs[1]:
            raise NotPlain(
                "an equality of numbers or of expressions in parentheses", sides[0].start
            )
        is_text = "TEXT" in affinities
        places = [
            (ref, self.values[ref].add(side, as_text=is_text))
            for ref, side in zip(refs, sides, strict=True)
        ]
        self.checks.append((outer, NativeCheck(places[0], places[1], is_text)))
        if not any(self.shape.depends_on_now(side) for side in sides):
            self.links.append(_Link(dict(zip(refs, sides, strict=True)), is_text, outer))

    # -- the order of evaluation

    def _order(self, key_ref: int) -> list[tuple[int, _Link | None]]:
        """Every reference with the link that finds its rows from one that comes before it."""
        order: list[tuple[int, _Link | None]] = [(key_ref, None)]
        placed = {key_ref}
        while len(placed) < len(self.shape.sources):
            found = self._next(placed)
            if found is None:
                missing = next(i for i in range(len(self.shape.sources)) if i not in placed)
                source = self.shape.sources[missing]
                raise NotPlain(
                    f"no equality leads from the key to {source.alias}", source.name_span.start
                )
            order.append(found)
            placed.add(found[0])
        return order

    def _next(self, placed: set[int]) -> tuple[int, _Link] | None:
        """Links into `key` columns first: they need no key map."""
        found: list[tuple[bool, int, _Link]] = []
        for ref, source in enumerate(self.shape.sources):
            if ref in placed or (source.outer and not self._needed(ref) <= placed | {ref}):
                continue
            home = ref if source.outer else None
            for link in self.links:
                if link.outer == home and ref in link.sides and link.other(ref) in placed:
                    found.append((not self.values[ref].is_key(link.sides[ref]), ref, link))
        if not found:
            return None
        _, ref, link = min(found, key=lambda f: f[:2])
        return ref, link

    def _needed(self, outer: int) -> set[int]:
        """The references that the conditions of a LEFT JOIN read."""
        return {
            place[0]
            for home, check in self.checks
            if home == outer
            for place in (check.left, check.right)
            if place is not None
        }

    # -- the plan

    def plan(self) -> NativePlan:
        position = {ref: i for i, (ref, _) in enumerate(self.order)}
        key_ref, key_value = self.key
        key_span = self.values[key_ref].span_of(key_value)
        if self.values[key_ref].is_key(key_span):
            by = NativeFinder(None, True)
        elif self.shape.depends_on_now(key_span):
            raise NotPlain("the key depends on the time", key_span.start)
        else:
            by = NativeFinder(self._index(key_ref, key_span, False), False)
        references = tuple(self._reference(ref, link, position) for ref, link in self.order)
        self._compile(references)
        outputs = tuple((position[ref], value) for ref, value in self.outputs)
        return NativePlan(references, key_value, by, outputs)

    def _reference(self, ref: int, link: _Link | None, position: dict[int, int]) -> NativeReference:
        values, source = self.values[ref], self.shape.sources[ref]
        probe = step = NativeFinder(None, True)
        near, origin = 0, None
        if link is not None:
            parent = link.other(ref)
            probe = self._finder(ref, link)
            step = self._finder(parent, link)
            near = values.add(link.sides[ref])
            origin = (position[parent], self.values[parent].add(link.sides[parent]))
        if len(values.sql) > MAX_VALUES:
            raise NotPlain(f"more than {MAX_VALUES} values of {source.alias}", 0)
        on, where = self._placed_checks(ref, position)
        return NativeReference(
            self.topic_of[ref], source.alias, source.outer, values.nodes(), values.program(),
            origin, probe, near, step, on, where,
        )  # fmt: skip

    def _placed_checks(
        self, ref: int, position: dict[int, int]
    ) -> tuple[tuple[NativeCheck, ...], tuple[NativeCheck, ...]]:
        """The conditions that can be decided when this reference is in place, and not before."""
        on: list[NativeCheck] = []
        where: list[NativeCheck] = []
        for outer, check in self.checks:
            places = [place for place in (check.left, check.right) if place is not None]
            last = (
                outer
                if outer is not None
                else max((p[0] for p in places), key=position.__getitem__)
            )
            if last != ref:
                continue
            moved = [(position[r], value) for r, value in places]
            made = replace(check, left=moved[0], right=moved[1] if len(moved) > 1 else None)
            (on if outer is not None else where).append(made)
        return tuple(on), tuple(where)

    def _finder(self, ref: int, link: _Link) -> NativeFinder:
        span = link.sides[ref]
        if self.values[ref].is_key(span):
            return NativeFinder(None, True)
        return NativeFinder(self._index(ref, span, link.is_text), link.is_text)

    def _index(self, ref: int, span: Span, is_text: bool) -> int:
        """The number of the key map of an expression; the same text shares the delta level's."""
        if {c for _, c in self.shape.columns_in(span) or ()} & {"op", "changes"}:
            raise NotPlain("a key map over op or changes", span.start)
        expression = self.values[ref].unqualified(span)
        if is_text and self.values[ref].affinity(span) != "TEXT":
            expression = f"CAST({expression} AS TEXT)"
        topic = self.topic_of[ref]
        wanted = IndexRequest(expression, is_text, " ".join(expression.split()))
        for request in self.registry.by_topic.get(topic.lower(), ()):
            if (request.expression, request.is_text) == (expression, is_text):
                wanted = request
        return int(self.registry.column(topic, wanted, self.name).removeprefix("lj:")) - 1

    def _compile(self, references: Iterable[NativeReference]) -> None:
        """SQLite must take every program, and none may be an aggregate."""
        connection = open_memory()
        try:
            for reference in references:
                steps = connection.execute(f"EXPLAIN {reference.program}", (None,) * 6)
                if any(row[1].startswith("Agg") for row in steps):
                    raise NotPlain("an aggregate", 0)
        except apsw.SQLError as error:
            raise NotPlain(f"its values do not compile ({error})", 0) from None
        finally:
            connection.close()
