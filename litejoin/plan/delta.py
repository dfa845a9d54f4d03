"""How a join can be kept up to date: from the query's text to delta queries, or to a reason.

Called by `compile_joins`. The scheme (docs/explanation/incremental-joins.md): for each topic
reference, `affected_sql` selects the result keys that its changed rows can touch, and `refresh_sql`
is the user's query restricted to those keys. `plan.query` understands the query and writes both;
here SQLite's EXPLAIN QUERY PLAN has the last word: where a topic would be scanned, the join is
evaluated in full, with the reason.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import apsw

from litejoin.errors import StorageError
from litejoin.frozen import dataclass
from litejoin.plan.query.expressions import Expression
from litejoin.plan.query.indexes import Index, IndexRegistry, IndexRequest
from litejoin.plan.query.links import Step, find_links, find_paths
from litejoin.plan.query.nodes import NotPlain
from litejoin.plan.query.parse import parse_query
from litejoin.plan.query.resolve import exported
from litejoin.plan.query.scope import CoreScope, Instance, Tree, build_tree, outputs_of
from litejoin.plan.query.statements import Refresh, Ways, affected, compared
from litejoin.plan.sql import PlanJudge, output_columns, scanned_topics, topics_in
from litejoin.plan.sql_errors import BadQuery, SqlFinding
from litejoin.plan.tokens import tokenize

Strategy = Literal["native", "delta", "full"]


@dataclass(frozen=True, slots=True)
class ReferenceAnalysis:
    """One topic reference, as `nodes.ReferencePlan`."""

    topic: str
    alias: str
    strategy: Strategy
    through: str
    index: str | None
    affected_sql: str | None
    query_plan: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinAnalysis:
    """Everything about a join that its query tells. Offsets are characters in the query text."""

    columns: tuple[str, ...]
    key_column: str
    key_index: int
    strategy: Strategy
    reasons: tuple[tuple[str, int], ...]
    references: tuple[ReferenceAnalysis, ...]
    refresh_sql: str
    refresh_null_sql: str | None
    refresh_plan: tuple[str, ...]
    ordered: bool
    """The query has its own ORDER BY, so the order of a key's rows is part of its result."""
    full_sql: str
    """The query as it is run from scratch."""


def analyze_join(
    name: str,
    query: str,
    key_column: str | None,
    topics: Sequence[str],
    registry: IndexRegistry,
) -> JoinAnalysis:
    """Analyse one join over these topics (as written in the config); raises BadQuery.

    Adds the indexes that its delta queries probe to `registry`. Pure but for that; tens of
    milliseconds.
    """
    query = query.rstrip().removesuffix(";").rstrip()
    columns = output_columns(query, topics)
    key_index = _key_index(query, columns, key_column)
    trial = copy.deepcopy(registry)
    try:
        analysis = _Delta(name, query, columns, key_index, topics, trial).analysis()
    except NotPlain as reason:
        return _full(query, columns, key_index, topics, str(reason), reason.offset)
    registry.by_topic, registry.used_by = trial.by_topic, trial.used_by
    return analysis


def _key_index(query: str, columns: tuple[str, ...], key_column: str | None) -> int:
    if key_column is None:
        return 0
    lowered = [c.lower() for c in columns]
    if key_column.lower() not in lowered:
        raise BadQuery(
            SqlFinding(
                "key-column",
                f'key_column "{key_column}" is not in the output',
                0,
                len(query),
                f"the query returns {', '.join(columns)}",
            )
        )
    return lowered.index(key_column.lower())


def _full(
    query: str,
    columns: tuple[str, ...],
    key_index: int,
    topics: Sequence[str],
    reason: str,
    offset: int,
) -> JoinAnalysis:
    read = topics_in(query)
    canonical = {t.lower(): t for t in topics}
    judge = PlanJudge(topics, {})
    try:
        plan = judge.query_plan(query)
    finally:
        judge.close()
    references = tuple(
        ReferenceAnalysis(canonical.get(t.lower(), t), t, "full", reason, None, None, ())
        for t in read
    )
    return JoinAnalysis(
        columns,
        columns[key_index],
        key_index,
        "full",
        ((reason, offset),),
        references,
        query,
        None,
        plan,
        is_ordered(query),
        query,
    )


def is_ordered(query: str) -> bool:
    """True when the query's own ORDER BY orders its rows."""
    return any(t.depth == 0 and t.is_word("ORDER") for t in tokenize(query))


