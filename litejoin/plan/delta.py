"""How a join can be kept up to date: from the query's text to delta queries, or to a reason.

Called by `compile`. The scheme (docs/explanation/incremental-joins.md): for each topic reference r,
`affected_sql` selects the result keys that the changed rows of r can touch, from both their old and
new versions, following the query's equalities from r to the reference that the key comes from and
leaving out every other condition (a superset of keys is only more work). `refresh_sql` is the
user's query itself, restricted to those keys. Both are spliced from the query's own text; hidden
columns "lj:n" are added beside the original conditions, which stay and are checked, so no value or
affinity changes. SQLite's EXPLAIN QUERY PLAN must show that no topic is scanned; otherwise the join
is evaluated in full, with the reason. This is one file because the analysis is one walk whose steps
share its state.
"""

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import field
from typing import Literal

import apsw

from litejoin.frozen import dataclass
from litejoin.plan.shape import (
    TOPIC_COLUMNS,
    Equality,
    NotPlain,
    Shape,
    Span,
    parse_shape,
)
from litejoin.plan.sql import (
    AFFECTED,
    PlanJudge,
    output_columns,
    scanned_topics,
    topics_in,
)
from litejoin.plan.sql_errors import BadQuery, SqlFinding
from litejoin.plan.tokens import quoted, tokenize

Strategy = Literal["native", "delta", "full"]

_TEXT_COLUMNS = ("key", "payload", "op", "changes")
_INTEGER_COLUMNS = ("timestamp", "timestamp_ms")


@dataclass(frozen=True, slots=True)
class IndexRequest:
    """An indexed expression over one row of a topic; `path` is how people read it."""

    expression: str
    is_text: bool
    path: str


