"""Runs the archive: every compaction interval, expired rows become files, and then are deleted.

Takes the place of retention where `storage.archive` is on. DuckDB and the files are the business of
a worker process; here its steps are asked for in order, and the deletions that it names go through
the channel, so joins see them and pushes share the writer with them fairly.
"""

import asyncio
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from litejoin.archive.cloud import load_obstore
from litejoin.archive.duck import load_duckdb
from litejoin.archive.process import WorkerProcess
from litejoin.clock import SteadyClock
from litejoin.errors import LiteJoinError
from litejoin.plan.nodes import ArchivePlan, Plan
from litejoin.runtime.channel import Channel
from litejoin.runtime.copying import Copying
from litejoin.store.writer import ShardStore

YIELD_FACTOR = 9
"""While pushes arrive, a deletion is followed by a pause of so many times its own length: a tenth
of the writer's time is what moving rows may take from them."""

PATIENCE_S = 900
"""How long a round may take at that pace. Then its pauses get shorter, until after twice that time
there are none: where more rows expire than a tenth of the writer can delete, the disk would fill.
"""

log = logging.getLogger("litejoin.archive")


class Archiving:
    """The archive of a running pipeline. Event loop only."""

    def __init__(
        self,
        plan: Plan,
        archive: ArchivePlan,
        store: ShardStore,
        channel: Channel,
        clock: SteadyClock,
    ) -> None:
        self._plan, self._channel, self._clock = plan, channel, clock
        self._quarantine = store.quarantine
        self._interval_s = archive.compaction_interval_ms / 1000
        self._kept = {store.topic_number(t.name): t.retention_ms for t in plan.topics}
        self._worker = WorkerProcess(opening(plan, archive, store.epoch))
        self._copying = (
            Copying(plan, archive, archive.cloud, store.epoch, clock) if archive.cloud else None
        )
        self._problems: dict[str, str] = {}
        self._figures: dict[str, Any] = {}
        self._written = self._moved = 0
        self._round_began_s = 0.0

    async def run(self) -> None:
        """Until cancelled. A round that failed is reported and tried again at the next interval."""
        async with asyncio.TaskGroup() as tasks:
            if self._copying:
                tasks.create_task(self._copying.run())
            while True:
                try:
                    await self._round()
                    self._problems.pop("round", None)
                except LiteJoinError as error:
                    hint = f" ({error.hint})" if error.hint else ""
                    self._report("round", f"{error}{hint}")
                await asyncio.sleep(self._interval_s)

    async def _round(self) -> None:
        self._round_began_s = asyncio.get_running_loop().time()
        if self._copying and not self._copying.ready.is_set():
            await self._copying.restore()
        if await self._worker.start():
            opened = self._worker.opened
            for name in opened["missing"]:
                self._report(name, f"the file archive/{name} is gone; its rows are missing")
            for file in opened["pending"]:
                await self._delete_rows_of(file)
        if not self._clock.is_settled():
            log.warning("archive: nothing is moved while the wall clock is being corrected")
            return
        moved = 0
        for topic, keep_ms in self._kept.items():
            if keep_ms is not None:
                moved += await self._compact(topic, self._clock.now_ms() - keep_ms)
        self._figures = await self._worker.ask("upkeep", now_ms=self._clock.now_ms())
        if self._copying:
            self._copying.ready.set()
        if moved:
            log.info(
                "archive: %d expired rows moved; %d rows in %d files, %.1f MB",
                moved, self._figures["rows"], self._figures["files"],
                self._figures["local_bytes"] / 1e6,
            )  # fmt: skip
        if self._figures["dropped"]:
            log.info("archive: %d files older than local_retention", self._figures["dropped"])

    async def _compact(self, topic: int, cutoff_ms: int) -> int:
        left_out = sorted(self._quarantine.shards)
        await self._worker.ask("begin", topic=topic, cutoff_ms=cutoff_ms, left_out=left_out)
        moved = 0
        while True:
            chunk = await self._worker.ask("chunk", topic=topic, now_ms=self._clock.now_ms())
            for key in chunk["damaged"]:
                self._report(f"{topic}/{key}", f"the row of key {key!r} is not what was written")
            self._written += chunk["rows"]
            for file in chunk["files"]:
                await self._delete_rows_of(file)
            rows: int = chunk["rows"]
            moved += rows
            if chunk["is_last"]:
                return moved

    async def _delete_rows_of(self, file: int) -> None:
        """Delete what a recorded file has, a small transaction at a time, and note that it is so.

        When the process ends half way, the next start begins here.
        """
        fresh = True
        while True:
            header, batch = await self._worker.ask_bytes("expiries", file=file, fresh=fresh)
            if not header["rows"]:
                break
            fresh = False
            await self._delete(batch, header["rows"])
            self._moved += header["rows"]
        await self._worker.ask("settle", file=file)

    async def _delete(self, batch: bytes, rows: int) -> None:
        """One transaction; then a pause, if others wanted to write meanwhile: they go first."""
        await self._channel.room(frees=True)
        loop, before = asyncio.get_running_loop(), self._channel.submitted
        started_s = loop.time()
        await self._channel.submit(batch, rows, frees=True)
        if self._channel.submitted - before > 1:
            now_s = loop.time()
            await asyncio.sleep((now_s - started_s) * yield_factor(now_s - self._round_began_s))

    def _report(self, what: str, text: str) -> None:
        if self._problems.get(what) != text:
            log.warning("archive: %s", text.removeprefix("archive: "))
        self._problems[what] = text

    def health(self) -> Mapping[str, Any]:
        """For /health: figures of the last round, and what is wrong."""
        shown = {k: v for k, v in self._figures.items() if k not in ("merged", "dropped")}
        reasons = self.reasons()
        copies = {"copies": self._copying.health()} if self._copying else {}
        status = "degraded" if reasons else "ok"
        counted = {"written": self._written, "moved": self._moved}
        return {"status": status, **counted, **shown, **copies, "reasons": reasons}

    def reasons(self) -> list[str]:
        """What is wrong, one line each."""
        problems = [*self._problems.values(), *(self._copying.problems() if self._copying else ())]
        return [f"archive: {text.removeprefix('archive: ')}" for text in problems]

    async def close(self) -> None:
        """End the processes; nothing is lost that they have not finished."""
        if self._copying:
            await self._copying.close()
        await self._worker.close()


def yield_factor(round_s: float) -> float:
    """How many times its own length a deletion pauses for others, `round_s` into its round."""
    return YIELD_FACTOR * min(1.0, max(0.0, 2 - round_s / PATIENCE_S))


def require_archive(plan: Plan) -> None:
    """Raises ConfigError where the plan has an archive and DuckDB or obstore is missing. Loads them
    in this process only when their absence is to be explained.
    """
    archive = plan.storage.archive
    if archive is not None and find_spec("duckdb") is None:
        load_duckdb()
    if archive is not None and archive.cloud is not None and find_spec("obstore") is None:
        load_obstore()


def opening(plan: Plan, archive: ArchivePlan, epoch: str) -> dict[str, Any]:
    """The arguments of Worker.open."""
    return {
        "data_dir": str(plan.storage.data_dir.absolute()),
        "epoch": epoch,
        "shard_count": plan.storage.shard_count,
        "compression": archive.compression,
        "memory_limit_bytes": archive.memory_limit_bytes,
        "target_file_bytes": archive.target_file_bytes,
        "local_retention_ms": archive.local_retention_ms,
        "keeps_copies": archive.cloud is not None,
    }
