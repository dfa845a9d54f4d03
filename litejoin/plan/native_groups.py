"""Which queries with GROUP BY are kept as accumulators, and how: from the query's shape to a
GroupedPlan.

Called by the compiler for joins that are incremental already. Such a query is one SELECT of group
terms and COUNT, SUM, AVG, TOTAL, MIN or MAX, each over one reference, with references tied by
equalities as `native` has them. Its result row is the query's own select list and HAVING over a row
of the group's terms and aggregates (`native_group_rows`). Anything else stays delta, with the
reason.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

from litejoin.plan.delta import IndexRegistry
from litejoin.plan.native import NOT_NATIVE, key_finder
from litejoin.plan.native_group_rows import NAMES, Aggregates, GroupRows, group_terms
from litejoin.plan.native_links import Links, Way
from litejoin.plan.nodes_native import (
    GroupedAggregate,
    GroupedPlan,
    GroupedRoot,
    NativeCheck,
    NativeFinder,
)
from litejoin.plan.query.functions import AGGREGATES, CLOCK, PURE
from litejoin.plan.query.grammar import reads_clock
from litejoin.plan.shape import NotPlain, Shape, Span, parse_shape
from litejoin.plan.tokens import tokenize

_KEPT = frozenset(name.lower() for name in NAMES)
_WORDS = frozenset(
    "cast in filter and or not when then else on where having by is like glob between case"
    " escape".split()
)
_KNOWN = PURE | CLOCK | _KEPT | _WORDS
"""What may stand before a parenthesis: a function of its arguments alone, or a word of SQL."""

MAX_TERMS = 8
"""The executor's fixed size (native_group.h)."""


def grouped_plan(
    name: str, query: str, key_index: int, topics: Sequence[str], registry: IndexRegistry
) -> GroupedPlan:
    """The plan of a query with GROUP BY; adds the key maps it needs to `registry`.

    Raises NotPlain with what forbids it and where. Pure but for the registry; milliseconds.
    """
    shape = parse_shape(query.rstrip().removesuffix(";").rstrip())
    _refuse(shape)
    trial = copy.deepcopy(registry)
    plan = _Compiler(Links(name, shape, topics, trial), key_index).plan()
    registry.by_topic, registry.used_by = trial.by_topic, trial.used_by
    return plan


def is_grouped(query: str) -> bool:
    """True when GROUP BY of the whole query is what keeps it from being a plain join."""
    return any(t.depth == 0 and t.is_word("GROUP") for t in tokenize(query))


def _refuse(shape: Shape) -> None:
    allowed = {"GROUP", "HAVING"}
    for i, token in enumerate(shape.tokens):
        if token.kind == "word" and token.text in NOT_NATIVE and token.text not in allowed:
            raise NotPlain(NOT_NATIVE[token.text], token.start)
        called = i + 1 < len(shape.tokens) and shape.tokens[i + 1].is_op("(")
        function = token.text.lower()
        if token.kind == "name" and called and function in AGGREGATES | CLOCK:
            raise NotPlain(f"{token.text} in quotes", token.start)
        if token.kind == "word" and called and function in AGGREGATES - _KEPT:
            raise NotPlain(f"the aggregate {function}()", token.start)
        if token.is_identifier and called and function not in _KNOWN:
            raise NotPlain(
                f"{function}(), which may not depend on its arguments alone", token.start
            )
    if not shape.group_by:
        raise NotPlain("no GROUP BY", 0)
    if reads_clock(list(shape.tokens)):
        raise NotPlain("it compares with the clock", 0)


