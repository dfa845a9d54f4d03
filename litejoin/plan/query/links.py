"""The equalities between rows, and the way from each topic reference to the result key.

Called by `statements` and `delta`. A link may be followed from reference x to reference y when
every change of a row of x can alter the result only for such rows of y as the link finds:

- an equality in WHERE or in the ON of an inner join holds for every row of that SELECT;
- one in the ON of a LEFT JOIN holds for the rows of its right side only, so it leads away from
  that side; of a RIGHT JOIN, away from its left side;
- one in a subquery leads from the subquery's rows to those of the query around it, because rows
  that fail it cannot alter the subquery's value; `x IN (SELECT y ...)`, as a term that every row
  must fulfil, is such an equality, x = y;
- `x = a OR x = b`, or `x IN (a, b)`, leads from the rows of x to those of a and those of b, but not
  back: a change of a's row matters for what either of its values finds;
- where an outer join can put NULLs in place of a row, the side that reads it must be NULL then:
  `coalesce(u.x, 'none') = ...` also holds without a row of u, and leads nowhere.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from litejoin.plan.query.expressions import Expression
from litejoin.plan.query.nodes import NotPlain, Span
from litejoin.plan.query.resolve import exports, full_pairs, resolve
from litejoin.plan.query.scope import CoreScope, Instance, Tree
from litejoin.plan.query.words import alternative_sides, conjuncts, equality_sides

Comparison = Literal["", "TEXT", "NUMERIC", "REAL", "LOOSE"]
"""The affinity that an equality applies to its sides. REAL: that of IN may be any numeric one, and
REAL makes one number of integers beyond 2^53. LOOSE: TEXT, to a value that stands for all numbers
equal to it, so that its text may be '7' or '7.0'.
"""


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a link: its meanings, and its text where the equality stands.

    There are several meanings where it is a column of a compound query: one for each arm.
    """

    meanings: tuple[Expression, ...]
    written: str | None


@dataclass(frozen=True, eq=False)
class Link:
    """An equality of references in a SELECT; `home`: the outer join in whose ON it stands."""

    left: Side
    right: Side
    core: CoreScope
    home: Instance | None
    is_in: bool = False
    """`left IN (SELECT right ...)`, or `left IN (right, ...)`."""
    either: tuple[str, ...] = ()
    """The partners of `left` as they are written where it is equal to one of several."""

    @property
    def comparison(self) -> Comparison:
        """What is done to both sides before they are compared."""
        sides = (*self.left.meanings, *self.right.meanings)
        affinities = {side.affinity for side in sides}
        if "NUMERIC" in affinities:
            return "REAL" if self.is_in else "NUMERIC"
        if "TEXT" not in affinities:
            return ""
        loose = any(side.merged and side.affinity != "TEXT" for side in sides)
        return "LOOSE" if loose else "TEXT"


@dataclass(frozen=True, eq=False)
class Step:
    """How a reference hangs on others, which are closer to the key.

    `near` is over its rows. A row of it matters for the rows of each of `fars` that it is equal to.
    """

    link: Link
    near: Expression
    fars: tuple[Expression, ...]
    written: str | None
    """The far side where the equality stands."""

    @property
    def by_key(self) -> bool:
        """True when the key column of the topic finds near's rows."""
        return self.near.bare == "key" and self.link.comparison in ("TEXT", "LOOSE")


def find_links(tree: Tree) -> list[Link]:
    """All usable equalities of the query."""
    return [link for core in tree.cores() for link in _of_core(core)]


def _of_core(core: CoreScope) -> Iterator[Link]:
    for home, span in conditions(core):
        for term in conjuncts([t for t in core.node.tokens if span.holds(t)]):
            sides = equality_sides(term)
            if sides:
                yield Link(_side(core, sides[0]), _side(core, sides[1]), core, home)
                continue
            either = alternative_sides(term)
            if either:
                yield from _alternatives(core, home, *either)
    for left, right in full_pairs(core):
        instance = right.references[0] if right.references else None
        home = _top(instance, core) if instance else None
        if home is not None and home.source.join == "inner":
            home = None
        yield Link(Side((left,), None), Side((right,), None), core, home)
    for subquery, scope in core.subqueries:
        if subquery.left is not None:
            outer = Side(_side(core, subquery.left).meanings, None)
            yield Link(Side(tuple(exports(scope, 0)), None), outer, core, None, True)


