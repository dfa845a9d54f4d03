"""The differential machine: random queries over random histories, each state held against SQLite.

One round is one pipeline: some queries from the grammar, one history of batches with upserts,
deletes and moved keys, in random splits over 1, 2 or 8 shards, with restarts after which nothing
is known but what is on disk. After every flush the stored results of every query must be what
plain SQLite computes from scratch over the same rows; at the end, so must what a subscriber that
saw every result has. A (query, history) pair counts once. Queries over the clock follow it
(`emit_expired`), and the clock is the round's own.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import apsw

from litejoin.clock import ManualClock
from litejoin.plan.nodes import JoinPlan
from litejoin.plan.query.grammar import reads_clock
from litejoin.plan.sql import BadQuery, output_columns
from litejoin.plan.tokens import tokenize
from litejoin.records import Row, RowKind
from tests.differential.grammar import TOPICS, Generated, QueryMaker
from tests.differential.pipeline import EnginePipeline, Rows, engine_pipeline
from tests.differential.terms import AGE_S
from tests.differential.wall import on_clock, open_memory
from tests.harness.results import canonical
from tests.reference.oracle import Oracle

ROW_CACHES = (0, 2_000, EnginePipeline.row_cache_bytes)
QUERIES_PER_ROUND = 16
STEPS = 7
KEYS = ("u1", "u2", "7", "5", "5.0", "ü", "U1")
SCALARS = (
    "u1",
    "u2",
    "7",
    7,
    "5",
    5,
    None,
    "ü",
    "5.0",
    True,
    2**53 + 1,
    0.5,
    " 5",
    "U1",
    [1, "u1"],
)
TWINS = (7.0, 5.0, *SCALARS)
NUMBERS = (1, 2, 0.5, -3, None, "5", "x", 2.0)
TAGS = ((), ("u1",), ("u1", "u2"), (7, "7"), ("u1", ["u2", {"z": "5"}]), None, ("u1", "u1"))


Change = tuple[str, str, str | None, int]
"""Topic, key, payload or None for a delete, Unix milliseconds."""


@dataclass
class Tally:
    """What rounds were made of."""

    pairs: int = 0
    events: Counter[str] = field(default_factory=Counter)
    """Shards, flushes, restarts, kills."""
    refused: int = 0
    checks: int = 0
    strategies: Counter[str] = field(default_factory=Counter)
    constructs: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, generated: Generated, plan: JoinPlan) -> None:
        self.pairs += 1
        self.strategies[plan.strategy] += 1
        for tag in generated.tags:
            self.constructs[tag, plan.strategy] += 1


def key_of(value: Any) -> str:
    """A whole number is one key, as integer and as real."""
    return canonical(int(value) if isinstance(value, float) and value.is_integer() else value)


class Difference(AssertionError):
    """Incremental and from scratch disagree."""


def check_no_scan(seed: int, plan: JoinPlan) -> None:
    """No statement of an incremental join reads a topic from end to end."""
    steps = [*plan.refresh_plan, *(s for r in plan.references for s in r.query_plan)]
    if plan.strategy != "full" and any(":scan" in step for step in steps):
        raise Difference(f"seed {seed}: {plan.query}\nscans a topic: {steps}")


class Round:
    """One pipeline with its queries and its history, all of it made from one seed."""

    numbers: tuple[object, ...] = NUMBERS
    levels: tuple[str, ...] = ("native", "delta")

    def __init__(self, seed: int, tally: Tally, queries: type[QueryMaker] = QueryMaker) -> None:
        self.seed, self.tally = seed, tally
        self.rng = random.Random(seed)
        self.twins = self.rng.random() < 0.5
        self.level = self.rng.choice(self.levels)
        self.queries: dict[str, Generated] = {}
        maker = queries(self.rng, twins=self.twins)
        while len(self.queries) < QUERIES_PER_ROUND:
            generated = maker.query()
            try:
                output_columns(generated.sql, TOPICS)
            except BadQuery:
                tally.refused += 1
                continue
            self.queries[f"q{len(self.queries)}"] = generated

    def run(self, root: Path) -> None:
        """Raises Difference with the seed, the step and the query."""
        shards = self.rng.choice([1, 2, 8])
        self.tally.events[f"{shards} shards"] += 1
        texts = {name: each.sql for name, each in self.queries.items()}
        clock = ManualClock()
        oracle = Oracle(TOPICS, open_memory())
        with on_clock(clock), engine_pipeline(root, shards, texts, self.level) as p:
            # Rows that are looked up by key come from the cache, from their places or from both.
            p.row_cache_bytes = random.Random(f"row cache {self.seed}").choice(ROW_CACHES)
            self._follow_clock(p, clock)
            for plan in p.joins:
                self.tally.add(self.queries[plan.name], plan)
                self.tally.reasons.update(r.message for r in plan.reasons)
                check_no_scan(self.seed, plan)
            for step in range(STEPS):
                self._step(p, oracle, step)
            self._check(p, oracle, p.replayed(self._unsure()), "log")
        oracle.close()

    def _follow_clock(self, p: EnginePipeline, clock: ManualClock) -> None:
        p.close()
        p.clock = clock
        p.joins = [replace(j, emit_expired=reads_clock(tokenize(j.query))) for j in p.joins]
        p.open()

    def _unsure(self) -> set[str]:
        """Queries whose rows have an order with ties: it may change, and that is a result."""
        return {name for name, each in self.queries.items() if each.ordered}

    def _step(self, p: EnginePipeline, oracle: Oracle, step: int) -> None:
        rng = self.rng
        p.clock.advance(rng.choice([0, 1, 1500, 1500, AGE_S * 500]))
        pending: list[bytes] = []
        for _ in range(rng.choice([1, 1, 3])):
            rows = self._batch(p, oracle, rng.choice([1, 2, 5, 16]) if step else 25)
            changes, seq = p.write(rows)
            pending += changes
            self.tally.events["flushes"] += 1
        if rng.random() < 0.2:
            self.tally.events["restarts"] += 1
            p.close()
            p.open()
        else:
            applied = p.engine.apply(pending, seq)
            if applied.failures:
                raise Difference(f"seed {self.seed} step {step}: {applied.failures}")
        p.settle()
        self._check(p, oracle, p.state(), f"step {step}")

    def _batch(self, p: EnginePipeline, oracle: Oracle, size: int) -> list[Row]:
        changes = self._changes(p, size)
        for change in changes:
            oracle.put(*change)
        return [self._row(p, change) for change in changes]

    def _changes(self, p: EnginePipeline, size: int) -> list[Change]:
        rng, found = self.rng, []
        for _ in range(size):
            topic, key = rng.choice(TOPICS), rng.choice(KEYS)
            at_ms = p.clock.now_ms() - rng.choice([0, 0, 0, AGE_S * 700])
            found.append((topic, key, None if rng.random() < 0.2 else self._payload(), at_ms))
        return found

    def _row(self, p: EnginePipeline, change: Change) -> Row:
        topic, key, payload, at_ms = change
        kind = RowKind.DELETE if payload is None else RowKind.UPSERT
        return Row(p.numbers[topic], kind, at_ms, key.encode(), (payload or "").encode())

    def _payload(self) -> str:
        rng, pool = self.rng, TWINS if self.twins else SCALARS
        value = {name: rng.choice(pool) for name in ("a", "b", "c") if rng.random() < 0.85}
        value |= {"n": rng.choice(self.numbers)} if rng.random() < 0.9 else {}
        value |= {"tags": rng.choice(TAGS)} if rng.random() < 0.8 else {}
        value |= {"o": {"x": rng.choice(pool)}} if rng.random() < 0.5 else {}
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)

    def _check(self, p: EnginePipeline, oracle: Oracle, found: Rows, where: str) -> None:
        for name, generated in self.queries.items():
            self.tally.checks += 1
            want: dict[str, list[str]] = {}
            for row in oracle.rows(generated.sql):
                want.setdefault(key_of(row["x0"]), []).append(canonical(row))
            got = dict(found.get(name, {}))
            if not generated.ordered:
                want = {key: sorted(rows) for key, rows in want.items()}
                got = {key: sorted(rows) for key, rows in got.items()}
            if got != want:
                raise Difference(self._told(p, name, where, got, want))

    def _told(
        self,
        p: EnginePipeline,
        name: str,
        where: str,
        got: dict[str, list[str]],
        want: dict[str, list[str]],
    ) -> str:
        plan = next(join for join in p.joins if join.name == name)
        keys = [k for k in {*got, *want} if got.get(k) != want.get(k)][:3]
        lines = [f"seed {self.seed} {where} shards {p.shards}: {plan.strategy}", plan.query]
        lines += [f"  key {k}\n    got  {got.get(k)}\n    want {want.get(k)}" for k in keys]
        lines += [f"refresh {plan.refresh_sql}"]
        lines += [f"affected {r.alias}: {r.affected_sql}" for r in plan.references]
        return "\n".join(lines)


class Runnable(Protocol):
    def run(self, root: Path) -> None: ...


MakeRound = Callable[[int, Tally, type[QueryMaker]], Runnable]


def run_round(
    seed: int,
    root: Path,
    tally: Tally,
    made: MakeRound = Round,
    queries: type[QueryMaker] = QueryMaker,
) -> None:
    """One round in a directory of its own. Raises Difference."""
    try:
        made(seed, tally, queries).run(root)
    except apsw.Error as error:
        raise Difference(f"seed {seed}: {error}") from error
