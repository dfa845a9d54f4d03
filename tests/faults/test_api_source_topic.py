"""An api source that gets another topic fills it, whatever it knew before, whenever it dies."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from litejoin.clock import ManualClock
from litejoin.plan.nodes_api import Secret, WatermarkPlan
from litejoin.sources.api import ApiSource
from litejoin.sources.api.transport import Response
from litejoin.store.writer import ShardStore
from tests.unit.sources.api_pages import URL, Asked, Handler, Scripted, page
from tests.unit.sources.api_world import PLAN
from tests.unit.sources.test_api_auth import Server, oauth


class Pipeline:
    """One life of the source over a data directory."""

    def __init__(self, root: Path, topic: str, executor: ThreadPoolExecutor, **plan: Any) -> None:
        self.store = ShardStore.open(root, pipeline="p", shard_count=3, synchronous="normal")
        self.wire = Scripted(plan.pop("handler"))
        self.submits_until_kill = 2**30
        given = {"url": URL, "headers": {}, "topic": topic, **plan}
        self.source = ApiSource(
            replace(PLAN, **given),
            self,
            self.store.source_state(PLAN.name, topic),
            ManualClock(),
            executor,
            tokens=self.store.source_state(PLAN.name),
            transport=self.wire,
        )

    def topic_number(self, name: str) -> int:
        return self.store.create_topic(name)

    async def submit(self, batch: bytes, rows: int, *, piecewise: bool = False) -> None:
        if self.submits_until_kill == 0:
            raise asyncio.CancelledError
        self.submits_until_kill -= 1
        await asyncio.to_thread(self.store.flush, [batch])

    async def room(self) -> None:
        raise AssertionError("this channel is never full")

    def rows(self, topic: str) -> dict[str, Any]:
        """Key -> record."""
        found = {}
        for connection in self.store.open_readers():
            number = self.store.topic_number(topic)
            for key, payload in connection.execute(f"SELECT key, payload FROM t{number}"):
                found[str(key)] = json.loads(str(payload))
            connection.close()
        return found


class Lives:
    """Starts the source again and again over one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._executor = ThreadPoolExecutor(2)

    @contextmanager
    def life(self, topic: str, handler: Handler, **plan: Any) -> Iterator[Pipeline]:
        pipeline = Pipeline(self._root, topic, self._executor, handler=handler, **plan)
        try:
            yield pipeline
        finally:
            pipeline.store.close()

    def close(self) -> None:
        self._executor.shutdown()


def told(tmp_path: Path, story: Callable[[Lives], Awaitable[None]]) -> None:
    lives = Lives(tmp_path / "data")
    try:
        asyncio.run(story(lives))  # type: ignore[arg-type]
    finally:
        lives.close()


def serving(*records: dict[str, Any]) -> Handler:
    return lambda _: page(list(records))


def keys(records: dict[str, Any]) -> Sequence[str]:
    return sorted(records)


def test_the_whole_body_is_new_in_the_new_topic(tmp_path: Path) -> None:
    async def story(lives: Lives) -> None:
        body = serving({"id": 1}, {"id": 2})
        with lives.life("first", body) as p:
            assert await p.source.poll()
        for changes in (2, 0):
            with lives.life("second", body) as p:
                assert await p.source.poll()
                assert p.source.health()["changes"] == {
                    "created": changes, "updated": 0, "deleted": 0,
                }  # fmt: skip
                assert keys(p.rows("first")) == keys(p.rows("second")) == ["1", "2"]

    told(tmp_path, story)


def test_a_topic_that_comes_back_gets_what_changed_and_what_went(tmp_path: Path) -> None:
    async def story(lives: Lives) -> None:
        with lives.life("first", serving({"id": 1}, {"id": 2}, {"id": 3})) as p:
            assert await p.source.poll()
        with lives.life("second", serving({"id": 2}, {"id": 4})) as p:
            assert await p.source.poll()
        with lives.life("first", serving({"id": 2, "v": 1}, {"id": 4})) as p:
            assert await p.source.poll()
            assert p.source.health()["changes"] == {"created": 1, "updated": 1, "deleted": 2}
            assert p.rows("first") == {"2": {"id": 2, "v": 1}, "4": {"id": 4}}
            assert p.rows("second") == {"2": {"id": 2}, "4": {"id": 4}}

    told(tmp_path, story)


@pytest.mark.parametrize("survived", range(4))
def test_one_that_is_killed_while_it_fills_the_topic_goes_on(tmp_path: Path, survived: int) -> None:
    everything = [{"id": n} for n in range(3_500)]  # four batches

    async def story(lives: Lives) -> None:
        with lives.life("first", serving(*everything)) as p:
            assert await p.source.poll()
        with lives.life("second", serving(*everything)) as p:
            p.submits_until_kill = survived
            with pytest.raises(asyncio.CancelledError):
                await p.source.poll()
        with lives.life("second", serving(*everything[1:])) as p:
            assert await p.source.poll()
            assert keys(p.rows("second")) == sorted(str(n) for n in range(1, 3_500))

    told(tmp_path, story)


def test_the_first_poll_of_a_topic_may_be_silent(tmp_path: Path) -> None:
    async def story(lives: Lives) -> None:
        with lives.life("first", serving({"id": 1})) as p:
            assert await p.source.poll()
        with lives.life("second", serving({"id": 1}), initial_snapshot=False) as p:
            assert await p.source.poll()
            assert p.rows("second") == {}

    told(tmp_path, story)


def test_no_watermark_of_another_topic_leaves_records_out(tmp_path: Path) -> None:
    def handler(asked: Asked) -> Response:
        return page(b"", 304) if "if-none-match" in asked.headers else page([{"id": 1}], etag="a")

    async def story(lives: Lives) -> None:
        for topic, records in (("first", ["1"]), ("second", ["1"]), ("first", ["1"])):
            with lives.life(topic, handler, watermark=WatermarkPlan("etag")) as p:
                assert await p.source.poll()
                assert keys(p.rows(topic)) == records

    told(tmp_path, story)


def test_a_rotated_token_is_kept_whatever_the_topic(tmp_path: Path) -> None:
    server = Server(rotates=True)

    async def story(lives: Lives) -> None:
        for topic in ("first", "second", "first"):
            with lives.life(topic, server, auth=oauth(refresh_token=Secret("r0"))) as p:
                assert await p.source.poll()
                assert keys(p.rows(topic)) == ["1"]
        assert server.refresh == "r3"

    told(tmp_path, story)
