"""What looks after a running data directory: the scrub, and the watch over free space.

Started by `app` once the pipeline runs. Below `storage.min_free_space` the channel is held: pushes
are answered 503, polls and Kafka wait, while deletions, results and deliveries still have room. It
goes on by itself when there is space again.
"""

import asyncio
import logging
import os
from pathlib import Path

from litejoin.clock import Clock
from litejoin.errors import StorageError
from litejoin.plan.nodes import StoragePlan
from litejoin.runtime.channel import Channel
from litejoin.store.scrub import Scrubber
from litejoin.store.shard import PAGE_BYTES
from litejoin.store.writer import ShardStore

RETURN_PAGES = 2_000
"""Pages that deleted rows left free and that are given back each time: 8 MB, some ms of writing."""

EVERY_S = 1.0
"""How often free space is looked at: 100 MB/s of writes use up less than half of the default
reserve and what SQLite keeps in its logs in that time."""

RECOVERED_PERCENT = 110
"""Of a limit must be free before it counts as kept again: no flapping at the edge."""

log = logging.getLogger("litejoin.store")


class StorageCare:
    """One for a pipeline. Event loop only."""

    def __init__(
        self, plan: StoragePlan, store: ShardStore, channel: Channel, clock: Clock
    ) -> None:
        self._plan, self._store, self._channel = plan, store, channel
        paths = {number: store.layout.shard(number) for number in range(store.shard_count)}
        self._scrubber = Scrubber(
            paths, store.quarantine, clock, plan.scrub_interval_ms, plan.scrub_bytes_per_s
        )
        self.free_bytes: int | None = None
        """Of the disk, for this user; None until it was looked at."""
        self.returned_pages = 0
        self._reason = ""

    def start(self) -> None:
        """Begin to scrub, unless the config says never."""
        if self._plan.scrub_interval_ms:
            self._scrubber.start()

    async def close(self) -> None:
        """End the scrub; waits for the chunk at hand."""
        await asyncio.to_thread(self._scrubber.close)

    async def watch(self) -> None:
        """Until cancelled: keep the limits of free space."""
        while True:
            try:
                free = await asyncio.to_thread(free_bytes, self._plan.data_dir)
            except OSError as error:
                log.warning("store: free space is not known: %s", error)
            else:
                self.judge(free)
            await self._give_back()
            await asyncio.sleep(EVERY_S)

    async def _give_back(self) -> None:
        try:
            self.returned_pages += await asyncio.to_thread(self._store.give_back, RETURN_PAGES)
        except StorageError as error:
            log.warning("store: free pages stay: %s", error)

    def judge(self, free: int) -> None:
        """Hold or release the channel for so many free bytes."""
        self.free_bytes = free
        held = self._channel.held is not None
        if free < _limit(self._plan.min_free_bytes, was_short=held):
            self._say(
                f"{_mb(free)} are free, less than storage.min_free_space: nothing is taken in"
            )
            self._channel.hold("short of disk space")
            return
        if held:
            log.warning("store: %s are free again: goes on", _mb(free))
            self._channel.release()
        if free < _limit(self._plan.warn_free_bytes, was_short=bool(self._reason)):
            self._say(f"{_mb(free)} are free, less than storage.warn_free_space")
        else:
            self._reason = ""

    def _say(self, reason: str) -> None:
        # The number changes all the time; what follows from it does not.
        if reason.partition(", ")[2] != self._reason.partition(", ")[2]:
            log.error("store: %s: %s", self._plan.data_dir, reason)
        self._reason = reason

    def health(self) -> dict[str, object]:
        """The shards' part of /health; `reasons` are those of the directory as a whole."""
        return {
            **self._store.stats(),
            "free_bytes": self.free_bytes,
            "scrub": self._scrubber.stats(),
            "reasons": [f"disk: {self._reason}"] if self._reason else [],
        }

    def figures(self) -> dict[str, object]:
        """For /metrics."""
        return {
            "free_bytes": self.free_bytes,
            "quarantined": len(self._store.quarantine.shards),
            "scrub_rounds": self._scrubber.stats()["rounds"],
            "returned_bytes": self.returned_pages * PAGE_BYTES,
        }


def free_bytes(directory: Path) -> int:
    """Free space on the directory's disk for this user. Blocks."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _limit(size: int, *, was_short: bool) -> int:
    return size * RECOVERED_PERCENT // 100 if was_short else size


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