class _Delta:
    """The analysis of one query. Raises NotPlain where incremental evaluation is lost."""

    def __init__(
        self,
        name: str,
        query: str,
        columns: tuple[str, ...],
        key_index: int,
        topics: Sequence[str],
        registry: IndexRegistry,
    ) -> None:
        self.name, self.query, self.columns = name, query, columns
        self.key_index, self.topics, self.registry = key_index, topics, registry
        parsed = parse_query(query)
        self.tree: Tree = build_tree(query, {t.lower(): t for t in topics}, parsed)
        if parsed.limit is not None:
            raise NotPlain("LIMIT without a key", parsed.limit)
        self._check_all_read()
        keys = self._keys()
        paths = find_paths(self.tree, find_links(self.tree), keys)
        self.ways = Ways(self.tree, keys, paths, self._index)

    def analysis(self) -> JoinAnalysis:
        refresh = Refresh(self.ways, null=False).text()
        null = None
        if any(key.bare != "key" for key in self.ways.keys.values()):
            null = Refresh(self.ways, null=True).text()
        statements = {each: affected(self.ways, each) for each in self.tree.references}
        try:
            judge = PlanJudge(self.topics, self.registry.definitions())
        except StorageError as error:
            raise NotPlain(f"a key map does not compile ({error})", 0) from None
        try:
            refresh_plan = self._no_scan(judge, refresh)
            if null is not None:
                self._no_scan(judge, null)
            references = tuple(
                self._reference(each, sql, self._no_scan(judge, sql))
                for each, sql in statements.items()
            )
        finally:
            judge.close()
        return JoinAnalysis(
            self.columns,
            self.columns[self.key_index],
            self.key_index,
            "delta",
            (),
            references,
            refresh,
            null,
            refresh_plan,
            is_ordered(self.query),
            self.query,
        )

    def _check_all_read(self) -> None:
        """Nothing that SQLite reads may be missing from the tree."""
        seen = {each.topic.lower() for each in self.tree.references}
        for topic in topics_in(self.query):
            if topic.lower() not in seen:
                raise NotPlain(f"{topic} is read in an unusual place", 0)
        for query in (self.tree.top, *(c.query for c in self.tree.cores())):
            for token in query.node.order_tokens:
                if token.is_word("SELECT"):
                    raise NotPlain("a subquery in ORDER BY or LIMIT", token.start)

    # -- the key

    def _keys(self) -> Mapping[Instance, Expression]:
        keys: dict[Instance, Expression] = {}
        for core in self.tree.top.cores:
            for expression in self._key_of(core):
                (reference,) = expression.references
                if reference in keys:
                    raise NotPlain("a key taken from one table twice", core.node.span.start)
                keys[reference] = expression
        return keys

    def _key_of(self, core: CoreScope) -> Sequence[Expression]:
        """What the key of one arm is made of: rows of one reference, or of several arms' each."""
        _, span, instance = outputs_of(core)[self.key_index]
        place = span or (instance.source.span if instance else core.node.span)
        written = place.of(self.query)
        expressions = exported(core, self.key_index)
        if not expressions:
            raise self._lost(core, written, place.start)
        for expression in expressions:
            if len(expression.references) != 1:
                what = "several tables" if expression.references else "none"
                raise NotPlain(f"the key {written} is made of {what}", place.start)
            for owner in (*expression.owners, expression.references[0]):
                at: Instance | None = owner
                while at is not None:
                    if at.nullable and at.number not in expression.excused:
                        raise NotPlain(
                            "the key comes from the optional side of a join", place.start
                        )
                    at = at.core.query.holder
        return expressions

    def _lost(self, core: CoreScope, written: str, offset: int) -> NotPlain:
        """Why rows cannot be told apart by the key."""
        if core.node.calls and not core.node.group_by:
            at = core.node.calls[0][1].start
            return NotPlain("an aggregate over the whole topic, without GROUP BY", at)
        if core.node.group_by:
            at = core.node.group_by[0].start
            return NotPlain("the key is not one of the GROUP BY terms", at)
        if core.node.partitions:
            return NotPlain("a window function across keys", offset)
        return NotPlain(f"the key {written} is made of more than topic columns", offset)

    # -- indexes and references

    def _index(self, expression: Expression, comparison: str) -> Index:
        text = compared(expression.row_text(), comparison)
        if comparison == "TEXT" and expression.affinity != "TEXT":
            text = f"CAST({text} AS TEXT)"
        (reference,) = expression.references
        request = IndexRequest(
            text, comparison == "TEXT", expression.readable(), expression.row_from()
        )
        column = self.registry.column(reference.topic, request, self.name)
        return Index(column, request.path)

    def _reference(self, instance: Instance, sql: str, plan: tuple[str, ...]) -> ReferenceAnalysis:
        through, index = "by key", None
        if instance in self.ways.keys:
            key = self.ways.keys[instance]
            if key.bare != "key":
                through = f"by group {key.readable()}"
        else:
            through, index = self._through(self.ways.paths[instance])
        return ReferenceAnalysis(
            instance.topic, instance.source.alias, "delta", through, index, sql, plan
        )

    def _through(self, step: Step) -> tuple[str, str | None]:
        """How people read a step, and the key map that it goes through."""
        fars = step.fars if step.link.either else step.fars[:1]
        ways = [self._through_one(step, far) for far in fars]
        texts = list(dict.fromkeys(text for text, _ in ways))
        return f"through {' or '.join(texts)}", next((each for _, each in ways if each), None)

    def _through_one(self, step: Step, far: Expression) -> tuple[str, str | None]:
        (reference,) = far.references
        if far.bare == "key" and step.link.comparison in ("TEXT", "LOOSE"):
            return f"{reference.topic}.key", None
        index = self._index(far, step.link.comparison)
        dot = "." if index.path.startswith("$") or far.bare else ": "
        return f"{reference.topic}{dot}{index.path}", index.column

    def _no_scan(self, judge: PlanJudge, sql: str) -> tuple[str, ...]:
        try:
            plan = judge.query_plan(sql)
        except apsw.SQLError as error:
            raise NotPlain(f"its delta query does not compile ({error})", 0) from None
        for alias in scanned_topics(plan):
            at = next(
                (
                    each.source.span.start
                    for each in self.tree.references
                    if alias.lower() in (each.name.lower(), each.source.alias.lower())
                ),
                0,
            )
            raise NotPlain(f"{alias} would be scanned: no equality leads to its rows", at)
        return plan


__all__ = [
    "IndexRegistry",
    "IndexRequest",
    "JoinAnalysis",
    "ReferenceAnalysis",
    "analyze_join",
]
