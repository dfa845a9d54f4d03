"""Store and engine on one directory, without the runtime around them."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import apsw

from litejoin._ext.topic import TopicTables
from litejoin.clock import ManualClock
from litejoin.engine.engine import Engine
from litejoin.plan.delta import IndexRegistry, JoinAnalysis, analyze_join
from litejoin.plan.native import native_plan
from litejoin.plan.native_groups import grouped_plan, is_grouped
from litejoin.plan.nodes import (
    GroupedPlan,
    IndexPlan,
    JoinPlan,
    NativePlan,
    Place,
    Reason,
    ReferencePlan,
    TopicPlan,
)
from litejoin.plan.query.nodes import NotPlain
from litejoin.records import Row, pack_rows
from litejoin.store.sqlite import open_memory, open_readonly
from litejoin.store.writer import ShardStore
from tests.harness.results import canonical

TOPICS = ("orders", "users", "products")

Plan = TypeVar("Plan")

Rows = dict[str, dict[str, list[str]]]
"""join -> canonical key -> canonical rows."""


def make_plans(
    queries: Mapping[str, str], shards: int, level: str = "native"
) -> tuple[list[TopicPlan], list[JoinPlan]]:
    """The plans of these queries; `level` "delta" keeps native code out of it."""
    registry = IndexRegistry()
    joins = []
    for name, query in queries.items():
        analysis = analyze_join(name, query, None, TOPICS, registry)
        native = grouped = None
        if level == "native" and analysis.strategy == "delta":
            if is_grouped(query):
                grouped = _tried(grouped_plan, name, query, analysis.key_index, registry)
            else:
                native = _tried(native_plan, name, query, analysis.key_index, registry)
        joins.append(_join_plan(name, query, analysis, native, grouped))
    topics = []
    for name in TOPICS:
        requests = enumerate(registry.by_topic.get(name, ()), 1)
        indexes = [
            IndexPlan(f"lj:{i}", r.expression, r.is_text, r.path, (), r.laterals)
            for i, r in requests
        ]
        topics.append(TopicPlan(name, shards, None, tuple(indexes), ()))
    return topics, joins


def _tried(
    made: Callable[..., Plan], name: str, query: str, key_index: int, registry: IndexRegistry
) -> Plan | None:
    try:
        return made(name, query, key_index, TOPICS, registry)
    except NotPlain:
        return None


def _join_plan(
    name: str,
    query: str,
    analysis: JoinAnalysis,
    native: NativePlan | None,
    grouped: GroupedPlan | None,
) -> JoinPlan:
    references = [
        ReferencePlan(
            r.topic, r.alias, _any(r.strategy), r.through, r.index, r.affected_sql, r.query_plan
        )
        for r in analysis.references
    ]
    return JoinPlan(
        name=name,
        query=query,
        place=Place(1, 1),
        columns=analysis.columns,
        key_column=analysis.key_column,
        key_index=analysis.key_index,
        sinks=(),
        emit="changes",
        on_delete="emit",
        json_columns=(),
        strategy="native" if native or grouped else _any(analysis.strategy),
        reasons=tuple(Reason(message, None) for message, _ in analysis.reasons),
        references=tuple(references),
        refresh_sql=analysis.refresh_sql,
        refresh_null_sql=analysis.refresh_null_sql,
        refresh_plan=analysis.refresh_plan,
        ordered=analysis.ordered,
        full_sql=analysis.full_sql,
        native=native,
        grouped=grouped,
    )


def _any(value: Any) -> Any:
    return value


class EnginePipeline:
    """`close`, then `open`: nothing is handed from one to the other, as after kill -9."""

    row_cache_bytes = 24 << 20

    def __init__(
        self, root: Path, shards: int, queries: Mapping[str, str], level: str = "native"
    ) -> None:
        self.plan(root, shards, queries, level)
        self.open()

    def plan(
        self,
        root: Path,
        shards: int,
        queries: Mapping[str, str],
        level: str = "native",
        **fields: Any,
    ) -> None:
        """What `open` opens; `fields` of the joins are as given. The plan of a query does not
        depend on the data.
        """
        self.root, self.shards, self.queries, self.level = root, shards, queries, level
        self.clock = ManualClock()
        self.topics, joins = make_plans(queries, shards, level)
        self.joins = [replace(join, **fields) for join in joins]

    def open(self) -> None:
        self.store = ShardStore.open(
            self.root, pipeline="test", shard_count=self.shards, synchronous="normal"
        )
        self.numbers = {name: self.store.create_topic(name) for name in TOPICS}
        self.engine = Engine(
            self.topics,
            self.joins,
            self.numbers,
            self.store.open_readers(),
            self.root / "state.db",
            "normal",
            self.store.commit_gate,
            self.clock,
            row_cache_bytes=self.row_cache_bytes,
        )
        self.engine.leave_out(self.store.quarantine.shards)
        self.engine.start(self.store)
        # A flush that changed nothing left no trace in the shards, and its number is taken.
        self.store.skip_to(self.engine.state.applied)

    def write(self, rows: list[Row]) -> tuple[list[bytes], int]:
        flush = self.store.flush([pack_rows(rows)])
        return flush.changes, flush.seq

    def settle(self) -> None:
        """Let postponed full re-evaluations run."""
        self.clock.advance(60_000)
        self.engine.idle()

    def close(self) -> None:
        self.engine.close()
        self.store.close()

    @contextmanager
    def reads(self, topic: str) -> Iterator[list[str]]:
        """Meanwhile: the condition of each statement that the engine reads a topic's rows with."""
        seen: list[str] = []
        mark = f" FROM t{self.numbers[topic]} WHERE "

        def note(event: dict[str, Any]) -> None:
            _, found, condition = event["sql"].partition(mark)
            if found:
                seen.append(condition)

        readers = self.engine._readers
        for reader in readers:
            reader.trace_v2(apsw.SQLITE_TRACE_STMT, note)
        try:
            yield seen
        finally:
            for reader in readers:
                reader.trace_v2(0)

    def full_query(self, sql: str) -> int:
        """Run a query from scratch over topic tables of its own; returns its rows."""
        host = open_memory()
        readers = self.store.open_readers()
        tables = TopicTables(host, readers)
        for name, number in self.numbers.items():
            tables.define(name, number)
        rows = sum(1 for _ in host.execute(sql))
        tables.close()
        host.close()
        return rows

    def log(self) -> list[tuple[str, str, str, int]]:
        """(join, key, rows, op) in log order; key and rows as JSON text."""
        return self._read(
            "SELECT j.name, l.key, l.rows, l.op FROM log l JOIN joins j ON j.id = l.join_id"
            " ORDER BY pos"
        )

    def state(self) -> Rows:
        """The stored current results."""
        found: Rows = {}
        for join, key, rows in self._read(
            "SELECT j.name, l.key, l.rows FROM state s JOIN log l USING(pos)"
            " JOIN joins j ON j.id = s.join_id"
        ):
            found.setdefault(join, {})[canonical(json.loads(key))] = _canonical_rows(rows)
        return found

    def replayed(self, unsure: Collection[str] = ("ordered",)) -> Rows:
        """What a subscriber that saw every result has; asserts that no result was a no-op, but of
        the queries that are named `unsure`.
        """
        found: Rows = {}
        before: dict[tuple[str, str], list[str]] = {}
        for join, key_text, rows, op in self.log():
            current, key = found.setdefault(join, {}), canonical(json.loads(key_text))
            texts = sorted(_canonical_rows(rows))
            if join not in unsure:
                assert texts != before.get((join, key)), f"{join}: no-op for {key}"
            before[join, key] = texts
            if op == 2:
                assert key in current, f"{join}: delete of {key}, which was not there"
                del current[key]
            else:
                current[key] = _canonical_rows(rows)
        return found

    def _read(self, sql: str) -> list[Any]:
        reader = open_readonly(self.root / "state.db")
        try:
            return reader.execute(sql).fetchall()
        finally:
            reader.close()


def _canonical_rows(rows: str) -> list[str]:
    return [canonical(row) for row in json.loads(rows)]


@contextmanager
def engine_pipeline(
    root: Path, shards: int, queries: Mapping[str, str], level: str = "native"
) -> Iterator[EnginePipeline]:
    made = EnginePipeline(root, shards, queries, level)
    try:
        yield made
    finally:
        made.close()
