"""Store and engine with windows on one directory, stepped by hand: explicit times, no threads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litejoin.clock import ManualClock
from litejoin.engine.engine import Engine
from litejoin.errors import StorageFullError
from litejoin.plan.nodes import JoinPlan, TopicPlan, WindowPlan
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.log import ResultLog
from litejoin.store.writer import ShardStore

TOPIC = "orders"


@dataclass(frozen=True)
class Sent:
    """One message as a test sends it."""

    key: str
    payload: str | None
    """None: a delete."""
    ingested_ms: int
    topic: str = TOPIC


def message(key: str, ingested_ms: int, **payload: Any) -> Sent:
    return Sent(key, json.dumps(payload), ingested_ms)


class WindowPipeline:
    """`crash`, then `open`: nothing is handed from one to the other, as after kill -9."""

    def __init__(
        self,
        root: Path,
        plans: Sequence[WindowPlan],
        *,
        shards: int = 2,
        start_ms: int = 0,
        joins: Sequence[JoinPlan] = (),
        topics: Sequence[TopicPlan] = (TopicPlan(TOPIC, 0, None, (), ()),),
    ) -> None:
        self.root, self.plans, self.shards = root, plans, shards
        self.joins, self.topics = joins, topics
        self.clock = ManualClock(start_ms)
        self.failures: list[str] = []
        self.open()

    def open(self) -> None:
        self.store = ShardStore.open(
            self.root, pipeline="test", shard_count=self.shards, synchronous="normal"
        )
        self.numbers = {topic.name: self.store.create_topic(topic.name) for topic in self.topics}
        self.engine = Engine(
            self.topics,
            self.joins,
            self.numbers,
            self.store.open_readers(),
            self.store.layout.state,
            "normal",
            self.store.commit_gate,
            self.clock,
            self.plans,
            row_cache_bytes=1 << 20,
        )
        self.engine.start(self.store)
        self.store.skip_to(self.engine.state.applied)
        self.store.keep_messages({self.numbers[plan.topic] for plan in self.plans})

    def write(self, sent: Sequence[Sent]) -> tuple[list[bytes], tuple[bytes, ...], int]:
        """Store messages as one flush that is not evaluated yet."""
        rows = [
            Row(
                self.numbers[each.topic],
                RowKind.DELETE if each.payload is None else RowKind.UPSERT,
                each.ingested_ms,
                each.key.encode(),
                (each.payload or "").encode(),
            )
            for each in sent
        ]
        flush = self.store.flush([pack_rows(rows)])
        return flush.changes, flush.messages, flush.seq

    def send(self, *sent: Sent) -> None:
        """Store and apply messages as one flush, then let windows fire."""
        if not sent:
            return
        changes, messages, seq = self.write(sent)
        self.engine.apply(changes, seq, messages)
        self.fire()

    def send_on_full_disk(self, *sent: Sent) -> None:
        """The same, but that state.db cannot grow until something has failed for it."""
        state = self.engine.state.connection
        grown = state.execute("PRAGMA page_count").get + 100_000
        changes, messages, seq = self.write(sent) if sent else ([], (), 0)
        state.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size instead
        try:
            if sent:
                self.engine.apply(changes, seq, messages)
                sent = ()
            self.fire()
        except StorageFullError:
            pass
        finally:
            state.execute(f"PRAGMA max_page_count = {grown}")
        if sent:
            self.engine.apply(changes, seq, messages)
        self.fire()

    def fire(self, written_upto_ms: int | None = None) -> None:
        """Let windows fire until nothing more is due."""
        while True:
            fired = self.engine.fire_windows(written_upto_ms)
            assert fired is not None
            self.failures += fired.failures
            if fired.wake_in_ms != 0:
                return

    def pass_time(self, ms: int) -> None:
        """Wall and monotonic clock go on, with everything received applied."""
        self.clock.advance(ms)
        self.fire(self.clock.now_ms())

    def bodies(self) -> list[dict[str, Any]]:
        """Every result in log order, as sinks send it."""
        log = ResultLog(self.store.layout.state, "test", self.store.epoch)
        results, _ = log.read(0, 1_000_000)
        log.close()
        return [json.loads(result.body()) for result in results]

    def current(self) -> list[dict[str, Any]]:
        """What /snapshot shows."""
        log = ResultLog(self.store.layout.state, "test", self.store.epoch)
        results, _ = log.snapshot()
        log.close()
        return [json.loads(result.body()) for result in results]

    def settle(self) -> None:
        """Let postponed full re-evaluations run."""
        self.clock.advance(60_000)
        self.engine.idle()

    def close(self) -> None:
        self.engine.close()
        self.store.close()

    def reopen(self) -> None:
        """Everything in memory is lost; the clock goes on."""
        self.close()
        self.open()
