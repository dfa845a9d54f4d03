"""Delivered state equals plain SQLite after every quiet point, whatever the query and the history.

Semantics 5 and 6. One pipeline runs all queries of `join_queries` over one random history per seed;
each query is then judged by its own test. A failing history replays with LITEJOIN_TEST_SEED.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.e2e.join_queries import ALL, Query
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.history import TOPICS, History, Message, seeds
from tests.harness.ingest import IngestClient, message
from tests.harness.results import Delivered, difference, snapshot_state
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import SLOW
from tests.reference.oracle import Oracle

BATCHES, BATCH_SIZE = 14, 25
QUIET_S = 5.0
SEEDS = seeds(2)


class Judge:
    """Drives one history through a pipeline and keeps the first complaint about each join."""

    def __init__(self, stream: Subscriber, client: IngestClient, queries: dict[str, Query]) -> None:
        self.stream, self.client, self.queries = stream, client, queries
        self.oracle = Oracle(TOPICS)
        self.told = {name: Delivered() for name in queries}
        # What a query says about empty topics (COUNT(*) is 0) was emitted before anybody listened.
        stream.wait(lambda s: s.named("replay_complete"))
        for result in stream.results():
            self.told[result["query"]].begin([result])
        self.complaints: dict[str, str] = {}
        self._taken = len(stream.results())

    def apply(self, step: str, messages: Iterable[Message]) -> None:
        """Send one batch, wait until every join is right or `QUIET_S` is over, note who is not."""
        batch = list(messages)
        self.client.send([message(m.topic, m.key, m.payload, as_text=m.as_text) for m in batch])
        for m in batch:
            text = None if m.payload is None else json.dumps(m.payload, ensure_ascii=False)
            self.oracle.put(m.topic, m.key, text)
        deadline = time.monotonic() + QUIET_S * SLOW
        pending = set(self.queries) - set(self.complaints)
        want = {
            n: self.oracle.groups(q.sql, q.key_column, ordered=q.ordered)
            for n, q in self.queries.items()
        }
        while True:
            self._take()
            pending -= set(self.complaints)
            wrong = {n: difference(self._state(n), want[n]) for n in pending}
            pending = {n for n, text in wrong.items() if text}
            if not pending or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        for name in pending:
            self.complaints[name] = f"{step}:\n{wrong[name]}"

    def settle(self) -> None:
        """After the last batch: nothing more comes, and /snapshot shows the delivered state."""
        time.sleep(0.3)
        self._take()
        for name, query in self.queries.items():
            want = self.oracle.groups(query.sql, query.key_column, ordered=query.ordered)
            answer = snapshot(self.stream.url, name)
            shown = snapshot_state(answer.results, ordered=query.ordered).get(name, {})
            for text, state in (("delivered", self._state(name)), ("/snapshot", shown)):
                if wrong := difference(state, want):
                    self.complaints.setdefault(name, f"{text} at the end:\n{wrong}")

    def _state(self, name: str) -> dict[str, tuple[str, ...]]:
        return self.told[name].state(name, ordered=self.queries[name].ordered)

    def _take(self) -> None:
        results = self.stream.results()
        for result in results[self._taken :]:
            try:
                self.told[result["query"]].add(result)
            except AssertionError as error:
                self.complaints.setdefault(result["query"], str(error))
        self._taken = len(results)


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed{seed}")
def complaints(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    seed: int = request.param
    launcher = Launcher(Path(tmp_path_factory.mktemp(f"seed{seed}")))
    try:
        return run_history(launcher, seed)
    finally:
        launcher.close()


def run_history(launcher: Launcher, seed: int) -> dict[str, str]:
    at = Listener()
    joins = {name: query.join() for name, query in ALL.items()}
    pipeline = launcher(push_config(at, joins, storage={"shard_count": 4}), at.health)
    history = History(seed)
    with Subscriber(at.url, replay=True) as stream, IngestClient(at.url) as client:
        judge = Judge(stream, client, ALL)
        judge.apply("first users and products", history.seeding())
        for step in range(BATCHES):
            # Odd steps one message at a time: a batch must not be what makes it right.
            size = BATCH_SIZE if step % 2 == 0 else 1
            judge.apply(f"seed {seed}, batch {step}", history.batch(size))
        judge.apply("deletes", [Message(t, k, None) for t, k in sorted(history.keys())])
        judge.apply("after deletes", history.batch(BATCH_SIZE))
        judge.settle()
        pipeline.assert_running()
    return judge.complaints


@pytest.mark.parametrize("name", ALL)
def test_delivered_state_equals_plain_sqlite(complaints: dict[str, str], name: str) -> None:
    assert name not in complaints, f"{ALL[name].sql}\n{complaints[name]}"
