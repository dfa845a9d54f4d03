"""How native code evaluates a join: frozen values, made by `plan.native` and `plan.native_groups`.

Read by the engine's native level, which compiles them. Like `plan.nodes`: nothing here does
anything.
"""

from typing import Literal

from litejoin.frozen import dataclass


@dataclass(frozen=True, slots=True)
class NativeValue:
    """A value that a native join needs of one row of a topic.

    `kind` says how native code computes it ("sql": SQLite does); `path` are the member names of a
    "path" into the payload. `as_text`: it is compared as TEXT somewhere.
    """

    kind: Literal["sql", "key", "payload", "timestamp", "timestamp_ms", "path"]
    path: tuple[str, ...] = ()
    as_text: bool = False


@dataclass(frozen=True, slots=True)
class NativeFinder:
    """How rows are found by a value: `index` is the number of a topic's key map; None: by key."""

    index: int | None
    is_text: bool


@dataclass(frozen=True, slots=True)
class NativeCheck:
    """`left = right`, or `left = literal`, or `left` is true. Sides: (reference, value)."""

    left: tuple[int, int]
    right: tuple[int, int] | None
    is_text: bool
    literal: str | int | None = None


@dataclass(frozen=True, slots=True)
class NativeReference:
    """One reference of a native join. `program` computes its values over one row in SQL.

    `source` is the value of an earlier reference that `probe` finds its rows with; `step` finds
    rows of that earlier reference by the value `near` of this one. The first has none of these.
    """

    topic: str
    alias: str
    outer: bool
    values: tuple[NativeValue, ...]
    program: str
    source: tuple[int, int] | None
    probe: NativeFinder
    near: int
    step: NativeFinder
    on: tuple[NativeCheck, ...]
    where: tuple[NativeCheck, ...]

    @property
    def is_looked_up_by_key(self) -> bool:
        """Its rows come from the row cache where they are there."""
        return self.source is not None and self.probe.index is None


@dataclass(frozen=True, slots=True)
class NativePlan:
    """A join that native code evaluates: references in the order of evaluation, the first holds the
    result key (value `key_value`, whose rows `by` finds); outputs as (reference, value).
    """

    references: tuple[NativeReference, ...]
    key_value: int
    by: NativeFinder
    outputs: tuple[tuple[int, int], ...]

    @property
    def looked_up_by_key(self) -> frozenset[str]:
        """Topics whose rows the row cache holds."""
        return frozenset(r.topic for r in self.references if r.is_looked_up_by_key)


@dataclass(frozen=True, slots=True)
class GroupedAggregate:
    """An aggregate of a group; `value` is the number of its argument, None for COUNT(*)."""

    name: Literal["COUNT", "SUM", "AVG", "TOTAL", "MIN", "MAX"]
    value: int | None
    text: str
    """As the query has it."""


@dataclass(frozen=True, slots=True)
class GroupedRoot:
    """From a changed row of one reference to the joined rows that it is part of.

    `references` are in the order of evaluation, the changed one first; `numbers` says which of the
    query's each is. `values`: the group terms, then the aggregates' arguments, as (reference,
    value). Of an optional reference `core` is how many come before its own LEFT JOIN is decided by
    `on`; `probe` finds its rows by `source`, and `last` are the conditions of WHERE on it.
    """

    references: tuple[NativeReference, ...]
    numbers: tuple[int, ...]
    values: tuple[tuple[int, int], ...]
    core: int = 0
    on: tuple[NativeCheck, ...] = ()
    last: tuple[NativeCheck, ...] = ()
    probe: NativeFinder | None = None
    source: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class GroupedPlan:
    """A query with GROUP BY whose groups are kept as accumulators: one root for each reference.

    A group is read again from the rows that `by` finds for the result key, which is group term
    `key_term`, a value of reference `key_reference`. `final_sql` makes the result row of a group:
    ?1.. are its terms, then the aggregates.
    """

    roots: tuple[GroupedRoot, ...]
    terms: int
    key_term: int
    key_reference: int
    by: NativeFinder
    aggregates: tuple[GroupedAggregate, ...]
    final_sql: str

    @property
    def looked_up_by_key(self) -> frozenset[str]:
        """Topics whose rows the row cache holds."""
        references = (r for root in self.roots for r in root.references)
        return frozenset(r.topic for r in references if r.is_looked_up_by_key)

    @property
    def reads_rows(self) -> bool:
        """Rows beside those that have changed are looked at: partners, or those of a group whose
        extreme has left.
        """
        return len(self.roots) > 1 or any(a.name in ("MIN", "MAX") for a in self.aggregates)