class _Compiler:
    """One query. Values are numbered before a root is made: every root shares the numbers."""

    def __init__(self, links: Links, key_index: int) -> None:
        self.links, self.shape = links, links.shape
        self.outer = [source.outer for source in self.shape.sources]
        self.terms = group_terms(self.shape)
        if len(self.terms) > MAX_TERMS:
            raise NotPlain(f"more than {MAX_TERMS} terms of GROUP BY", self.terms[-1].start)
        self.places = [self._value(term, "the term") for term in self.terms]
        affinities = [
            links.values[ref].affinity(term)
            for (ref, _), term in zip(self.places, self.terms, strict=True)
        ]
        self.aggregates: list[GroupedAggregate] = []
        found = Aggregates(self.shape)
        for call in found.calls:
            self.aggregates.append(GroupedAggregate(call.name, self._argument(call.value,
                call.condition), call.text))  # fmt: skip
        rows = GroupRows(self.shape, self.terms, affinities, found)
        self.final_sql, self.key_term = rows.final_sql, rows.key_term(key_index)
        links.read_conditions()

    def _value(self, span: Span, what: str) -> tuple[int, int]:
        ref = self.links.one(span, what)
        return ref, self.links.values[ref].add(span)

    def _argument(self, value: Span | None, condition: Span | None) -> int | None:
        """The number among the arguments, which follow the terms in `places`."""
        if condition is None:
            if value is None:
                return None
            place = self._value(value, "the aggregate of")
        else:
            refs = self.links.refs(condition) | (self.links.refs(value) if value else set())
            if len(refs) > 1:
                raise NotPlain("an aggregate over several references", condition.start)
            ref = refs.pop() if refs else 0
            place = (ref, self.links.values[ref].add_filtered(value, condition))
        if place not in self.places[len(self.terms) :]:
            self.places.append(place)
        return self.places.index(place, len(self.terms)) - len(self.terms)

    def plan(self) -> GroupedPlan:
        key_ref, key_value = self.places[self.key_term]
        if self.outer[key_ref]:
            raise NotPlain("the key comes from the optional side of a LEFT JOIN", 0)
        for home, check in self.links.checks:
            self._check_leaf(home, check)
        by = key_finder(self.links, key_ref, self.terms[self.key_term])
        # Twice: the first pass numbers every value that the ways need.
        for _ in range(2):
            roots = tuple(self._root(ref) for ref in range(len(self.outer)))
        for root in roots:
            self.links.compile(root.references)
        return GroupedPlan(
            roots=roots,
            terms=len(self.terms),
            key_term=self.key_term,
            key_reference=key_ref,
            by=by,
            aggregates=tuple(self.aggregates),
            final_sql=self.final_sql,
        )

    def _check_leaf(self, home: int | None, check: NativeCheck) -> None:
        """An optional reference must hang on ones that are not: then one of its rows comes or goes
        without moving others.
        """
        refs = {place[0] for place in (check.left, check.right) if place is not None}
        if len(refs) > 1 and any(self.outer[ref] for ref in refs - {home}):
            raise NotPlain("a condition that ties the optional side of a LEFT JOIN to others", 0)
        if home is not None and any(self.outer[ref] for ref in refs - {home}):
            raise NotPlain("a LEFT JOIN whose condition reads another one", 0)

    # -- roots

    def _root(self, ref: int) -> GroupedRoot:
        return self._outer_root(ref) if self.outer[ref] else self._inner_root(ref)

    def _values(self, position: dict[int, int]) -> tuple[tuple[int, int], ...]:
        return tuple((position[ref], value) for ref, value in self.places)

    def _inner_root(self, ref: int) -> GroupedRoot:
        way = self.links.way(ref)
        position = {each: i for i, (each, _) in enumerate(way)}
        references = tuple(self.links.reference(each, link, position) for each, link in way)
        return GroupedRoot(references, tuple(each for each, _ in way), self._values(position))

    def _outer_root(self, ref: int) -> GroupedRoot:
        """From a row of an optional reference over its own ON to all that are not optional; then
        that LEFT JOIN is decided; then the other optional ones.
        """
        way = self._core_way(ref)
        core = len(way)
        placed = {each for each, _ in way}
        while (found := self.links.next(placed)) is not None:
            way.append(found)
            placed.add(found[0])
        position = {each: i for i, (each, _) in enumerate(way)}
        references = []
        for each, link in way:
            made = self.links.reference(each, link, position)
            where = tuple(c for c in made.where if not _reads(c, 0))
            references.append(
                replace(made, outer=made.outer and each != ref, on=made.on, where=where)
            )
        mine = [(home, self._moved(check, position)) for home, check in self.links.checks]
        on = tuple(check for home, check in mine if home == ref)
        last = tuple(check for home, check in mine if home is None and _reads(check, 0))
        references[0] = replace(references[0], on=())
        probe, source = self._entry(ref, position)
        return GroupedRoot(
            tuple(references), tuple(each for each, _ in way), self._values(position),
            core, on, last, probe, source,
        )  # fmt: skip

    def _core_way(self, ref: int) -> Way:
        way: Way = [(ref, None)]
        placed = {ref}
        core = {each for each, outer in enumerate(self.outer) if not outer}
        while not core <= placed:
            found = self.links.next(placed, through=ref)
            if found is None:
                raise NotPlain("no equality leads from the optional side of a LEFT JOIN", 0)
            way.append(found)
            placed.add(found[0])
        return way

    def _entry(self, ref: int, position: dict[int, int]) -> tuple[NativeFinder, tuple[int, int]]:
        """How the rows of an optional reference are found from those that it hangs on."""
        for link in self.links.links:
            if link.outer == ref and ref in link.sides:
                parent = link.other(ref)
                value = self.links.values[parent].add(link.sides[parent])
                return self.links.finder(ref, link), (position[parent], value)
        raise NotPlain("no equality leads to the optional side of a LEFT JOIN", 0)

    def _moved(self, check: NativeCheck, position: dict[int, int]) -> NativeCheck:
        ref, value = check.left
        right = check.right and (position[check.right[0]], check.right[1])
        return replace(check, left=(position[ref], value), right=right)


def _reads(check: NativeCheck, position: int) -> bool:
    return check.left[0] == position or (check.right is not None and check.right[0] == position)
