"""The equalities that tie the references of a query, and a way through them from any reference.

Called by `native` and `grouped`. Works on one plain SELECT of expressions over one reference each;
anything else is NotPlain, with what it is and where.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import apsw

from litejoin.plan.delta import IndexRegistry, IndexRequest
from litejoin.plan.native_values import RowValues, conjuncts, equality_sides
from litejoin.plan.nodes_native import NativeCheck, NativeFinder, NativeReference
from litejoin.plan.shape import NotPlain, Shape, Span
from litejoin.store.sqlite import open_memory

MAX_REFERENCES = 8
MAX_VALUES = 32
"""The executor's fixed sizes (native_join.h)."""

Way = list[tuple[int, "Link | None"]]
"""References in the order of evaluation, each with the link that finds its rows."""


class Link:
    """An equality between two references; `outer` is the reference whose LEFT JOIN it stands in."""

    def __init__(self, sides: dict[int, Span], is_text: bool, outer: int | None) -> None:
        self.sides, self.is_text, self.outer = sides, is_text, outer

    def other(self, ref: int) -> int:
        return next(r for r in self.sides if r != ref)


class Links:
    """References, their values, and the conditions over them. Adds the key maps that its ways need
    to `registry`.
    """

    def __init__(
        self, name: str, shape: Shape, topics: Sequence[str], registry: IndexRegistry
    ) -> None:
        self.name, self.shape, self.registry = name, shape, registry
        if len(shape.sources) > MAX_REFERENCES:
            raise NotPlain(f"more than {MAX_REFERENCES} references", 0)
        canonical = {topic.lower(): topic for topic in topics}
        for source in shape.sources:
            if source.kind != "table":
                why = f"the table-valued function {source.name}"
                raise NotPlain(why, source.name_span.start)
            if source.name.lower() not in canonical:
                raise NotPlain(f"{source.name} is not a topic", source.name_span.start)
        self.topic_of = [canonical[source.name.lower()] for source in shape.sources]
        self.values = [RowValues(shape, i) for i in range(len(shape.sources))]
        self.links: list[Link] = []
        self.checks: list[tuple[int | None, NativeCheck]] = []
        """Each with the reference whose LEFT JOIN it stands in."""

    def read_conditions(self) -> None:
        """Take in the conditions of ON and WHERE."""
        for i, source in enumerate(self.shape.sources):
            if source.on is not None:
                self._conditions(source.on, i if source.outer else None)
        if self.shape.where is not None:
            self._conditions(self.shape.where, None)

    # -- values and conditions

    def one(self, span: Span, what: str) -> int:
        """The one reference that an expression reads; the first for a constant."""
        refs = self.refs(span)
        if len(refs) > 1:
            text = " ".join(span.of(self.shape.text).split())
            raise NotPlain(f"{what} {text} reads several references", span.start)
        return refs.pop() if refs else 0

    def refs(self, span: Span) -> set[int]:
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

    def _conditions(self, span: Span, outer: int | None) -> None:
        for tokens in conjuncts(self.shape, span):
            part = Span(tokens[0].start, tokens[-1].end)
            refs = self.refs(part)
            if len(refs) <= 1:
                ref = refs.pop() if refs else (outer or 0)
                self.checks.append((outer, self.values[ref].condition(part, tokens)))
                continue
            sides = equality_sides(tokens)
            if sides is None:
                raise NotPlain("a condition over several references is no equality", part.start)
            self._equality(sides, outer)

    def _equality(self, sides: tuple[Span, Span], outer: int | None) -> None:
        refs = [self.one(side, "one side of an equality,") for side in sides]
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
            self.links.append(Link(dict(zip(refs, sides, strict=True)), is_text, outer))

    # -- the order of evaluation

    def way(self, root: int) -> Way:
        """Every reference with the link that finds its rows from one that comes before it."""
        order: Way = [(root, None)]
        placed = {root}
        while len(placed) < len(self.shape.sources):
            found = self.next(placed)
            if found is None:
                missing = next(i for i in range(len(self.shape.sources)) if i not in placed)
                source = self.shape.sources[missing]
                raise NotPlain(
                    f"no equality leads from the key to {source.alias}", source.name_span.start
                )
            order.append(found)
            placed.add(found[0])
        return order

    def next(self, placed: set[int], through: int | None = None) -> tuple[int, Link] | None:
        """A reference that can be reached; links into `key` columns first: they need no key map.

        `through`: an optional reference whose own conditions lead to those that are not; no other
        optional one is taken then.
        """
        found: list[tuple[bool, int, Link]] = []
        for ref, source in enumerate(self.shape.sources):
            if ref in placed or (through is not None and source.outer):
                continue
            if source.outer and not self._needed(ref) <= placed | {ref}:
                continue
            homes = {ref} if source.outer else {None, through}
            for link in self.links:
                if link.outer in homes and ref in link.sides and link.other(ref) in placed:
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

    # -- what the executor is given

    def reference(self, ref: int, link: Link | None, position: dict[int, int]) -> NativeReference:
        values, source = self.values[ref], self.shape.sources[ref]
        probe = step = NativeFinder(None, True)
        near, origin = 0, None
        if link is not None:
            parent = link.other(ref)
            probe = self.finder(ref, link)
            step = self.finder(parent, link)
            near = values.add(link.sides[ref])
            origin = (position[parent], self.values[parent].add(link.sides[parent]))
        if len(values.sql) > MAX_VALUES:
            raise NotPlain(f"more than {MAX_VALUES} values of {source.alias}", 0)
        on, where = self.placed_checks(ref, position)
        return NativeReference(
            self.topic_of[ref], source.alias, source.outer, values.nodes(), values.program(),
            origin, probe, near, step, on, where,
        )  # fmt: skip

    def placed_checks(
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

    def finder(self, ref: int, link: Link) -> NativeFinder:
        span = link.sides[ref]
        if self.values[ref].is_key(span):
            return NativeFinder(None, True)
        return NativeFinder(self.index(ref, span, link.is_text), link.is_text)

    def index(self, ref: int, span: Span, is_text: bool) -> int:
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

    def compile(self, references: Iterable[NativeReference]) -> None:
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