@dataclass
class IndexRegistry:
    """The indexed expressions of all joins, numbered per topic: "lj:1" is the first of its
    topic.
    """

    by_topic: dict[str, list[IndexRequest]] = field(default_factory=dict)
    used_by: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def column(self, topic: str, request: IndexRequest, join: str) -> str:
        """The hidden column of an expression, new or shared."""
        requests = self.by_topic.setdefault(topic.lower(), [])
        if request not in requests:
            requests.append(request)
        column = f"lj:{requests.index(request) + 1}"
        users = self.used_by.setdefault((topic.lower(), column), [])
        if join not in users:
            users.append(join)
        return column

    def definitions(self) -> dict[str, list[tuple[str, bool]]]:
        return {t: [(r.expression, r.is_text) for r in rs] for t, rs in self.by_topic.items()}


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
    ordered = any(t.depth == 0 and t.is_word("ORDER") for t in tokenize(query))
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
        ordered,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a link: an expression over one reference. `probe` is the column that finds its
    rows.
    """

    ref: int
    text: str
    probe_key: bool
    request: IndexRequest | None
    path: str


@dataclass(frozen=True, slots=True)
class _Link:
    left: _Side
    right: _Side
    source: int | None

    def from_ref(self, ref: int) -> tuple[_Side, _Side]:
        return (self.left, self.right) if self.left.ref == ref else (self.right, self.left)

    def joins(self, ref: int) -> bool:
        return ref in (self.left.ref, self.right.ref)

    def leads_to(self, ref: int, outer: bool) -> bool:
        """An equality in the ON of a LEFT JOIN holds only for rows of its right side, so it may
        lead there and nowhere else: rows of the other side exist in the result without it.
        """
        return not outer or self.source == ref


class _Delta:
    """The analysis of one plain SELECT. Raises NotPlain where incremental evaluation is lost."""

    def __init__(
        self,
        name: str,
        query: str,
        columns: tuple[str, ...],
        key_index: int,
        topics: Sequence[str],
        registry: IndexRegistry,
    ) -> None:
        self.name, self.query, self.columns, self.key_index = (
            name,
            query,
            columns,
            key_index,
        )
        self.topics, self.registry = topics, registry
        self.shape: Shape = parse_shape(query)
        canonical = {t.lower(): t for t in topics}
        self.refs = [i for i, s in enumerate(self.shape.sources) if s.kind == "table"]
        for i in self.refs:
            source = self.shape.sources[i]
            if source.name.lower() not in canonical:
                raise NotPlain(f"{source.name} is not a topic", source.name_span.start)
        if not self.refs:
            raise NotPlain("it reads no topic by its plain name", 0)
        self.topic_of = {i: canonical[self.shape.sources[i].name.lower()] for i in self.refs}
        self.aliases = {self.shape.sources[i].alias.lower(): i for i in self.refs}
        self.key_span, self.key_ref = self._key()
        self.links = self._links()

    def analysis(self) -> JoinAnalysis:
        restrict, key_through = self._restriction()
        paths = self._paths_from_key()
        refresh = self._refresh(f"({restrict}) IN (SELECT v FROM {quoted(AFFECTED)})", paths)
        null = None
        if not self._is_key_column(self.key_span):
            null = self._refresh(f"({restrict}) IS NULL", paths)
        affected = {r: self._affected(r, paths) for r in self.refs}
        judge = PlanJudge(self.topics, self.registry.definitions())
        try:
            self._check_group(judge)
            refresh_plan = self._no_scan(judge, refresh)
            references = tuple(
                self._reference(judge, r, paths, key_through, affected[r]) for r in self.refs
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
            self.shape.has_order,
        )

    # -- the key

    def _key(self) -> tuple[Span, int]:
        outputs = self.shape.outputs
        star = next((o for o in outputs[: self.key_index + 1] if o.star), None)
        if star is not None:
            return self._key_of_star(star.span)
        span = outputs[self.key_index].span
        refs = self._refs_in(span)
        if refs is None or len(refs) != 1:
            what = (
                "several tables" if refs else "more than topic columns" if refs is None else "none"
            )
            raise NotPlain(f"the key {span.of(self.query)} is made of {what}", span.start)
        ref = refs.pop()
        if self.shape.sources[ref].outer:
            raise NotPlain("the key comes from the optional side of a LEFT JOIN", span.start)
        return span, ref

    def _key_of_star(self, span: Span) -> tuple[Span, int]:
        first = self.shape.sources[0]
        if self.key_index or len(self.shape.sources) != 1 or self.shape.outputs[0].span != span:
            raise NotPlain("a key inside * over several tables", span.start)
        # `SELECT * FROM t`: the key is t's first column. Point at the table, whose alias qualifies
        # it.
        return first.name_span, 0

    def _key_text(self) -> str:
        if self.key_span == self.shape.sources[self.key_ref].name_span:
            return f"{quoted(self.shape.sources[self.key_ref].alias)}.key"
        return self.key_span.of(self.query)

    def _is_key_column(self, span: Span) -> bool:
        if span == self.shape.sources[self.key_ref].name_span:
            return True
        return self._bare_column(span) == "key"

    def _check_group(self, judge: PlanJudge) -> None:
        if not self.shape.group_by:
            if judge.aggregates(self.query):
                raise NotPlain("an aggregate over the whole topic, without GROUP BY", 0)
            return
        output = self.shape.outputs[self.key_index]
        wanted = self.shape.normal(output.span)
        for term in self.shape.group_by:
            normal = self.shape.normal(term)
            is_alias = (
                len(normal) == 1 and output.alias is not None and normal[0] == output.alias.lower()
            )
            if normal == wanted or normal == (str(self.key_index + 1),):
                return
            if is_alias and normal[0] not in TOPIC_COLUMNS:
                return
        raise NotPlain("the key is not one of the GROUP BY terms", self.shape.group_by[0].start)

    # -- references and links

    def _refs_in(self, span: Span) -> set[int] | None:
        """The table references that an expression reads; None when it reads anything else."""
        pairs = self.shape.columns_in(span)
        if pairs is None or self.shape.depends_on_now(span):
            return None
        refs: set[int] = set()
        for qualifier, column in pairs:
            if column not in TOPIC_COLUMNS:
                return None
            if qualifier is None:
                if len(self.shape.sources) != 1:
                    return None
                refs.add(self.refs[0])
            elif qualifier in self.aliases:
                refs.add(self.aliases[qualifier])
            else:
                return None
        return refs

    def _bare_column(self, span: Span) -> str | None:
        parts = self.shape.normal(span)
        if len(parts) == 1 and len(self.shape.sources) == 1 and parts[0] in TOPIC_COLUMNS:
            return parts[0]
        if (
            len(parts) == 3
            and parts[1] == "."
            and parts[0] in self.aliases
            and parts[2] in TOPIC_COLUMNS
        ):
            return parts[2]
        return None

    def _links(self) -> list[_Link]:
        return [link for e in self.shape.equalities if (link := self._link(e)) is not None]

    def _link(self, equality: Equality) -> _Link | None:
        left, right = self._refs_in(equality.left), self._refs_in(equality.right)
        if not left or not right or len(left) != 1 or len(right) != 1 or left == right:
            return None
        affinities = {self._affinity(equality.left), self._affinity(equality.right)}
        if "NUMERIC" in affinities:
            return None
        is_text = "TEXT" in affinities
        return _Link(
            self._side(left.pop(), equality.left, is_text),
            self._side(right.pop(), equality.right, is_text),
            equality.source,
        )

    def _affinity(self, span: Span) -> str:
        """https://www.sqlite.org/datatype3.html#affinity_of_expressions"""
        column = self._bare_column(span)
        if column in _TEXT_COLUMNS:
            return "TEXT"
        if column in _INTEGER_COLUMNS:
            return "NUMERIC"
        parts = self.shape.normal(span)
        if parts[0] == "cast" and parts[-1] == ")":
            return "TEXT" if parts[-2] == "text" else "NUMERIC"
        # Anything that still holds a bare top-level column in odd clothing (parentheses, unary
        # plus).
        return "NUMERIC" if parts[0] in ("(", "+", "-") else ""

    def _side(self, ref: int, span: Span, is_text: bool) -> _Side:
        text = span.of(self.query)
        path = self._readable(ref, span)
        if self._bare_column(span) == "key":
            return _Side(ref, text, True, None, path)
        expression = self._unqualified(span)
        if is_text and self._affinity(span) != "TEXT":
            expression = f"CAST({expression} AS TEXT)"
        return _Side(ref, text, False, IndexRequest(expression, is_text, path), path)

    def _unqualified(self, span: Span) -> str:
        """The expression's text without table qualifiers: it is evaluated over one row of the
        topic.
        """
        tokens = [t for t in self.shape.tokens if t.start >= span.start and t.end <= span.end]
        out, at = "", span.start
        for i, token in enumerate(tokens):
            if token.is_op(".") and i and tokens[i - 1].text.lower() in self.aliases:
                out += self.query[at : tokens[i - 1].start]
                at = token.end
        return out + self.query[at : span.end]

    def _readable(self, ref: int, span: Span) -> str:
        tokens = [t for t in self.shape.tokens if t.start >= span.start and t.end <= span.end]
        strings = [t.text[1:-1] for t in tokens if t.kind == "string"]
        if len(strings) == 1 and strings[0].startswith("$"):
            return strings[0]
        return " ".join(self._unqualified(span).split())

    def _paths_from_key(self) -> dict[int, _Link]:
        """Breadth first from the key's reference: for each reference, the link that leads to it."""
        paths: dict[int, _Link] = {}
        queue = deque([self.key_ref])
        while queue:
            at = queue.popleft()
            # Links into `key` columns first: they need no key map.
            for link in sorted(self.links, key=lambda k: not k.from_ref(at)[1].probe_key):
                if not link.joins(at):
                    continue
                other = link.from_ref(at)[1].ref
                outer = link.source is not None and self.shape.sources[link.source].outer
                if other != self.key_ref and other not in paths and link.leads_to(other, outer):
                    paths[other] = link
                    queue.append(other)
        for ref in self.refs:
            if ref != self.key_ref and ref not in paths:
                source = self.shape.sources[ref]
                raise NotPlain(
                    f"no equality connects {source.alias} to the key",
                    source.name_span.start,
                )
        return paths

    def _column(self, side: _Side) -> str:
        """The SQL name of the column that finds a side's rows."""
        alias = quoted(self.shape.sources[side.ref].alias)
        if side.probe_key or side.request is None:
            return f"{alias}.key"
        column = self.registry.column(self.topic_of[side.ref], side.request, self.name)
        return f"{alias}.{quoted(column)}"

    # -- the statements

    def _restriction(self) -> tuple[str, str]:
        """The expression that is compared with the affected keys, and how people read it."""
        if self._is_key_column(self.key_span):
            return self._key_text(), "by key"
        request = IndexRequest(
            self._unqualified(self.key_span),
            False,
            self._readable(self.key_ref, self.key_span),
        )
        column = self.registry.column(self.topic_of[self.key_ref], request, self.name)
        alias = self.shape.sources[self.key_ref].alias
        return f"{quoted(alias)}.{quoted(column)}", f"by group {request.path}"

    def _refresh(self, restrict: str, paths: dict[int, _Link]) -> str:
        """The query with the restriction and the hidden columns beside its own conditions."""
        conditions = [restrict]
        in_on: dict[int, list[str]] = {}
        for ref, link in paths.items():
            near, far = link.from_ref(ref)
            if near.probe_key:
                continue
            hint = f"{self._column(near)} = {far.text}"
            if link.source is not None and self.shape.sources[link.source].outer:
                in_on.setdefault(link.source, []).append(hint)
            else:
                conditions.append(hint)
        where = self.shape.where
        added = " AND ".join(conditions)
        edits = [
            (where.start, where.end, f"({where.of(self.query)}) AND {added}")
            if where
            else (self.shape.from_end, self.shape.from_end, f" WHERE {added}")
        ]
        for source, hints in in_on.items():
            on = self.shape.sources[source].on
            if on is not None:
                edits.append(
                    (
                        on.start,
                        on.end,
                        f"({on.of(self.query)}) AND {' AND '.join(hints)}",
                    )
                )
        return _splice(self.query, edits)

    def _affected(self, ref: int, paths: dict[int, _Link]) -> str:
        """Result keys touched by changed rows of `ref`, walking the links back to the key's
        reference.
        """
        source = self.shape.sources[ref]
        changed = quoted(self.topic_of[ref] + ":delta")
        sql = f"SELECT {self._key_text()} FROM {changed} AS {quoted(source.alias)}"
        at = ref
        while at != self.key_ref:
            near, far = paths[at].from_ref(at)
            alias = self.shape.sources[far.ref].alias
            sql += (
                f" CROSS JOIN {quoted(self.topic_of[far.ref] + ':both')} AS {quoted(alias)}"
                f" ON {self._column(far)} = {near.text}"
            )
            at = far.ref
        return sql

    def _reference(
        self,
        judge: PlanJudge,
        ref: int,
        paths: dict[int, _Link],
        key_through: str,
        affected: str,
    ) -> ReferenceAnalysis:
        plan = self._no_scan(judge, affected)
        source = self.shape.sources[ref]
        if ref == self.key_ref:
            return ReferenceAnalysis(
                self.topic_of[ref],
                source.alias,
                "delta",
                key_through,
                None,
                affected,
                plan,
            )
        _, far = paths[ref].from_ref(ref)
        index = None
        if far.request is not None:
            index = self.registry.column(self.topic_of[far.ref], far.request, self.name)
        dot = "." if far.path.startswith("$") or far.probe_key else ": "
        through = f"through {self.topic_of[far.ref]}{dot}{'key' if far.probe_key else far.path}"
        return ReferenceAnalysis(
            self.topic_of[ref], source.alias, "delta", through, index, affected, plan
        )

    def _no_scan(self, judge: PlanJudge, sql: str) -> tuple[str, ...]:
        try:
            plan = judge.query_plan(sql)
        except apsw.SQLError as error:
            raise NotPlain(
                f"its delta query does not compile ({error})", self.key_span.start
            ) from None
        for alias in scanned_topics(plan):
            ref = self.aliases.get(alias.lower(), self.key_ref)
            at = self.shape.sources[ref].name_span.start
            raise NotPlain(f"{alias} would be scanned: no equality leads to its rows", at)
        return plan


def _splice(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


__all__ = [
    "IndexRegistry",
    "IndexRequest",
    "JoinAnalysis",
    "ReferenceAnalysis",
    "analyze_join",
]
