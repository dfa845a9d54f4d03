"""The delta statements of a query: the keys that changes touch, and the rows of those keys.

Called by `delta`. `Refresh` writes the user's query with restrictions spliced into it; nothing of
it is rewritten but the names of WITH tables, which are replaced by their text, so that each use can
be restricted by itself. `affected` walks from the changed rows of a reference to the key.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from litejoin.plan.query.expressions import ARGUMENTS, Expression
from litejoin.plan.query.functions import CLOCK
from litejoin.plan.query.indexes import Index
from litejoin.plan.query.links import Step, conditions
from litejoin.plan.query.nodes import Span
from litejoin.plan.query.resolve import resolve
from litejoin.plan.query.scope import TOPIC_COLUMNS, CoreScope, Instance, QueryScope, Tree
from litejoin.plan.query.words import conjuncts
from litejoin.plan.sql import AFFECTED
from litejoin.plan.tokens import quoted

COLLECTED = f"SELECT v FROM {quoted(AFFECTED)}"

IndexOf = Callable[[Expression, str], Index]
"""(expression, comparison) -> the key map that finds its rows."""


@dataclass(frozen=True)
class Ways:
    """All that the statements are made of."""

    tree: Tree
    keys: Mapping[Instance, Expression]
    paths: Mapping[Instance, Step]
    index_of: IndexOf

    def probe(self, instance: Instance, alias: str) -> str:
        """The column that finds an instance's rows on the way from the key."""
        if instance in self.keys:
            expression, comparison = self.keys[instance], ""
            by_key = expression.bare == "key"
        else:
            step = self.paths[instance]
            expression, comparison = step.near, step.link.comparison
            by_key = step.by_key and comparison == "TEXT"
        column = "key" if by_key else quoted(self.index_of(expression, comparison).column)
        return f"{quoted(alias)}.{column}"


def compared(text: str, comparison: str) -> str:
    """A value as the key map has it: under what the comparison does to both sides."""
    if comparison == "LOOSE":
        # Texts of numbers as numbers, so that 7, 7.0, '7' and '7.0' are found by one another.
        return (
            f"CASE WHEN {text} = CAST(CAST({text} AS INTEGER) AS TEXT)"
            f" OR {text} = CAST(CAST({text} AS REAL) AS TEXT)"
            f" THEN CAST({text} AS NUMERIC) ELSE {text} END"
        )
    # A TEXT column of the topic table turns what it is compared with into text by itself.
    return f"CAST({text} AS {comparison})" if comparison in ("NUMERIC", "REAL") else text


def picked(text: str, comparison: str, affinity: str) -> str:
    """A value for an IN list of a key map. As text where the map has texts: 5 and '5' would both
    be looked up, and the rows of '5' found twice.
    """
    if comparison == "TEXT" and affinity != "TEXT":
        return f"CAST({text} AS TEXT)"
    return compared(text, comparison)


# -- affected keys


def affected(ways: Ways, instance: Instance) -> str:
    """Result keys touched by changed rows of a topic instance."""
    changed = f"FROM {quoted(instance.topic + ':delta')} AS {quoted(instance.name)}"
    local = _local_conditions(instance)
    where = f" WHERE {' AND '.join(local)}" if local else ""
    return " UNION ALL ".join(
        f"SELECT {key.text()} {changed}{joined}{where}" for joined, key in _upwards(ways, instance)
    )


def _upwards(ways: Ways, at: Instance) -> Iterator[tuple[str, Expression]]:
    """Each way from a reference to the key: what is joined on it, and the key at its end."""
    if at in ways.keys:
        yield _beside(ways.keys[at]), ways.keys[at]
        return
    step = ways.paths[at]
    for far in step.fars:
        (end,) = far.references
        found = f" CROSS JOIN {quoted(end.topic + ':both')} AS {quoted(end.name)}"
        found += f" ON {_far_found(ways, step, far)}"
        for rest, key in _upwards(ways, end):
            yield _beside(step.near) + found + rest, key


def _far_found(ways: Ways, step: Step, far: Expression) -> str:
    """The condition that finds the rows of a far side from a row of the near side."""
    comparison = step.link.comparison
    (end,) = far.references
    alias, value = quoted(end.name), step.near.text()
    if far.bare != "key" or comparison not in ("TEXT", "LOOSE"):
        column = quoted(ways.index_of(far, comparison).column)
        return f"{alias}.{column} = {compared(value, comparison)}"
    if comparison == "TEXT":
        return f"{alias}.key = {value}"
    texts = (f"CAST(CAST({value} AS {kind}) AS TEXT)" for kind in ("INTEGER", "REAL"))
    return f"{alias}.key IN (CAST({value} AS TEXT), {', '.join(texts)})"


