"""Rounds of the differential machine in which the process dies by SIGKILL, at any instant.

A child opens the pipeline, writes batches and applies them; it is killed somewhere on the way. What
it said it had written must be there, and of the batch at hand each row is as before or as after.
From what is there the next start must make every result, and no result twice.
"""

import os
import pickle
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from litejoin.clock import ManualClock
from litejoin.plan.nodes import JoinPlan, TopicPlan
from litejoin.records import Row
from tests.differential.grammar import TOPICS, QueryMaker
from tests.differential.grouped_grammar import GroupedQueries
from tests.differential.machine import Change, Difference, Round, Tally
from tests.differential.pipeline import EnginePipeline
from tests.differential.plain_grammar import PlainJoins
from tests.differential.wall import on_clock
from tests.reference.oracle import Oracle

KILLS = 0.4
"""Share of the steps that end in one."""
BATCHES = 12
LATEST_KILL_S = 0.006
"""After the line that the kill waits for: about what a batch takes."""
LIVES_S = 60.0
"""A child whose parent is gone ends by itself."""
READY, WRITTEN = b"r", b"w"


@dataclass(frozen=True)
class Task:
    """What the child does."""

    root: Path
    shards: int
    topics: list[TopicPlan]
    joins: list[JoinPlan]
    now_ms: int
    batches: list[list[Row]]
    apply_after: frozenset[int]
    """The batches after which all that is written is applied; the last is always one."""


class KilledRound(Round):
    """A round with queries of any kind, in which some steps end in a kill."""

    def __init__(self, seed: int, tally: Tally, queries: type[QueryMaker] = QueryMaker) -> None:
        kinds = [QueryMaker, QueryMaker, GroupedQueries, PlainJoins]
        super().__init__(seed, tally, random.Random(f"queries {seed}").choice(kinds))

    def _step(self, p: EnginePipeline, oracle: Oracle, step: int) -> None:
        if self.rng.random() >= KILLS:
            super()._step(p, oracle, step)
            return
        batches = [self._changes(p, self.rng.choice([1, 4, 12])) for _ in range(BATCHES)]
        applied = frozenset(n for n in range(BATCHES) if self.rng.random() < 0.7)
        rows = [[self._row(p, change) for change in batch] for batch in batches]
        task = Task(p.root, p.shards, p.topics, p.joins, p.clock.now_ms(), rows, applied)
        p.close()
        try:
            written = self._killed(task)
        finally:
            p.open()
        self.tally.events["kills"] += 1
        for batch in batches[:written]:
            for change in batch:
                oracle.put(*change)
        self._take_over(p, oracle, batches[written] if written < BATCHES else [])
        p.settle()
        self._check(p, oracle, p.state(), f"step {step}, killed after batch {written}")

    def _killed(self, task: Task) -> int:
        """Let a child work on the task and kill it; how many batches it said it had written."""
        command = [sys.executable, "-m", "tests.differential.killed"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(pickle.dumps(task))
            child.stdin.close()
            said = child.stdout.read(1 + self.rng.randrange(BATCHES + 1))
            if not said.startswith(READY):
                raise Difference(f"seed {self.seed}: the child did not start")
            time.sleep(self.rng.random() * LATEST_KILL_S)
            child.kill()
            said += child.stdout.read()
        return said.count(WRITTEN)

    def _take_over(self, p: EnginePipeline, oracle: Oracle, at_hand: list[Change]) -> None:
        """Hold what is stored against what must be; the oracle follows the batch at hand."""
        p.engine.move_snapshot()
        after = {(topic, key): (payload, at) for topic, key, payload, at in at_hand}
        for topic in TOPICS:
            sql = f"SELECT key, payload, timestamp FROM {topic}"
            found = {key: (payload, at) for key, payload, at in p.engine._host.execute(sql)}
            held = {row["key"]: (row["payload"], row["timestamp"]) for row in oracle.rows(sql)}
            for key in {*found, *held, *(k for t, k in after if t == topic)}:
                if found.get(key) == held.get(key):
                    continue
                payload, at_ms = after.get((topic, key), ("?", 0))
                if found.get(key) != (None if payload is None else (payload, at_ms // 1000)):
                    raise Difference(
                        f"seed {self.seed}: {topic} {key} is {found.get(key)},"
                        f" was {held.get(key)}, then {payload}"
                    )
                oracle.put(topic, key, payload, at_ms)


def work(task: Task) -> None:
    """The child: write, say so, apply; then wait to be killed."""
    clock = ManualClock(task.now_ms)
    with on_clock(clock):
        p = EnginePipeline.__new__(EnginePipeline)
        p.root, p.shards, p.clock = task.root, task.shards, clock
        p.topics, p.joins = task.topics, task.joins
        p.open()
    os.write(1, READY)
    pending: list[bytes] = []
    for number, rows in enumerate(task.batches):
        changes, seq = p.write(rows)
        os.write(1, WRITTEN)
        pending += changes
        if number in task.apply_after or number == len(task.batches) - 1:
            p.engine.apply(pending, seq)
            p.engine.idle()
            pending = []
    time.sleep(LIVES_S)


if __name__ == "__main__":
    work(pickle.loads(sys.stdin.buffer.read()))
