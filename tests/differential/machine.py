"""The differential machine: random queries over random histories, each state held against SQLite.

One round is one pipeline: some queries from the grammar, one history of batches with upserts,
deletes and moved keys, in random splits over 1, 2 or 8 shards, with restarts after which nothing
is known but what is on disk. After every flush the stored results of every query must be what
plain SQLite computes from scratch over the same rows; at the end, so must what a subscriber that
saw every result has. A (query, history) pair counts once.
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from litejoin.plan.nodes import JoinPlan
from litejoin.plan.sql import BadQuery, output_columns
from litejoin.records import Row, RowKind
from tests.differential.grammar import TOPICS, Generated, QueryMaker
from tests.differential.pipeline import EnginePipeline, engine_pipeline
from tests.harness.results import canonical
from tests.reference.oracle import Oracle

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


@dataclass
class Tally:
    """What rounds were made of."""

    pairs: int = 0
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


class Difference(AssertionError):
    """Incremental and from scratch disagree."""


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
        oracle = Oracle(TOPICS)
        shards = self.rng.choice([1, 2, 8])
        texts = {name: each.sql for name, each in self.queries.items()}
        with engine_pipeline(root, shards, texts, self.level) as p:
            for plan in p.joins:
                self.tally.add(self.queries[plan.name], plan)
                self.tally.reasons.update(r.message for r in plan.reasons)
                self._check_no_scan(plan)
            for step in range(STEPS):
                self._step(p, oracle, step)
            self._check(p, oracle, p.replayed(self._unsure()), "log")
        oracle.close()

    def _check_no_scan(self, plan: JoinPlan) -> None:
        """No statement of an incremental join reads a topic from end to end."""
        steps = [*plan.refresh_plan, *(s for r in plan.references for s in r.query_plan)]
        if plan.strategy != "full" and any(":scan" in step for step in steps):
            raise Difference(f"seed {self.seed}: {plan.query}\nscans a topic: {steps}")

    def _unsure(self) -> set[str]:
        """Queries whose rows have an order with ties: it may change, and that is a result."""
        return {name for name, each in self.queries.items() if each.ordered}

    def _step(self, p: EnginePipeline, oracle: Oracle, step: int) -> None:
        rng = self.rng
        p.clock.advance(rng.choice([0, 1, 1500]))
        pending: list[bytes] = []
        for _ in range(rng.choice([1, 1, 3])):
            rows = self._batch(p, oracle, rng.choice([1, 2, 5, 16]) if step else 25)
            changes, seq = p.write(rows)
            pending += changes
        if rng.random() < 0.2:
            p.close()
            p.open()
        else:
            applied = p.engine.apply(pending, seq)
            if applied.failures:
                raise Difference(f"seed {self.seed} step {step}: {applied.failures}")
        p.settle()
        self._check(p, oracle, p.state(), f"step {step}")

    def _batch(self, p: EnginePipeline, oracle: Oracle, size: int) -> list[Row]:
        rows, rng = [], self.rng
        for _ in range(size):
            topic, key, now = rng.choice(TOPICS), rng.choice(KEYS), p.clock.now_ms()
            payload = None if rng.random() < 0.2 else self._payload()
            oracle.put(topic, key, payload, now)
            kind = RowKind.DELETE if payload is None else RowKind.UPSERT
            rows.append(Row(p.numbers[topic], kind, now, key.encode(), (payload or "").encode()))
        return rows

    def _payload(self) -> str:
        rng, pool = self.rng, TWINS if self.twins else SCALARS
        value = {name: rng.choice(pool) for name in ("a", "b", "c") if rng.random() < 0.85}
        value |= {"n": rng.choice(self.numbers)} if rng.random() < 0.9 else {}
        value |= {"tags": rng.choice(TAGS)} if rng.random() < 0.8 else {}
        value |= {"o": {"x": rng.choice(pool)}} if rng.random() < 0.5 else {}
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)

    def _check(
        self, p: EnginePipeline, oracle: Oracle, found: dict[str, dict[str, list[str]]], where: str
    ) -> None:
        for name, generated in self.queries.items():
            self.tally.checks += 1
            want: dict[str, list[str]] = {}
            for row in oracle.rows(generated.sql):
                want.setdefault(canonical(row["x0"]), []).append(canonical(row))
            got = {key: sorted(rows) for key, rows in found.get(name, {}).items()}
            expected = {key: sorted(rows) for key, rows in want.items()}
            if got != expected:
                raise Difference(self._told(p, name, where, got, expected))

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


def run_round(
    seed: int,
    root: Path,
    tally: Tally,
    made: type[Round] = Round,
    queries: type[QueryMaker] = QueryMaker,
) -> None:
    """One round in a directory of its own. Raises Difference."""
    try:
        made(seed, tally, queries).run(root)
    except apsw.Error as error:
        raise Difference(f"seed {seed}: {error}") from error