def _beside(expression: Expression) -> str:
    """The functions that an expression reads, joined to their row. LEFT: more keys do no harm."""
    return "".join(
        f" LEFT JOIN {each.source.name}({', '.join(a.text() for a in ARGUMENTS[each])})"
        f" AS {quoted(each.name)}"
        for each in expression.laterals
    )


def _local_conditions(instance: Instance) -> list[str]:
    """Conditions on a reference alone: a row that fails them is in no result, old or new."""
    core = instance.core
    found = []
    for home, span in conditions(core):
        applies = not instance.nullable if home is None else _is_left(home, instance)
        if not applies:
            continue
        for term in conjuncts([t for t in core.node.tokens if span.holds(t)]):
            if any(t.text.lower() in CLOCK for t in term):
                continue
            meanings = resolve(Span(term[0].start, term[-1].end), core)
            if len(meanings) == 1 and meanings[0].owners == [instance]:
                found.append(f"({meanings[0].text()})")
    return found


def _is_left(home: Instance, instance: Instance) -> bool:
    return home is instance and home.source.join == "left"


# -- refresh


class Refresh:
    """Writes the query for the collected keys (`collected`), or for the key NULL."""

    def __init__(self, ways: Ways, *, null: bool) -> None:
        self.ways, self.null = ways, null
        self.tree = ways.tree
        affinities = {key.affinity for key in ways.keys.values()}
        self._collected = affinities.pop() if len(affinities) == 1 else ""
        """The affinity that all collected keys have."""

    def text(self) -> str:
        """The whole statement."""
        return self._query(self.tree.top)

    def _query(self, query: QueryScope) -> str:
        """The text of a query with all edits of its part of the text."""
        span = query.node.span
        edits: list[tuple[int, int, str]] = []
        self._edit_query(query, edits)
        return _splice(self.tree.text, span, edits)

    def _edit_query(self, query: QueryScope, edits: list[tuple[int, int, str]]) -> None:
        if query.node.with_span is not None:
            edits.append((query.node.with_span.start, query.node.with_span.end, ""))
        for core in query.cores:
            self._edit_core(core, edits)

    def _edit_core(self, core: CoreScope, edits: list[tuple[int, int, str]]) -> None:
        where: list[str] = []
        for instance in core.sources:
            on: list[str] = []
            if instance.topic:
                self._restrict(instance, where, on, edits)
                where += self._exact_key(instance)
            elif instance.inner is not None and instance.cte is not None:
                edits.append((*_ends(instance.source.span), self._inlined(instance)))
            elif instance.inner is not None:
                self._edit_query(instance.inner, edits)
            if on and instance.source.on is not None:
                start, end = _ends(instance.source.on)
                edits += [(start, start, "("), (end, end, f") AND {' AND '.join(on)}")]
        for _, query in core.subqueries:
            self._edit_query(query, edits)
        if where and core.node.where is not None:
            start, end = _ends(core.node.where)
            edits += [(start, start, "("), (end, end, f") AND {' AND '.join(where)}")]
        elif where:
            end = core.node.from_end
            edits.append((end, end, f" WHERE {' AND '.join(where)}"))

    def _inlined(self, instance: Instance) -> str:
        """A WITH table's own text in place of its name."""
        cte, inner = instance.cte, instance.inner
        assert cte is not None and inner is not None
        text = self._query(inner)
        if cte.columns:
            columns = ", ".join(quoted(c) for c in cte.columns)
            text = (
                f"WITH {quoted(cte.name)}({columns}) AS ({text}) SELECT * FROM {quoted(cte.name)}"
            )
        alias = "" if instance.source.aliased else f" AS {quoted(instance.source.alias)}"
        return f"({text}){alias}"

    def _restrict(
        self,
        instance: Instance,
        where: list[str],
        on: list[str],
        edits: list[tuple[int, int, str]],
    ) -> None:
        """Add the condition that finds an instance's rows, where it belongs."""
        if instance.core.isolated:
            edits.append((*_ends(instance.source.span), self._picked_source(instance)))
            return
        step = self.ways.paths.get(instance)
        if step is None or step.link.core is not instance.core:
            where.append(self._picked(instance, instance.source.alias))
        elif step.link.either:
            comparison = step.link.comparison
            values = ", ".join(picked(text, comparison, "") for text in step.link.either)
            target = where if step.link.home is None else on
            alias = instance.source.alias
            target.append(self._among(instance, alias, step.near, f"IN ({values})"))
        elif not step.by_key and step.written is not None:
            # The query's own equality, once more for the column that finds rows by it.
            value = compared(step.written, step.link.comparison)
            target = where if step.link.home is None else on
            target.append(self._among(instance, instance.source.alias, step.near, f"= {value}"))

    def _exact_key(self, instance: Instance) -> list[str]:
        """Where a row has several keys, the condition that leaves the others out: their rows would
        not be complete.
        """
        key = self.ways.keys.get(instance)
        if key is None or not key.laterals:
            return []
        text = key.text(written=True)
        return [f"({text}) IS NULL" if self.null else f"({text}) IN ({COLLECTED})"]

    def _picked_source(self, instance: Instance) -> str:
        """The rows of a topic that matter, in place of the topic."""
        starred = any(output.star for output in instance.core.node.outputs)
        columns = ", ".join(TOPIC_COLUMNS[:3] if starred else TOPIC_COLUMNS)
        name, alias = quoted(instance.topic), "lj:picked"
        text = (
            f"SELECT {columns} FROM {name} AS {quoted(alias)} WHERE {self._picked(instance, alias)}"
        )
        shown = "" if instance.source.aliased else f" AS {quoted(instance.source.alias)}"
        return f"({text}){shown}"

    def _picked(self, instance: Instance, alias: str) -> str:
        """The condition that a row is one on the way to the collected keys."""
        if instance in self.ways.keys:
            return self._key_condition(instance, alias)
        step = self.ways.paths[instance]
        values = " UNION ALL ".join(self._values(step, far) for far in step.fars)
        return self._among(instance, alias, step.near, f"IN ({values})")

    def _values(self, step: Step, far: Expression) -> str:
        """The values of a step's far side, for the collected keys."""
        (end,) = far.references
        comparison = step.link.comparison
        # The collected 7 stands for keys 7.0 too, whose text is another: then ask the rows.
        as_collected = comparison != "TEXT" or self._collected == "TEXT"
        if self.ways.keys.get(end) == far and as_collected and not self.null:
            return f"SELECT {compared('v', comparison)} FROM {quoted(AFFECTED)}"
        value = picked(far.text(), comparison, far.affinity)
        found = self._downwards(end)
        return " UNION ALL ".join(
            f"SELECT {value} {joined}{_beside(far)} WHERE {condition}"
            for joined, condition in found
        )

    def _downwards(self, at: Instance) -> Iterator[tuple[str, str]]:
        """Each way from the key to a reference: the FROM clause, and the condition of the key."""
        if at in self.ways.keys:
            name = quoted(at.name)
            yield f"FROM {quoted(at.topic)} AS {name}", self._key_condition(at, at.name)
            return
        step = self.ways.paths[at]
        for far in step.fars:
            (end,) = far.references
            value = compared(far.text(), step.link.comparison)
            found = f" CROSS JOIN {quoted(at.topic)} AS {quoted(at.name)}"
            found += f" ON {self.ways.probe(at, at.name)} = {value}"
            for above, condition in self._downwards(end):
                yield above + _beside(far) + found, condition

    def _key_condition(self, instance: Instance, alias: str) -> str:
        key = self.ways.keys[instance]
        if not self.null:
            comparison = "TEXT" if key.bare == "key" else ""
            value = picked("v", comparison, self._collected)
            return self._among(instance, alias, key, f"IN (SELECT {value} FROM {quoted(AFFECTED)})")
        # A key column is never NULL: a comparison that finds nothing without a scan.
        return self._among(instance, alias, key, "= NULL" if key.bare == "key" else "IS NULL")

    def _among(self, instance: Instance, alias: str, expression: Expression, condition: str) -> str:
        probe = self.ways.probe(instance, alias)
        if not expression.laterals:
            return f"{probe} {condition}"
        # A row with several values must not be found once for each of them; nor may the column,
        # which shows one of them, be compared where SQLite finds the row in another way.
        inner = self.ways.probe(instance, "lj:many")
        return (
            f"{quoted(alias)}.key IN (SELECT key FROM {quoted(instance.topic)}"
            f" AS {quoted('lj:many')} WHERE {inner} {condition})"
        )


def _ends(span: Span) -> tuple[int, int]:
    return span.start, span.end


def _splice(text: str, span: Span, edits: Sequence[tuple[int, int, str]]) -> str:
    """The text of a span with edits that do not overlap; those at one place in their order."""
    out, at = [], span.start
    for start, end, new in sorted(edits, key=lambda e: e[:2]):
        out += [text[at:start], new]
        at = end
    return "".join([*out, text[at : span.end]])
