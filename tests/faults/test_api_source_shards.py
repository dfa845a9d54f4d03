"""An api source over real shards: what was polled is in the topic after every crash."""

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from litejoin.sources.api import ApiSource
from litejoin.store.writer import ShardStore
from tests.unit.sources.api_world import World, records, world


class ShardIntake:
    """An intake that flushes each batch at once; `crash_after` loses the ack, not the rows."""

    def __init__(self, folder: Path) -> None:
        self.store = ShardStore.open(folder, pipeline="p", shard_count=3, synchronous="normal")
        self.state = self.store.source_state("orders-api")
        self.number = self.store.create_topic("orders")
        self.crash = False

    def topic_number(self, name: str) -> int:
        return self.number

    async def submit(self, batch: bytes, rows: int, *, piecewise: bool = False) -> None:
        await asyncio.to_thread(self.store.flush, [batch])
        if self.crash:
            raise asyncio.CancelledError

    async def room(self) -> None:
        raise AssertionError("this channel is never full")

    def rows(self) -> dict[str, tuple[Any, int, str | None]]:
        """Per key (record, op, changes)"""
        found = {}
        query = f"SELECT key, payload, op, changes FROM t{self.number}"
        for connection in self.store.open_readers():
            for key, payload, op, changes in connection.execute(query):
                found[key] = (json.loads(payload), op, changes)
            connection.close()
        return found

    def source(self, w: World) -> ApiSource:
        return ApiSource(w.plan, self, self.state, w.clock, w.executor)


def test_changes_arrive_with_their_paths(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        intake = ShardIntake(tmp_path / "data")
        source = intake.source(w)
        w.upstream.script = [
            records({"id": 1, "s": "new"}, {"id": 2, "s": "new"}, {"id": 3}),
            records({"id": 1, "s": "paid"}, {"s": "new", "id": 2}),
        ]
        assert await source.poll()
        assert await source.poll()
        assert intake.rows() == {
            "1": ({"id": 1, "s": "paid"}, 2, '{"$.s":["new","paid"]}'),
            "2": ({"id": 2, "s": "new"}, 1, None),
        }
        intake.store.close()

    with world() as w:
        asyncio.run(story(w))


@pytest.mark.parametrize("detection", ["diff", "hash"])
def test_a_record_of_a_silent_first_poll_is_updated_not_created(
    tmp_path: Path, detection: str
) -> None:
    async def story(w: World) -> None:
        intake = ShardIntake(tmp_path / "data")
        source = intake.source(w)
        w.upstream.script = [records({"id": 1, "v": 0}), records({"id": 1, "v": 1}, {"id": 2})]
        assert await source.poll()
        assert await source.poll()
        changes = '{"$.v":[0,1]}' if detection == "diff" else None
        assert intake.rows() == {"1": ({"id": 1, "v": 1}, 2, changes), "2": ({"id": 2}, 1, None)}
        intake.store.close()

    with world(initial_snapshot=False, change_detection=detection) as w:
        asyncio.run(story(w))


@pytest.mark.parametrize("seed", range(3))
def test_lost_acks_and_restarts_lose_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)

    async def story(w: World) -> None:
        intake = ShardIntake(tmp_path / "data")
        source = intake.source(w)
        upstream: dict[int, int] = {}

        async def poll(values: Sequence[dict[str, int]]) -> None:
            w.upstream.script = [records(*values)]
            await source.poll()

        for _ in range(12):
            upstream |= {rng.randrange(50): rng.randrange(9) for _ in range(6)}
            for key in rng.sample(sorted(upstream), rng.randrange(4)):
                del upstream[key]
            values = [{"id": key, "v": value} for key, value in upstream.items()]
            intake.crash = rng.random() < 0.4
            try:
                await poll(values)
            except asyncio.CancelledError:
                intake.store.close()
                intake = ShardIntake(tmp_path / "data")
                source = intake.source(w)
                before = intake.store.last_seq
                await poll(values)
                assert intake.store.last_seq - before <= 1  # the deletes, when the crash came first
            assert {key: record["v"] for key, (record, _, _) in intake.rows().items()} == {
                str(key): value for key, value in upstream.items()
            }
        intake.store.close()

    with world() as w:
        asyncio.run(story(w))
