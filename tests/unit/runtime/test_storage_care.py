"""Limits of free space: below the hard one only deletions are taken in; it ends by itself."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from litejoin.clock import ManualClock
from litejoin.errors import OverloadedError
from litejoin.plan.nodes import StoragePlan
from litejoin.runtime import storage_care
from litejoin.runtime.channel import Channel
from litejoin.runtime.storage_care import StorageCare, free_bytes
from litejoin.store.writer import ShardStore

PLAN = StoragePlan(
    data_dir=Path("unused"), shard_count=2, reader_pool_size=1, batch_size=1, flush_interval_ms=1,
    synchronous="normal", row_cache_bytes=0, warn_free_bytes=1_000, min_free_bytes=100,
)  # fmt: skip


def with_care(tmp_path: Path, story: Any) -> None:
    async def play() -> None:
        store = ShardStore.open(tmp_path, pipeline="p", shard_count=2, synchronous="normal")
        try:
            channel = Channel(asyncio.get_running_loop(), lambda names: [1] * len(names))
            channel.open()
            care = StorageCare(replace(PLAN, data_dir=tmp_path), store, channel, ManualClock())
            await story(care, channel)
            await care.close()
        finally:
            store.close()

    asyncio.run(play())


def test_below_the_hard_limit_only_deletions_are_taken(tmp_path: Path) -> None:
    async def story(care: StorageCare, channel: Channel) -> None:
        care.judge(99)
        with pytest.raises(OverloadedError, match="the pipeline is short of disk space"):
            channel.submit(b"x", 1)
        channel.submit(b"x", 1, frees=True)
        await channel.room(frees=True)
        waiting: asyncio.Future[None] = asyncio.ensure_future(_room(channel))
        care.judge(105)  # not before there is a tenth more
        await asyncio.sleep(0)
        assert not waiting.done()
        assert "less than storage.min_free_space" in str(care.health()["reasons"])
        care.judge(110)
        await waiting
        channel.submit(b"x", 1)
        assert "less than storage.warn_free_space" in str(care.health()["reasons"])

    with_care(tmp_path, story)


def _room(channel: Channel) -> Coroutine[Any, Any, None]:
    return channel.room()


def test_below_the_soft_limit_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(care: StorageCare, channel: Channel) -> None:
        for free in (999, 900, 1_050, 999):
            care.judge(free)
            assert care.health()["reasons"]
            channel.submit(b"x", 1)
        care.judge(1_100)
        assert care.health()["reasons"] == []
        assert care.figures() == {
            "free_bytes": 1_100, "quarantined": 0, "scrub_rounds": 0, "returned_bytes": 0
        }  # fmt: skip

    with_care(tmp_path, story)
    assert len([r for r in caplog.records if "warn_free_space" in r.getMessage()]) == 1


def test_free_space_is_that_of_the_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0


def test_free_pages_are_given_back_while_it_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(care: StorageCare, channel: Channel) -> None:
        asked: list[int] = []
        second = asyncio.Event()
        loop = asyncio.get_running_loop()

        def give_back(pages: int) -> int:
            asked.append(pages)
            if len(asked) == 2:
                loop.call_soon_threadsafe(second.set)
            return 7

        monkeypatch.setattr(storage_care, "EVERY_S", 0.0)
        monkeypatch.setattr(care._store, "give_back", give_back)
        watching = asyncio.ensure_future(care.watch())
        await second.wait()
        watching.cancel()
        assert care.figures()["returned_bytes"] in (7 * 4096, 14 * 4096)
        assert asked[0] == 2_000

    with_care(tmp_path, story)
