"""Expressions over rows: which instances one reads, its affinity, and its text elsewhere.

Called by `resolve`, `links` and `statements`. An expression is kept as texts and columns in turn,
so that it can be written among the names of a delta statement, or over a single row for a key map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

from litejoin.plan.query.scope import Instance
from litejoin.plan.tokens import quoted, tokenize


@dataclass(frozen=True)
class Column:
    """A column of a topic or function instance."""

    instance: Instance
    name: str


@dataclass(frozen=True)
class Expression:
    """`parts`: texts and columns in turn. `strict`: NULL when its columns are NULL."""

    parts: tuple[str | Column, ...]
    strict: bool
    affinity: str
    """"TEXT", "NUMERIC" or "" (none)."""
    excused: frozenset[int] = frozenset()
    """Instances of a FULL JOIN whose absence this expression's partner makes up for."""
    merged: bool = False
    """GROUP BY or the like made one row of equal values: 7 stands for 7.0 as well, or 7.0 for 7."""

    @cached_property
    def owners(self) -> list[Instance]:
        """The instances whose columns it reads."""
        return list(dict.fromkeys(p.instance for p in self.parts if isinstance(p, Column)))

    @cached_property
    def references(self) -> list[Instance]:
        """The topics whose rows it reads, functions beside them counted in."""
        return list(dict.fromkeys(each.owner or each for each in self.owners))

    @cached_property
    def laterals(self) -> list[Instance]:
        """The functions it reads, and those that they read, in the order of FROM."""
        found: dict[int, Instance] = {}
        waiting = [each for each in self.owners if each.owner]
        while waiting:
            function = waiting.pop()
            found[function.number] = function
            for argument in ARGUMENTS.get(function, ()):
                waiting += [each for each in argument.owners if each.owner]
        return [found[number] for number in sorted(found)]

    @property
    def bare(self) -> str | None:
        """The topic's column that it is, and nothing more."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Column) and not self.laterals:
            return self.parts[0].name
        return None

    def text(self, *, written: bool = False) -> str:
        """Its text among the unique names of the instances, or among their own."""
        return "".join(
            p
            if isinstance(p, str)
            else f"{quoted(p.instance.source.alias if written else p.instance.name)}.{p.name}"
            for p in self.parts
        )

    def row_text(self, names: Mapping[int, str] | None = None) -> str:
        """Its text over one row of its topic, alike for alike expressions of all joins."""
        if names is None:
            names = {each.number: f"lj:e{i}" for i, each in enumerate(self.laterals)}
        return "".join(
            p
            if isinstance(p, str)
            else f"{quoted(names[p.instance.number])}.{p.name}"
            if p.instance.owner
            else p.name
            for p in self.parts
        )

    def row_from(self) -> str:
        """The functions beside the row that `row_text` reads, as the end of a FROM clause."""
        names = {each.number: f"lj:e{i}" for i, each in enumerate(self.laterals)}
        calls = []
        for each in self.laterals:
            arguments = ", ".join(argument.row_text(names) for argument in ARGUMENTS[each])
            name = quoted(names[each.number])
            calls.append(f" LEFT JOIN {each.source.name.lower()}({arguments}) AS {name}")
        return "".join(calls)

    def readable(self) -> str:
        """How people read it: its JSON path if it has just one."""
        texts = [p for p in self.parts if isinstance(p, str)]
        strings = [s for t in texts for s in t.split("'")[1::2]]
        if len(strings) == 1 and strings[0].startswith("$") and not self.laterals:
            return strings[0]
        return " ".join(
            "".join(
                p
                if isinstance(p, str)
                else f"{p.instance.source.alias}.{p.name}"
                if p.instance.owner
                else p.name
                for p in self.parts
            ).split()
        )

    def alike(self, other: "Expression") -> bool:
        """The same but for white space and the case of words."""
        return self._normal == other._normal

    @cached_property
    def _normal(self) -> tuple[object, ...]:
        found: list[object] = []
        for p in self.parts:
            if isinstance(p, Column):
                found.append((p.instance.number, p.name))
            else:
                found += [t.text.lower() if t.kind == "word" else t.text for t in tokenize(p)]
        return tuple(found)


ARGUMENTS: "WeakKeyDictionary[Instance, tuple[Expression, ...]]" = WeakKeyDictionary()
"""The arguments of function instances, once `column_of` has looked at them."""


def alike(some: list[Expression], others: list[Expression]) -> bool:
    """True when the meanings of two texts are the same, arm by arm."""
    return len(some) == len(others) and all(
        one.alike(other) for one, other in zip(some, others, strict=True)
    )