def _alternatives(
    core: CoreScope, home: Instance | None, left: Span, partners: Sequence[Span]
) -> Iterator[Link]:
    """The link of `x = a OR x = b`; none where one side is not understood, or where they are not
    all compared alike: 5 finds 5.0 as a number, and not as a text.
    """
    near, sides = _side(core, left), [_side(core, partner) for partner in partners]
    comparisons = {Link(near, side, core, home).comparison for side in sides}
    if len(comparisons) == 1 and all(side.meanings for side in sides):
        meanings = tuple(meaning for side in sides for meaning in side.meanings)
        texts = tuple(side.written or "" for side in sides)
        yield Link(near, Side(meanings, None), core, home, True, texts)


def conditions(core: CoreScope) -> list[tuple[Instance | None, Span]]:
    """The conditions of a SELECT; of an outer join's ON, with the instance it joins."""
    found: list[tuple[Instance | None, Span]] = []
    for each in core.sources:
        if each.source.on is not None:
            found.append((None if each.source.join == "inner" else each, each.source.on))
    if core.node.where is not None:
        found.append((None, core.node.where))
    return found


def _side(core: CoreScope, span: Span) -> Side:
    return Side(tuple(resolve(span, core)), span.of(core.query.text))


# -- which way


def _levels(instance: Instance, core: CoreScope) -> list[Instance]:
    """The instance, the query that holds it, ... up to an item of `core` or of a SELECT around."""
    around = list(core.around())
    found = [instance]
    while found[-1].core not in around:
        holder = found[-1].core.query.holder
        if holder is None:
            break
        found.append(holder)
    return found


def _top(instance: Instance, core: CoreScope) -> Instance:
    return _levels(instance, core)[-1]


def _place(instance: Instance, core: CoreScope) -> str:
    """Where a row is, seen from the SELECT of a link."""
    top = _top(instance, core)
    if top.core is core:
        return "here"
    return "below" if top.core.parent is core else "around"


def _leads(link: Link, near: Expression, far: Expression) -> bool:
    """True when changed rows that `near` reads may be followed to rows that `far` reads."""
    if len(near.references) != 1 or len(far.references) != 1:
        return False
    (start,), (end,) = near.references, far.references
    from_, to = _place(start, link.core), _place(end, link.core)
    if start is end or from_ == "around" or to == "below":
        return False
    home = link.home
    if home is not None:
        if from_ != "here" or not _may_leave(home, _top(start, link.core)):
            return False
        if home in near.owners and home.owner is not None:
            return False
    excused = home if home is not None and home.source.join == "left" else None
    return _sound(near, link, excused) and _sound(far, link, None)


def _sound(expression: Expression, link: Link, excused: Instance | None) -> bool:
    """False when NULLs in place of a row could fulfil the equality."""
    if expression.strict:
        return True
    return not any(
        level.nullable and level is not excused and level.number not in expression.excused
        for owner in (*expression.owners, *expression.references)
        for level in _levels(owner, link.core)
    )


def _may_leave(home: Instance, from_: Instance) -> bool:
    if home.source.join == "left":
        return from_ is home
    if home.source.join == "right":
        return from_.core is home.core and from_.position < home.position
    return from_.core is home.core


# -- the way to the key


def find_paths(tree: Tree, links: Iterable[Link], keys: Iterable[Instance]) -> dict[Instance, Step]:
    """Outwards from the references that the key comes from: for each other one, its step.

    Raises NotPlain for a reference that no equality leads to.
    """
    roots = list(keys)
    steps = [step for link in links for step in _steps(link)]
    # Into `key` columns first: they need no key map.
    steps.sort(key=lambda step: not step.by_key)
    paths: dict[Instance, Step] = {}
    reached = set(roots)
    while True:
        found: dict[Instance, Step] = {}
        for step in steps:
            (start,) = step.near.references
            ends = {reference for far in step.fars for reference in far.references}
            if start not in reached and start not in found and ends <= reached:
                found[start] = step
        if not found:
            break
        paths |= found
        reached |= set(found)
    for instance in tree.references:
        if instance not in reached:
            raise NotPlain(
                f"no equality connects {instance.source.alias} to the key",
                instance.source.span.start,
            )
    return paths


def _steps(link: Link) -> Iterator[Step]:
    ways = [(link.left, link.right)] if link.either else []
    for side, other in ways or [(link.left, link.right), (link.right, link.left)]:
        for near in side.meanings:
            if other.meanings and all(_leads(link, near, far) for far in other.meanings):
                yield Step(link, near, other.meanings, other.written)
