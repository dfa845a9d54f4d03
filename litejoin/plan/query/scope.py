"""Which table does each name mean? The query's parts, with every use of a topic its own instance.

Called by `links` and `statements`. A table of WITH that is used twice is read twice here, each use
with its own restriction: `statements` writes its text where its name stood. Names are looked up as
SQLite does: the items of FROM, then those of the queries around.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from litejoin.plan.query.functions import LATERALS
from litejoin.plan.query.nodes import Core, Cte, NotPlain, Query, Source, Span, Subquery

TOPIC_COLUMNS = ("key", "payload", "timestamp", "timestamp_ms", "op", "changes")
VISIBLE_COLUMNS = TOPIC_COLUMNS[:3]
MAX_INSTANCES = 40
"""A WITH table used by another, used by another...: the reads multiply. SQLite joins 64 tables."""


@dataclass(eq=False)
class Instance:
    """One item of one FROM clause: a topic, a function beside one, or a query."""

    number: int
    source: Source
    core: "CoreScope"
    position: int
    topic: str = ""
    inner: "QueryScope | None" = None
    owner: "Instance | None" = None
    """Of a function: the topic whose rows it takes apart."""
    cte: Cte | None = None
    name: str = ""
    """Its alias, made unlike all others of the whole query."""

    @property
    def nullable(self) -> bool:
        """True when rows of its FROM clause can have NULLs in its place."""
        later = self.core.sources[self.position + 1 :]
        return self.source.join in ("left", "full") or any(
            other.source.join in ("right", "full") for other in later
        )

    def merges(self, column: str) -> bool:
        """True when USING makes one of several columns of this name."""
        return any(column in each.source.using for each in self.core.sources)

    def columns(self) -> tuple[str, ...]:
        """The columns that a star shows."""
        if self.source.kind == "function":
            return LATERALS[self.source.name.lower()]
        if self.inner is None:
            return VISIBLE_COLUMNS
        return self.cte.columns if self.cte and self.cte.columns else self.inner.columns()


@dataclass(eq=False)
class CoreScope:
    """One SELECT with its instances; `parent` is the SELECT that a subquery stands in."""

    node: Core
    query: "QueryScope"
    parent: "CoreScope | None"
    sources: list[Instance] = field(default_factory=list)
    subqueries: list[tuple[Subquery, "QueryScope"]] = field(default_factory=list)

    @property
    def isolated(self) -> bool:
        """A RIGHT or FULL JOIN keeps SQLite from passing conditions on to its inputs."""
        return any(each.source.join in ("right", "full") for each in self.sources)

    def around(self) -> "Iterator[CoreScope]":
        """This SELECT and those around it, whose names it sees."""
        scope: CoreScope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


@dataclass(eq=False)
class QueryScope:
    """One query in one place. `holder` is the instance that it stands for, if any."""

    node: Query
    text: str
    cores: list[CoreScope] = field(default_factory=list)
    holder: Instance | None = None

    def columns(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in outputs_of(self.cores[0]))


@dataclass
class Tree:
    """The whole query: its text, its topmost scope and all instances."""

    text: str
    topics: Mapping[str, str]
    """Lower case -> as written in the config."""
    top: QueryScope
    instances: list[Instance] = field(default_factory=list)

    @property
    def references(self) -> list[Instance]:
        return [each for each in self.instances if each.topic]

    def cores(self) -> Iterator[CoreScope]:
        seen: dict[int, CoreScope] = {}
        stack = [self.top]
        while stack:
            for core in stack.pop().cores:
                seen[id(core)] = core
                stack += [s.inner for s in core.sources if s.inner]
                stack += [query for _, query in core.subqueries]
        return iter(seen.values())


def outputs_of(core: CoreScope) -> list[tuple[str, Span | None, Instance | None]]:
    """(column, its expression or None, the instance that a star took it from) of a SELECT."""
    found: list[tuple[str, Span | None, Instance | None]] = []
    for output in core.node.outputs:
        if not output.star:
            found.append((output.alias or _last_name(core, output.span), output.span, None))
            continue
        if any(each.source.using for each in core.sources):
            raise NotPlain("* over USING", output.span.start)
        for instance in core.sources:
            if output.alias is None or instance.source.alias.lower() == output.alias.lower():
                found += [(column, None, instance) for column in instance.columns()]
    return found


def _last_name(core: CoreScope, span: Span) -> str:
    tokens = [t for t in core.node.tokens if span.holds(t)]
    return tokens[-1].text if tokens and tokens[-1].is_identifier else ""


@dataclass(frozen=True)
class _Known:
    """A table of WITH, and the tables of WITH that it can name itself."""

    cte: Cte
    around: Mapping[str, "_Known"]


class _Builder:
    def __init__(self, text: str, topics: Mapping[str, str], query: Query) -> None:
        self.tree = Tree(text, topics, QueryScope(query, text))

    def build(self) -> Tree:
        self.fill(self.tree.top, {}, None)
        taken: set[str] = set()
        for instance in self.tree.instances:
            instance.name = _unique(instance.source.alias, taken)
        return self.tree

    def fill(
        self, scope: QueryScope, known: Mapping[str, _Known], parent: CoreScope | None
    ) -> QueryScope:
        env = dict(known)
        for cte in scope.node.ctes:
            env[cte.name.lower()] = _Known(cte, dict(env))
        for node in scope.node.cores:
            core = CoreScope(node, scope, parent)
            scope.cores.append(core)
            for source in node.sources:
                self.instance(source, core, env)
            for subquery in node.subqueries:
                inner = self.fill(QueryScope(subquery.query, self.tree.text), env, core)
                core.subqueries.append((subquery, inner))
        return scope

    def instance(self, source: Source, core: CoreScope, env: Mapping[str, _Known]) -> None:
        made = Instance(len(self.tree.instances), source, core, len(core.sources))
        if len(self.tree.instances) >= MAX_INSTANCES:
            raise NotPlain(f"more than {MAX_INSTANCES} tables read", source.span.start)
        self.tree.instances.append(made)
        core.sources.append(made)
        if source.kind == "query" and source.query is not None:
            made.inner = self.fill(
                QueryScope(source.query, self.tree.text, holder=made), env, core.parent
            )
        elif source.kind == "table":
            self.table(made, env)

    def table(self, made: Instance, env: Mapping[str, _Known]) -> None:
        name = made.source.name.lower()
        if name in env:
            known = env[name]
            made.cte = known.cte
            scope = QueryScope(known.cte.query, self.tree.text, holder=made)
            made.inner = self.fill(scope, known.around, None)
        elif name in self.tree.topics:
            made.topic = self.tree.topics[name]
        else:
            raise NotPlain(f"{made.source.name} is not a topic", made.source.span.start)


def _unique(alias: str, taken: set[str]) -> str:
    name, number = alias, 1
    while name.lower() in taken:
        number += 1
        name = f"{alias}:{number}"
    taken.add(name.lower())
    return name


def build_tree(text: str, topics: Mapping[str, str], query: Query) -> Tree:
    """The tree of a parsed query over these topics. Raises NotPlain."""
    return _Builder(text, topics, query).build()
